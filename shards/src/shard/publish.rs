//! PUBLISH from a client: checks, aliases, QoS 1 and 2, and the acknowledgement once the message is
//! accepted everywhere (MQTT 5.0 sections 3.3 and 4.3).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::{self, AckKind, Publish};
use crate::conn::pause::PauseReason;
use crate::conn::{Conn, PendingAck};
use crate::ids::{ConnId, PacketId, QoS, SessionId, ShardId, Version};
use crate::limits::{OverflowPolicy, SPLICE_BYTES_MIN};
use crate::mail::Mail;
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::messages::{Message, Payload};
use crate::time::Now;
use crate::topic::{levels, topic_hash};

use super::Shard;
use super::connect::is_reserved;
use super::effect::Outbox;
use super::fanout::Source;
use super::render::Verbatim;

/// How many nodes of the index a message may make a turn look at, for each packet of a connection's share.
const NODES_PER_PACKET: u32 = 4;

/// A message whose outcome somebody waits for.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) whose: Whose,
    /// Answers still to come, one for this shard's own part included.
    pub(super) waiting: u32,
    /// The worst so far.
    pub(super) reason: ReasonCode,
}

/// Who waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// The acknowledgement that a connection of this shard is owed.
    Conn(ConnId),
    /// A session whose connection was lost, for its QoS 2 message.
    Session(SessionId, PacketId),
    /// The publisher's shard, under its own number.
    Shard(ShardId, u64),
}

/// A PUBLISH as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) publish: &'a Publish<'a>,
    /// The whole packet.
    pub(super) packet: &'a [u8],
    /// The same in a buffer of its own, if it came in pieces.
    pub(super) owned: Option<&'a Bytes>,
    pub(super) version: Version,
    /// Of the publisher's mount point; 0 if it has none.
    pub(super) mount_bytes: u16,
}

impl<'a> Arrived<'a> {
    /// The packet, if those that get the message as it came can have its bytes as they are.
    fn verbatim(&self) -> Option<Verbatim<'a>> {
        let publish = self.publish;
        let is_plain = publish.qos == QoS::AtMostOnce
            && !publish.retain
            && self.mount_bytes == 0
            && publish.properties.forwarded().is_some()
            && publish.payload.len() < SPLICE_BYTES_MIN;
        is_plain.then_some(Verbatim { packet: self.packet, is_v5: self.version.is_v5() })
    }
}

impl Shard {
    pub(super) fn on_publish(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        arrived: &Arrived<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let publish = arrived.publish;
        self.local.counters.messages_received += 1;
        self.check_publish(publish)?;
        let Some(alias) = publish.properties.topic_alias else {
            return self.accept_below(now, id, session, arrived, publish.topic, out);
        };
        if alias > self.local.settings.topic_alias_max {
            let why = "a topic alias above the maximum that CONNACK gave";
            return Err(Reject { reason: ReasonCode::TopicAliasInvalid, why });
        }
        let Some(conn) = self.local.conns.get_mut(id) else { return Ok(()) };
        let aliases = &mut conn.extras_mut().aliases_in;
        if !publish.topic.is_empty() {
            mark!(AliasInMoved if aliases.topic(alias).is_some_and(|old| old != publish.topic));
            if !aliases.set(alias, publish.topic, self.local.settings.topic_alias_bytes_max) {
                let why = "the topics of this connection's aliases are too long together";
                return Err(Reject { reason: ReasonCode::QuotaExceeded, why });
            }
            return self.accept_below(now, id, session, arrived, publish.topic, out);
        }
        let Some(topic) = aliases.topic(alias) else {
            return Err(Reject::protocol("a topic alias that was never given a topic"));
        };
        mark!(AliasInKnown);
        let mut name = std::mem::take(&mut self.scratch.topic);
        name.clear();
        name.push_str(topic);
        let accepted = self.accept_below(now, id, session, arrived, &name, out);
        self.scratch.topic = name;
        accepted
    }

