//! What the store is told, and what waits until it has answered.
//!
//! Sessions that outlive their connections are stored with all that they are owed, and retained
//! messages with them. Three rules keep a crash from breaking a promise:
//!
//! - A message is acknowledged when every shard that keeps it has stored it.
//! - What a client is told about stored state (CONNACK, SUBACK, UNSUBACK, PUBREC, PUBREL, PUBCOMP, a
//!   QoS 2 PUBLISH with its identifier) leaves only when that state is stored: an operation puts up a
//!   *fence* on the connection, and its whole output waits behind it, in order.
//! - If the store fails, the message is refused or the connection ends, and the session is stored anew
//!   as a whole before anything else of it is.
//!
//! Not stored: wills. A message whose publisher had no acknowledgement before a crash may be delivered
//! twice, at QoS 2 too: shards store their parts of it independently.

use crate::conn::State;
use crate::ids::{ConnId, PacketId, QoS, SessionId, StoreTicket};
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::messages::Message;
use crate::session::outgoing::{Delivery, Ids};
use crate::session::{Session, SubscriptionKey};
use crate::store::record::{
    self, DeliveryRecord, ExchangeRecord, MessageRecord, SessionRecord, SubscriptionRecord,
};
use crate::store::{StoreKey, StoreOp, StoreOutcome};
use crate::time::{Now, Time};
use crate::topic::{GroupId, SubOptions};

use super::Shard;
use super::connect::is_reserved;
use super::effect::Outbox;
use super::leave::Ending;
use super::local::{Local, list};
use super::mounts::listener_of;
use super::render::How;

/// Operations that may be out before publishers are paused.
const AWAITED_MAX: usize = 64 * 1024;

/// An operation on its way to the store.
#[derive(Debug)]
pub(super) struct Emitted {
    op: StoreOp,
    /// The group that the message of the record was picked for.
    group: Option<GroupId>,
    session: Option<SessionId>,
    /// The session's connection tells its client nothing more before it is done.
    is_fence: bool,
    /// The message at hand is accepted only when it is done.
    is_awaited: bool,
}

/// An operation that is out.
#[derive(Debug)]
pub(super) struct Awaited {
    ticket: u64,
    completion: Option<u64>,
    fence: Option<ConnId>,
    session: Option<SessionId>,
}

impl Emitted {
    fn of(session: SessionId, op: StoreOp) -> Self {
        Self { op, group: None, session: Some(session), is_fence: false, is_awaited: false }
    }

    fn fence(self, is_fence: bool) -> Self {
        Self { is_fence, ..self }
    }
}

/// A message that is owed to a session, as a record without its group.
fn message_record(now: Now, message: &Message<'_>, how: How<'_>) -> Vec<u8> {
    let ids: Vec<u8> = how.ids.iter().flat_map(|id| id.value().to_le_bytes()).collect();
    MessageRecord {
        topic: message.topic,
        properties: message.properties,
        payload: message.payload.bytes(),
        qos: message.qos,
        retain: message.retain,
        expires: message.expires.map(|expires| unix_of(now, expires)),
        group: "",
        delivery: DeliveryRecord { qos: how.qos.bits(), retain: how.retain, ids: &ids },
    }
    .write()
}

/// Whole seconds, rounded down: rather a little early than too late.
fn unix_of(now: Now, at: Time) -> u64 {
    now.unix_secs + at.since(now.time).as_secs()
}

impl Local {
    /// A message is owed to a stored session, under this number.
    pub(super) fn store_message(
        &mut self,
        now: Now,
        to: SessionId,
        message: &Message<'_>,
        how: How<'_>,
        (group, number): (Option<GroupId>, u64),
    ) {
        if number == 0 {
            return;
        }
        let Some(session) = self.sessions.get(to) else { return };
        let key = StoreKey::Message { client_id: session.client_id.clone(), number };
        let op = StoreOp::Put { key, record: message_record(now, message, how) };
        self.emitted.push(Emitted { group, is_awaited: true, ..Emitted::of(to, op) });
    }

