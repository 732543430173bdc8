//! Which node is the child of which, by hash: where [`super::nodes`] looks for candidates.
//!
//! An entry is 32 bits of the hash and the number of the child. Entries lie in lines of eight, each
//! as large as what a core fetches at once: a lookup reads one of them, compares all eight at a time
//! (where in its line an entry lies is hard to predict), and reads the next one only if this one
//! overflowed. Entries are in the order of their hashes, so a search that comes to
//! nothing ends early, and growing copies words without a look at any node. The table is cut in
//! segments: growing one takes a fraction of a millisecond however many edges there are.

const SEGMENTS: usize = 256;

/// No entry; greater than all, so that the order holds.
const EMPTY: u64 = u64::MAX;
const NO_NODE: u32 = u32::MAX;

/// Entries of a line.
const LINE: usize = 8;

#[derive(Debug)]
pub(super) struct Edges {
    /// Empty until the first entry.
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
struct Segment {
    /// A few more than `width`, for entries pushed over the end.
    lines: Vec<Line>,
    /// How many lines hashes are spread over.
    width: usize,
    count: usize,
}

/// Entries in order, [`EMPTY`] behind them; cut in two, so that all hashes are compared at a time.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    hashes: [u32; LINE],
    nodes: [u32; LINE],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Edges {
    pub(super) fn new() -> Self {
        Self { segments: Vec::new() }
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, node: u32) {
        if self.segments.is_empty() {
            self.segments.resize_with(SEGMENTS, Segment::default);
        }
        self.segments[segment(hash)].insert(entry(hash, node));
    }

    pub(super) fn remove(&mut self, hash: u64, node: u32) {
        if let Some(segment) = self.segments.get_mut(segment(hash)) {
            segment.remove(entry(hash, node));
        }
    }

    /// The node with this hash that `is_it` says yes to.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(segment(hash))?;
        let home = segment.home(entry(hash, 0));
        let wanted = hash_part(entry(hash, 0));
        let line = segment.lines.get(home)?;
        let at = line.count_below(wanted);
        let Some((&found, &node)) = line.hashes.get(at).zip(line.nodes.get(at)) else {
            return segment.find_from(home + 1, wanted, is_it);
        };
        if found != wanted || node == NO_NODE {
            return None;
        }
        if is_it(node) { Some(node) } else { segment.find_from(home, wanted, is_it) }
    }

    pub(super) fn bytes(&self) -> usize {
        let lines: usize = self.segments.iter().map(|segment| segment.lines.capacity()).sum();
        lines * size_of::<Line>() + self.segments.capacity() * size_of::<Segment>()
    }
}

impl Segment {
    /// Apart, as what is looked for mostly is the first with its hash, and where it belongs.
    #[cold]
    #[inline(never)]
    fn find_from(&self, line: usize, wanted: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        for line in self.lines.get(line..)? {
            for at in line.count_below(wanted)..LINE {
                let node = line.nodes[at];
                if line.hashes[at] != wanted || node == NO_NODE {
                    return None;
                }
                if is_it(node) {
                    return Some(node);
                }
            }
        }
        None
    }

    fn insert(&mut self, entry: u64) {
        // At most four fifths full: beyond, too many lines overflow.
        if (self.count + 1) * 5 > self.width * LINE * 4 {
            self.resize(self.width + (self.width / 4).max(1));
        }
        self.count += 1;
        self.put(entry);
    }

    fn put(&mut self, entry: u64) {
        let home = self.home(entry);
        let mut carried = entry;
        for line in self.lines.iter_mut().skip(home) {
            carried = line.insert(carried);
            if carried == EMPTY {
                return;
            }
        }
        let mut line = Line::default();
        line.insert(carried);
        self.lines.push(line);
    }

    fn remove(&mut self, entry: u64) {
        let home = self.home(entry);
        let found = self.lines.iter_mut().skip(home).position(|line| line.remove(entry));
        let Some(behind) = found else { return };
        self.count -= 1;
        // What lines had no room for comes back.
        for at in home + behind + 1..self.lines.len() {
            let next = self.lines[at].get(0);
            if next == EMPTY || self.home(next) >= at {
                break;
            }
            self.lines[at].remove(next);
            self.lines[at - 1].insert(next);
        }
        if self.count * 4 < self.width * LINE {
            self.resize((self.count * 2).div_ceil(LINE));
        }
    }

