//! The tree under the subscription trie: one node per distinct filter prefix, 24 bytes each,
//! without knowledge of what hangs on a node.
//!
//! A node that has had one child since it was last childless names it directly. The children of all
//! other nodes are found by a hash of (parent, level).

use super::edges::Edges;
use super::hash::Seeded;
use super::name::levels;
use super::slab::Slab;
use super::text::{LevelKey, Text, TopicKeys};

/// The empty prefix; always there.
pub(super) const ROOT: u32 = 0;

/// Every node lies below this number.
pub(super) const NODES_MAX: u32 = CHILD_MASK;

const HAS_PLUS: u32 = 1 << 31;
const HAS_HASH: u32 = 1 << 30;
/// The low bits are the number of the only child, not the count of children.
const DIRECT: u32 = 1 << 29;
const CHILD_MASK: u32 = DIRECT - 1;

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
    pub(super) fn is_leaf(&self) -> bool {
        self.children == 0
    }

    /// Whether `+` or `#` are among its children.
    pub(super) fn has_wildcard(&self) -> bool {
        self.children & (HAS_PLUS | HAS_HASH) != 0
    }

    fn only_child(&self) -> Option<u32> {
        (self.children & DIRECT != 0).then_some(self.children & CHILD_MASK)
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    slab: Slab<Node>,
    edges: Edges,
    texts: Slab<Box<[u8]>>,
    text_bytes: usize,
    keys: Seeded,
    plus: LevelKey<'static>,
    hash: LevelKey<'static>,
}

impl Nodes {
    pub(super) fn new(seed: u64) -> Self {
        let keys = Seeded::new(seed);
        let mut slab = Slab::new();
        let root = slab.insert(Node::default());
        debug_assert_eq!(root, ROOT);
        Self {
            slab,
            edges: Edges::new(),
            texts: Slab::new(),
            text_bytes: 0,
            keys,
            plus: LevelKey::new(keys, b"+"),
            hash: LevelKey::new(keys, b"#"),
        }
    }