    /// What an exchange that has just begun delivers.
    pub(super) fn store_delivery(&mut self, now: Now, to: SessionId, id: PacketId) {
        let Some(session) = self.sessions.get(to) else { return };
        let Some(delivery) = session.outgoing.as_ref().and_then(|o| o.delivery(id)) else { return };
        let (number, group) = (delivery.number, delivery.group);
        let how = How { qos: delivery.qos, retain: delivery.retain, ids: delivery.ids.as_slice() };
        let record = message_record(now, &self.messages.view(&delivery.message), how);
        let key = StoreKey::Message { client_id: session.client_id.clone(), number };
        self.emitted.push(Emitted { group, ..Emitted::of(to, StoreOp::Put { key, record }) });
    }

    /// Its delivery has begun, under this identifier. A receiver keeps the identifiers of QoS 2, so
    /// those must not be given out again after a crash.
    pub(super) fn store_begun(&mut self, to: SessionId, number: u64, id: PacketId, qos: QoS) {
        if number == 0 {
            return;
        }
        if planted!(IdentifierNotStored) && qos == QoS::ExactlyOnce {
            return;
        }
        let Some(session) = self.sessions.get_mut(to) else { return };
        let begun = session.outgoing_mut().next_begun();
        let record = ExchangeRecord { qos, number, begun, released: None }.write();
        let key = exchange_key(session, id);
        let is_fence = qos == QoS::ExactlyOnce;
        self.emitted.push(Emitted::of(to, StoreOp::Put { key, record }).fence(is_fence));
    }

    /// PUBREC has come: the message is the client's.
    pub(super) fn store_released(&mut self, of: SessionId, id: PacketId, delivery: &Delivery) {
        if delivery.number == 0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(of) else { return };
        let released = Some(session.outgoing_mut().releases());
        let (qos, number) = (delivery.qos, delivery.number);
        let record = ExchangeRecord { qos, number, begun: 0, released }.write();
        let key = exchange_key(session, id);
        self.emitted.push(Emitted::of(of, StoreOp::Put { key, record }).fence(true));
        if !planted!(ReleasedMessageKept) {
            // PUBREL waits for it: if the store kept the end of the exchange alone, it would come again.
            self.emit_gone(of, delivery.number, true);
        }
    }

    /// A message is owed no more: delivered, dropped or expired.
    pub(super) fn store_gone(&mut self, of: SessionId, number: u64) {
        self.emit_gone(of, number, false);
    }

    fn emit_gone(&mut self, of: SessionId, number: u64, is_fence: bool) {
        if number == 0 {
            return;
        }
        let Some(session) = self.sessions.get(of) else { return };
        let key = StoreKey::Message { client_id: session.client_id.clone(), number };
        self.emitted.push(Emitted::of(of, StoreOp::Delete { key }).fence(is_fence));
    }

    /// An exchange is over, with or without its message.
    pub(super) fn store_ended(&mut self, of: SessionId, id: PacketId, delivery: Option<&Delivery>) {
        let Some(session) = self.sessions.get(of).filter(|session| session.is_stored) else {
            return;
        };
        let key = exchange_key(session, id);
        // In this order: half of it leaves an exchange without a message, not a message to send again.
        if let Some(delivery) = delivery {
            self.store_gone(of, delivery.number);
        }
        self.emitted.push(Emitted::of(of, StoreOp::Delete { key }));
    }

    /// A QoS 2 message of this client was taken (`true`) or released.
    pub(super) fn store_inbound(&mut self, of: SessionId, packet_id: PacketId, is_taken: bool) {
        let Some(session) = self.sessions.get(of).filter(|session| session.is_stored) else {
            return;
        };
        if planted!(InboundNotStored) && is_taken {
            return;
        }
        let key = StoreKey::Inbound { client_id: session.client_id.clone(), packet_id };
        let op = if is_taken {
            StoreOp::Put { key, record: record::empty() }
        } else {
            StoreOp::Delete { key }
        };
        self.emitted.push(Emitted::of(of, op).fence(true));
    }

    /// The terms of a stored session.
    pub(super) fn store_terms(&mut self, now: Now, of: SessionId) {
        let Some(session) = self.sessions.get(of).filter(|session| session.is_stored) else {
            return;
        };
        let record = SessionRecord {
            version: session.version,
            expiry_s: session.expiry_s,
            left: session.conn.is_none().then_some(now.unix_secs),
            identity: session.identity.as_deref().cloned(),
            mount: self.settings.mount(listener_of(session.identity.as_deref())).into(),
        }
        .write();
        let key = StoreKey::Session { client_id: session.client_id.clone() };
        self.emitted.push(Emitted::of(of, StoreOp::Put { key, record }).fence(true));
    }

