//! Retained messages: kept by the owner of their topic, asked for by whoever subscribes, in bounded
//! slices that the subscriber's own pace calls for.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::ids::{SessionId, ShardId};
use crate::mail::{Mail, u64s};
use crate::mark;
use crate::planted::planted;
use crate::session::RetainedWalk;
use crate::session::messages::{Message, Payload};
use crate::session::outgoing::{Delivery, Ids};
use crate::slots::owner_of;
use crate::time::Now;
use crate::timers::Timer;
use crate::topic::{NodeId, RetainedMessage, Trie, Walk, has_wildcard, topic_hash};

use super::Shard;
use super::deliver::{Pumped, is_expired};
use super::effect::Outbox;
use super::filing::filter_units;

/// Topics looked at for one slice.
const SLICE_WORK: usize = 512;
/// Messages in one slice, and the bytes after which it ends early.
const SLICE_MESSAGES: usize = 64;
const SLICE_BYTES: usize = 256 * 1024;
/// Part of a connection's share of a turn that all sessions together may take for retained messages of the
/// shard that they live on: wide filters that match little, or deep ones, must not stop the others.
const RETAINED_PART: u32 = 8;
/// So many topics looked at, or messages found, are about as much work as a small packet.
const TOPICS_PER_UNIT: usize = 8;
const FOUND_PER_UNIT: usize = 2;
/// Expired messages removed in one go.
const EXPIRE_WORK: usize = 1024;

/// A question of another shard; it may have to wait for mail on its way, or for room in the ring to it.
#[derive(Debug)]
pub(super) struct Ask {
    from: ShardId,
    question: u64,
    filter: String,
    cursor: Option<String>,
    barrier: Vec<u64>,
}

impl Shard {
    /// Keeps or clears the retained message of a topic that this shard owns. False if there is no room;
    /// what was kept before goes all the same. `via` as in [`RetainedMessage`].
    pub(super) fn keep_retained(
        &mut self,
        now: Now,
        message: &Message<'_>,
        via: Option<(ShardId, u64)>,
    ) -> bool {
        let payload = message.payload.bytes();
        self.local.store_retained(
            now,
            message.topic,
            Some(message).filter(|_| !payload.is_empty()),
        );
        let counters = &mut self.local.counters;
        if payload.is_empty() && planted!(RetainedNotCleared) {
            return true;
        }
        if payload.is_empty() {
            counters.retained_cleared += u64::from(self.index.retained.clear(message.topic));
            return true;
        }
        let kept = RetainedMessage {
            qos: message.qos,
            properties: message.properties.into(),
            payload: match message.payload {
                Payload::Inline(payload) => Bytes::copy_from_slice(payload),
                Payload::Shared(payload) => payload.clone(),
            },
            expires: message.expires,
            received: now.time,
            via,
        };
        if planted!(RetainedNotReplaced) && self.index.retained.find(message.topic).is_some() {
            return true;
        }
        if self.index.retained.set(message.topic, kept).is_err() {
            mark!(RetainedRefused);
            counters.retained_refused += 1;
            // Better none than one that is known to be old [MQTT-3.3.1-5].
            self.index.retained.clear(message.topic);
            self.local.store_retained(now, message.topic, None);
            return false;
        }
        counters.retained_set += 1;
        self.arm_retained_expiry();
        true
    }

    fn arm_retained_expiry(&mut self) {
        let Some(due) = self.index.retained.next_expiry() else { return };
        if let Some((set, timer)) = self.retained_timer {
            if set <= due {
                return;
            }
            self.local.timers.cancel(timer);
        }
        self.retained_timer = Some((due, self.local.timers.set(Timer::RetainedExpiry, due)));
    }

    pub(super) fn on_retained_expiry(&mut self, now: Now) {
        self.retained_timer = None;
        let local = &mut self.local;
        let removed = self.index.retained.expire(now.time, EXPIRE_WORK, |topic| {
            local.store_retained(now, topic, None);
        });
        mark!(RetainedExpired if removed > 0);
        self.local.counters.retained_expired += removed as u64;
        self.arm_retained_expiry();
    }