    fn resize(&mut self, width: usize) {
        if width == self.width {
            return;
        }
        // Pushed entries rarely need as much room behind the end.
        let mut lines = Vec::with_capacity(width + width / 32);
        lines.resize(width, Line::default());
        self.width = width;
        for line in std::mem::replace(&mut self.lines, lines) {
            line.entries().for_each(|entry| self.put(entry));
        }
    }

    /// The first line that an entry may be in; grows with its hash.
    fn home(&self, entry: u64) -> usize {
        let spread = (entry >> 32).wrapping_mul(self.width as u64) >> 32;
        usize::try_from(spread).unwrap_or(0)
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { hashes: [hash_part(EMPTY); LINE], nodes: [NO_NODE; LINE] }
    }
}

impl Line {
    /// Puts `entry` in its place. What there is no room for any more, or [`EMPTY`].
    fn insert(&mut self, entry: u64) -> u64 {
        let mut carried = entry;
        for at in 0..LINE {
            let found = self.get(at);
            if carried < found {
                self.set(at, carried);
                carried = found;
            }
        }
        carried
    }

    /// Whether it was there.
    fn remove(&mut self, entry: u64) -> bool {
        let Some(at) = (0..LINE).find(|&at| self.get(at) == entry) else { return false };
        self.hashes.copy_within(at + 1.., at);
        self.nodes.copy_within(at + 1.., at);
        self.set(LINE - 1, EMPTY);
        true
    }

    /// How many hashes are less, and so the place of the first that is not. Without a branch:
    /// nobody could predict which it is.
    #[inline]
    fn count_below(&self, hash: u32) -> usize {
        self.hashes.iter().map(|&found| usize::from(found < hash)).sum()
    }

    fn get(&self, at: usize) -> u64 {
        u64::from(self.hashes[at]) << 32 | u64::from(self.nodes[at])
    }

    fn set(&mut self, at: usize, entry: u64) {
        self.hashes[at] = hash_part(entry);
        self.nodes[at] = node_part(entry);
    }

    fn entries(self) -> impl Iterator<Item = u64> {
        (0..LINE).map(move |at| self.get(at)).filter(|&entry| entry != EMPTY)
    }
}

fn entry(hash: u64, node: u32) -> u64 {
    hash << 32 | u64::from(node)
}

fn hash_part(entry: u64) -> u32 {
    let [.., a, b, c, d] = entry.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn node_part(entry: u64) -> u32 {
    let [a, b, c, d, ..] = entry.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// From bits of the hash that are not in the entry.
fn segment(hash: u64) -> usize {
    let [.., segment] = hash.to_le_bytes();
    usize::from(segment)
}

const _: () = assert!(SEGMENTS == u8::MAX as usize + 1);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::Random;
    use super::*;

    /// With few distinct hashes, most entries are not in their place.
    #[test]
    fn what_was_inserted_and_not_removed_is_found() {
        for hashes in [3, 50, u64::from(u32::MAX)] {
            let mut random = Random(hashes);
            let mut edges = Edges::new();
            let mut known = BTreeSet::new();
            let spread = (1_u64 << 32) / hashes;
            for step in 0..4000_u32 {
                let grows = step < 1500 || random.below(4) == 0;
                if grows {
                    let hash = random.below(hashes) * spread;
                    edges.insert(hash, step);
                    known.insert((hash, step));
                } else if let Some((hash, node)) = known.pop_first() {
                    edges.remove(hash, node);
                    assert_eq!(edges.find(hash, |found| found == node), None);
                }
                if step % 64 == 0 {
                    assert!(known.iter().all(|&(hash, node)| {
                        edges.find(hash, |found| found == node) == Some(node)
                    }));
                    let lines = &edges.segments[0].lines;
                    assert!(lines.iter().flat_map(|line| line.entries()).is_sorted());
                }
            }
            while let Some((hash, node)) = known.pop_last() {
                edges.remove(hash, node);
            }
            assert_eq!(edges.bytes(), SEGMENTS * size_of::<Segment>());
        }
    }
}
