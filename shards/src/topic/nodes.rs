//! The tree under the subscription trie: one node per distinct filter prefix, 32 bytes each,
//! without knowledge of what hangs on a node.
//!
//! A node names its wildcards, and its only other child if there was just one since it was last
//! without any. All other children are found by a hash of (parent, level).

use super::edges::Edges;
use super::hash::Seeded;
use super::name::levels;
use super::node::{Children, NODES_MAX, Node, Places, ROOT, Room};
use super::slab::Slab;
use super::text::{LevelKey, Text, TopicKeys};

#[derive(Debug)]
pub(super) struct Nodes {
    places: Places,
    edges: Edges,
    texts: Slab<Box<[u8]>>,
    text_bytes: usize,
    keys: Seeded,
}

impl Nodes {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            places: Self::with_root(Node::default()),
            edges: Edges::new(),
            texts: Slab::new(),
            text_bytes: 0,
            keys: Seeded::new(seed),
        }
    }

    /// The node of `filter`, made with all that leads to it if it is new.
    pub(super) fn ensure(&mut self, filter: &str) -> u32 {
        let mut levels = levels(filter).peekable();
        let mut node = ROOT;
        while let Some(level) = levels.next() {
            let key = self.key(level.as_bytes());
            let room = if levels.peek().is_some() { Room::Two } else { Room::One };
            node = self.child(node, key).unwrap_or_else(|| self.add_child(node, &key, room));
        }
        node
    }

    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        levels(filter).try_fold(ROOT, |node, level| self.child(node, self.key(level.as_bytes())))
    }

    /// Removes the node and those above it, as far as nothing hangs on them and they lead nowhere.
    pub(super) fn prune(&mut self, node: u32) {
        let mut node = node;
        while node != ROOT && self.places[node].is_idle() {
            let Node { parent, text, .. } = self.places[node];
            self.unlink(parent, node);
            if let Some(long) = text.long_number() {
                self.text_bytes -= self.texts.remove(long).len();
            }
            self.places.remove(node);
            node = parent;
        }
        if self.count() == 0 {
            // Memory of better days goes back; the places do that alone only without the root.
            self.places = Self::with_root(self.places[ROOT]);
        }
    }

    pub(super) fn set_held(&mut self, node: u32, held: u32) {
        self.places[node].held = held;
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.places[node]
    }

    /// `None` for a number that was never a node.
    pub(super) fn get(&self, node: u32) -> Option<Node> {
        self.places.get(node).copied()
    }

    pub(super) fn key<'a>(&self, level: &'a [u8]) -> LevelKey<'a> {
        LevelKey::new(self.keys, level)
    }

    /// The keys of the topic's levels; `room` is used until they are.
    pub(super) fn topic_keys<'a>(&self, topic: &str, room: &'a mut Vec<u8>) -> TopicKeys<'a> {
        TopicKeys::new(self.keys, topic, room)
    }

    /// Those from a byte of `room` on, which [`Self::topic_keys`] has filled.
    pub(super) fn rest_of_keys<'a>(&self, room: &'a [u8], at: usize) -> TopicKeys<'a> {
        TopicKeys::resume(self.keys, room, at)
    }

    fn child(&self, parent: u32, key: LevelKey<'_>) -> Option<u32> {
        let node = &self.places[parent];
        match key.digest.text {
            Some(Text::PLUS) => node.plus_child(),
            Some(Text::HASH) => node.hash_child(),
            _ => self.child_of(parent, node, key),
        }
    }

    /// The child of this name, which is no wildcard, for who has looked at the node already.
    #[inline(always)]
    pub(super) fn child_of(&self, parent: u32, node: &Node, key: LevelKey<'_>) -> Option<u32> {
        match node.children() {
            Children::None => None,
            Children::Direct(child) => self.is_named(&self.places[child], key).then_some(child),
            Children::Many(_) => {
                let hash = self.edge_hash(parent, key.digest.hash);
                self.edges.find(hash, move |child| {
                    let child = self.places.get(child);
                    child.is_some_and(|child| child.parent == parent && self.is_named(child, key))
                })
            }
        }
    }

    /// The nodes from just below the root down to `node`; none if it was never one.
    pub(super) fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut node = node;
        // A number that is no node's any more leads nowhere.
        while node != ROOT
            && let Some(found) = self.places.get(node)
        {
            path.push(node);
            node = found.parent;
        }
        path.reverse();
        path
    }

    /// The last level of the node's filter, given to `take`.
    pub(super) fn with_level<R>(&self, node: u32, take: impl FnOnce(&[u8]) -> R) -> R {
        let text = self.places[node].text;
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
        self.places.count() - 1
    }

    /// Whether so many can be added.
    pub(super) fn has_room(&self, count: usize) -> bool {
        let room = (NODES_MAX as usize).saturating_sub(self.places.places_count());
        // Each may need a line of its own.
        room / 2 > count
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.bytes() + self.texts.bytes() + self.text_bytes + self.edges.bytes()
    }

    fn with_root(root: Node) -> Places {
        let mut places = Places::default();
        let at = places.insert(root, Room::Two);
        debug_assert_eq!(at, ROOT);
        places
    }

    #[inline(always)]
    fn is_named(&self, node: &Node, key: LevelKey<'_>) -> bool {
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

    fn add_child(&mut self, parent: u32, key: &LevelKey<'_>, room: Room) -> u32 {
        let text = key.digest.text.unwrap_or_else(|| self.store_text(key.level));
        let child = self.places.insert(Node::new(parent, text), room);
        assert!(child < NODES_MAX, "callers ask `has_room` before they subscribe");
        let above = &mut self.places[parent];
        if let Some(wildcard) = above.wildcard_mut(text) {
            *wildcard = child;
            return child;
        }
        let children = match above.children() {
            Children::None => Children::Direct(child),
            Children::Direct(only) => {
                self.edges.insert(self.hash_of(only), only);
                self.edges.insert(self.edge_hash(parent, key.digest.hash), child);
                Children::Many(2)
            }
            Children::Many(count) => {
                self.edges.insert(self.edge_hash(parent, key.digest.hash), child);
                Children::Many(count + 1)
            }
        };
        self.places[parent].set_children(children);
        child
    }

    fn unlink(&mut self, parent: u32, child: u32) {
        let text = self.places[child].text;
        let above = &mut self.places[parent];
        if let Some(wildcard) = above.wildcard_mut(text) {
            *wildcard = ROOT;
            return;
        }
        let children = match above.children() {
            Children::None | Children::Direct(_) => Children::None,
            Children::Many(count) => {
                self.edges.remove(self.hash_of(child), child);
                count.checked_sub(1).filter(|&left| left > 0).map_or(Children::None, Children::Many)
            }
        };
        self.places[parent].set_children(children);
    }

    fn hash_of(&self, node: u32) -> u64 {
        let level_hash = self.with_level(node, |level| self.key(level).digest.hash);
        self.edge_hash(self.places[node].parent, level_hash)
    }

    fn store_text(&mut self, level: &[u8]) -> Text {
        self.text_bytes += level.len();
        Text::long(self.texts.insert(level.into()))
    }
}
