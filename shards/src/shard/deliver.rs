//! One message to one session: sent now, queued, or dropped with its cause counted.

use crate::ids::{PacketId, QoS, SessionId};
use crate::limits::OverflowPolicy;
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::messages::Message;
use crate::session::outgoing::{Delivery, Ids, Outgoing};
use crate::time::Now;
use crate::topic::{GroupId, Target};

use super::effect::Outbox;
use super::local::{Local, list};
use super::render::{Fan, How, TooLarge, write_single};

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// In the connection's output.
    Sent,
    /// In the session's queue.
    Queued,
    /// Dropped; the cause is counted.
    Dropped,
    /// The queue is full and the publisher is to be told.
    Refused,
}

/// Why [`Local::pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing is left, or the client must first take or acknowledge what it has.
    Rests,
    /// The slice of retained messages at hand is used up.
    WantsSlice,
}

impl Local {
    /// Reads what deliveries to the first of these will want to read. Memory that has grown cold comes for all of them at
    /// the same time, and not for one after the other, as they would ask for it.
    pub(super) fn touch(&self, targets: &[Target], count: usize) {
        let mut sum = 0;
        for target in targets.iter().take(count) {
            let Some(session) = self.sessions.get(target.session) else { continue };
            let Some(conn) = session.conn.and_then(|index| self.conns.at(index)) else { continue };
            sum ^=
                u32::from(conn.output.bytes.last().copied().unwrap_or(0)) ^ conn.packet_bytes_max;
        }
        std::hint::black_box(sum);
    }