    /// The node of `filter`, made with all that leads to it if it is new.
    pub(super) fn ensure(&mut self, filter: &str) -> u32 {
        levels(filter).fold(ROOT, |node, level| {
            let key = self.key(level.as_bytes());
            self.child(node, &key).unwrap_or_else(|| self.add_child(node, &key))
        })
    }

    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        levels(filter).try_fold(ROOT, |node, level| self.child(node, &self.key(level.as_bytes())))
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
            if let Some(long) = self.slab[node].text.long_number() {
                self.text_bytes -= self.texts.remove(long).len();
            }
            self.slab.remove(node);
            node = parent;
        }
        if self.count() == 0 {
            // Memory of better days goes back; a slab does that alone only without the root.
            let root = self.slab[ROOT];
            self.slab = Slab::new();
            self.slab.insert(root);
        }
    }

    pub(super) fn set_held(&mut self, node: u32, held: u32) {
        self.slab[node].held = held;
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.slab[node]
    }

    /// `None` for a number that was never a node.
    pub(super) fn get(&self, node: u32) -> Option<Node> {
        self.slab.get(node).copied()
    }

    pub(super) fn key<'a>(&self, level: &'a [u8]) -> LevelKey<'a> {
        LevelKey::new(self.keys, level)
    }

    /// The keys of the topic's levels; `room` is used until they are.
    pub(super) fn topic_keys<'a>(&self, topic: &str, room: &'a mut Vec<u8>) -> TopicKeys<'a> {
        TopicKeys::new(self.keys, topic, room)
    }

    /// Not inlined: the walk has a copy of its own in [`Self::child_of`], all others share this.
    #[inline(never)]
    pub(super) fn child(&self, parent: u32, key: &LevelKey<'_>) -> Option<u32> {
        self.child_of(parent, &self.slab[parent], key)
    }

    /// As [`Self::child`], for who has looked at the node already.
    #[inline(always)]
    pub(super) fn child_of(&self, parent: u32, node: &Node, key: &LevelKey<'_>) -> Option<u32> {
        if let Some(child) = node.only_child() {
            return self.is_named(&self.slab[child], key).then_some(child);
        }
        if node.is_leaf() {
            return None;
        }
        let hash = self.edge_hash(parent, key.digest.hash);
        self.edges.find(hash, |child| {
            let child = &self.slab[child];
            child.parent == parent && self.is_named(child, key)
        })
    }

    #[inline]
    pub(super) fn plus_child(&self, parent: u32, node: &Node) -> Option<u32> {
        if node.children & HAS_PLUS == 0 {
            return None;
        }
        self.child(parent, &self.plus)
    }

    #[inline]
    pub(super) fn hash_child(&self, parent: u32, node: &Node) -> Option<u32> {
        if node.children & HAS_HASH == 0 {
            return None;
        }
        self.child(parent, &self.hash)
    }

    /// The nodes from just below the root down to `node`; none if it was never one.
    pub(super) fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut node = node;
        // A number that is no node's any more leads nowhere.
        while node != ROOT
            && let Some(found) = self.slab.get(node)
        {
            path.push(node);
            node = found.parent;
        }
        path.reverse();
        path
    }

    /// The last level of the node's filter, given to `take`.
    pub(super) fn with_level<R>(&self, node: u32, take: impl FnOnce(&[u8]) -> R) -> R {
        let text = self.slab[node].text;
        match text.long_number() {
            Some(long) => take(&self.texts[long]),
            None => {
                let (bytes, count) = text.bytes();
                take(bytes.get(..count).unwrap_or_default())
            }
        }
    }

    /// Nodes, the root not counted.
    pub(super) fn count(&self) -> usize {
        self.slab.count() - 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes() + self.texts.bytes() + self.text_bytes + self.edges.bytes()
    }

    fn is_named(&self, node: &Node, key: &LevelKey<'_>) -> bool {
        match key.digest.text {
            Some(wanted) => node.text == wanted,
            None => self.is_named_long(node.text, key.level),
        }
    }

    /// Apart from the above, to keep that small.
    #[inline(never)]
    fn is_named_long(&self, text: Text, level: &[u8]) -> bool {
        text.long_number().is_some_and(|long| *self.texts[long] == *level)
    }

    fn edge_hash(&self, parent: u32, level_hash: u64) -> u64 {
        self.keys.half_pair(u64::from(parent), level_hash)
    }

    fn add_child(&mut self, parent: u32, key: &LevelKey<'_>) -> u32 {
        let text = key.digest.text.unwrap_or_else(|| self.store_text(key.level));
        let child = self.slab.insert(Node { parent, children: 0, held: 0, text });
        assert!(child < NODES_MAX, "callers ask `has_room` before they subscribe");
        let wildcard = wildcard_flag(text);
        let above = self.slab[parent];
        if above.is_leaf() {
            self.slab[parent].children = DIRECT | wildcard | child;
            return child;
        }
        if let Some(only) = above.only_child() {
            let flags = above.children & (HAS_PLUS | HAS_HASH);
            self.slab[parent].children = flags | 1;
            self.edges.insert(self.hash_of(only), only);
        }
        self.slab[parent].children += 1;
        self.slab[parent].children |= wildcard;
        self.edges.insert(self.edge_hash(parent, key.digest.hash), child);
        child
    }

    fn unlink(&mut self, parent: u32, child: u32) {
        let above = self.slab[parent];
        if above.only_child().is_some() {
            self.slab[parent].children = 0;
            return;
        }
        self.edges.remove(self.hash_of(child), child);
        let left = above.children & !wildcard_flag(self.slab[child].text);
        let left = left - 1;
        debug_assert!(left & CHILD_MASK != 0 || left == 0);
        self.slab[parent].children = left;
    }

    fn hash_of(&self, node: u32) -> u64 {
        let level_hash = self.with_level(node, |level| self.key(level).digest.hash);
        self.edge_hash(self.slab[node].parent, level_hash)
    }

    fn store_text(&mut self, level: &[u8]) -> Text {
        self.text_bytes += level.len();
        Text::long(self.texts.insert(level.into()))
    }
}

fn wildcard_flag(text: Text) -> u32 {
    match text {
        Text::PLUS => HAS_PLUS,
        Text::HASH => HAS_HASH,
        _ => 0,
    }
}