    /// The store forgets a session.
    pub(super) fn store_end(&mut self, of: SessionId) {
        let Some(session) = self.sessions.get(of) else { return };
        let client_id = session.client_id.clone();
        let op = StoreOp::Replace { client_id, records: Vec::new() };
        self.emitted.push(Emitted::of(of, op).fence(true));
    }

    pub(super) fn store_subscription(
        &mut self,
        of: SessionId,
        filter: &str,
        kept: Option<SubscriptionRecord>,
    ) {
        let Some(session) = self.sessions.get(of).filter(|session| session.is_stored) else {
            return;
        };
        let client_id = session.client_id.clone();
        let key = StoreKey::Subscription { client_id, filter: filter.into() };
        let op = match kept {
            Some(kept) => StoreOp::Put { key, record: kept.write() },
            None => StoreOp::Delete { key },
        };
        self.emitted.push(Emitted::of(of, op).fence(true));
    }

    /// The retained message of a topic, or that there is none.
    pub(super) fn store_retained(&mut self, now: Now, topic: &str, message: Option<&Message<'_>>) {
        if !self.settings.is_durable || is_reserved(topic) {
            return;
        }
        let key = StoreKey::Retained { topic: topic.into() };
        let op = match message {
            Some(message) => {
                let how = How { qos: QoS::AtMostOnce, retain: false, ids: &[] };
                StoreOp::Put { key, record: message_record(now, message, how) }
            }
            None => StoreOp::Delete { key },
        };
        self.emitted.push(Emitted {
            op,
            group: None,
            session: None,
            is_fence: false,
            is_awaited: true,
        });
    }

    /// Everything in flight and queued, for a session that is stored anew.
    fn store_deliveries(&mut self, now: Now, of: SessionId) {
        let Some(session) = self.sessions.get_mut(of) else { return };
        let client_id = session.client_id.clone();
        let Some(mut outgoing) = session.outgoing.take() else { return };
        let (emitted, messages) = (&mut self.emitted, &self.messages);
        let mut last_number = outgoing.next_number();
        let mut last_begun = outgoing.next_begun();
        outgoing.each_mut(|open, delivery| {
            let delivery = delivery.filter(|delivery| delivery.qos != QoS::AtMostOnce);
            // What is released is of QoS 2.
            let (mut qos, mut number) = (QoS::ExactlyOnce, 0);
            if let Some(delivery) = delivery {
                qos = delivery.qos;
                // Those that have a number keep it: operations under way name it.
                if delivery.number == 0 {
                    last_number += 1;
                    delivery.number = last_number;
                }
                number = delivery.number;
                let ids = delivery.ids.as_slice();
                let how = How { qos: delivery.qos, retain: delivery.retain, ids };
                let record = message_record(now, &messages.view(&delivery.message), how);
                let key = StoreKey::Message { client_id: client_id.clone(), number };
                let op = StoreOp::Put { key, record };
                emitted.push(Emitted { group: delivery.group, ..Emitted::of(of, op) });
            }
            if let Some(open) = open {
                last_begun += 1;
                let begun = if open.released.is_some() { 0 } else { last_begun };
                let record = ExchangeRecord { qos, number, begun, released: open.released }.write();
                let packet_id = open.packet_id;
                let key = StoreKey::Exchange { client_id: client_id.clone(), packet_id };
                emitted.push(Emitted::of(of, StoreOp::Put { key, record }));
            }
        });
        outgoing.count_to(last_number, last_begun);
        if let Some(session) = self.sessions.get_mut(of) {
            session.outgoing = Some(outgoing);
        }
    }
}

fn exchange_key(session: &Session, packet_id: PacketId) -> StoreKey {
    StoreKey::Exchange { client_id: session.client_id.clone(), packet_id }
}

