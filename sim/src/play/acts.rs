//! What clients do in the middle of everything.

use shards::codec::{
    Disconnect, MessageProperties, Property, Publish, RetainHandling, SubscribeOptions, Unsubscribe,
};
use shards::ids::{QoS, Version};
use shards::limits::OverflowPolicy;
use shards::reject::ReasonCode;

use crate::client::{Answers, Sent};
use crate::drive::QOS;
use crate::oracle::{Leave, Published, payload};

use super::tally::Kind;
use super::{Asked, FILTERS, NAMES, Play, Stage, TOPICS};

/// Bytes that no client may send.
const WRONG: [&[u8]; 5] = [
    // A type that does not exist.
    b"\xF0\x00\x00",
    // SUBSCRIBE without its fixed flags.
    b"\x80\x06\x00\x09\x00\x01a\x00",
    // PUBLISH to a wildcard.
    b"\x30\x04\x00\x01#\x00",
    // CONNACK.
    b"\x20\x02\x00\x00",
    // A length that does not end.
    b"\x30\xFF\xFF\xFF\xFF",
];

/// Steps in which an answer is waited for.
const RACE_STEPS: usize = 200;

impl Play {
    /// One thing in the middle of everything.
    pub(super) fn act(&mut self) {
        let client = self.below(self.roles.len());
        let is_in = self.is_in(client);
        match self.below(32) {
            0 if is_in => self.cut(client, false),
            1 if is_in => self.cut(client, true),
            2 | 3 => self.come_back(client, false),
            4 => self.come_back(client, true),
            5 if is_in => self.world.stall(client),
            6 if is_in => {
                let wire = self.world.clients[client].wire;
                self.world.wires[wire].is_stalled = false;
            }
            7 | 8 | 16 if is_in => self.ask(client),
            9 if is_in => self.drop_filters(client),
            10 if is_in => self.fall_silent(client),
            11 if is_in => self.catch_up(client),
            12 if is_in => self.say_goodbye(client),
            13 if is_in => self.do_wrong(client),
            14 if is_in => self.world.clients[client].is_refusing ^= true,
            15 if is_in => {
                self.world.write(client, |out| out.extend_from_slice(&shards::codec::PINGREQ));
            }
            17 if is_in => self.ask_and_race(client),
            _ if is_in => self.publish(client),
            _ => {}
        }
    }

    /// A new connection whether the older one is there or not.
    fn come_back(&mut self, client: usize, is_clean: bool) {
        let role = &self.roles[client];
        // A clean start among several CONNECTs would leave nothing that can be told; nor would
        // MQTT 3.1, whose CONNACK does not say whether a session was there.
        let is_open = role.stage == Stage::Dialed || role.is_muddled;
        if is_open && (is_clean || role.was_clean || role.version == Version::V31) {
            return;
        }
        let old = self.world.clients[client].wire;
        if let Some(wire) = self.world.wires.get_mut(old) {
            wire.is_stalled = false;
        }
        self.connect(client, is_clean);
    }

    /// The client's side ends; with a reset, what it wrote last is lost.
    fn cut(&mut self, client: usize, is_reset: bool) {
        let wire = &mut self.world.wires[self.world.clients[client].wire];
        wire.is_client_gone = true;
        wire.is_stalled = false;
        if is_reset {
            wire.upward.clear();
        }
        self.give_up(client, Leave::Lost);
    }

    /// DISCONNECT, with the will or without, and perhaps with another expiry interval.
    pub(super) fn say_goodbye(&mut self, client: usize) {
        let is_v5 = self.is_v5(client);
        let with_will = is_v5 && self.one_in(3);
        let role = &self.roles[client];
        let mut disconnect = Disconnect::new(match with_will {
            true => ReasonCode::DisconnectWithWill,
            false => ReasonCode::Success,
        });
        if is_v5 && role.asked_expiry_s > 0 && self.one_in(3) {
            disconnect.session_expiry_s = Some([0, 20, 1000][self.below(3)]);
        }
        let version = self.roles[client].version;
        self.world.write(client, |out| disconnect.encode(version, out));
        let wire = &mut self.world.wires[self.world.clients[client].wire];
        wire.is_client_gone = true;
        wire.is_stalled = false;
        // A connection that the broker ends before it has read this ends with its will.
        let is_sure = self.world.settings.overflow != OverflowPolicy::Disconnect;
        let expiry_max_s = self.world.settings.session_expiry_max_s;
        let expiry_s = disconnect.session_expiry_s.map(|secs| secs.min(expiry_max_s));
        self.give_up(client, Leave::Disconnect { with_will, expiry_s, is_sure });
    }

