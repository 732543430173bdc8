//! The conversation behind a SUBSCRIBE: every shard is told which filters have subscribers where, and
//! answers once it has applied that. SUBACK goes out when all have answered, so after it a publish
//! from any connection on any shard is routed here.

use crate::conn::pause::PauseReason;
use crate::ids::{ConnId, PacketId, SessionId, ShardId};
use crate::mail::{Mail, u64s};
use crate::mark;
use crate::planted::planted;
use crate::time::Now;
use crate::topic::NodeId;

use super::Shard;
use super::effect::Outbox;
use super::filing::filter_units;

/// A SUBSCRIBE that waits for other shards.
#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) conn: ConnId,
    pub(super) session: SessionId,
    pub(super) packet_id: PacketId,
    pub(super) codes: Vec<u8>,
    /// Bit per shard that has not answered.
    pub(super) waiting: u64,
    /// By shard that has: how many records it had posted to each other one by then.
    pub(super) posted: Vec<Box<[u64]>>,
}

impl Shard {
    /// A session has no ordinary subscription on this node any more. Answers how much of a turn that took.
    pub(super) fn withdraw(&mut self, node: NodeId, session: SessionId) -> u32 {
        let mut filter = std::mem::take(&mut self.scratch.topic);
        filter.clear();
        self.index.trie.filter_text(node, &mut filter);
        let removed = self.index.trie.unsubscribe(node, session);
        if removed.is_some_and(|removed| removed.last_here) && !planted!(InterestKept) {
            for to in self.mail.others() {
                self.post(to, &Mail::Interest { filter: &filter, is_added: false });
            }
        }
        let units = filter_units(&filter);
        self.scratch.topic = filter;
        units
    }

    pub(super) fn on_interest(&mut self, from: ShardId, filter: &str, is_added: bool) {
        if is_added {
            self.index.trie.add_remote(filter, from);
        } else {
            self.index.trie.remove_remote(filter, from);
        }
    }

    /// Mail is worked on in order: whatever came before the question has been applied.
    pub(super) fn on_barrier(&mut self, from: ShardId, barrier: u64) {
        let posted: Vec<u8> =
            (0..self.shards).flat_map(|to| self.mail.posted(ShardId(to)).to_le_bytes()).collect();
        self.post(from, &Mail::Passed { barrier, posted: &posted });
    }

    pub(super) fn on_passed(
        &mut self,
        now: Now,
        from: ShardId,
        ticket: u64,
        posted: &[u8],
        out: &mut Outbox,
    ) {
        let Some(barrier) = self.barriers.get_mut(ticket) else {
            mark!(BarrierForNobody);
            return;
        };
        barrier.waiting &= !(1 << from.0);
        barrier.posted[from.index()] = u64s(posted).collect();
        if barrier.waiting != 0 {
            return;
        }
        let Some(barrier) = self.barriers.remove(ticket) else { return };
        let Some(session) = self.local.sessions.get_mut(barrier.session) else { return };
        session.subscribing = None;
        if let Some(stream) = session.stream.as_mut() {
            stream.barrier = barrier.posted;
        }
        let (id, session) = (barrier.conn, barrier.session);
        self.send_suback(now, id, session, barrier.packet_id, &barrier.codes, out);
        self.local.unpause(id, PauseReason::Subscribing);
        self.pump(now, session, out);
    }
}
