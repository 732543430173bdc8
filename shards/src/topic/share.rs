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

/// Members that are asked whether they may receive a message, beyond the one that was picked.
const SHARE_LOOKS_MAX: usize = 64;

/// A group of this shard's index. `generation` tells a reused `index` from its earlier owner, so
/// mail that names a group which is gone finds nobody instead of another filter's members.
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
    /// Where the group begins to count; the same on all shards.
    salt: u64,
    shard_cursor: u64,
    member_cursor: u64,
    sticky_shard: Option<ShardId>,
    sticky_member: Option<SessionId>,
}

impl ShareGroup {
    pub(super) fn new(id: GroupId, node: u32, name: &str, at: u32) -> Self {
        let salt = super::topic_hash(name.as_bytes());
        Self {
            id,
            node,
            name: name.into(),
            at,
            members: Roster::default(),
            online: 0,
            remote: Vec::new(),
            salt,
            // Many groups with few messages should not all begin with the first member.
            shard_cursor: salt,
            member_cursor: mix(salt),
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

    /// Which shard should take a message, and its number of the group: by the count of members
    /// online, or of all members if nobody is online anywhere. `None`: there are no members.
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

    /// Which of this shard's members gets a message: one that is online, if any is. `inflight` is
    /// asked for the strategy that needs it, for a bounded number of members.
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

    /// This shard's members from the one behind `after` on, as far as they may be looked at for one
    /// message; those online come first.
    pub fn members_after(&self, after: SessionId) -> impl Iterator<Item = &Member> {
        let (online, offline) = self.members.split_at(self.online);
        let start = self.members.position(after).map_or(0, |at| at + 1).min(self.online);
        let (before, behind) = online.split_at(start);
        behind.iter().chain(before).chain(offline).take(SHARE_LOOKS_MAX)
    }

    /// Another shard with members, not in the set `tried`, and its number of the group.
    #[must_use]
    pub fn shard_not_in(&self, tried: u64) -> Option<(ShardId, GroupId)> {
        let left = || self.remote.iter().filter(|(shard, _)| tried & (1 << shard.0) == 0);
        let online = left().find(|(_, members)| members.online > 0);
        let picked = online.or_else(|| left().next());
        picked.map(|(shard, members)| (*shard, members.remote_group))
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

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;
    use crate::ids::QoS;
    use crate::topic::SubOptions;

    const OWN: ShardId = ShardId(1);
    const ALL: [ShareStrategy; 6] = [
        ShareStrategy::RoundRobin,
        ShareStrategy::Random,
        ShareStrategy::Sticky,
        ShareStrategy::HashClient,
        ShareStrategy::HashTopic,
        ShareStrategy::LeastInflight,
    ];

    fn group(members: u32) -> ShareGroup {
        let mut group = ShareGroup::new(GroupId { index: 0, generation: 0 }, 1, "workers", 0);
        for session in 0..members {
            let options = SubOptions::new(QoS::AtLeastOnce, false, false);
            group.join(Member { session: SessionId(session), id: None, options });
        }
        group
    }

    fn remote(index: u32, online: u32, total: u32) -> RemoteMembers {
        RemoteMembers { remote_group: GroupId { index, generation: 7 }, online, total }
    }

    fn pick(group: &mut ShareGroup, strategy: ShareStrategy, number: u64) -> Option<u32> {
        let member = group.pick_member(strategy, number, number, number, |_| 0);
        member.map(|member| member.session.0)
    }

    fn pick_shard(group: &mut ShareGroup, strategy: ShareStrategy, number: u64) -> Option<u8> {
        let picked = group.pick_shard(OWN, strategy, number, number, number);
        picked.map(|(shard, _)| shard.0)
    }

    /// Members on shards with three, one and two of them all get the same share.
    #[test]
    fn round_robin_is_fair_over_members_of_all_shards() {
        let mut here = group(3);
        here.set_remote(ShardId(2), remote(5, 2, 2));
        here.set_remote(ShardId(0), remote(4, 1, 3));
        let mut by_shard = [0; 3];
        let mut by_member = [0; 3];
        for _ in 0..600 {
            let shard = pick_shard(&mut here, ShareStrategy::RoundRobin, 0).unwrap();
            by_shard[usize::from(shard)] += 1;
            if shard == OWN.0 {
                let member = pick(&mut here, ShareStrategy::RoundRobin, 0).unwrap();
                by_member[member as usize] += 1;
            }
        }
        assert_eq!((by_shard, by_member), ([100, 300, 200], [100, 100, 100]));
    }

    #[test]
    fn chance_and_hashes_spread() {
        for strategy in [ShareStrategy::Random, ShareStrategy::HashClient, ShareStrategy::HashTopic]
        {
            let mut here = group(2);
            here.set_remote(ShardId(0), remote(4, 2, 2));
            let mut random = Random(1);
            let (mut shards, mut members) = ([0; 2], [0; 2]);
            for _ in 0..4000 {
                let number = random.next();
                let shard = pick_shard(&mut here, strategy, number).unwrap();
                shards[usize::from(shard)] += 1;
                if shard == OWN.0 {
                    members[pick(&mut here, strategy, number).unwrap() as usize] += 1;
                }
            }
            assert!(
                shards.iter().all(|count| (1850..2150).contains(count)),
                "{strategy:?} {shards:?}"
            );
            assert!(
                members.iter().all(|count| (900..1100).contains(count)),
                "{strategy:?} {members:?}"
            );
        }
    }

    #[test]
    fn a_hash_names_the_same_shard_everywhere() {
        // The same group as two shards see it.
        let (mut one, mut other) = (group(3), group(2));
        one.set_remote(ShardId(4), remote(0, 2, 2));
        other.set_remote(OWN, remote(0, 3, 3));
        for strategy in [ShareStrategy::HashClient, ShareStrategy::HashTopic, ShareStrategy::Sticky]
        {
            for number in 0..100 {
                let here = one.pick_shard(OWN, strategy, number, number, number);
                let there = other.pick_shard(ShardId(4), strategy, number, number, number);
                assert_eq!(here.map(|(shard, _)| shard), there.map(|(shard, _)| shard));
            }
        }
    }

    #[test]
    fn sticky_stays_until_the_member_leaves() {
        let mut here = group(4);
        here.set_remote(ShardId(0), remote(4, 4, 4));
        let shard = pick_shard(&mut here, ShareStrategy::Sticky, 0);
        let member = pick(&mut here, ShareStrategy::Sticky, 0).unwrap();
        here.set_remote(ShardId(0), remote(4, 9, 9));
        assert_eq!(pick_shard(&mut here, ShareStrategy::Sticky, 1), shard);
        assert_eq!(pick(&mut here, ShareStrategy::Sticky, 1), Some(member));
        here.set_online(SessionId(member), false);
        let next = pick(&mut here, ShareStrategy::Sticky, 1).unwrap();
        here.set_online(SessionId(member), true);
        assert!(next != member && pick(&mut here, ShareStrategy::Sticky, 1) == Some(next));
        assert!(here.leave(SessionId(next)) && !here.leave(SessionId(next)));
        assert_ne!(pick(&mut here, ShareStrategy::Sticky, 1), Some(next));
    }

    #[test]
    fn least_inflight_takes_the_idlest_and_asks_a_bounded_number() {
        let mut here = group(10);
        let picked =
            here.pick_member(ShareStrategy::LeastInflight, 0, 0, 0, |session| 20 - session.0);
        assert_eq!(picked.map(|member| member.session), Some(SessionId(9)));
        let mut asked_count = 0;
        let mut large = group(1000);
        large.pick_member(ShareStrategy::LeastInflight, 0, 0, 0, |_| {
            asked_count += 1;
            0
        });
        assert_eq!(asked_count, LEAST_INFLIGHT_LOOKS_MAX);
    }

    /// Members that are offline get something only if nobody is online.
    #[test]
    fn online_members_come_first() {
        for strategy in ALL {
            let mut here = group(5);
            assert_eq!(here.counts(), (5, 5));
            for session in [0, 2, 3, 4] {
                assert!(here.set_online(SessionId(session), false));
                assert!(!here.set_online(SessionId(session), false));
            }
            assert_eq!(here.counts(), (1, 5));
            for number in 0..20 {
                assert_eq!(pick(&mut here, strategy, number), Some(1), "{strategy:?}");
            }
            here.set_remote(ShardId(0), remote(4, 0, 90));
            assert_eq!(pick_shard(&mut here, strategy, 3), Some(OWN.0), "{strategy:?}");
            here.set_online(SessionId(1), false);
            here.set_remote(ShardId(3), remote(8, 1, 1));
            let picked = here.pick_shard(OWN, strategy, 3, 3, 3);
            let want = (ShardId(3), GroupId { index: 8, generation: 7 });
            assert_eq!(picked, Some(want), "{strategy:?}");
            here.set_remote(ShardId(3), remote(8, 0, 0));
            assert!(pick_shard(&mut here, strategy, 3).is_some(), "{strategy:?}");
            assert!(pick(&mut here, strategy, 3).is_some(), "{strategy:?}");
        }
    }

    #[test]
    fn an_empty_group_picks_nobody() {
        for strategy in ALL {
            let mut here = group(0);
            assert_eq!(
                (pick_shard(&mut here, strategy, 3), pick(&mut here, strategy, 3)),
                (None, None)
            );
        }
    }

    #[test]
    fn group_numbers_survive_mail() {
        let id = GroupId { index: 0x0102_0304, generation: 0xf1f2_f3f4 };
        assert_eq!(GroupId::from_bits(id.to_bits()), id);
    }
}
