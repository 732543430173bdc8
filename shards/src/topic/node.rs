//! One node of the tree, and its place in memory.
//!
//! Places are numbered, and lie two in each line that a core fetches at once. What is read one after
//! the other should share a line: a node goes beside its parent if that place is free. A free place
//! beside one that is in use is half of a line; halves are listed, and each knows where in the list
//! it is, so that a line is given back when both of its places are free.

use std::mem;
use std::ops::{Index, IndexMut};

use super::chunks::Chunks;
use super::text::Text;

/// The empty prefix; always there, and nobody's child.
pub(super) const ROOT: u32 = 0;

/// The low bits of `children` are the number of the only child, not the count of children.
const DIRECT: u32 = 1 << 31;
/// There is no node, and the low bits are where among the halves its place is.
const HALF: u32 = 1 << 30;
const NUMBER_MASK: u32 = HALF - 1;

/// Every node lies below this number.
pub(super) const NODES_MAX: u32 = NUMBER_MASK;

/// Beyond all places.
const NOBODY: u32 = u32::MAX;

/// One prefix. `held` is the trie's: 0 if nothing hangs here.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(super) struct Node {
    pub(super) parent: u32,
    /// Of those that are not wildcards.
    children: u32,
    /// The wildcards among the children; [`ROOT`] if there is none.
    plus: u32,
    hash: u32,
    pub(super) held: u32,
    pub(super) text: Text,
}

const _: () = assert!(size_of::<Node>() == 32);

/// What a node knows of its children that are not wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Children {
    None,
    /// The only one since the node was last without any.
    Direct(u32),
    /// So many, to be looked for among the edges.
    Many(u32),
}

impl Node {
    pub(super) fn new(parent: u32, text: Text) -> Self {
        Self { parent, text, ..Self::default() }
    }

    /// What lies in a place without a node: nobody's child.
    fn free() -> Self {
        Self::new(NOBODY, Text::default())
    }

    #[inline]
    pub(super) fn children(&self) -> Children {
        match self.children {
            0 => Children::None,
            direct if direct & DIRECT != 0 => Children::Direct(direct & NUMBER_MASK),
            count => Children::Many(count),
        }
    }

    pub(super) fn set_children(&mut self, children: Children) {
        self.children = match children {
            Children::None => 0,
            Children::Direct(child) => DIRECT | child,
            Children::Many(count) => count,
        }
    }

    #[inline]
    pub(super) fn plus_child(&self) -> Option<u32> {
        (self.plus != ROOT).then_some(self.plus)
    }

    #[inline]
    pub(super) fn hash_child(&self) -> Option<u32> {
        (self.hash != ROOT).then_some(self.hash)
    }

    /// Where the node keeps the child of that name, [`ROOT`] for none, if it is a wildcard.
    pub(super) fn wildcard_mut(&mut self, text: Text) -> Option<&mut u32> {
        match text {
            Text::PLUS => Some(&mut self.plus),
            Text::HASH => Some(&mut self.hash),
            _ => None,
        }
    }

    /// Whether nothing hangs on it and it leads nowhere.
    pub(super) fn is_idle(&self) -> bool {
        self.children | self.plus | self.hash | self.held == 0
    }
}

/// Where a new node should lie if not beside its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// In any free place.
    One,
    /// Where there is room beside it for a child.
    Two,
}

/// All places. Growing moves none once there are many, and no more than one chunk has never been used.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// An even number: lines of two.
    all: Chunks<Node>,
    /// The first places of lines that are free.
    lines: Vec<u32>,
    /// Free places beside one that is in use.
    halves: Vec<u32>,
}

impl Places {
    /// Puts `node` beside its parent if it can be, else where there is `room`. Which place that is
    /// depends only on earlier calls.
    pub(super) fn insert(&mut self, node: Node, room: Room) -> u32 {
        let beside = node.parent ^ 1;
        let place = if self.take_half(beside) {
            beside
        } else if let Some(&half) = self.halves.last().filter(|_| room == Room::One) {
            self.take_half(half);
            half
        } else {
            let place = self.lines.pop().unwrap_or_else(|| self.add_line());
            self.list_half(place | 1);
            place
        };
        self[place] = node;
        place
    }

