//! What clients have read: the oracle hears of it, and the world is found at rest.

use shards::codec::{AckKind, MessageProperties, Property, Publish};
use shards::ids::{PacketId, QoS, Version};
use shards::limits::OverflowPolicy;
use shards::reject::ReasonCode;

use crate::client::{Got, Welcome};
use crate::oracle::{Leave, Receiver, Rest};

use super::tally::Kind;
use super::{Asked, Play, Stage};

/// Steps in which everything owed has come once nothing goes wrong any more: many times what a round
/// takes byte by byte through the smallest rings.
const REST_STEPS_MAX: u64 = 1_000_000;

/// No message of a play is larger, with its topic and properties.
const LARGEST_BYTES: u64 = 9_200;

impl Play {
    /// What has come: the oracle hears of it. Ends come first, as the broker knew of them first.
    pub(super) fn look(&mut self) {
        self.oracle.look(self.since, self.world.now.time);
        let count = self.roles.len();
        for client in 0..count {
            if self.roles[client].stage == Stage::In && self.is_leaving(client) {
                self.check_blame(client);
                self.leave(client, Leave::Lost);
                self.roles[client].stage = Stage::Ending;
            }
        }
        let (gone, there): (Vec<_>, Vec<_>) =
            (0..count).partition(|&client| self.world.clients[client].is_ended);
        for client in gone.into_iter().chain(there) {
            while let Some(got) = self.world.clients[client].got.pop_front() {
                self.on_got(client, got);
            }
            if self.world.clients[client].is_ended {
                self.give_up(client, Leave::Lost);
            }
        }
        self.check_queues();
    }

    /// The connection ends, whether the client knows it or not.
    fn is_leaving(&self, client: usize) -> bool {
        let model = &self.world.clients[client];
        let wire = &self.world.wires[model.wire];
        model.is_ended || wire.is_finishing || wire.is_aborted || wire.is_closed
    }

    /// The broker ends no connection of a client that kept to the rules.
    fn check_blame(&self, client: usize) {
        let role = &self.roles[client];
        let wire = &self.world.wires[self.world.clients[client].wire];
        let is_own = wire.is_client_gone || wire.is_dead();
        let is_slow = self.world.settings.overflow == OverflowPolicy::Disconnect;
        assert!(
            is_own || is_slow || role.is_guilty || role.is_muddled,
            "the broker ends the connection of client {client}: {:?}",
            self.world.clients[client].got
        );
    }

    /// Nothing waits beyond its limits.
    fn check_queues(&self) {
        let settings = &self.world.settings;
        self.world.each_session(|session| {
            let (count, bytes) = (session.queue_count, session.queue_bytes);
            assert!(
                count <= settings.queue_messages_max as usize,
                "{count} messages are queued for {}",
                session.client_id
            );
            assert!(
                count <= 1 || bytes as u64 <= settings.queue_bytes_max,
                "{bytes} bytes are queued for {}",
                session.client_id
            );
            // Retained messages for a new subscription come on top of what is queued.
            // One may always be in flight.
            let (bytes, bytes_max) = (session.inflight_bytes, settings.queue_bytes_max);
            assert!(
                bytes as u64 <= bytes_max.max(LARGEST_BYTES),
                "{bytes} bytes are in flight to {}",
                session.client_id
            );
        });
    }

