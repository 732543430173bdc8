//! What lies where, asked of the kernel. One test, as it looks at mappings of the whole process.

use std::fs;

use heap::{HUGE, Heap};

#[global_allocator]
static ALLOCATOR: Heap = Heap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Lines of a huge page.
const LINES: usize = HUGE / size_of::<Line>();

/// The flags of the mapping that holds this address, as `/proc/self/smaps` has them.
fn flags_at(address: usize) -> Option<String> {
    let text = fs::read_to_string("/proc/self/smaps").expect("our own mappings");
    let mut is_inside = false;
    for line in text.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(start, end)| {
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        });
        if let Some(range) = range {
            is_inside = range.contains(&address);
        } else if is_inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return Some(flags.to_owned());
        }
    }
    None
}

/// Whether the memory there is advised to be huge.
fn is_advised(address: usize) -> bool {
    flags_at(address).is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hg"))
}

fn line(n: usize) -> Line {
    Line([n as u64; 8])
}

#[test]
fn whole_huge_pages_of_lines_are_advised_and_nothing_else_is() {
    // A kernel without huge pages takes no advice.
    let has_huge_pages = fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap_or(false);

    // From the smaller to a mapping, to a larger one, and back: what is in it stays.
    let mut lines: Vec<Line> = Vec::with_capacity(LINES - 1);
    lines.extend((0..LINES - 1).map(line));
    assert!(!is_advised(lines.as_ptr().addr()));
    for count in [LINES, 3 * LINES, LINES + 1, 2 * LINES] {
        lines.reserve_exact(count.saturating_sub(lines.len()));
        lines.shrink_to(count);
        assert_eq!(lines.capacity(), count);
        let address = lines.as_ptr().addr();
        let is_whole = count % LINES == 0;
        assert_eq!(is_advised(address), is_whole && has_huge_pages, "{count} lines");
        assert!(!is_whole || address.is_multiple_of(HUGE));
        assert!(lines.iter().enumerate().all(|(n, found)| *found == line(n)));
        lines.resize(count, Line([0; 8]));
        lines.truncate(LINES - 1);
    }

    // Freed memory is not kept.
    let address = lines.as_ptr().addr();
    drop(lines);
    assert!(!is_advised(address));

    // A payload, and a table that doubles, are not.
    let bytes: Vec<u8> = vec![1; 2 * HUGE];
    let words: Vec<u64> = vec![1; HUGE / 8];
    assert!(!is_advised(bytes.as_ptr().addr()));
    assert!(!is_advised(words.as_ptr().addr()));
}
