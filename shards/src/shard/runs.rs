//! Runs of plain QoS 0 packets ([`Run`]): asked for, looked up and appended once for all of them, to
//! each subscriber as they came. That is done only where it makes no difference to anybody; else each
//! packet goes its own way.

use crate::codec::{Framed, Publish, Run, frame};
use crate::ids::{ConnId, SessionId, ShardId, Version};
use crate::limits::SPLICE_BYTES_MIN;
use crate::mail::{Mail, PublishMail, RunMail};
use crate::mark;
use crate::planted::planted;
use crate::session::messages::{Message, Payload};
use crate::time::Now;
use crate::topic::{Found, NoLocal, Target};

use super::Shard;
use super::effect::Outbox;
use super::local::{Local, list, units};
use super::rights::may_receive;

/// So many packets of a run are about as much work as one that goes its own way.
const RUN_PACKETS_PER_UNIT: u32 = 8;

/// What was made of the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// There is no run.
    NoRun,
    /// A run of so many bytes, and all is done.
    Done(usize),
    /// A run of so many bytes, and nothing is done: its packets must be looked at one by one.
    Split(usize),
    /// The same, and nothing is done of it in this turn.
    Later,
}

/// What becomes of a run at one subscriber, where all of its packets share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    /// Dropped: nobody is there.
    Offline,
    /// Dropped: the transport must take something first.
    Full,
}

impl Shard {
    /// Works on the run at the front of `bytes`, if there is one whose packets share their fate.
    pub(super) fn on_run(&mut self, now: Now, id: ConnId, bytes: &[u8], out: &mut Outbox) -> Ran {
        let Some(conn) = self.local.conns.get(id) else { return Ran::NoRun };
        let Some(session) = conn.session() else { return Ran::NoRun };
        if conn.mount_bytes > 0 {
            return Ran::NoRun;
        }
        let version = conn.version;
        let left = self.local.turn_left(conn);
        let mut meter = conn.meter().copied();
        if let Some(meter) = meter.as_mut().filter(|_| !planted!(TokensNotRefilled)) {
            meter.refill(now.time);
        }
        let (mut bytes_taken, mut taken, mut spent) = (0, 0, 0);
        let takes = |len: usize| {
            // As everywhere, the last one may take more than is left.
            if spent >= left || len >= SPLICE_BYTES_MIN {
                return false;
            }
            if meter.as_mut().is_some_and(|meter| !meter.takes(len)) {
                return false;
            }
            bytes_taken += len;
            taken += 1;
            spent = units(bytes_taken) + taken / RUN_PACKETS_PER_UNIT;
            true
        };
        let packet_bytes_max = conn.received_bytes_max;
        let Some(run) = Run::find(bytes, version, packet_bytes_max, takes) else {
            return Ran::NoRun;
        };
        let work_before = self.index.cache.work();
        let Some(is_congested) = self.route_run(session, version, &run, out) else {
            if std::mem::take(&mut self.is_to_be_repeated) {
                self.local.end_turn(id, out);
                self.charge_work(id, work_before, out);
                return Ran::Later;
            }
            mark!(RunSplit);
            return Ran::Split(run.packets.len());
        };
        mark!(RunForwarded);
        let counters = &mut self.local.counters;
        counters.packets_received += u64::from(run.count);
        counters.messages_received += u64::from(run.count);
        self.local.charge(id, spent, out);
        self.charge_work(id, work_before, out);
        if let Some(meter) = meter {
            self.local.paid(id, meter);
        }
        if is_congested || self.is_store_behind() {
            self.hold_publisher(id);
        }
        Ran::Done(run.packets.len())
    }

    /// To everybody on every shard; whether a ring is full then. `None` if the packets must be looked at
    /// one by one.
    fn route_run(
        &mut self,
        session: SessionId,
        version: Version,
        run: &Run<'_>,
        out: &mut Outbox,
    ) -> Option<bool> {
        let publish = &first(run, version)?;
        publish.properties.forwarded()?;
        self.check_publish(publish).ok()?;
        if !self.is_allowed(session, publish.topic, publish) {
            return None;
        }
        if !self.is_index_ready(publish.topic) {
            mark!(WalkInPieces);
            self.is_to_be_repeated = true;
            return None;
        }
        let found = self.index.cache.lookup(&self.index.trie, publish.topic);
        let targets = self.index.cache.at(found);
        if !targets.groups.is_empty() {
            return None;
        }
        let (remote, is_unmatched) = (targets.remote, targets.is_empty());
        if !self.give_run(Some(session), version, (found, publish.topic), run, out) {
            return None;
        }
        if is_unmatched {
            self.local.counters.messages_unmatched += u64::from(run.count);
        }
        Some(self.post_run(remote, version, run))
    }

    fn post_run(&mut self, remote: u64, version: Version, run: &Run<'_>) -> bool {
        let (mut left, mut is_congested) = (remote, false);
        while left != 0 {
            let to = ShardId(u8::try_from(left.trailing_zeros()).unwrap_or(0));
            left &= left - 1;
            mark!(RunPosted);
            self.post(to, &Mail::Run(RunMail { is_v5: version.is_v5(), packets: run.packets }));
            is_congested |= self.mail.is_congested(to);
        }
        is_congested
    }

