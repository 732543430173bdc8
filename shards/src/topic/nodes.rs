//! The tree under the subscription trie: one node per distinct filter prefix, 24 bytes each, without
//! knowledge of what hangs on a node.
//!
//! A node that has had one child since it was last childless names it directly. The children of all
//! other nodes are in hash tables keyed by (parent, level), split in segments so that growing one
//! stops the shard for a fraction of a millisecond however large the index is.

use hashbrown::HashTable;

use super::hash::Seeded;
use super::name::levels;
use super::slab::Slab;

/// The empty prefix; always there.
pub(super) const ROOT: u32 = 0;

/// Every node lies below this number.
pub(super) const NODES_MAX: u32 = CHILD_MASK;

const HAS_PLUS: u32 = 1 << 31;
const HAS_HASH: u32 = 1 << 30;
/// The low bits are the number of the only child, not the count of children.
const DIRECT: u32 = 1 << 29;
const CHILD_MASK: u32 = DIRECT - 1;

const SEGMENTS: usize = 256;
/// The table itself uses the lowest bits of a hash and the seven highest.
const SEGMENT_SHIFT: u32 = 48;

/// One prefix. `held` is the trie's: 0 if nothing hangs here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    parent: u32,
    children: u32,
    pub(super) held: u32,
    text: Text,
}

const _: () = assert!(size_of::<Node>() == 24);

impl Node {
    pub(super) fn is_leaf(self) -> bool {
        self.children == 0
    }

    pub(super) fn has_plus(self) -> bool {
        self.children & HAS_PLUS != 0
    }

    pub(super) fn has_hash(self) -> bool {
        self.children & HAS_HASH != 0
    }

    fn only_child(self) -> Option<u32> {
        (self.children & DIRECT != 0).then_some(self.children & CHILD_MASK)
    }
}

/// A level: up to 11 bytes in place, a longer one by its number in `Nodes::texts`.
#[derive(Clone, Copy, Debug, Default)]
struct Text([u8; 12]);

const LONG: u8 = u8::MAX;

impl Text {
    /// The number of a text that is too long to be here.
    fn long(self) -> Option<u32> {
        let [count, a, b, c, d, ..] = self.0;
        (count == LONG).then_some(u32::from_le_bytes([a, b, c, d]))
    }

    fn here(&self) -> &[u8] {
        let [count, bytes @ ..] = &self.0;
        bytes.get(..usize::from(*count)).unwrap_or_default()
    }
}

/// Which child of a node, in the form that a lookup wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelKey<'a> {
    pub(super) level: &'a [u8],
    pub(super) hash: u64,
}

#[derive(Debug)]
pub(super) struct Nodes {
    slab: Slab<Node>,
    edges: Vec<HashTable<u32>>,
    texts: Slab<Box<[u8]>>,
    text_bytes: usize,
    keys: Seeded,
    plus_hash: u64,
    hash_hash: u64,
}

impl Nodes {
    pub(super) fn new(seed: u64) -> Self {
        let keys = Seeded::new(seed);
        let mut slab = Slab::new();
        let root = slab.insert(Node::default());
        debug_assert_eq!(root, ROOT);
        Self {
            slab,
            edges: Vec::new(),
            texts: Slab::new(),
            text_bytes: 0,
            keys,
            plus_hash: keys.bytes(b"+"),
            hash_hash: keys.bytes(b"#"),
        }
    }

