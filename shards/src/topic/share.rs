//! Shared subscriptions: who is in a group, and who gets the next message (MQTT 5.0 section 4.8.2).
//!
//! Each shard holds its own members of a group in full and, of every other shard, how many it has.
//! The publisher's shard picks a shard, that shard picks the member.

use super::hash::mix;
use super::roster::{OfSession, Roster};
use crate::ids::{SessionId, ShardId, SubscriptionId};
use crate::limits::ShareStrategy;

/// How many members a pick by fewest inflight looks at: enough to find a good one, bounded for a
/// group of 100,000.
const LEAST_INFLIGHT_LOOKS_MAX: usize = 32;

/// A group of this shard's index. `generation` tells a reused `index` from its earlier owner, so mail
/// that names a group which is gone finds nobody instead of another filter's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    pub index: u32,
    pub generation: u32,
}

impl GroupId {
    /// For mail.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        Self {
            index: u32::from_le_bytes([a, b, c, d]),
            generation: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// One session's part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub session: SessionId,
    pub id: Option<SubscriptionId>,
    pub options: super::SubOptions,
}

impl OfSession for Member {
    fn session(&self) -> SessionId {
        self.session
    }
}

/// What another shard has of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMembers {
    /// That shard's own number of the group.
    pub remote_group: GroupId,
    /// Members whose session is connected.
    pub online: u32,
    /// 0: that shard has no member any more.
    pub total: u32,
}

/// One (filter, share name) on one shard.
#[derive(Debug)]
pub struct ShareGroup {
    pub(super) id: GroupId,
    pub(super) node: u32,
    pub(super) name: Box<str>,
    /// Position in its node's list of groups.
    pub(super) at: u32,
    /// The first `online` are connected.
    members: Roster<Member>,
    online: usize,
    /// Ordered by shard, so that all shards count through the members alike.
    remote: Vec<(ShardId, RemoteMembers)>,
    /// Where a sticky group begins to look; the same on all shards.
    salt: u64,
    shard_cursor: u64,
    member_cursor: u64,
    sticky_shard: Option<ShardId>,
    sticky_member: Option<SessionId>,
}

impl ShareGroup {
    pub(super) fn new(id: GroupId, node: u32, name: &str, at: u32) -> Self {
        Self {
            id,
            node,
            name: name.into(),
            at,
            members: Roster::default(),
            online: 0,
            remote: Vec::new(),
            salt: super::topic_hash(name.as_bytes()),
            shard_cursor: 0,
            member_cursor: 0,
            sticky_shard: None,
            sticky_member: None,
        }
    }

    /// This shard's number of the group.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    #[must_use]
    pub fn share_name(&self) -> &str {
        &self.name
    }