impl Shard {
    /// A session has its new connection: the store is told what has become of it.
    pub(super) fn store_bound(&mut self, now: Now, id: SessionId, was_stored: bool) {
        if !self.local.settings.is_durable {
            return;
        }
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        let is_wanted = session.expiry_s > 0;
        let is_dirty = session.is_dirty;
        let is_known = session.is_stored && !is_dirty;
        session.is_stored = is_wanted;
        match (is_wanted, is_known) {
            (true, true) => self.local.store_terms(now, id),
            (true, false) => {
                mark!(StoredAnewAtBind if is_dirty);
                self.store_all(now, id);
            }
            // An older session of this client may still be there.
            (false, _) if was_stored || self.has_store_failed => {
                mark!(StoreEndedUnsure if !was_stored);
                self.local.store_end(id);
            }
            (false, _) => {}
        }
    }

    /// Stores a session with everything that it has, in place of what the store has.
    fn store_all(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        session.is_dirty = false;
        let client_id = session.client_id.clone();
        let before = std::mem::take(&mut self.local.emitted);
        self.emit_all(now, id);
        let mut records = Vec::new();
        for emitted in std::mem::replace(&mut self.local.emitted, before) {
            let StoreOp::Put { key, mut record } = emitted.op else { continue };
            if let Some(group) = emitted.group {
                record::with_group(&mut record, &self.group_filter(group));
            }
            records.push((key, record));
        }
        let op = StoreOp::Replace { client_id, records };
        self.local.emitted.push(Emitted::of(id, op).fence(true));
    }

    fn emit_all(&mut self, now: Now, id: SessionId) {
        let Some(session) = self.local.sessions.get(id) else { return };
        let keys: Vec<_> = session.subscriptions.iter().collect();
        let inbound: Vec<_> = session.inbound.iter().flat_map(|inbound| inbound.iter()).collect();
        // Those that are not accepted yet are stored when they are.
        let unsettled = session.unsettled.iter().flat_map(|unsettled| unsettled.iter());
        let mut open: Vec<_> = unsettled.map(|(packet_id, _)| packet_id).collect();
        let conn = session.conn.and_then(|index| self.local.conns.at_mut(index));
        if let Some(extras) = conn.and_then(|conn| conn.extras.as_ref()) {
            open.extend(extras.acks.iter().map(|ack| ack.packet_id));
        }
        self.local.store_terms(now, id);
        for key in keys {
            if let Some((filter, kept)) = self.subscription(id, key) {
                self.local.store_subscription(id, &filter, Some(kept));
            }
        }
        self.local.store_deliveries(now, id);
        for packet_id in inbound.into_iter().filter(|packet_id| !open.contains(packet_id)) {
            self.local.store_inbound(id, packet_id, true);
        }
    }

    /// One of a session's subscriptions, as the store keeps it.
    pub(super) fn subscription(
        &self,
        session: SessionId,
        key: SubscriptionKey,
    ) -> Option<(String, SubscriptionRecord)> {
        let trie = &self.index.trie;
        let mut filter = String::new();
        let (options, id): (SubOptions, _) = match key {
            SubscriptionKey::Node(node) => {
                trie.filter_text(node, &mut filter);
                let subscriber = trie.subscriber(node, session)?;
                (subscriber.options, subscriber.id)
            }
            SubscriptionKey::Group(group) => {
                filter = self.group_filter(group);
                let member = trie.group(group)?.member(session)?;
                (member.options, member.id.as_slice().first().copied())
            }
        };
        Some((filter, SubscriptionRecord { options: options.bits(), id }))
    }

    /// The filter of a shared subscription as it is subscribed to.
    fn group_filter(&self, group: GroupId) -> String {
        let (mut filter, mut share) = (String::new(), String::new());
        self.index.trie.group_text(group, &mut filter, &mut share);
        format!("$share/{share}/{filter}")
    }

    /// Hands what was emitted to the store. `completion` waits for what the message at hand needs.
    #[inline]
    pub(super) fn flush_stores(&mut self, now: Now, completion: Option<u64>, out: &mut Outbox) {
        if !self.local.emitted.is_empty() {
            self.issue_all(now, completion, out);
        }
    }

    #[cold]
    fn issue_all(&mut self, now: Now, completion: Option<u64>, out: &mut Outbox) {
        for emitted in std::mem::take(&mut self.local.emitted) {
            let session = emitted.session.and_then(|id| self.local.sessions.get(id));
            if session.is_some_and(|session| session.is_dirty && session.is_stored)
                && let Some(id) = emitted.session
            {
                mark!(StoredAnew);
                self.store_all(now, id);
                for earlier in std::mem::take(&mut self.local.emitted) {
                    self.issue(earlier, None, out);
                }
            }
            self.issue(emitted, completion, out);
        }
    }

