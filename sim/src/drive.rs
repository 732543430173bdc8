//! What tests say: connect, subscribe, publish, expect. Each lets the world come to rest.

use std::time::Duration;

use shards::codec::{
    self, AckKind, Connect, Disconnect, MessageProperties, Property, Publish, Subscribe,
    SubscribeOptions, Unsubscribe,
};
use shards::ids::{QoS, SubscriptionId, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use crate::client::{Answers, Client, Got, Message, Sent, Welcome};
use crate::world::World;

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
pub const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Says which world a failed test was in.
#[derive(Debug)]
struct Place(u8, Option<u64>);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in a world of {} shards, seed {:?}", self.0, self.1);
        }
    }
}

/// Plays a scenario on 1, 2, 3 and 8 shards, in turn and by chance.
pub fn everywhere(settings: &Settings, scenario: impl Fn(&mut World)) {
    for shards in [1, 2, 3, 8] {
        for seed in [None, Some(1), Some(2), Some(3)] {
            let _place = Place(shards, seed);
            let mut world = World::new(shards, seed, settings);
            scenario(&mut world);
            world.end();
        }
    }
}

/// The defaults, without `$SYS`: it would be everywhere in the retained messages.
pub fn plain() -> Settings {
    Settings { sys_interval_s: 0, ..Settings::default() }
}

/// A CONNECT that keeps its session for `expiry_s`.
pub fn keeping(version: Version, name: &'static str, expiry_s: u32) -> Connect<'static> {
    Connect {
        clean_start: false,
        session_expiry_s: version.is_v5().then_some(expiry_s),
        ..Connect::new(version, name)
    }
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A message to publish.
#[derive(Debug)]
pub struct Post<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    pub properties: &'a [Property<'a>],
}

impl<'a> Post<'a> {
    pub fn new(topic: &'a str, payload: &'a str, qos: QoS) -> Self {
        Self { topic, payload: payload.as_bytes(), qos, retain: false, properties: &[] }
    }

    pub fn retained(topic: &'a str, payload: &'a str, qos: QoS) -> Self {
        Self { retain: true, ..Self::new(topic, payload, qos) }
    }
}

impl World {
    /// A client whose network connection is there and that has sent nothing.
    pub fn open(&mut self, name: &'static str, version: Version) -> usize {
        let client = self.clients.len();
        self.clients.push(Client::new(name, version, 0));
        self.clients[client].listener = self.listener;
        let wire = self.dial(client);
        self.clients[client].wire = wire;
        client
    }

    /// A client with a new session.
    pub fn connect(&mut self, name: &'static str, version: Version) -> usize {
        self.connect_with(&Connect::new(version, name)).0
    }

    #[track_caller]
    pub fn connect_with(&mut self, connect: &Connect<'static>) -> (usize, Welcome) {
        let client = self.open(connect.client_id, connect.version);
        let welcome = self.greet(client, connect);
        assert_eq!(welcome.reason, ReasonCode::Success);
        (client, welcome)
    }

    /// The same client on a new network connection; the old one is left as it is.
    #[track_caller]
    pub fn reconnect(&mut self, client: usize, connect: &Connect<'static>) -> Welcome {
        let wire = self.dial(client);
        self.clients[client].version = connect.version;
        self.clients[client].renew(wire);
        let welcome = self.greet(client, connect);
        assert_eq!(welcome.reason, ReasonCode::Success);
        welcome
    }

    /// Sends CONNECT and takes the CONNACK.
    #[track_caller]
    pub fn greet(&mut self, client: usize, connect: &Connect<'_>) -> Welcome {
        self.say_connect(client, connect);
        self.settle();
        self.expect_welcome(client)
    }

    pub fn say_connect(&mut self, client: usize, connect: &Connect<'_>) {
        let model = &mut self.clients[client];
        model.receive_maximum = connect.receive_maximum.unwrap_or(u16::MAX);
        model.packet_bytes_max = connect.packet_bytes_max.unwrap_or(u32::MAX);
        model.topic_alias_max = connect.topic_alias_max;
        if connect.clean_start {
            model.forget();
        }
        self.write(client, |out| connect.encode(out));
    }

    #[track_caller]
    pub fn expect_welcome(&mut self, client: usize) -> Welcome {
        match self.clients[client].got.pop_front() {
            Some(Got::Connack(welcome)) => welcome,
            other => panic!("no CONNACK, but {other:?}"),
        }
    }

    /// Puts bytes on the wire.
    pub fn write(&mut self, client: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let wire = &mut self.wires[self.clients[client].wire];
        write(&mut wire.upward);
        if wire.is_dead() {
            wire.upward.clear();
        }
    }