    fn on_got(&mut self, client: usize, got: Got) {
        match got {
            Got::Connack(welcome) => self.on_welcome(client, &welcome),
            Got::Publish(message) => {
                self.tally.received += 1;
                if let Some((watched, copies)) = self.watched.as_mut()
                    && *watched == client
                    && message.retain
                {
                    copies.push(message.clone());
                }
                let who = Receiver {
                    is_v5: self.roles[client].version.is_v5(),
                    may_lose_connection: self.world.settings.overflow == OverflowPolicy::Disconnect,
                };
                self.oracle.receive(client, &message, who);
            }
            Got::Ack(AckKind::Puback | AckKind::Pubrec, id, reason) => {
                if let Some(&number) = self.roles[client].messages.get(&id) {
                    let message = self.oracle.published(number);
                    let expected = match message.is_denied {
                        true => ReasonCode::NotAuthorized,
                        false => ReasonCode::QuotaExceeded,
                    };
                    assert!(
                        !reason.is_error() || reason == expected && message.may_be_refused,
                        "{reason:?} for message {number} of client {client}"
                    );
                    self.oracle.acked(number, reason);
                }
            }
            Got::Ack(AckKind::Pubrel | AckKind::Pubcomp, ..) => {}
            Got::Disconnect(reason) => self.check_reason(client, reason),
            Got::Suback(id, codes) => {
                let asked = self.roles[client].asked.remove(&id);
                let Some(Asked::Subscribe(asked)) = asked else {
                    panic!("a SUBACK for {asked:?}");
                };
                let granted: Vec<_> = asked.iter().map(|(_, qos)| qos.bits()).collect();
                assert_eq!(codes, granted, "client {client}");
                asked.iter().for_each(|&(asked, _)| self.oracle.granted(client, asked));
            }
            Got::Unsuback(id, codes) => {
                let asked = self.roles[client].asked.remove(&id);
                let Some(Asked::Unsubscribe(at, filters)) = asked else {
                    panic!("an UNSUBACK for {asked:?}");
                };
                for (place, filter) in filters.into_iter().enumerate() {
                    let was_there = codes.get(place).map(|&code| code == 0);
                    self.oracle.unsubscribed(client, filter, at, was_there);
                }
            }
            Got::Auth(..) => panic!("no client of a play names a method"),
            Got::Pingresp => {}
        }
    }

    fn check_reason(&self, client: usize, reason: ReasonCode) {
        let role = &self.roles[client];
        let may = match reason {
            ReasonCode::SessionTakenOver => role.is_muddled,
            ReasonCode::QuotaExceeded => self.world.settings.overflow == OverflowPolicy::Disconnect,
            ReasonCode::ProtocolError
            | ReasonCode::MalformedPacket
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::TopicNameInvalid => role.is_guilty,
            _ => false,
        };
        assert!(may, "client {client} was disconnected: {reason:?}");
    }

    fn on_welcome(&mut self, client: usize, welcome: &Welcome) {
        assert_eq!(welcome.reason, ReasonCode::Success);
        self.tally.welcomed += 1;
        let role = &self.roles[client];
        let (is_clean, is_muddled, version) = (role.was_clean, role.is_muddled, role.version);
        let now = self.world.now.time;
        let expected = match is_clean {
            true => Some(false),
            false => self.oracle.sessions[client].is_resumable(now),
        };
        // MQTT 3.1 does not say.
        let is_present = match version {
            Version::V31 => expected.unwrap_or(false),
            Version::V311 | Version::V5 => welcome.session_present,
        };
        assert!(
            is_muddled || expected.is_none_or(|expected| expected == is_present),
            "session present is {is_present} for client {client}, but should be {expected:?}"
        );
        if !is_present {
            self.oracle.end(client);
            self.world.clients[client].forget();
            self.roles[client].messages.clear();
        }
        let role = &mut self.roles[client];
        role.stage = Stage::In;
        role.needs_clean = false;
        role.aliases_max = usize::from(welcome.topic_alias_max.unwrap_or(0));
        self.oracle.welcomed(client, role.asked_expiry_s, is_clean, is_muddled);
        self.repeat(client);
    }