    /// Retained messages of these filters are due to a session, before any live message.
    pub(super) fn await_retained(&mut self, session: SessionId, nodes: Vec<NodeId>) {
        let Some(session) = self.local.sessions.get_mut(session) else { return };
        if nodes.is_empty() {
            return;
        }
        let stream = session.stream.get_or_insert_default();
        stream.round = stream.round.saturating_add(1);
        let round = stream.round;
        // Thousands that come together are put in order first, not one by one into their places.
        let mut waiting = nodes.into_iter().map(|node| (node, round)).collect();
        stream.waiting.append(&mut waiting);
    }

    /// The subscription is gone: its retained messages need not come.
    pub(super) fn forget_retained(&mut self, session: SessionId, node: NodeId) {
        let stream = self.local.sessions.get_mut(session).and_then(|s| s.stream.as_mut());
        let Some(stream) = stream else { return };
        stream.waiting.remove(&node);
        if let Some(walk) = stream.current.take_if(|walk| walk.node == node)
            && let Some(question) = walk.asked
        {
            mark!(RetainedForgotten);
            self.questions.remove(question);
        }
    }

    /// The connection is gone: what was on its way to it is not kept for the next one.
    pub(super) fn stop_stream(&mut self, session: SessionId) {
        let Some(session) = self.local.sessions.get_mut(session) else { return };
        if let Some(barrier) = session.subscribing.take() {
            self.barriers.remove(barrier.get());
        }
        let Some(stream) = session.stream.take() else { return };
        if let Some(question) = stream.current.and_then(|walk| walk.asked) {
            self.questions.remove(question);
        }
        for delivery in stream.slice {
            self.local.messages.release(delivery.message);
        }
    }

    /// Sends what waits for a session: retained messages first, then the queue.
    pub(super) fn pump(&mut self, now: Now, session: SessionId, out: &mut Outbox) {
        while self.local.pump(now, session, out) == Pumped::WantsSlice {
            if self.retained_left == 0 {
                return self.yield_turn(session);
            }
            if !self.next_slice(now, session) {
                return;
            }
        }
    }

    fn yield_turn(&mut self, id: SessionId) {
        let session = self.local.sessions.get_mut(id);
        if let Some(stream) = session.and_then(|session| session.stream.as_mut()) {
            mark!(RetainedYielded);
            if !std::mem::replace(&mut stream.has_yielded, true) {
                self.yielded.push_back(id);
            }
        }
    }

    /// A turn begins: sessions that wait for retained messages go on, as far as it goes.
    pub(super) fn resume_yielded(&mut self, now: Now, out: &mut Outbox) {
        self.retained_left = (self.local.settings.turn_packets_max / RETAINED_PART).max(1);
        while self.retained_left > 0
            && let Some(id) = self.yielded.pop_front()
        {
            let session = self.local.sessions.get_mut(id);
            let stream = session.and_then(|session| session.stream.as_mut());
            if stream.is_some_and(|stream| std::mem::take(&mut stream.has_yielded)) {
                self.pump(now, id, out);
            }
        }
    }

    /// Asks for more retained messages. True if the answer is there already.
    fn next_slice(&mut self, now: Now, session_id: SessionId) -> bool {
        let Some(session) = self.local.sessions.get_mut(session_id) else { return false };
        let Some(stream) = session.stream.as_mut() else { return true };
        if stream.has_yielded {
            return false;
        }
        if stream.current.is_none() {
            let Some((node, round)) = stream.waiting.pop_first() else {
                session.stream = None;
                return true;
            };
            let (walk, units) = begin_walk(&self.index.trie, self.shards, node, round);
            stream.current = walk;
            self.retained_left = self.retained_left.saturating_sub(units);
            return true;
        }
        let Some(walk) = stream.current.as_ref() else { return true };
        if walk.asked.is_some() {
            return false;
        }
        let (node, shard, cursor) = (walk.node, ShardId(walk.shard), walk.cursor.clone());
        let mut filter = std::mem::take(&mut self.scratch.topic);
        filter.clear();
        self.index.trie.filter_text(node, &mut filter);
        self.retained_left = self.retained_left.saturating_sub(filter_units(&filter));
        let is_here = shard == self.id;
        if is_here {
            self.walk_here(now, session_id, node, &filter, cursor.as_deref());
        } else {
            self.ask(session_id, shard, &filter, cursor.as_deref());
        }
        self.scratch.topic = filter;
        is_here
    }