    /// Sends SUBSCRIBE and takes the codes of the SUBACK.
    #[track_caller]
    pub fn subscribe_with(
        &mut self,
        client: usize,
        id: Option<u32>,
        filters: &[(&str, SubscribeOptions)],
    ) -> Vec<u8> {
        self.say_subscribe(client, id, filters);
        self.settle();
        let got = &mut self.clients[client].got;
        let at = got.iter().position(|got| matches!(got, Got::Suback(..)));
        match at.and_then(|at| got.remove(at)) {
            Some(Got::Suback(_, codes)) => codes,
            other => panic!("no SUBACK, but {other:?} in {got:?}"),
        }
    }

    pub fn say_subscribe(
        &mut self,
        client: usize,
        id: Option<u32>,
        filters: &[(&str, SubscribeOptions)],
    ) -> u16 {
        let version = self.clients[client].version;
        let packet_id = self.clients[client].take_id();
        let named = |&(filter, options): &(&str, SubscribeOptions)| {
            (self.clients[client].named(filter), options)
        };
        let filters: Vec<_> = filters.iter().map(named).collect();
        let filters: Vec<_> = filters.iter().map(|(name, options)| (&**name, *options)).collect();
        let mut subscribe = Subscribe::new(packet_id, &filters);
        subscribe.subscription_id = id.and_then(SubscriptionId::new);
        self.write(client, |out| subscribe.encode(version, out));
        packet_id.value()
    }

    #[track_caller]
    pub fn subscribe(&mut self, client: usize, filter: &str, qos: QoS) {
        let codes = self.subscribe_with(client, None, &[(filter, SubscribeOptions::new(qos))]);
        assert_eq!(codes, [qos.bits()]);
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, client: usize, filters: &[&str]) -> Vec<u8> {
        let version = self.clients[client].version;
        let packet_id = self.clients[client].take_id();
        self.write(client, |out| Unsubscribe::new(packet_id, filters).encode(version, out));
        self.settle();
        match self.clients[client].got.pop_front() {
            Some(Got::Unsuback(_, codes)) => codes,
            other => panic!("no UNSUBACK, but {other:?}"),
        }
    }

    /// Writes a PUBLISH; answers its packet identifier, 0 for QoS 0.
    pub fn say(&mut self, client: usize, post: &Post<'_>) -> u16 {
        let version = self.clients[client].version;
        let mut raw = Vec::new();
        post.properties.iter().for_each(|property| property.encode_into(&mut raw));
        let packet_id = (post.qos != QoS::AtMostOnce).then(|| self.clients[client].take_id());
        let publish = Publish {
            qos: post.qos,
            retain: post.retain,
            packet_id,
            properties: MessageProperties::parse(&raw).expect("tests know them"),
            ..Publish::new(post.topic, post.payload)
        };
        self.write(client, |out| publish.encode(version, out));
        let Some(packet_id) = packet_id else { return 0 };
        let sent = Sent {
            topic: post.topic.to_owned(),
            payload: post.payload.to_vec(),
            qos: post.qos,
            is_released: false,
        };
        self.clients[client].sent.insert(packet_id.value(), sent);
        packet_id.value()
    }

