//! The shared groups of the index: each hangs on the node of its filter, and goes when nobody is
//! left in it on any shard.

use hashbrown::HashTable;

use super::{GroupId, Held, NodeId, RemoteMembers, ShareGroup, SubOptions, Trie};
use crate::ids::{SessionId, ShardId, SubscriptionId};
use crate::topic::share::Member;

/// What [`Trie::share_join`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub group: GroupId,
    /// This session was in the group already; its options are the new ones now.
    pub replaced: bool,
}

/// What [`Trie::share_leave`] left of this shard's part of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub online: u32,
    pub total: u32,
}

impl Trie {
    /// Adds a session, online, to a shared group, or gives its membership new options.
    pub fn share_join(
        &mut self,
        filter: &str,
        share_name: &str,
        session: SessionId,
        options: SubOptions,
        id: Option<SubscriptionId>,
    ) -> Joined {
        let group = self.ensure_group(filter, share_name);
        let replaced = match self.group_mut(group) {
            Some(found) => found.join(Member { session, id, options }),
            None => false,
        };
        if !replaced {
            self.subscriptions_count += 1;
        }
        Joined { group, replaced }
    }

    /// Takes a session out of a shared group. The group goes when nobody is left on any shard.
    pub fn share_leave(&mut self, group: GroupId, session: SessionId) -> Option<Left> {
        let found = self.group_mut(group)?;
        if !found.leave(session) {
            return None;
        }
        let (online, total) = found.counts();
        self.subscriptions_count -= 1;
        self.free_if_empty(group);
        Some(Left { online, total })
    }

    /// What another shard has of a group; `total` 0 is nothing.
    pub fn share_set_remote(
        &mut self,
        filter: &str,
        share_name: &str,
        shard: ShardId,
        members: RemoteMembers,
    ) {
        let group = if members.total == 0 {
            let Some(group) = self.share_find(filter, share_name) else { return };
            group
        } else {
            self.ensure_group(filter, share_name)
        };
        if let Some(found) = self.group_mut(group) {
            found.set_remote(shard, members);
        }
        self.free_if_empty(group);
    }

    /// `None` if the group is gone.
    pub fn group_mut(&mut self, group: GroupId) -> Option<&mut ShareGroup> {
        self.groups.get_mut(group.index)?.as_mut().filter(|found| found.id == group)
    }

    /// `None` if the group is gone.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<&ShareGroup> {
        self.groups.get(group.index)?.as_ref().filter(|found| found.id == group)
    }

    #[must_use]
    pub fn share_find(&self, filter: &str, share_name: &str) -> Option<GroupId> {
        self.find_group(self.nodes.find(filter)?, share_name)
    }

    /// The texts that make up `$share/<share>/<filter>`, appended. Nothing if the group is gone.
    pub fn group_text(&self, group: GroupId, filter: &mut String, share: &mut String) {
        if let Some(group) = self.group(group) {
            self.filter_text(NodeId(group.node), filter);
            share.push_str(&group.name);
        }
    }
}

impl Trie {
    fn group_hash(&self, node: u32, share_name: &str) -> u64 {
        self.group_keys.pair(u64::from(node), self.group_keys.bytes(share_name.as_bytes()))
    }

    fn find_group(&self, node: u32, share_name: &str) -> Option<GroupId> {
        let hash = self.group_hash(node, share_name);
        let is_it = |group: &ShareGroup| group.node == node && *group.name == *share_name;
        let found =
            self.group_index.find(hash, |&at| self.groups[at].as_ref().is_some_and(is_it))?;
        self.groups[*found].as_ref().map(|group| group.id)
    }

    fn ensure_group(&mut self, filter: &str, share_name: &str) -> GroupId {
        let node = self.nodes.ensure(filter);
        if let Some(group) = self.find_group(node, share_name) {
            return group;
        }
        let many = self.widen(node);
        let index = self.groups.insert(None);
        let id = GroupId { index, generation: self.generation };
        self.generation = self.generation.wrapping_add(1);
        let list = &mut self.many[many].groups;
        let at = u32::try_from(list.len()).expect("groups are numbered by u32");
        list.push(id);
        self.groups[index] = Some(ShareGroup::new(id, node, share_name, at));
        self.index_group(node, share_name, index);
        self.on_filter_change(filter);
        id
    }

    fn index_group(&mut self, node: u32, share_name: &str, index: u32) {
        let hash = self.group_hash(node, share_name);
        let mut table = std::mem::take(&mut self.group_index);
        table.insert_unique(hash, index, |&other| {
            self.groups[other].as_ref().map_or(0, |group| self.group_hash(group.node, &group.name))
        });
        self.group_index = table;
    }

    fn free_if_empty(&mut self, group: GroupId) {
        if !self.group(group).is_some_and(ShareGroup::is_empty) {
            return;
        }
        let Some(gone) = self.groups.remove(group.index) else { return };
        let hash = self.group_hash(gone.node, &gone.name);
        if let Ok(entry) = self.group_index.find_entry(hash, |&at| at == group.index) {
            entry.remove();
        }
        if self.group_index.is_empty() {
            self.group_index = HashTable::new();
        }
        self.on_node_change(gone.node);
        if let Held::Many(many) = self.held(gone.node) {
            let list = &mut self.many[many].groups;
            list.swap_remove(gone.at as usize);
            if let Some(moved) = list.get(gone.at as usize).copied()
                && let Some(moved) = self.group_mut(moved)
            {
                moved.at = gone.at;
            }
        }
        self.narrow(gone.node);
        self.nodes.prune(gone.node);
    }
}