    fn issue(&mut self, emitted: Emitted, completion: Option<u64>, out: &mut Outbox) {
        let mut op = emitted.op;
        if let (Some(group), StoreOp::Put { record, .. }) = (emitted.group, &mut op) {
            record::with_group(record, &self.group_filter(group));
        }
        let completion = completion.filter(|_| emitted.is_awaited && !planted!(AckBeforeStored));
        if let Some(completion) = completion.and_then(|at| self.completions.get_mut(at)) {
            completion.waiting += 1;
        }
        let local = &mut self.local;
        let session = emitted.session.filter(|_| emitted.is_fence);
        let conn = session.and_then(|id| local.sessions.get(id)?.conn);
        let fence = conn.and_then(|index| local.conns.at_mut(index)).map(|conn| {
            conn.fences += 1;
            conn.id
        });
        self.store_ticket += 1;
        let ticket = self.store_ticket;
        self.awaited.push_back(Awaited { ticket, completion, fence, session: emitted.session });
        out.stores.push((StoreTicket(ticket), op));
    }

    /// So many operations are out that publishers should pause.
    pub(super) fn is_store_behind(&self) -> bool {
        self.awaited.len() > AWAITED_MAX
    }

    /// This operation ended so, and all earlier ones that had no answer yet.
    pub(super) fn on_stored(
        &mut self,
        now: Now,
        ticket: StoreTicket,
        outcome: StoreOutcome,
        out: &mut Outbox,
    ) {
        let reason = match outcome {
            StoreOutcome::Durable => ReasonCode::Success,
            StoreOutcome::Failed => ReasonCode::UnspecifiedError,
        };
        while let Some(awaited) = self.awaited.pop_front_if(|first| first.ticket <= ticket.0) {
            let Awaited { completion, fence, session, .. } = awaited;
            if outcome == StoreOutcome::Failed {
                mark!(StoreFailed);
                self.local.counters.store_failures += 1;
                self.has_store_failed = true;
                if let Some(session) = session.and_then(|id| self.local.sessions.get_mut(id)) {
                    session.is_dirty = true;
                }
            }
            if let Some(completion) = completion {
                self.complete(completion, reason, out);
            }
            match fence {
                Some(conn) if outcome == StoreOutcome::Failed => {
                    mark!(FenceFailed);
                    self.disconnect(now, conn, NOT_STORED, Ending::WithWill, out);
                }
                Some(conn) => self.lift_fence(conn, out),
                None => {}
            }
        }
    }

    fn lift_fence(&mut self, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id).filter(|conn| conn.fences > 0) else {
            mark!(FenceForNobody);
            return;
        };
        conn.fences -= 1;
        if conn.fences == 0 && !conn.output.is_empty() {
            mark!(FenceLiftedLate);
            list(conn, out);
        }
    }

    /// A 3.x publisher cannot be told that its message was not stored, so its connection ends without an
    /// acknowledgement.
    pub(super) fn end_unstored(&mut self, now: Now, out: &mut Outbox) {
        while let Some(id) = self.unstored.pop() {
            mark!(UnstoredEnded);
            self.disconnect(now, id, NOT_STORED, Ending::WithWill, out);
        }
    }
}

/// What waits behind a fence may never be true: it is dropped when the connection ends.
pub(super) fn drop_fenced(conn: &mut crate::conn::Conn) {
    if conn.fences > 0 && conn.state != State::Closing {
        mark!(FencedDropped if !conn.output.is_empty());
        conn.output.clear();
        conn.fences = 0;
    }
}

const NOT_STORED: Reject = Reject {
    reason: ReasonCode::UnspecifiedError,
    why: "the broker could not store the state of this session",
};

/// Subscription identifiers of a record.
pub(super) fn ids_of(bytes: &[u8]) -> Ids {
    let ids: Vec<_> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .filter_map(|id| crate::ids::SubscriptionId::new(u32::from_le_bytes(*id)))
        .collect();
    Ids::new(&ids)
}