    /// Publishes and, for QoS 1 and 2, takes the acknowledgements; answers the first one's reason.
    #[track_caller]
    pub fn post(&mut self, client: usize, post: &Post<'_>) -> ReasonCode {
        let id = self.say(client, post);
        self.settle();
        match post.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => self.expect_ack(client, AckKind::Puback, id),
            QoS::ExactlyOnce => {
                let reason = self.expect_ack(client, AckKind::Pubrec, id);
                if !reason.is_error() {
                    let done = self.expect_ack(client, AckKind::Pubcomp, id);
                    assert_eq!(done, ReasonCode::Success);
                }
                reason
            }
        }
    }

    #[track_caller]
    pub fn publish(&mut self, client: usize, topic: &str, payload: &str, qos: QoS) {
        let reason = self.post(client, &Post::new(topic, payload, qos));
        assert!(!reason.is_error(), "{reason:?}");
    }

    /// Publishes retained.
    #[track_caller]
    pub fn retain(&mut self, client: usize, topic: &str, payload: &str) {
        let reason = self.post(client, &Post::retained(topic, payload, QoS::AtLeastOnce));
        assert!(!reason.is_error(), "{reason:?}");
    }

    /// Takes an acknowledgement out of what came.
    #[track_caller]
    pub fn expect_ack(&mut self, client: usize, kind: AckKind, id: u16) -> ReasonCode {
        let got = &mut self.clients[client].got;
        let is_it = |got: &Got| matches!(got, Got::Ack(k, i, _) if (*k, *i) == (kind, id));
        match got.iter().position(is_it).and_then(|at| got.remove(at)) {
            Some(Got::Ack(_, _, reason)) => reason,
            _ => panic!("no {kind:?} for {id} in {got:?}"),
        }
    }

    /// All PUBLISHes that came, in order; PUBRELs to them are dropped.
    #[track_caller]
    pub fn take_messages(&mut self, client: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for got in std::mem::take(&mut self.clients[client].got) {
            match got {
                Got::Publish(message) => messages.push(message),
                Got::Ack(AckKind::Pubrel, ..) => {}
                other => self.clients[client].got.push_back(other),
            }
        }
        messages
    }

    /// `topic=payload` of all PUBLISHes that came.
    #[track_caller]
    pub fn take_texts(&mut self, client: usize) -> Vec<String> {
        let messages = self.take_messages(client);
        messages.iter().map(|message| format!("{}={}", message.topic, message.text())).collect()
    }

    #[track_caller]
    pub fn expect_publish(&mut self, client: usize, topic: &str, payload: &str) -> Message {
        let mut messages = self.take_messages(client);
        assert_eq!(messages.len(), 1, "{messages:?}");
        let message = messages.remove(0);
        assert_eq!((message.topic.as_str(), message.text()), (topic, payload));
        message
    }

    #[track_caller]
    pub fn expect_nothing(&mut self, client: usize) {
        let messages = self.take_messages(client);
        assert!(messages.is_empty(), "{messages:?}");
        let got = &self.clients[client].got;
        assert!(got.is_empty(), "{got:?}");
    }

    /// The broker has ended the connection; in 5.0 with a DISCONNECT that says why.
    #[track_caller]
    pub fn expect_end(&mut self, client: usize, reason: ReasonCode) {
        let model = &mut self.clients[client];
        assert!(model.is_ended, "the connection is still there");
        if model.version.is_v5() {
            let last = model.got.pop_back();
            assert_eq!(last, Some(Got::Disconnect(reason)));
        }
    }

    #[track_caller]
    pub fn expect_alive(&mut self, client: usize) {
        assert!(!self.clients[client].is_ended);
        self.write(client, |out| out.extend_from_slice(&codec::PINGREQ));
        self.settle();
        let got = &mut self.clients[client].got;
        let at = got.iter().position(|got| *got == Got::Pingresp);
        assert!(at.and_then(|at| got.remove(at)).is_some(), "no PINGRESP in {got:?}");
    }

    /// DISCONNECT with 0x00.
    pub fn disconnect(&mut self, client: usize) {
        self.disconnect_with(client, &Disconnect::new(ReasonCode::Success));
    }

    pub fn disconnect_with(&mut self, client: usize, disconnect: &Disconnect<'_>) {
        let version = self.clients[client].version;
        self.write(client, |out| disconnect.encode(version, out));
        self.settle();
    }

    /// The client's side ends without a word.
    pub fn cut(&mut self, client: usize) {
        let wire = self.clients[client].wire;
        self.wires[wire].is_client_gone = true;
        self.settle();
    }

    /// From here on the client does not read.
    pub fn stall(&mut self, client: usize) {
        let wire = self.clients[client].wire;
        self.wires[wire].is_stalled = true;
    }

    pub fn unstall(&mut self, client: usize) {
        self.unstall_wire(client);
        self.settle();
    }

    /// The same, and nothing happens yet.
    pub fn unstall_wire(&mut self, client: usize) {
        if let Some(wire) = self.wires.get_mut(self.clients[client].wire) {
            wire.is_stalled = false;
        }
    }

    pub fn answer(&mut self, client: usize, answers: Answers) {
        self.clients[client].answers = answers;
    }

    /// Everybody goes and every session is ended: nothing may be left.
    pub fn end(&mut self) {
        if self.is_stopped() {
            return;
        }
        self.is_store_held = false;
        self.calm();
        for wire in &mut self.wires {
            wire.is_stalled = false;
            wire.is_silent = false;
            wire.is_client_gone = true;
        }
        self.settle();
        let mut names: Vec<_> =
            self.clients.iter().map(|client| (client.name, client.version)).collect();
        names.sort_by_key(|(name, _)| *name);
        names.dedup_by_key(|(name, _)| *name);
        names.retain(|(name, _)| !name.is_empty() && !name.starts_with("denied"));
        if names.iter().any(|(name, _)| name.starts_with("later")) {
            return;
        }
        self.listener = 0;
        // Wills of the first to go may wait for those who are still there.
        for &(name, version) in &names {
            let client = self.open(name, version);
            self.say_connect(client, &Connect::new(version, name));
            self.settle();
            self.cut(client);
        }
        self.advance(seconds(60));
        self.expect_empty();
    }

    /// Nothing is left of anybody.
    #[track_caller]
    pub fn expect_empty(&self) {
        let gauges = self.snapshot().gauges;
        assert_eq!(gauges.connections, 0, "connections are left");
        assert_eq!(gauges.clients_connected, 0, "clients are left");
        assert_eq!(gauges.sessions, 0, "sessions are left");
        assert_eq!(gauges.subscriptions, 0, "subscriptions are left");
        assert_eq!(gauges.shared_groups, 0, "shared groups are left");
        assert_eq!(gauges.messages_kept, 0, "messages are kept for nobody");
        assert_eq!(gauges.messages_kept_bytes, 0, "bytes are kept for nobody");
    }
}