    /// This shard's members: how many are online, and how many there are.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        (count(self.online), count(self.members.len()))
    }

    #[must_use]
    pub fn member(&self, session: SessionId) -> Option<&Member> {
        self.members.find(session)
    }

    /// This shard's members, those online first.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// True if nobody is left on any shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.remote.is_empty()
    }

    /// The member's session connected or lost its connection. True if that changed the counts.
    pub fn set_online(&mut self, session: SessionId, online: bool) -> bool {
        let Some(at) = self.members.position(session) else { return false };
        if (at < self.online) == online {
            return false;
        }
        if online {
            self.members.swap(at, self.online);
            self.online += 1;
        } else {
            self.online -= 1;
            self.members.swap(at, self.online);
        }
        true
    }

    /// Which shard should take a message, and its number of the group: by the count of members online,
    /// or of all members if nobody is online anywhere. `None`: there are no members.
    pub fn pick_shard(
        &mut self,
        own: ShardId,
        strategy: ShareStrategy,
        publisher_hash: u64,
        topic_hash: u64,
        random: u64,
    ) -> Option<(ShardId, GroupId)> {
        let count_by = if self.is_anybody_online() { CountBy::Online } else { CountBy::Total };
        let weight = self.shards(own, count_by).map(|share| share.weight).sum::<u64>();
        if weight == 0 {
            return None;
        }
        let at = match strategy {
            // The pick of a member among the fewest inflight happens on the shard itself.
            ShareStrategy::RoundRobin | ShareStrategy::LeastInflight => {
                let at = self.shard_cursor;
                self.shard_cursor = at.wrapping_add(1);
                at
            }
            ShareStrategy::Random => random,
            ShareStrategy::HashClient => mix(publisher_hash),
            ShareStrategy::HashTopic => mix(topic_hash),
            ShareStrategy::Sticky => self.salt,
        };
        let kept = self.sticky_shard.filter(|_| strategy == ShareStrategy::Sticky);
        let picked = self
            .shards(own, count_by)
            .find(|share| Some(share.shard) == kept && share.weight > 0)
            .or_else(|| nth_share(self.shards(own, count_by), at % weight))?;
        if strategy == ShareStrategy::Sticky {
            self.sticky_shard = Some(picked.shard);
        }
        Some((picked.shard, picked.group))
    }

    /// Which of this shard's members gets a message: one that is online, if any is. `inflight` is asked
    /// for the strategy that needs it, for a bounded number of members.
    pub fn pick_member(
        &mut self,
        strategy: ShareStrategy,
        publisher_hash: u64,
        topic_hash: u64,
        random: u64,
        inflight: impl FnMut(SessionId) -> u32,
    ) -> Option<&Member> {
        let count = if self.online > 0 { self.online } else { self.members.len() };
        if count == 0 {
            return None;
        }
        let at = match strategy {
            ShareStrategy::RoundRobin => self.step_member(count),
            ShareStrategy::LeastInflight => self.least_inflight(count, inflight),
            // Hashed once more than for the shard: the choices must not depend on each other.
            ShareStrategy::Random => below(mix(random), count),
            ShareStrategy::HashClient => below(mix(mix(publisher_hash)), count),
            ShareStrategy::HashTopic => below(mix(mix(topic_hash)), count),
            ShareStrategy::Sticky => self
                .sticky_member
                .and_then(|session| self.members.position(session))
                .filter(|&at| at < count)
                .unwrap_or_else(|| below(mix(self.salt), count)),
        };
        let member = self.members.get(at)?;
        if strategy == ShareStrategy::Sticky {
            self.sticky_member = Some(member.session);
        }
        Some(member)
    }

    /// True if the session was in the group already.
    pub(super) fn join(&mut self, member: Member) -> bool {
        if let Some(at) = self.members.position(member.session) {
            *self.members.at_mut(at) = member;
            return true;
        }
        self.members.push(member);
        self.set_online(member.session, true);
        false
    }

    pub(super) fn leave(&mut self, session: SessionId) -> bool {
        self.set_online(session, false);
        let Some(at) = self.members.position(session) else { return false };
        self.members.swap_remove(at);
        true
    }

    pub(super) fn set_remote(&mut self, shard: ShardId, members: RemoteMembers) {
        let place = self.remote.binary_search_by_key(&shard, |(shard, _)| *shard);
        match place {
            Ok(at) if members.total == 0 => {
                self.remote.remove(at);
            }
            Ok(at) => self.remote[at].1 = members,
            Err(_) if members.total == 0 => {}
            Err(at) => self.remote.insert(at, (shard, members)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let remote = self.remote.capacity() * size_of::<(ShardId, RemoteMembers)>();
        self.name.len() + self.members.bytes() + remote
    }

    fn is_anybody_online(&self) -> bool {
        self.online > 0 || self.remote.iter().any(|(_, members)| members.online > 0)
    }

    /// All shards with their weights, ordered by shard.
    fn shards(&self, own: ShardId, count_by: CountBy) -> impl Iterator<Item = Portion> {
        let (online, total) = self.counts();
        let here = (own, RemoteMembers { remote_group: self.id, online, total });
        let before = self.remote.partition_point(|(shard, _)| *shard < own);
        let (lower, higher) = self.remote.split_at(before);
        lower.iter().copied().chain([here]).chain(higher.iter().copied()).map(
            move |(shard, members)| {
                let weight = match count_by {
                    CountBy::Online => members.online,
                    CountBy::Total => members.total,
                };
                Portion { shard, group: members.remote_group, weight: u64::from(weight) }
            },
        )
    }

    fn step_member(&mut self, count: usize) -> usize {
        let at = self.member_cursor % count as u64;
        self.member_cursor = at + 1;
        below(at, count)
    }

    fn least_inflight(
        &mut self,
        count: usize,
        mut inflight: impl FnMut(SessionId) -> u32,
    ) -> usize {
        // Begins elsewhere each time, so that equals take turns.
        let start = self.step_member(count);
        (0..count.min(LEAST_INFLIGHT_LOOKS_MAX))
            .map(|step| (start + step) % count)
            .min_by_key(|&at| self.members.get(at).map(|member| inflight(member.session)))
            .unwrap_or(start)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CountBy {
    Online,
    Total,
}

/// One shard's part of a group.
struct Portion {
    shard: ShardId,
    group: GroupId,
    weight: u64,
}

/// The shard that holds position `at`, counting through the members of all.
fn nth_share(mut portions: impl Iterator<Item = Portion>, at: u64) -> Option<Portion> {
    let mut left = at;
    portions.find(|portion| match left.checked_sub(portion.weight) {
        None => true,
        Some(rest) => {
            left = rest;
            false
        }
    })
}

/// A position in a list of `count`, from any number.
fn below(value: u64, count: usize) -> usize {
    usize::try_from(value % count as u64).unwrap_or(0)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