    /// A run from another shard, for this one's ordinary subscribers.
    pub(super) fn on_run_mail(
        &mut self,
        now: Now,
        from: ShardId,
        mail: &RunMail<'_>,
        out: &mut Outbox,
    ) {
        let version = if mail.is_v5 { Version::V5 } else { Version::V311 };
        let run = Run::find(mail.packets, version, u32::MAX, |_| true);
        debug_assert_eq!(run.map(|run| run.packets.len()), Some(mail.packets.len()));
        let Some((run, publish)) = run.and_then(|run| Some((run, first(&run, version)?))) else {
            return;
        };
        let found = self.index.cache.lookup(&self.index.trie, publish.topic);
        if self.give_run(None, version, (found, publish.topic), &run, out) {
            return;
        }
        mark!(RunMailSplit);
        let mut rest = run.packets;
        while let Some((packet, behind)) = split_first(rest, version) {
            let message = Message {
                topic: packet.topic,
                properties: packet.properties.raw(),
                payload: Payload::Inline(packet.payload),
                qos: packet.qos,
                retain: packet.retain,
                expires: None,
            };
            let publish = PublishMail {
                message,
                is_for_subscribers: true,
                is_for_retained: false,
                completion: None,
                // Only shared subscriptions ask who it was.
                publisher: 0,
                groups: &[],
                tried: 0,
            };
            self.fan_in(now, from, &publish, out);
            rest = behind;
        }
    }

    /// To this shard's own subscribers; false, with nothing done, if one of them would not get the
    /// packets as they are, or only some of them.
    fn give_run(
        &mut self,
        publisher: Option<SessionId>,
        version: Version,
        (found, topic): (Found, &str),
        run: &Run<'_>,
        out: &mut Outbox,
    ) -> bool {
        let answer = self.index.cache.at(found);
        let local = &mut self.local;
        let is_plain = |target: &Target| {
            answer.ids(target).is_empty()
                && (target.no_local == NoLocal::None || Some(target.session) != publisher)
        };
        let targets = &answer.targets;
        let share_their_fate = targets
            .iter()
            .all(|target| is_plain(target) && local.fate(target.session, version, run).is_some());
        if !share_their_fate {
            return false;
        }
        for target in targets {
            // They have one topic, so they share this fate too.
            if target.is_checked() {
                let count = u64::from(run.count);
                if !may_receive(self.authorise.as_mut(), local, target, topic, count) {
                    continue;
                }
            }
            local.append_run(target.session, version, run, out);
        }
        true
    }
}

impl Local {
    /// What becomes of a run at a session. `None`: its packets go different ways, or not as they came.
    fn fate(&mut self, to: SessionId, version: Version, run: &Run<'_>) -> Option<Fate> {
        let session = self.sessions.get(to)?;
        let Some(conn) = session.conn.and_then(|index| self.conns.at_mut(index)) else {
            return Some(Fate::Offline);
        };
        let is_behind_others = session.is_holding()
            || session.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_queued_qos0());
        if is_behind_others
            || conn.alias_out_max > 0
            || conn.mount_bytes > 0
            || conn.version.is_v5() != version.is_v5()
            || run.longest > conn.packet_bytes_max as usize
        {
            return None;
        }
        let (waiting, limit) = (conn.out_bytes(), self.settings.out_bytes_max as usize);
        if waiting >= limit {
            return Some(Fate::Full);
        }
        (waiting + run.packets.len() <= limit).then_some(Fate::Sent)
    }

    fn append_run(&mut self, to: SessionId, version: Version, run: &Run<'_>, out: &mut Outbox) {
        let count = u64::from(run.count);
        match self.fate(to, version, run) {
            Some(Fate::Sent) => {
                let index = self.sessions.get(to).and_then(|session| session.conn);
                let Some(conn) = index.and_then(|index| self.conns.at_mut(index)) else { return };
                crate::conn::append(&mut conn.output, &mut self.pool, run.packets);
                list(conn, out);
                self.counters.messages_sent += count;
            }
            Some(Fate::Offline) => self.counters.dropped_offline += count,
            Some(Fate::Full) => {
                mark!(OutputFullDropped);
                self.counters.dropped_output_full += count;
            }
            None => debug_assert!(false, "a fate that changed by giving to others"),
        }
    }
}

fn first<'a>(run: &Run<'a>, version: Version) -> Option<Publish<'a>> {
    split_first(run.packets, version).map(|(publish, _)| publish)
}

/// The first packet and those behind it.
fn split_first(packets: &[u8], version: Version) -> Option<(Publish<'_>, &[u8])> {
    let Ok(Framed::Whole(packet)) = frame(packets, u32::MAX) else { return None };
    let publish = Publish::decode(&packet, version).ok()?;
    Some((publish, &packets[packet.len..]))
}
