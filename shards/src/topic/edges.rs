//! Which node is the child of which, by hash: where [`super::nodes`] looks for candidates.
//!
//! An entry is one word, 32 bits of the hash and the number of the child, and lies at or a little
//! behind its place: a lookup reads one cache line and then the node. Entries are in the order of
//! their hashes, so a search that comes to nothing ends early, and growing copies words without a
//! look at any node. The table is cut in segments: growing one takes a fraction of a millisecond
//! however many edges there are.

const SEGMENTS: usize = 256;

/// No entry; greater than all, so that the order holds.
const EMPTY: u64 = u64::MAX;

/// Slots of a segment that has its first entry.
const SLOTS_MIN: usize = 8;

#[derive(Debug)]
pub(super) struct Edges {
    /// Empty until the first entry.
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
struct Segment {
    /// Sorted by hash but for the gaps. A few more than `width`, for those pushed over the end.
    slots: Vec<u64>,
    /// How many places hashes are spread over.
    width: usize,
    count: usize,
}

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
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = self.segments.get(segment(hash))?;
        let wanted = entry(hash, 0);
        for &found in segment.slots.get(segment.place(wanted)..)? {
            if found < wanted {
                continue;
            }
            if hash_part(found) != hash_part(wanted) || found == EMPTY {
                return None;
            }
            if is_it(node_part(found)) {
                return Some(node_part(found));
            }
        }
        None
    }

    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.segments.iter().map(|segment| segment.slots.capacity()).sum();
        slots * size_of::<u64>() + self.segments.capacity() * size_of::<Segment>()
    }
}

impl Segment {
    fn insert(&mut self, entry: u64) {
        // At most four fifths full: beyond, searches become long.
        if (self.count + 1) * 5 > self.width * 4 {
            self.resize((self.width + self.width / 4).max(SLOTS_MIN));
        }
        self.count += 1;
        // Each entry from its place on moves one up, as far as the next gap.
        let mut carried = entry;
        for at in self.position(entry)..self.slots.len() {
            std::mem::swap(&mut self.slots[at], &mut carried);
            if carried == EMPTY {
                return;
            }
        }
        self.slots.push(carried);
    }

    fn remove(&mut self, entry: u64) {
        let mut at = self.position(entry);
        if self.slots.get(at) != Some(&entry) {
            return;
        }
        self.count -= 1;
        // What was pushed away from its place moves back.
        while let Some(&next) = self.slots.get(at + 1) {
            if next == EMPTY || self.place(next) > at {
                break;
            }
            self.slots[at] = next;
            at += 1;
        }
        self.slots[at] = EMPTY;
        if self.count * 4 < self.width {
            self.resize(if self.count == 0 { 0 } else { (self.count * 2).max(SLOTS_MIN) });
        }
    }

    fn resize(&mut self, width: usize) {
        if width == self.width {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        self.width = width;
        // Pushed entries rarely need as much room behind the end.
        let mut slots = Vec::with_capacity(width + width / 32);
        for entry in old.into_iter().filter(|&entry| entry != EMPTY) {
            let place = self.place(entry);
            if slots.len() < place {
                slots.resize(place, EMPTY);
            }
            slots.push(entry);
        }
        if slots.len() < width {
            slots.resize(width, EMPTY);
        }
        self.slots = slots;
    }

    /// Where `entry` is, or would go.
    fn position(&self, entry: u64) -> usize {
        let place = self.place(entry);
        let behind = self.slots.iter().skip(place).position(|&found| found >= entry);
        behind.map_or(self.slots.len(), |count| place + count)
    }

    /// The first slot that an entry may be in; grows with its hash.
    fn place(&self, entry: u64) -> usize {
        let spread = (entry >> 32).wrapping_mul(self.width as u64) >> 32;
        usize::try_from(spread).unwrap_or(0)
    }
}

fn entry(hash: u64, node: u32) -> u64 {
    hash << 32 | u64::from(node)
}

fn hash_part(entry: u64) -> u64 {
    entry >> 32
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
                    let slots = &edges.segments[0].slots;
                    assert!(slots.iter().filter(|&&slot| slot != EMPTY).is_sorted());
                }
            }
            while let Some((hash, node)) = known.pop_last() {
                edges.remove(hash, node);
            }
            assert_eq!(edges.bytes(), SEGMENTS * size_of::<Segment>());
        }
    }
}