    pub(super) fn check_publish(&self, publish: &Publish<'_>) -> Result<(), Reject> {
        let settings = &self.local.settings;
        if publish.qos > settings.maximum_qos {
            let why = "a QoS above the maximum that CONNACK gave";
            return Err(Reject { reason: ReasonCode::QoSNotSupported, why });
        }
        if publish.retain && !settings.retain_available {
            let why = "RETAIN, but CONNACK said that it is not available";
            return Err(Reject { reason: ReasonCode::RetainNotSupported, why });
        }
        if publish.properties.has_subscription_ids() {
            return Err(Reject::protocol("a subscription identifier in a client's PUBLISH"));
        }
        let levels_max = usize::from(settings.topic_levels_max);
        // The codec has checked the characters; a topic has more levels than bytes in no case.
        if publish.topic.len() >= levels_max && levels(publish.topic).nth(levels_max).is_some() {
            let why = "the topic has more levels than this broker allows";
            return Err(Reject { reason: ReasonCode::TopicNameInvalid, why });
        }
        Ok(())
    }

    /// `topic` is the one that was meant, alias or not, as the client names it.
    fn accept_below(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        arrived: &Arrived<'_>,
        topic: &str,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        if arrived.mount_bytes == 0 {
            return self.accept(now, id, session, arrived, topic, out);
        }
        let mut name = std::mem::take(&mut self.scratch.mounted);
        name.clear();
        name.push_str(self.mount_of(id));
        name.push_str(topic);
        let accepted = match self.check_mounted(&name) {
            Ok(()) => self.accept(now, id, session, arrived, &name, out),
            Err(reject) => Err(reject),
        };
        self.scratch.mounted = name;
        accepted
    }

    /// `topic` is the one that everybody else knows.
    fn accept(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        arrived: &Arrived<'_>,
        topic: &str,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let publish = arrived.publish;
        if !self.is_index_ready(topic) {
            self.wait_for_index(id, arrived.packet.len(), out);
            return Ok(());
        }
        if let Some(packet_id) = publish.packet_id
            && !self.is_new(id, session, publish.qos, packet_id, out)?
        {
            return Ok(());
        }
        if !self.is_allowed(session, topic, publish) {
            self.local.counters.denied_publish += 1;
            self.note_denied(id, topic, "the client may not publish this", out);
            let reason = ReasonCode::NotAuthorized;
            self.acknowledge(id, session, publish.qos, publish.packet_id, reason, out);
            return Ok(());
        }
        let completion = self.begin_completion(id, publish);
        let source = Source { session: Some(session), publisher: None, completion, tried: 0 };
        let expiry = publish.properties.message_expiry_s;
        let expires = expiry.map(|secs| now.time + Duration::from_secs(secs.into()));
        let mut forwarded = std::mem::take(&mut self.scratch.properties);
        let properties = match publish.properties.forwarded() {
            Some(raw) => raw,
            None => {
                forwarded.clear();
                publish.properties.forward_into(&mut forwarded);
                &forwarded
            }
        };
        let shared = (publish.payload.len() >= SPLICE_BYTES_MIN).then(|| match arrived.owned {
            Some(whole) => whole.slice(whole.len() - publish.payload.len()..),
            None => Bytes::copy_from_slice(publish.payload),
        });
        let payload = shared.as_ref().map_or(Payload::Inline(publish.payload), Payload::Shared);
        let (qos, retain) = (publish.qos, publish.retain);
        let message = Message { topic, properties, payload, qos, retain, expires };
        if let Some(completion) = completion {
            // Before anything of it is stored: what is not acknowledged does not count as received.
            self.owe_ack(id, publish.qos, publish.packet_id, completion);
        }
        let outcome = self.fan_out(now, &source, message, arrived.verbatim(), out);
        self.scratch.properties = forwarded;
        let reason = outcome.reason();
        match completion {
            Some(completion) => self.complete(completion, reason, out),
            None => self.acknowledge(id, session, publish.qos, publish.packet_id, reason, out),
        }
        if outcome.is_congested || self.is_store_behind() {
            self.hold_publisher(id);
        }
        Ok(())
    }