    /// The node of `filter`, made with all that leads to it if it is new.
    pub(super) fn ensure(&mut self, filter: &str) -> u32 {
        levels(filter).fold(ROOT, |node, level| {
            let key = self.key(level.as_bytes());
            self.child(node, key).unwrap_or_else(|| self.add_child(node, key))
        })
    }

    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        levels(filter).try_fold(ROOT, |node, level| self.child(node, self.key(level.as_bytes())))
    }

    /// Removes the node and those above it, as far as nothing hangs on them and they lead nowhere.
    pub(super) fn prune(&mut self, node: u32) {
        let mut node = node;
        while node != ROOT {
            let Node { parent, held, children, .. } = self.slab[node];
            if held != 0 || children != 0 {
                return;
            }
            self.unlink(parent, node);
            if let Some(long) = self.slab[node].text.long() {
                self.text_bytes -= self.texts.remove(long).len();
            }
            self.slab.remove(node);
            node = parent;
        }
    }

    pub(super) fn set_held(&mut self, node: u32, held: u32) {
        self.slab[node].held = held;
    }

    pub(super) fn node(&self, node: u32) -> Node {
        self.slab[node]
    }

    /// `None` for a number that was never a node.
    pub(super) fn get(&self, node: u32) -> Option<Node> {
        self.slab.get(node).copied()
    }

    pub(super) fn key<'a>(&self, level: &'a [u8]) -> LevelKey<'a> {
        LevelKey { level, hash: self.keys.bytes(level) }
    }

    pub(super) fn child(&self, parent: u32, key: LevelKey<'_>) -> Option<u32> {
        let node = self.slab[parent];
        if let Some(child) = node.only_child() {
            return self.is_named(child, key.level).then_some(child);
        }
        if node.is_leaf() {
            return None;
        }
        let hash = self.edge_hash(parent, key.hash);
        self.edges
            .get(segment(hash))?
            .find(hash, |&child| {
                self.slab[child].parent == parent && self.is_named(child, key.level)
            })
            .copied()
    }

    pub(super) fn plus_child(&self, parent: u32) -> Option<u32> {
        self.child(parent, LevelKey { level: b"+", hash: self.plus_hash })
    }

    pub(super) fn hash_child(&self, parent: u32) -> Option<u32> {
        self.child(parent, LevelKey { level: b"#", hash: self.hash_hash })
    }

    /// The nodes from just below the root down to `node`.
    pub(super) fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut node = node;
        while node != ROOT {
            path.push(node);
            node = self.slab[node].parent;
        }
        path.reverse();
        path
    }

    /// The last level of the node's filter.
    pub(super) fn level(&self, node: u32) -> &[u8] {
        let text = &self.slab[node].text;
        match text.long() {
            None => text.here(),
            Some(long) => &self.texts[long],
        }
    }

    /// Nodes, the root not counted.
    pub(super) fn count(&self) -> usize {
        self.slab.count() - 1
    }

    pub(super) fn bytes(&self) -> usize {
        let edges: usize = self.edges.iter().map(HashTable::allocation_size).sum();
        let segments = self.edges.capacity() * size_of::<HashTable<u32>>();
        self.slab.bytes() + self.texts.bytes() + self.text_bytes + edges + segments
    }

    fn is_named(&self, node: u32, level: &[u8]) -> bool {
        self.level(node) == level
    }

    fn edge_hash(&self, parent: u32, level_hash: u64) -> u64 {
        self.keys.pair(u64::from(parent), level_hash)
    }

    fn add_child(&mut self, parent: u32, key: LevelKey<'_>) -> u32 {
        let text = self.store_text(key.level);
        let child = self.slab.insert(Node { parent, children: 0, held: 0, text });
        assert!(child < NODES_MAX, "callers ask `has_room` before they subscribe");
        let wildcard = wildcard_flag(key.level);
        let above = self.slab[parent];
        if above.is_leaf() {
            self.slab[parent].children = DIRECT | wildcard | child;
            return child;
        }
        if let Some(only) = above.only_child() {
            let flags = above.children & (HAS_PLUS | HAS_HASH);
            self.slab[parent].children = flags | 1;
            self.insert_edge(only);
        }
        self.slab[parent].children += 1;
        self.slab[parent].children |= wildcard;
        self.insert_edge(child);
        child
    }

    fn unlink(&mut self, parent: u32, child: u32) {
        let above = self.slab[parent];
        if above.only_child().is_some() {
            self.slab[parent].children = 0;
            return;
        }
        self.remove_edge(child);
        let left = above.children & !wildcard_flag(self.level(child));
        let left = left - 1;
        debug_assert!(left & CHILD_MASK != 0 || left == 0);
        self.slab[parent].children = left;
    }

    fn insert_edge(&mut self, child: u32) {
        if self.edges.is_empty() {
            self.edges.resize_with(SEGMENTS, HashTable::new);
        }
        let hash = self.hash_of(child);
        let mut table = std::mem::take(&mut self.edges[segment(hash)]);
        table.insert_unique(hash, child, |&other| self.hash_of(other));
        self.edges[segment(hash)] = table;
    }

    fn remove_edge(&mut self, child: u32) {
        let hash = self.hash_of(child);
        let mut table = std::mem::take(&mut self.edges[segment(hash)]);
        if let Ok(entry) = table.find_entry(hash, |&other| other == child) {
            entry.remove();
        }
        if table.is_empty() {
            table = HashTable::new();
        } else if table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2, |&other| self.hash_of(other));
        }
        self.edges[segment(hash)] = table;
    }

    fn hash_of(&self, node: u32) -> u64 {
        self.edge_hash(self.slab[node].parent, self.keys.bytes(self.level(node)))
    }

    fn store_text(&mut self, level: &[u8]) -> Text {
        let mut text = [0; 12];
        match (u8::try_from(level.len()), text.get_mut(1..=level.len())) {
            (Ok(count), Some(place)) => {
                place.copy_from_slice(level);
                text[0] = count;
            }
            _ => {
                self.text_bytes += level.len();
                let [a, b, c, d] = self.texts.insert(level.into()).to_le_bytes();
                text = [LONG, a, b, c, d, 0, 0, 0, 0, 0, 0, 0];
            }
        }
        Text(text)
    }
}

fn wildcard_flag(level: &[u8]) -> u32 {
    match level {
        b"+" => HAS_PLUS,
        b"#" => HAS_HASH,
        _ => 0,
    }
}

fn segment(hash: u64) -> usize {
    let [_, _, _, _, _, _, segment, _] = hash.to_le_bytes();
    debug_assert_eq!(u64::from(segment), (hash >> SEGMENT_SHIFT) & 0xff);
    usize::from(segment)
}