    /// Takes the node out; the place is free from here on. The caller says so once.
    pub(super) fn remove(&mut self, place: u32) {
        self[place] = Node::free();
        if !self.take_half(place ^ 1) {
            self.list_half(place);
            return;
        }
        self.lines.push(place & !1);
        if self.count() == 0 {
            *self = Self::default();
        }
    }

    /// `None` for a number that was never a node. Nothing hangs on one that is none any more, and it
    /// leads nowhere.
    pub(super) fn get(&self, place: u32) -> Option<&Node> {
        self.all.get(place as usize)
    }

    /// Nodes.
    pub(super) fn count(&self) -> usize {
        self.places_count() - self.halves.len()
    }

    /// Places of lines that are not free. While it is below some number, so are new places.
    pub(super) fn places_count(&self) -> usize {
        self.all.len() - self.lines.len() * 2
    }

    pub(super) fn bytes(&self) -> usize {
        self.all.bytes() + (self.lines.capacity() + self.halves.capacity()) * size_of::<u32>()
    }

    fn add_line(&mut self) -> u32 {
        let place = u32::try_from(self.all.len()).expect("callers keep below NODES_MAX");
        self.all.push(Node::free());
        self.all.push(Node::free());
        place
    }

    fn list_half(&mut self, place: u32) {
        let at = u32::try_from(self.halves.len()).expect("each is a place, numbered by u32");
        self[place].children = HALF | at;
        self.halves.push(place);
    }

    /// Whether the place was free and its partner is not; then it is listed no more.
    fn take_half(&mut self, place: u32) -> bool {
        let Some(node) = self.all.get_mut(place as usize) else { return false };
        if node.children & (DIRECT | HALF) != HALF {
            return false;
        }
        let half = mem::take(&mut node.children);
        let at = (half & NUMBER_MASK) as usize;
        self.halves.swap_remove(at);
        if let Some(&moved) = self.halves.get(at) {
            self[moved].children = half;
        }
        true
    }
}

impl Index<u32> for Places {
    type Output = Node;

    #[inline]
    fn index(&self, place: u32) -> &Node {
        &self.all[place as usize]
    }
}

impl IndexMut<u32> for Places {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut Node {
        &mut self.all[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::Random;
    use super::*;

    fn node(parent: u32, held: u32) -> Node {
        Node { held, ..Node::new(parent, Text::PLUS) }
    }

    #[test]
    fn a_chain_shares_lines_and_what_is_alone_fills_them() {
        let mut places = Places::default();
        let first = places.insert(node(ROOT, 1), Room::Two);
        let second = places.insert(node(first, 2), Room::Two);
        let third = places.insert(node(second, 3), Room::Two);
        assert_eq!((second, third >> 1), (first ^ 1, 1));
        assert_eq!(places.insert(node(first, 4), Room::One), third ^ 1);
        places.remove(second);
        assert_eq!(places.insert(node(third, 5), Room::One), second);
    }

    /// Every node stays where it is, every place is used once, and lines go back when both of their
    /// places are free.
    #[test]
    fn places_are_reused_and_memory_goes_back() {
        let mut random = Random(1);
        let mut places = Places::default();
        let mut known = BTreeMap::new();
        for step in 1..20_000_u32 {
            let some = u32::try_from(random.below(4000)).unwrap();
            if random.below(5) < if step < 10_000 { 3 } else { 2 } {
                let room = if random.below(2) == 0 { Room::One } else { Room::Two };
                let place = places.insert(node(some, step), room);
                assert_eq!(known.insert(place, step), None);
            } else if let Some((&place, &held)) = known.range(some..).next() {
                assert_eq!(places[place].held, held);
                places.remove(place);
                known.remove(&place);
                assert_eq!(places.get(place).map_or(0, |node| node.held), 0);
            }
            assert_eq!(places.count(), known.len());
            assert!(places.places_count() <= 2 * known.len());
        }
        assert!(known.iter().all(|(&place, &held)| places[place].held == held));
        for &place in known.keys() {
            places.remove(place);
        }
        assert_eq!((places.count(), places.bytes()), (0, 0));
    }
}