    /// A slice of what this shard owns itself.
    fn walk_here(
        &mut self,
        now: Now,
        session: SessionId,
        node: NodeId,
        filter: &str,
        after: Option<&str>,
    ) {
        let mut found = Vec::new();
        let mut work_left = SLICE_WORK;
        let walk =
            slice(&self.index.retained, now, filter, after, &mut work_left, |topic, message| {
                found.push((topic.to_owned(), message.clone()));
            });
        let units = (SLICE_WORK - work_left) / TOPICS_PER_UNIT + found.len() / FOUND_PER_UNIT;
        self.retained_left =
            self.retained_left.saturating_sub(u32::try_from(units).unwrap_or(u32::MAX));
        for (topic, kept) in &found {
            self.take_retained(now, session, node, &view(topic, kept));
        }
        let cursor = match walk {
            Walk::Done => None,
            Walk::More(cursor) => Some(cursor),
        };
        self.end_slice(session, cursor.as_deref());
    }

    fn ask(&mut self, session_id: SessionId, owner: ShardId, filter: &str, cursor: Option<&str>) {
        let question = self.questions.insert(session_id);
        let session = self.local.sessions.get_mut(session_id);
        let Some(stream) = session.and_then(|session| session.stream.as_mut()) else { return };
        if let Some(walk) = stream.current.as_mut() {
            walk.asked = Some(question);
        }
        // By shard, what the owner must have seen of it. This shard's own mail comes in order anyway.
        let barrier: Vec<u8> = stream
            .barrier
            .iter()
            .flat_map(|posted| posted.get(owner.index()).copied().unwrap_or(0).to_le_bytes())
            .collect();
        self.post(owner, &Mail::RetainedAsk { question, filter, cursor, barrier: &barrier });
    }

    /// A question from another shard: answered at once, or when the mail that it must not overtake
    /// has come and earlier answers have gone.
    pub(super) fn on_retained_ask(
        &mut self,
        now: Now,
        from: ShardId,
        question: u64,
        (filter, cursor): (&str, Option<&str>),
        barrier: &[u8],
    ) {
        let ask = Ask {
            from,
            question,
            filter: filter.to_owned(),
            cursor: cursor.map(str::to_owned),
            barrier: u64s(barrier).collect(),
        };
        if self.has_passed(&ask) && !self.mail.is_congested(from) {
            return self.answer_ask(now, &ask);
        }
        mark!(AskDeferred);
        self.deferred_asks.push(ask);
    }

    /// True if, from each shard, as many records have been handled.
    fn has_passed(&self, ask: &Ask) -> bool {
        (0..self.shards).zip(&ask.barrier).all(|(from, &posted)| {
            ShardId(from) == self.id || self.mail.handled(ShardId(from)) >= posted
        })
    }

    pub(super) fn answer_deferred(&mut self, now: Now) {
        if self.deferred_asks.is_empty() {
            return;
        }
        for ask in std::mem::take(&mut self.deferred_asks) {
            if self.has_passed(&ask) && !self.mail.is_congested(ask.from) {
                self.answer_ask(now, &ask);
            } else {
                self.deferred_asks.push(ask);
            }
        }
    }

