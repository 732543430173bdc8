//! Topic names and filters, and what one shard keeps by them: the subscription trie with its shared
//! groups, the cache of answers in front of it, and the retained messages.
//!
//! All of it belongs to one shard. Names and filters are checked once, where they come in; the
//! trie, the cache and the retained store take them as checked.

pub mod cache;
pub mod filter;
pub mod hash;
pub mod name;
pub mod retained;
pub mod share;
pub mod trie;

mod chunks;
mod edges;
mod epochs;
mod held;
mod node;
mod nodes;
mod pieces;
mod roster;
mod slab;
mod subscriber;
mod text;

pub use cache::{Found, NoLocal, Target, TargetCache, Targets};
pub use filter::{TopicFilter, has_wildcard};
pub use hash::Seeded;
pub use name::{check_name, levels, topic_hash};
pub use retained::{Full, Retained, RetainedMessage, Walk};
pub use share::{GroupId, Member, RemoteMembers, ShareGroup};
pub use subscriber::{Hits, SubOptions, Subscriber};
pub use trie::{Installed, Joined, Left, NodeId, Removed, Trie};

#[cfg(test)]
mod tests;
