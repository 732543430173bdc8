//! Shared subscriptions between shards: each shard tells the others how many members it has, and how
//! many of them are connected (MQTT 5.0 section 4.8.2).

use crate::ids::{SessionId, ShardId, SubscriptionId};
use crate::mail::Mail;
use crate::session::SubscriptionKey;
use crate::topic::{GroupId, RemoteMembers, SubOptions};

use super::Shard;

impl Shard {
    pub(super) fn join_group(
        &mut self,
        session: SessionId,
        filter: &str,
        share: &str,
        options: SubOptions,
        id: Option<SubscriptionId>,
    ) {
        let joined = self.index.trie.share_join(filter, share, session, options, id);
        if let Some(session) = self.local.sessions.get_mut(session) {
            session.subscriptions.insert(SubscriptionKey::Group(joined.group), false);
        }
        if !joined.replaced {
            self.announce_group(joined.group, filter, share);
        }
    }

    pub(super) fn leave_group(&mut self, group: GroupId, session: SessionId) {
        let (mut filter, mut share) = (String::new(), String::new());
        self.index.trie.group_text(group, &mut filter, &mut share);
        let Some(left) = self.index.trie.share_leave(group, session) else { return };
        self.post_group(group, &filter, &share, left.online, left.total);
    }

    /// A session's client came or went: its groups prefer members that are connected.
    pub(super) fn share_presence(&mut self, session: SessionId, is_online: bool) {
        let Some(found) = self.local.sessions.get(session) else { return };
        for group in found.groups() {
            let Some(members) = self.index.trie.group_mut(group) else { continue };
            if members.set_online(session, is_online) {
                let (mut filter, mut share) = (String::new(), String::new());
                self.index.trie.group_text(group, &mut filter, &mut share);
                self.announce_group(group, &filter, &share);
            }
        }
    }

    fn announce_group(&mut self, group: GroupId, filter: &str, share: &str) {
        let Some((online, total)) = self.index.trie.group(group).map(|group| group.counts()) else {
            return;
        };
        self.post_group(group, filter, share, online, total);
    }

    fn post_group(&mut self, group: GroupId, filter: &str, name: &str, online: u32, total: u32) {
        let group = group.to_bits();
        for to in self.mail.others() {
            self.post(to, &Mail::Share { filter, name, group, online, total });
        }
    }

    pub(super) fn on_share(
        &mut self,
        from: ShardId,
        (filter, name): (&str, &str),
        group: u64,
        (online, total): (u32, u32),
    ) {
        let remote_group = GroupId::from_bits(group);
        let members = RemoteMembers { remote_group, online, total };
        self.index.trie.share_set_remote(filter, name, from, members);
    }
}