    /// Delivers to one session.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        to: SessionId,
        how: How<'_>,
        group: Option<GroupId>,
        fan: &mut Fan<'_>,
        out: &mut Outbox,
    ) -> Delivered {
        let Some(session) = self.sessions.get_mut(to) else { return Delivered::Dropped };
        let Some(conn) = session.conn.and_then(|index| self.conns.at_mut(index)) else {
            return match how.qos {
                QoS::AtMostOnce => {
                    self.counters.dropped_offline += 1;
                    Delivered::Dropped
                }
                QoS::AtLeastOnce | QoS::ExactlyOnce => self.enqueue(now, to, how, group, fan),
            };
        };
        if session.is_holding() && !planted!(RetainedOvertaken) {
            return self.hold(now, to, how, group, fan);
        }
        let has_room = conn.out_bytes() < self.settings.out_bytes_max as usize;
        let mut number = 0;
        let packet_id = if how.qos == QoS::AtMostOnce {
            // Left over from when live messages waited behind retained ones.
            if session.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_queued_qos0()) {
                mark!(Qos0BehindQueue);
                return self.enqueue(now, to, how, group, fan);
            }
            if !has_room {
                mark!(OutputFullDropped);
                self.counters.dropped_output_full += 1;
                return Delivered::Dropped;
            }
            None
        } else {
            let window = usize::from(conn.window) + usize::from(planted!(WindowExceeded));
            let is_stored = session.is_stored;
            let outgoing = session.outgoing_mut();
            let bytes = fan.message.bytes();
            let has_bytes = outgoing.has_room_inflight(bytes, self.settings.queue_bytes_max);
            if !has_room || must_wait(outgoing, window, has_bytes) {
                mark!(OutputFullQueued if !has_room);
                return self.enqueue(now, to, how, group, fan);
            }
            let message = fan.keep(&mut self.messages);
            let ids = Ids::new(how.ids);
            if is_stored {
                number = outgoing.next_number();
            }
            let delivery =
                Delivery { message, qos: how.qos, retain: how.retain, group, ids, number };
            match outgoing.begin(delivery, bytes) {
                Ok(id) => Some(id),
                Err(delivery) => {
                    outgoing.enqueue(delivery, &self.messages);
                    self.store_message(now, to, &fan.message, how, (group, number));
                    return Delivered::Queued;
                }
            }
        };
        let written = self.rendered.write_shared(now, conn, &mut self.pool, fan, how, packet_id);
        match written {
            Ok(()) => {
                list(conn, out);
                self.counters.messages_sent += 1;
                if let Some(id) = packet_id.filter(|_| number > 0) {
                    self.store_message(now, to, &fan.message, how, (group, number));
                    self.store_begun(to, number, id, how.qos);
                }
                Delivered::Sent
            }
            Err(TooLarge) => {
                self.drop_too_large(to, packet_id);
                Delivered::Dropped
            }
        }
    }

    /// A live message waits while retained ones are on their way, and takes the place of its topic's.
    fn hold(
        &mut self,
        now: Now,
        to: SessionId,
        how: How<'_>,
        group: Option<GroupId>,
        fan: &mut Fan<'_>,
    ) -> Delivered {
        mark!(LiveHeld);
        let delivered = self.enqueue(now, to, how, group, fan);
        let session = self.sessions.get_mut(to);
        if let Some(stream) = session.and_then(|session| session.stream.as_mut())
            && delivered == Delivered::Queued
            && fan.message.retain
        {
            stream.overtake(fan.message.topic);
        }
        delivered
    }

    /// A message too long for its client counts as delivered (MQTT 5.0 section 3.1.2.11.4).
    fn drop_too_large(&mut self, to: SessionId, packet_id: Option<PacketId>) {
        mark!(TooLarge);
        self.counters.dropped_too_large += 1;
        if let (Some(id), Some(session)) = (packet_id, self.sessions.get_mut(to))
            && let Some(delivery) = session.outgoing_mut().end(id)
        {
            self.store_ended(to, id, Some(&delivery));
            self.messages.release(delivery.message);
        }
    }

    fn enqueue(
        &mut self,
        now: Now,
        to: SessionId,
        how: How<'_>,
        group: Option<GroupId>,
        fan: &mut Fan<'_>,
    ) -> Delivered {
        let Some(session) = self.sessions.get_mut(to) else { return Delivered::Dropped };
        let conn = session.conn;
        let outgoing = session.outgoing.get_or_insert_default();
        let bytes = fan.message.bytes();
        let (messages_max, bytes_max) =
            (self.settings.queue_messages_max as usize, self.settings.queue_bytes_max);
        let is_over = |outgoing: &Outgoing| {
            outgoing.queue_count() >= messages_max + usize::from(planted!(QueueExceeded))
                || outgoing.held_bytes() > 0 && (outgoing.held_bytes() + bytes) as u64 > bytes_max
        };
        if is_over(outgoing) {
            mark!(QueueBytesFull if outgoing.queue_count() < messages_max);
            let policy = match how.qos {
                QoS::AtMostOnce => OverflowPolicy::DropNewest,
                QoS::AtLeastOnce | QoS::ExactlyOnce => self.settings.overflow,
            };
            match policy {
                OverflowPolicy::DropOldest => {
                    // What is in flight makes no room: then nothing queued is given up in vain.
                    let mut gone = Vec::new();
                    while is_over(outgoing)
                        && outgoing.has_room_inflight(bytes, bytes_max)
                        && let Some(oldest) = outgoing.dequeue(&self.messages)
                    {
                        mark!(QueueDropOldest);
                        gone.extend((oldest.number > 0).then_some(oldest.number));
                        self.messages.release(oldest.message);
                        self.counters.dropped_queue_oldest += 1;
                    }
                    let is_over = is_over(outgoing);
                    for number in gone {
                        self.store_gone(to, number);
                    }
                    if is_over {
                        self.counters.dropped_queue_newest += 1;
                        return Delivered::Dropped;
                    }
                }
                OverflowPolicy::DropNewest => {
                    mark!(QueueDropNewest);
                    self.counters.dropped_queue_newest += u64::from(!planted!(DropUncounted));
                    return Delivered::Dropped;
                }
                OverflowPolicy::Refuse => {
                    mark!(QueueRefused);
                    self.counters.refused_queue_full += 1;
                    return Delivered::Refused;
                }
                OverflowPolicy::Disconnect => {
                    self.counters.dropped_queue_newest += 1;
                    self.evict(conn);
                    return Delivered::Dropped;
                }
            }
        }
        let Some(session) = self.sessions.get_mut(to) else { return Delivered::Dropped };
        let is_stored = session.is_stored && how.qos != QoS::AtMostOnce;
        let outgoing = session.outgoing_mut();
        let number = if is_stored { outgoing.next_number() } else { 0 };
        mark!(StoreAsked if is_stored);
        let message = fan.keep(&mut self.messages);
        let ids = Ids::new(how.ids);
        outgoing.enqueue(
            Delivery { message, qos: how.qos, retain: how.retain, group, ids, number },
            &self.messages,
        );
        self.store_message(now, to, &fan.message, how, (group, number));
        Delivered::Queued
    }

    fn evict(&mut self, conn: Option<u32>) {
        let Some(conn) = conn.and_then(|index| self.conns.at_mut(index)) else { return };
        if !std::mem::replace(&mut conn.is_evicted, true) {
            let reject = Reject {
                reason: ReasonCode::QuotaExceeded,
                why: "the queue of this session is full: read and acknowledge faster",
            };
            mark!(QueueDisconnected);
            self.evicted.push((conn.id, reject));
        }
    }

    /// Sends what waits, as far as the client's window and its output allow.
    pub(super) fn pump(&mut self, now: Now, of: SessionId, out: &mut Outbox) -> Pumped {
        loop {
            let Some(session) = self.sessions.get_mut(of) else { return Pumped::Rests };
            let Some(conn) = session.conn.and_then(|index| self.conns.at_mut(index)) else {
                return Pumped::Rests;
            };
            if session.subscribing.is_some()
                || conn.out_bytes() >= self.settings.out_bytes_max as usize
            {
                return Pumped::Rests;
            }
            let outgoing = session.outgoing.get_or_insert_default();
            if let Some(id) = outgoing.next_resend(conn.window) {
                self.send_again(now, of, id, true, out);
                continue;
            }
            let next = match session.stream.as_ref() {
                Some(stream) if stream.slice.is_empty() => return Pumped::WantsSlice,
                Some(stream) => stream.slice.front(),
                None => outgoing.front(),
            };
            let Some(next) = next else { return Pumped::Rests };
            if next.qos != QoS::AtMostOnce {
                // Retained messages come on top of what is queued, so this may be what stops them.
                let bytes = self.messages.view(&next.message).bytes();
                if outgoing.inflight_count() >= usize::from(conn.window)
                    || !outgoing.has_room_inflight(bytes, self.settings.queue_bytes_max)
                {
                    return Pumped::Rests;
                }
            }
            let delivery = match session.stream.as_mut() {
                Some(stream) => stream.slice.pop_front(),
                None => outgoing.dequeue(&self.messages),
            };
            if let Some(delivery) = delivery {
                self.send_delivery(now, of, delivery, out);
            }
        }
    }

    /// Sends one delivery that waited.
    fn send_delivery(&mut self, now: Now, to: SessionId, mut delivery: Delivery, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(to) else {
            return self.messages.release(delivery.message);
        };
        let conn = session.conn.and_then(|index| self.conns.at_mut(index));
        let message = self.messages.view(&delivery.message);
        let bytes = message.bytes();
        let is_over = is_expired(now, &message) && !planted!(ExpiredDelivered);
        let Some(conn) = conn.filter(|_| !is_over) else {
            mark!(ExpiredQueued);
            self.counters.dropped_expired += 1;
            self.store_gone(to, delivery.number);
            return self.messages.release(delivery.message);
        };
        let how = How { qos: delivery.qos, retain: delivery.retain, ids: delivery.ids.as_slice() };
        if delivery.qos == QoS::AtMostOnce {
            match write_single(now, conn, &mut self.pool, &message, how, None, false) {
                Ok(()) => {
                    self.counters.messages_sent += 1;
                    list(conn, out);
                }
                Err(TooLarge) => self.counters.dropped_too_large += 1,
            }
            return self.messages.release(delivery.message);
        }
        // The identifier is known only once the exchange has begun, and then the delivery is inside it.
        let outgoing = session.outgoing.get_or_insert_default();
        // A retained message for a new subscription was not owed before.
        let (is_new, qos) = (session.is_stored && delivery.number == 0, delivery.qos);
        if is_new {
            delivery.number = outgoing.next_number();
        }
        let number = delivery.number;
        match outgoing.begin(delivery, bytes) {
            Ok(id) => {
                if is_new {
                    self.store_delivery(now, to, id);
                }
                self.store_begun(to, number, id, qos);
                self.send_again(now, to, id, false, out);
            }
            Err(delivery) => outgoing.enqueue(delivery, &self.messages),
        }
    }

    /// Sends the PUBLISH of an exchange that has begun.
    pub(super) fn send_again(
        &mut self,
        now: Now,
        to: SessionId,
        id: PacketId,
        is_repeated: bool,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get_mut(to) else { return };
        let Some(conn) = session.conn.and_then(|index| self.conns.at_mut(index)) else { return };
        let Some(delivery) = session.outgoing.as_ref().and_then(|o| o.delivery(id)) else { return };
        let message = self.messages.view(&delivery.message);
        let how = How { qos: delivery.qos, retain: delivery.retain, ids: delivery.ids.as_slice() };
        match write_single(now, conn, &mut self.pool, &message, how, Some(id), is_repeated) {
            Ok(()) => {
                self.counters.messages_sent += 1;
                self.counters.messages_resent += u64::from(is_repeated);
                list(conn, out);
            }
            Err(TooLarge) => self.drop_too_large(to, Some(id)),
        }
    }
}

/// True if a message has to queue behind others, or for room in the window.
fn must_wait(outgoing: &Outgoing, window: usize, has_bytes: bool) -> bool {
    let is_behind = outgoing.waits();
    let is_full = outgoing.inflight_count() >= window;
    mark!(QueuedBehindOthers if is_behind);
    mark!(WindowFull if !is_behind && is_full);
    mark!(InflightBytesFull if !is_behind && !has_bytes);
    is_behind || is_full || !has_bytes
}

/// True if a message's time is over before its delivery begins (MQTT 5.0 section 3.3.2.3.3).
pub(super) fn is_expired(now: Now, message: &Message<'_>) -> bool {
    message.expires.is_some_and(|expires| expires <= now.time)
}