    /// Whether the index can tell where `topic` goes without too long a walk in this turn.
    pub(super) fn is_index_ready(&mut self, topic: &str) -> bool {
        let nodes_max = self.walk_nodes_max();
        self.index.cache.is_ready(&self.index.trie, topic, self.local.turn, nodes_max)
    }

    /// No walk is long.
    pub(super) fn is_index_small(&self) -> bool {
        self.index.trie.node_count() <= self.walk_nodes_max()
    }

    fn walk_nodes_max(&self) -> usize {
        let nodes_max = self.local.settings.turn_packets_max.saturating_mul(NODES_PER_PACKET);
        usize::try_from(nodes_max).unwrap_or(usize::MAX)
    }

    /// The packet at hand comes again in the next turn.
    fn wait_for_index(&mut self, id: ConnId, packet_bytes: usize, out: &mut Outbox) {
        mark!(WalkInPieces);
        if let Some(meter) = self.local.conns.get_mut(id).and_then(Conn::meter_mut) {
            meter.put_back(packet_bytes);
        }
        self.is_to_be_repeated = true;
        self.local.counters.messages_received -= 1;
        self.local.counters.packets_received -= 1;
        self.local.end_turn(id, out);
    }

    /// Until what it publishes has somewhere to go.
    pub(super) fn hold_publisher(&mut self, id: ConnId) {
        mark!(PublisherCongested);
        self.local.pause(id, PauseReason::MailboxFull);
        self.congested.push(id);
    }

    /// False for a QoS 2 message that came before: it is acknowledged again and delivered no more.
    fn is_new(
        &mut self,
        id: ConnId,
        session_id: SessionId,
        qos: QoS,
        packet_id: PacketId,
        out: &mut Outbox,
    ) -> Result<bool, Reject> {
        let receive_maximum = usize::from(self.local.settings.receive_maximum);
        let (Some(session), Some(conn)) =
            (self.local.sessions.get_mut(session_id), self.local.conns.get(id))
        else {
            return Ok(false);
        };
        if qos == QoS::ExactlyOnce
            && !planted!(DuplicateDelivered)
            && session.inbound.as_ref().is_some_and(|inbound| inbound.contains(packet_id))
        {
            mark!(DuplicateSuppressed);
            self.local.counters.duplicates_suppressed += 1;
            let is_owed = conn
                .extras
                .as_ref()
                .is_some_and(|extras| extras.acks.iter().any(|ack| ack.packet_id == packet_id));
            if let Some(completion) = session.settle(packet_id) {
                mark!(UnsettledTakenUp);
                if let Some(waiting) = self.completions.get_mut(completion) {
                    waiting.whose = Whose::Conn(id);
                }
                self.owe_ack(id, qos, Some(packet_id), completion);
            } else if is_owed {
                mark!(DuplicateStillOwed);
            } else {
                self.send_ack(id, AckKind::Pubrec, packet_id, ReasonCode::Success, out);
            }
            return Ok(false);
        }
        let acks = conn.extras.as_ref().map_or(0, |extras| {
            extras.acks.iter().filter(|ack| ack.kind == AckKind::Puback).count()
        });
        if conn.version.is_v5() && session.inbound_count() + acks >= receive_maximum {
            let why = "more unacknowledged QoS 1 and 2 messages than CONNACK's Receive Maximum";
            return Err(Reject { reason: ReasonCode::ReceiveMaximumExceeded, why });
        }
        if qos == QoS::ExactlyOnce {
            session.inbound.get_or_insert_default().insert(packet_id);
        }
        Ok(true)
    }

