//! Which node is the child of which, by hash: where [`super::nodes`] looks for candidates.
//!
//! An entry is 32 bits of the hash and the number of the child. Entries lie in lines of eight, each
//! as large as what a core fetches at once: a lookup reads one of them, compares all eight at a time
//! (where in its line an entry lies is hard to predict), and reads the next one only if this one
//! overflowed. Entries are in the order of their hashes, so a search that comes to
//! nothing ends early, and growing copies words without a look at any node.
//!
//! A table that becomes too full or too empty is followed by another one, into which entries move a
//! few lines with each change, in order: those with lesser hashes have moved, the others have not. So no
//! change copies much however many edges there are.

use super::chunks::Chunks;

/// Lines that a change moves. A table is followed by one that is a quarter larger, so it has to be more
/// than one in eight.
const MOVED_LINES: usize = 8;

/// What all hashes are less than.
const ALL: u64 = 1 << 32;

/// No entry; greater than all, so that the order holds.
const EMPTY: u64 = u64::MAX;
const NO_NODE: u32 = u32::MAX;

/// Entries of a line.
const LINE: usize = 8;

#[derive(Debug)]
pub(super) struct Edges {
    table: Table,
    /// What the table follows; empty if all has moved.
    old: Table,
    /// Entries with hashes less than this are in `table`, others in `old`.
    moved: u64,
    /// The first line of `old` that an entry with a hash not less may be in.
    moved_lines: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Table {
    /// As far as there were entries: at most a few more than `width`, for those pushed over the end.
    lines: Chunks<Line>,
    /// How many lines hashes are spread over.
    width: usize,
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
        Self {
            table: Table::default(),
            old: Table::default(),
            moved: ALL,
            moved_lines: 0,
            count: 0,
        }
    }

    /// Adds an entry that is not there yet. No child has number 0.
    pub(super) fn insert(&mut self, hash: u64, node: u32) {
        self.go_on();
        // At most four fifths full: beyond, too many lines overflow.
        if (self.count + 1) * 5 > self.table.width * LINE * 4 {
            self.follow(self.table.width + (self.table.width / 4).max(1));
        }
        self.count += 1;
        self.table_of(hash).put(entry(hash, node));
    }

    /// Takes the entry out, if it is there.
    pub(super) fn remove(&mut self, hash: u64, node: u32) {
        self.go_on();
        if !self.table_of(hash).remove(entry(hash, node)) {
            return;
        }
        self.count -= 1;
        if self.count == 0 {
            *self = Self::new();
        } else if self.count * 4 < self.table.width * LINE {
            self.follow((self.count * 2).div_ceil(LINE));
        }
    }

    /// The node with this hash that `is_it` says yes to. That is asked of numbers of other nodes and of
    /// none as well, and must not take one of them for a child that is gone.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let wanted = hash_part(entry(hash, 0));
        let table = if u64::from(wanted) < self.moved { &self.table } else { &self.old };
        let home = table.home(entry(hash, 0));
        let line = table.lines.get(home)?;
        match line.any_with(wanted) {
            0 if line.is_passed_by(wanted) => table.find_from(home + 1, wanted, is_it),
            0 => None,
            node if is_it(node) => Some(node),
            _ => table.find_from(home, wanted, is_it),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.lines.bytes() + self.old.lines.bytes()
    }

    fn table_of(&mut self, hash: u64) -> &mut Table {
        let hash = hash_part(entry(hash, 0));
        if u64::from(hash) < self.moved { &mut self.table } else { &mut self.old }
    }

    /// Lets a table of this width follow, unless there still is one that is followed: then the next
    /// change will ask again.
    fn follow(&mut self, width: usize) {
        if self.moved == ALL && width != self.table.width {
            self.old = std::mem::replace(&mut self.table, Table::with_width(width));
            self.moved = 0;
            self.moved_lines = 0;
            self.go_on();
        }
    }

    /// Moves what belongs into the next few lines of the old table.
    fn go_on(&mut self) {
        if self.moved == ALL {
            return;
        }
        let end = self.moved_lines + MOVED_LINES;
        let limit = self.old.least_hash(end);
        // Entries of these lines may have been pushed into lines behind them.
        let mut at = self.moved_lines;
        while let Some(&line) = self.old.lines.get(at) {
            for entry in line.entries() {
                if (self.moved..limit).contains(&u64::from(hash_part(entry))) {
                    self.table.put(entry);
                }
            }
            at += 1;
            let last = line.get(LINE - 1);
            if at >= end && (last == EMPTY || u64::from(hash_part(last)) >= limit) {
                break;
            }
        }
        self.moved = limit;
        self.moved_lines = end;
        self.old.lines.forget(end);
        if limit == ALL {
            self.old = Table::default();
        }
    }
}

impl Table {
    fn with_width(width: usize) -> Self {
        // Pushed entries rarely need as much room behind the end.
        Self { lines: Chunks::with_room(width + width / 32), width }
    }