    /// What the broker must end this connection for, and no other.
    fn do_wrong(&mut self, client: usize) {
        let bytes = WRONG[self.below(WRONG.len())];
        self.world.write(client, |out| out.extend_from_slice(bytes));
        self.leave(client, Leave::Lost);
        let role = &mut self.roles[client];
        role.is_guilty = true;
        role.stage = Stage::Ending;
    }

    /// The client acknowledges nothing for a while.
    fn fall_silent(&mut self, client: usize) {
        let answers = if self.one_in(2) { Answers::None } else { Answers::ToPubrec };
        self.world.clients[client].answers = answers;
    }

    /// A SUBSCRIBE; as soon as it is answered another client publishes what is retained, while all shards
    /// but that client's are held up. Then all but the subscriber's go on.
    fn ask_and_race(&mut self, client: usize) {
        self.ask(client);
        for _ in 0..RACE_STEPS {
            if self.roles[client].asked.is_empty() {
                break;
            }
            self.world.stir(1);
            self.look();
        }
        let publisher = self.below(self.roles.len());
        if publisher == client || !self.is_in(publisher) || !self.is_in(client) {
            return;
        }
        let shards = (self.world.shard_of(client), self.world.shard_of(publisher));
        let (Some(here), Some(there)) = shards else { return };
        self.world.hold_up(|shard| shard != there);
        for _ in 0..3 {
            let topic = TOPICS[self.below(TOPICS.len())];
            self.publish_to(publisher, topic, true);
        }
        self.world.stir(RACE_STEPS / 4);
        self.world.hold_up(|shard| shard == here);
        self.world.stir(RACE_STEPS / 4);
        self.world.thaw();
        self.look();
    }

    fn publish(&mut self, client: usize) {
        let topic = TOPICS[self.below(TOPICS.len())];
        let retain = self.one_in(3);
        self.publish_to(client, topic, retain);
    }