    pub(super) fn is_allowed(
        &mut self,
        session: SessionId,
        topic: &str,
        publish: &Publish<'_>,
    ) -> bool {
        if is_reserved(topic) {
            return false;
        }
        if self.is_open {
            return true;
        }
        let Some(session) = self.local.sessions.get(session) else { return false };
        self.authorise.may_publish(&session.who(), topic, publish.qos, publish.retain)
    }

    /// The acknowledgement waits only where the outcome depends on others.
    fn begin_completion(&mut self, conn: ConnId, publish: &Publish<'_>) -> Option<u64> {
        let settings = &self.local.settings;
        let waits = settings.overflow == OverflowPolicy::Refuse || settings.is_durable;
        (waits && publish.qos != QoS::AtMostOnce).then(|| {
            let reason = ReasonCode::NoMatchingSubscribers;
            self.completions.insert(Completion { whose: Whose::Conn(conn), waiting: 1, reason })
        })
    }

    /// Notes an acknowledgement that is due when its completion is complete.
    fn owe_ack(&mut self, id: ConnId, qos: QoS, packet_id: Option<PacketId>, completion: u64) {
        let (Some(packet_id), Some(conn)) = (packet_id, self.local.conns.get_mut(id)) else {
            return;
        };
        let (kind, completion) = (ack_kind(qos), Some(completion));
        let ack = PendingAck { packet_id, kind, completion, reason: None };
        conn.extras_mut().acks.push_back(ack);
        self.hold_if_owing(id);
    }

    /// Only so many acknowledgements may be owed, whatever the client's protocol says.
    fn hold_if_owing(&mut self, id: ConnId) {
        let acks_max = usize::from(self.local.settings.receive_maximum);
        if self.local.conns.get(id).is_some_and(|conn| conn.acks_count() >= acks_max) {
            mark!(AcksHeld);
            self.local.pause(id, PauseReason::AcksPending);
        } else {
            self.local.unpause(id, PauseReason::AcksPending);
        }
    }

    /// One answer to a message has come.
    pub(super) fn complete(&mut self, ticket: u64, reason: ReasonCode, out: &mut Outbox) {
        let Some(completion) = self.completions.get_mut(ticket) else { return };
        // An error is worse than success, and success says more than that nobody was there.
        if !completion.reason.is_error() && (reason.is_error() || reason == ReasonCode::Success) {
            completion.reason = reason;
        }
        assert!(completion.waiting > 0, "no more answers come than were asked for");
        completion.waiting -= 1;
        if completion.waiting > 0 {
            return;
        }
        let Some(Completion { whose, reason, .. }) = self.completions.remove(ticket) else {
            return;
        };
        match whose {
            Whose::Shard(from, completion) => {
                self.post(from, &Mail::Outcome { completion, reason: reason.byte() });
            }
            Whose::Session(id, packet_id) => {
                let Some(session) = self.local.sessions.get_mut(id) else { return };
                mark!(UnsettledSettled);
                session.settle(packet_id);
                self.settle_inbound(id, AckKind::Pubrec, packet_id, reason);
            }
            Whose::Conn(id) => {
                let Some(conn) = self.local.conns.get_mut(id) else { return };
                let Some(session) = conn.session() else { return };
                let acks = &mut conn.extras_mut().acks;
                if let Some(ack) = acks.iter_mut().find(|ack| ack.completion == Some(ticket)) {
                    ack.reason = Some(reason);
                    ack.completion = None;
                }
                self.send_owed_acks(id, session, out);
            }
        }
    }