    /// Sends again what is not acknowledged [MQTT-4.4.0-1].
    fn repeat(&mut self, client: usize) {
        let may_be_anew = std::mem::take(&mut self.oracle.sessions[client].may_be_anew);
        let may_be_new = may_be_anew || self.roles[client].is_muddled;
        if may_be_anew {
            self.world.clients[client].doubt();
        }
        let model = &self.world.clients[client];
        let (version, wire) = (model.version, model.wire);
        let mut bytes = Vec::new();
        let mut numbers: Vec<_> = model
            .sent
            .iter()
            .map(|(&id, sent)| (self.roles[client].messages[&id], id, sent))
            .collect();
        // In the order in which they were sent first.
        numbers.sort_by_key(|&(number, ..)| number);
        for (number, id, sent) in numbers {
            let packet_id = PacketId::new(id).expect("not 0");
            if sent.is_released {
                model.ack(AckKind::Pubrel, packet_id, ReasonCode::Success, &mut bytes);
                continue;
            }
            self.oracle.repeated(number, wire, may_be_new);
            self.tally.wrote(wire, Kind::Publish);
            let message = self.oracle.published(number);
            let mut raw = Vec::new();
            if let Some(secs) = message.expiry_s {
                Property::MessageExpiry(secs).encode_into(&mut raw);
            }
            let topic = model.named(&sent.topic);
            let publish = Publish {
                qos: sent.qos,
                dup: true,
                retain: message.retain,
                packet_id: Some(packet_id),
                properties: MessageProperties::parse(&raw).expect("one property"),
                ..Publish::new(&topic, &sent.payload)
            };
            publish.encode(version, &mut bytes);
        }
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// Nothing more happens until everything has come; then the oracle checks.
    pub(super) fn rest(&mut self) {
        self.world.calm();
        for (at, wire) in self.world.wires.iter_mut().enumerate() {
            wire.is_stalled = false;
            wire.is_client_gone |= self.world.clients[wire.client].wire != at;
        }
        for client in 0..self.roles.len() {
            self.catch_up(client);
        }
        // What comes may be answered, which ends: nobody says anything of its own accord.
        let mut is_answered = true;
        while is_answered {
            self.world.settle_within(REST_STEPS_MAX);
            let before = self.world.written_bytes();
            self.look();
            is_answered = self.world.written_bytes() != before || self.world.wait_for_late();
        }
        self.world.expect_quiet();
        self.check_rest();
    }

    /// From here on the client answers everything.
    pub(super) fn catch_up(&mut self, client: usize) {
        let mut reply = Vec::new();
        let model = &mut self.world.clients[client];
        model.is_refusing = false;
        model.catch_up(&mut reply);
        if self.is_in(client) {
            self.world.write(client, |out| out.extend_from_slice(&reply));
        }
    }

    fn check_rest(&mut self) {
        let online: Vec<_> = (0..self.roles.len())
            .filter(|&client| self.is_in(client))
            .map(|client| (client, self.world.clients[client].wire))
            .collect();
        for &(client, _) in &online {
            let model = &mut self.world.clients[client];
            model.settle_doubt();
            assert!(model.sent.is_empty(), "client {client} waits for {:?}", model.sent);
            assert_eq!(model.open_count(), 0, "exchanges to client {client} are not ended");
            let asked = &self.roles[client].asked;
            assert!(asked.is_empty(), "client {client} waits for an answer to {asked:?}");
        }
        let attached = self.attached();
        let now = self.world.now.time;
        let snapshot = self.world.snapshot();
        let rest = Rest { online: &online, attached: &attached, counters: &snapshot.counters };
        self.oracle.rest(now, &rest);
        let wires: Vec<_> = online.iter().map(|&(_, wire)| wire).collect();
        self.tally.check(&wires, &snapshot.counters);
        self.check_gauges(&online, &attached);
        for role in &mut self.roles {
            role.is_muddled = false;
        }
        self.since = now;
    }

    /// By client: the broker still has a connection of it that the client has given up.
    pub(super) fn attached(&self) -> Vec<bool> {
        let mut attached = vec![false; self.roles.len()];
        for (at, wire) in self.world.wires.iter().enumerate() {
            if wire.client < attached.len() {
                let is_current = self.world.clients[wire.client].wire == at;
                let is_used = is_current && self.is_in(wire.client);
                let is_over = wire.is_closed || wire.is_finishing || wire.is_aborted;
                attached[wire.client] |= !is_over && !is_used;
            }
        }
        attached
    }

    fn check_gauges(&self, online: &[(usize, usize)], attached: &[bool]) {
        let gauges = self.world.snapshot().gauges;
        if attached.contains(&true) {
            return;
        }
        assert_eq!(gauges.clients_connected, online.len() as u64, "clients connected");
        let Some(sessions) = self.oracle.session_count() else { return };
        assert_eq!(gauges.sessions, sessions as u64, "sessions");
        let Some(subscriptions) = self.oracle.subscription_count() else { return };
        assert_eq!(gauges.subscriptions, subscriptions as u64, "subscriptions");
    }

    /// The version decides what can be asked for; a QoS is always granted as asked.
    pub(super) fn is_v5(&self, client: usize) -> bool {
        self.roles[client].version.is_v5()
    }

    pub(super) fn highest(&self) -> QoS {
        self.world.settings.maximum_qos
    }
}