    /// Apart, as what is looked for mostly is the first with its hash, and where it belongs.
    #[cold]
    #[inline(never)]
    fn find_from(&self, line: usize, wanted: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut line = line;
        while let Some(found) = self.lines.get(line) {
            for at in found.count_below(wanted)..LINE {
                let node = found.nodes[at];
                if found.hashes[at] != wanted || node == NO_NODE {
                    return None;
                }
                if is_it(node) {
                    return Some(node);
                }
            }
            line += 1;
        }
        None
    }

    fn put(&mut self, entry: u64) {
        let mut at = self.home(entry);
        while self.lines.len() <= at {
            self.lines.push(Line::default());
        }
        let mut carried = entry;
        while let Some(line) = self.lines.get_mut(at) {
            carried = line.insert(carried);
            if carried == EMPTY {
                return;
            }
            at += 1;
        }
        let mut line = Line::default();
        line.insert(carried);
        self.lines.push(line);
    }

    /// Whether it was there.
    fn remove(&mut self, entry: u64) -> bool {
        let mut at = self.home(entry);
        loop {
            let Some(line) = self.lines.get_mut(at) else { return false };
            at += 1;
            if line.remove(entry) {
                break;
            }
            if line.get(LINE - 1) > entry {
                return false;
            }
        }
        // What lines had no room for comes back.
        while let Some(line) = self.lines.get(at) {
            let next = line.get(0);
            if next == EMPTY || self.home(next) >= at {
                break;
            }
            self.lines[at].remove(next);
            self.lines[at - 1].insert(next);
            at += 1;
        }
        true
    }

    /// The first line that an entry may be in; grows with its hash.
    fn home(&self, entry: u64) -> usize {
        let spread = (entry >> 32).wrapping_mul(self.width as u64) >> 32;
        usize::try_from(spread).unwrap_or(0)
    }

    /// Of those that may be in this line first or behind it: where [`Self::home`] comes to it.
    fn least_hash(&self, line: usize) -> u64 {
        if line >= self.width { ALL } else { ((line as u64) << 32).div_ceil(self.width as u64) }
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

    /// The node with this hash, if there is just one; 0, which no edge leads to, if there is none. Without
    /// a branch, and without a place that would have to be found first: nobody could predict where it is.
    #[inline(always)]
    fn any_with(&self, hash: u32) -> u32 {
        let pairs = self.hashes.iter().zip(&self.nodes);
        pairs.fold(0, |all, (&found, &node)| all | if found == hash { node } else { 0 })
    }

    /// Entries with this hash may be in the lines behind this one.
    #[inline(always)]
    fn is_passed_by(&self, hash: u32) -> bool {
        self.hashes[LINE - 1] < hash
    }

    /// How many hashes are less, and so the place of the first that is not.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::Random;
    use super::*;

    fn is_in_order(table: &Table) -> bool {
        let lines = (0..table.lines.len()).filter_map(|at| table.lines.get(at));
        lines.flat_map(|line| line.entries()).is_sorted()
    }

    /// With few distinct hashes, most entries are not in their place.
    #[test]
    fn what_was_inserted_and_not_removed_is_found() {
        for hashes in [3, 50, u64::from(u32::MAX)] {
            let mut random = Random(hashes);
            let mut edges = Edges::new();
            let mut known = BTreeSet::new();
            let spread = (1_u64 << 32) / hashes;
            for step in 1..4000_u32 {
                let grows = step < 1500 || random.below(4) == 0;
                if grows {
                    let hash = random.below(hashes) * spread;
                    edges.insert(hash, step);
                    known.insert((hash, step));
                } else if let Some((hash, node)) = known.pop_first() {
                    edges.remove(hash, node);
                    let is_it = |found| found == node && known.contains(&(hash, found));
                    assert_eq!(edges.find(hash, is_it), None);
                }
                if step % 64 == 0 {
                    assert!(known.iter().all(|&(hash, node)| {
                        edges.find(hash, |found| found == node) == Some(node)
                    }));
                    assert!(is_in_order(&edges.table) && is_in_order(&edges.old));
                }
            }
            while let Some((hash, node)) = known.pop_last() {
                edges.remove(hash, node);
            }
            assert_eq!(edges.bytes(), 0);
        }
    }

    /// The greatest hash is that of no entry too.
    #[test]
    fn the_greatest_hash_is_moved_like_others() {
        let mut edges = Edges::new();
        let greatest = u64::from(u32::MAX);
        for step in 1..300_u32 {
            edges.insert(greatest - u64::from(step % 2), step);
            for known in 1..=step {
                let hash = greatest - u64::from(known % 2);
                assert_eq!(edges.find(hash, |found| found == known), Some(known));
            }
        }
    }

    /// What a change copies does not grow with the table; and when a table has to be followed, it no
    /// longer follows another one.
    #[test]
    fn a_change_moves_a_few_lines() {
        let mut random = Random(1);
        let mut edges = Edges::new();
        for step in 1..100_000_u32 {
            let before = edges.moved_lines;
            edges.insert(random.below(1 << 32), step);
            let after = edges.moved_lines;
            assert!(after == before || after == MOVED_LINES || after == before + MOVED_LINES);
            assert!(edges.count * 5 <= edges.table.width * LINE * 4);
        }
    }
}