    /// Acknowledgements leave in the order of their messages.
    fn send_owed_acks(&mut self, id: ConnId, session: SessionId, out: &mut Outbox) {
        loop {
            let Some(conn) = self.local.conns.get_mut(id) else { return };
            let is_v5 = conn.version.is_v5();
            let acks = &mut conn.extras_mut().acks;
            let Some((ack, reason)) = acks.front().and_then(|ack| Some((ack, ack.reason?))) else {
                break;
            };
            let (kind, packet_id) = (ack.kind, ack.packet_id);
            if reason == ReasonCode::UnspecifiedError && !is_v5 {
                // It was not stored, and 3.x has no way to say so.
                self.unstored.push(id);
                return;
            }
            acks.pop_front();
            self.settle_inbound(session, kind, packet_id, reason);
            self.send_ack(id, kind, packet_id, reason, out);
        }
        self.hold_if_owing(id);
    }

    /// Acknowledges a message, or notes that it is due behind others.
    fn acknowledge(
        &mut self,
        id: ConnId,
        session: SessionId,
        qos: QoS,
        packet_id: Option<PacketId>,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        let Some(packet_id) = packet_id else { return };
        let kind = ack_kind(qos);
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.acks_count() > 0 {
            mark!(AckBehindOwed);
            let reason = Some(reason);
            let ack = PendingAck { packet_id, kind, completion: None, reason };
            conn.extras_mut().acks.push_back(ack);
            self.hold_if_owing(id);
            return;
        }
        self.settle_inbound(session, kind, packet_id, reason);
        self.send_ack(id, kind, packet_id, reason, out);
    }

    /// The connection is gone that acknowledgements were owed to. A QoS 2 message may be repeated on the
    /// next one, so what becomes of it is still of interest.
    pub(super) fn forgo_acks(&mut self, session: SessionId, acks: VecDeque<PendingAck>) {
        for PendingAck { packet_id, kind, completion, reason } in acks {
            if let Some(reason) = reason {
                self.settle_inbound(session, kind, packet_id, reason);
            }
            let Some(ticket) = completion else { continue };
            if kind != AckKind::Pubrec {
                mark!(OutcomeForNobody);
                self.completions.remove(ticket);
                continue;
            }
            if let Some(completion) = self.completions.get_mut(ticket)
                && let Some(found) = self.local.sessions.get_mut(session)
            {
                mark!(Unsettled);
                completion.whose = Whose::Session(session, packet_id);
                found.unsettle(packet_id, ticket);
            }
        }
    }

    /// A PUBREC with an error ends its exchange [MQTT-4.3.3-9].
    fn settle_inbound(
        &mut self,
        session: SessionId,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        let Some(session) = self.local.sessions.get_mut(session) else { return };
        // 3.x has no error in an acknowledgement: its exchange goes on, unless the message was not
        // stored, and then it gets none.
        if kind == AckKind::Pubrec
            && reason.is_error()
            && (session.version.is_v5() || reason == ReasonCode::UnspecifiedError)
            && let Some(inbound) = session.inbound.as_mut()
        {
            inbound.remove(packet_id);
        }
    }

    pub(super) fn send_ack(
        &mut self,
        id: ConnId,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get(id) else { return };
        let (version, session) = (conn.version, conn.session());
        if kind == AckKind::Pubrec
            && !reason.is_error()
            && let Some(session) = session
        {
            self.local.store_inbound(session, packet_id, true);
        }
        self.local.send_with(id, out, |buffer| {
            codec::puback_into(version, kind, packet_id, reason, buffer);
        });
        self.hold_if_full(id);
    }

    /// Hash of the publisher's client identifier; only shared subscriptions ask for it.
    pub(super) fn publisher_hash(&self, source: &Source) -> u64 {
        source.publisher.unwrap_or_else(|| {
            let session = source.session.and_then(|id| self.local.sessions.get(id));
            session.map_or(0, |session| topic_hash(session.client_id.as_bytes()))
        })
    }
}

fn ack_kind(qos: QoS) -> AckKind {
    match qos {
        QoS::ExactlyOnce => AckKind::Pubrec,
        QoS::AtMostOnce | QoS::AtLeastOnce => AckKind::Puback,
    }
}