    fn publish_to(&mut self, client: usize, topic: &'static str, retain: bool) {
        let quota = usize::from(self.world.settings.receive_maximum);
        let may = self.world.clients[client].sent.len() < quota;
        let qos = if may { QOS[self.below(3)].min(self.highest()) } else { QoS::AtMostOnce };
        let wire = self.world.clients[client].wire;
        let is_v5 = self.is_v5(client);
        let mut message = Published::new(client, topic, qos, wire);
        message.retain = retain;
        message.bytes = match self.below(24) {
            0 => 9000,
            1..4 => 150,
            4..8 if message.retain => 0,
            _ => 8,
        };
        message.expiry_s =
            if is_v5 && self.one_in(4) { Some([10, 1000][self.below(2)]) } else { None };
        // A full queue that refuses, or no room for a retained message.
        let settings = &self.world.settings;
        let is_tight = settings.retained_messages_max < 100;
        message.may_be_refused =
            settings.overflow == OverflowPolicy::Refuse || message.retain && is_tight;
        message.is_denied = !self.world.rules.lets_publish(NAMES[client], topic);
        message.may_be_refused |= message.is_denied;
        message.is_told_matches = is_v5 && !message.retain;
        let (bytes, expiry_s) = (message.bytes, message.expiry_s);
        let number = self.oracle.publish(message);
        let payload = payload(number, bytes);
        let alias = self.draw_alias(client, topic);
        let mut raw = Vec::new();
        if let Some((alias, _)) = alias {
            Property::TopicAlias(alias).encode_into(&mut raw);
        }
        if let Some(secs) = expiry_s {
            Property::MessageExpiry(secs).encode_into(&mut raw);
        }
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.world.clients[client].take_id());
        let is_known = alias.is_some_and(|(_, is_known)| is_known);
        let name = if is_known { String::new() } else { self.world.clients[client].named(topic) };
        let publish = Publish {
            qos,
            retain,
            packet_id,
            properties: MessageProperties::parse(&raw).expect("they are in order"),
            ..Publish::new(&name, &payload)
        };
        let version = self.roles[client].version;
        self.world.write(client, |out| publish.encode(version, out));
        self.tally.wrote(wire, Kind::Publish);
        let Some(id) = packet_id else { return };
        let sent =
            Sent { topic: topic.to_owned(), payload: payload.clone(), qos, is_released: false };
        self.world.clients[client].sent.insert(id.value(), sent);
        self.roles[client].messages.insert(id.value(), number);
    }

    /// An alias for the topic, and whether the broker knows it already.
    fn draw_alias(&mut self, client: usize, topic: &'static str) -> Option<(u16, bool)> {
        let may_be_new = self.one_in(3);
        let role = &mut self.roles[client];
        let number = |at: usize| u16::try_from(at + 1).expect("few");
        if let Some(at) = role.aliases.iter().position(|&known| known == topic) {
            return Some((number(at), true));
        }
        if !may_be_new || role.aliases.len() >= role.aliases_max {
            return None;
        }
        role.aliases.push(topic);
        Some((number(role.aliases.len() - 1), false))
    }

    /// A SUBSCRIBE in the middle of everything. The shared one is left to quiet moments: who got
    /// what could not be told otherwise.
    fn ask(&mut self, client: usize) {
        let count = 1 + self.below(3);
        let mut filters: Vec<(&'static str, SubscribeOptions)> = Vec::new();
        for _ in 0..count {
            let filter = FILTERS[self.below(FILTERS.len() - 1)];
            let options = self.draw_options(client);
            if filters.iter().all(|&(other, _)| other != filter) {
                filters.push((filter, options));
            }
        }
        self.subscribe(client, &filters);
    }

    pub(super) fn draw_options(&mut self, client: usize) -> SubscribeOptions {
        let mut options = SubscribeOptions::new(QOS[self.below(3)]);
        if self.is_v5(client) {
            options.no_local = self.one_in(3);
            options.retain_as_published = self.one_in(2);
            options.retain_handling =
                [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never]
                    [self.below(3)];
        }
        options
    }

    /// Writes a SUBSCRIBE and tells the oracle.
    pub(super) fn subscribe(
        &mut self,
        client: usize,
        filters: &[(&'static str, SubscribeOptions)],
    ) {
        let id = (self.is_v5(client) && self.one_in(2))
            .then(|| u32::try_from(1 + self.below(5)).expect("small"));
        let asked = filters
            .iter()
            .map(|&(filter, options)| {
                let qos = options.qos.min(self.highest());
                (self.oracle.ask(client, filter, options, id), qos)
            })
            .collect();
        let packet_id = self.world.say_subscribe(client, id, filters);
        self.tally.wrote(self.world.clients[client].wire, Kind::Subscribe);
        self.roles[client].asked.insert(packet_id, Asked::Subscribe(asked));
    }

    /// An UNSUBSCRIBE in the middle of everything.
    fn drop_filters(&mut self, client: usize) {
        let mut filters = vec![FILTERS[self.below(FILTERS.len() - 1)]];
        let other = FILTERS[self.below(FILTERS.len() - 1)];
        if self.one_in(2) && other != filters[0] {
            filters.push(other);
        }
        self.unsubscribe(client, filters);
    }

    /// Writes an UNSUBSCRIBE and tells the oracle.
    pub(super) fn unsubscribe(&mut self, client: usize, filters: Vec<&'static str>) {
        let at = filters
            .iter()
            .map(|filter| self.oracle.unsubscribe(client, filter))
            .max()
            .expect("at least one filter");
        let version = self.roles[client].version;
        let id = self.world.clients[client].take_id();
        let model = &self.world.clients[client];
        let names: Vec<_> = filters.iter().map(|filter| model.named(filter)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.world.write(client, |out| Unsubscribe::new(id, &names).encode(version, out));
        self.tally.wrote(self.world.clients[client].wire, Kind::Unsubscribe);
        self.roles[client].asked.insert(id.value(), Asked::Unsubscribe(at, filters));
    }
}