    fn answer_ask(&mut self, now: Now, ask: &Ask) {
        let Ask { from, question, filter, cursor, barrier } = ask;
        let (from, question) = (*from, *question);
        let (mail, posted, counters) = (&mut self.mail, &mut self.posted, &mut self.local.counters);
        let mut post = |record: &Mail<'_>| {
            mail.post(from, record.parcel(), |out| record.write(out));
            *posted |= 1 << from.0;
            counters.mail_posted += 1;
        };
        let mut work_left = SLICE_WORK;
        let walk = slice(
            &self.index.retained,
            now,
            filter,
            cursor.as_deref(),
            &mut work_left,
            |topic, message| {
                // What a third shard has published since it began to route to the subscription comes
                // from there as a live message, and what it replaces is not owed any more.
                let is_live = message.via.is_some_and(|(via, number)| {
                    via != from && barrier.get(via.index()).is_some_and(|&posted| number > posted)
                });
                if is_live && !planted!(LiveAsRetained) {
                    mark!(RetainedIsLive);
                    return;
                }
                post(&Mail::RetainedItem { question, message: view(topic, message) });
            },
        );
        match &walk {
            Walk::Done => post(&Mail::RetainedEnd { question, cursor: None }),
            Walk::More(cursor) => post(&Mail::RetainedEnd { question, cursor: Some(cursor) }),
        }
    }

    pub(super) fn on_retained_item(&mut self, now: Now, question: u64, message: &Message<'_>) {
        let Some(&mut session) = self.questions.get_mut(question) else { return };
        let found = self.local.sessions.get(session).and_then(|session| session.stream.as_ref());
        let walk = found.and_then(|stream| stream.current.as_ref());
        if let Some(walk) = walk.filter(|walk| walk.asked == Some(question)) {
            self.take_retained(now, session, walk.node, message);
        }
    }

    pub(super) fn on_retained_end(
        &mut self,
        now: Now,
        question: u64,
        cursor: Option<&str>,
        out: &mut Outbox,
    ) {
        let Some(session) = self.questions.remove(question) else {
            mark!(RetainedForNobody);
            return;
        };
        self.end_slice(session, cursor);
        self.pump(now, session, out);
    }

    /// The walk goes on after `cursor`, or with the next owner, or ends.
    fn end_slice(&mut self, session: SessionId, cursor: Option<&str>) {
        let session = self.local.sessions.get_mut(session);
        let Some(stream) = session.and_then(|session| session.stream.as_mut()) else { return };
        let Some(walk) = stream.current.as_mut() else { return };
        mark!(RetainedSliced if cursor.is_some());
        walk.asked = None;
        walk.cursor = cursor.map(Into::into);
        if cursor.is_none() {
            if walk.shard == walk.shard_last {
                stream.current = None;
            } else {
                walk.shard += 1;
            }
        }
    }

    /// One retained message for a new subscription, unless a live one has overtaken it.
    fn take_retained(&mut self, now: Now, id: SessionId, node: NodeId, message: &Message<'_>) {
        let Some(subscriber) = self.index.trie.subscriber(node, id) else { return };
        if subscriber.options.is_guarded() && self.index.trie.hides(id, message.topic) {
            mark!(RetainedHidden);
            return;
        }
        if subscriber.options.is_checked()
            && !planted!(RetainedUnchecked)
            && !self.may_receive_retained(id, message.topic)
        {
            return;
        }
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        let Some(stream) = session.stream.as_mut() else { return };
        let round = stream.current.as_ref().map_or(0, |walk| walk.round);
        if stream.is_overtaken(message.topic, round) {
            mark!(RetainedOvertaken);
            self.local.counters.retained_overtaken += 1;
            return;
        }
        if is_expired(now, message) {
            return;
        }
        stream.slice.push_back(Delivery {
            message: self.local.messages.keep(message),
            qos: subscriber.options.qos().min(message.qos),
            retain: true,
            group: None,
            ids: subscriber.id.map_or(Ids::None, Ids::One),
            number: 0,
        });
    }
}

/// Where the retained messages of a filter are: with one owner, or with any; and how much of a turn it
/// took to find out.
fn begin_walk(trie: &Trie, shards: u8, node: NodeId, round: u32) -> (Option<RetainedWalk>, u32) {
    let mut filter = String::new();
    trie.filter_text(node, &mut filter);
    let (shard, shard_last) = if has_wildcard(&filter) {
        (0, shards - 1)
    } else {
        let owner = owner_of(topic_hash(filter.as_bytes()), shards).0;
        (owner, owner)
    };
    let walk = RetainedWalk { node, round, shard, shard_last, cursor: None, asked: None };
    (Some(walk), filter_units(&filter))
}

/// Visits one slice of the retained messages that match.
fn slice(
    retained: &crate::topic::Retained,
    now: Now,
    filter: &str,
    after: Option<&str>,
    work_left: &mut usize,
    mut visit: impl FnMut(&str, &RetainedMessage),
) -> Walk {
    let (mut count, mut bytes) = (0, 0);
    retained.walk(now.time, filter, after, work_left, |topic, message| {
        visit(topic, message);
        count += 1;
        bytes += topic.len() + message.properties.len() + message.payload.len();
        if count >= SLICE_MESSAGES || bytes >= SLICE_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
}

fn view<'a>(topic: &'a str, kept: &'a RetainedMessage) -> Message<'a> {
    let is_large = kept.payload.len() >= crate::limits::SPLICE_BYTES_MIN;
    Message {
        topic,
        properties: &kept.properties,
        payload: if is_large {
            Payload::Shared(&kept.payload)
        } else {
            Payload::Inline(&kept.payload)
        },
        qos: kept.qos,
        retain: true,
        expires: kept.expires,
    }
}
