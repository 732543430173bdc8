//! A model client: reads what the broker sends, checks what every client may rely on, and answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shards::codec::{self, Ack, AckKind, Framed, Packet, Property, Publish};
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;

use crate::rules::METHOD;

/// A packet from the broker, with everything that tests look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Connack(Welcome),
    Publish(Message),
    Ack(AckKind, u16, ReasonCode),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
    Disconnect(ReasonCode),
    /// AUTH: the reason code and the data.
    Auth(ReasonCode, Vec<u8>),
}

/// What CONNACK said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_max: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub server_keep_alive_s: Option<u16>,
    pub assigned_client_id: Option<String>,
    /// Authentication Method and Authentication Data.
    pub method: Option<String>,
    pub data: Option<Vec<u8>>,
    /// Retain, wildcard, subscription identifiers, shared: what is not available is `Some(false)`.
    pub available: [Option<bool>; 4],
}

/// A PUBLISH from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Looked up if only an alias came.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: Option<u16>,
    /// Subscription identifiers, sorted.
    pub ids: Vec<u32>,
    pub expiry_s: Option<u32>,
    pub response_topic: Option<String>,
    /// The alias, and whether the topic came with it.
    pub alias: Option<(u16, bool)>,
    /// The client answers it with an error.
    pub is_refused: bool,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("tests publish text")
    }
}

/// Which packets the client answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    All,
    /// QoS 2 up to PUBREC; PUBREL gets no answer.
    ToPubrec,
    None,
}

/// How far an own QoS 1 or 2 message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub is_released: bool,
}

/// One client with its session.
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    pub version: Version,
    pub wire: usize,
    /// The listener that its connections come through.
    pub listener: u16,
    /// In front of all topics that it knows, on the wire: what others have as a mount point.
    pub prefix: &'static str,
    /// Not yet looked at by the test.
    pub got: VecDeque<Got>,
    pub answers: Answers,
    /// It answers QoS 2 messages with an error (5.0).
    pub is_refusing: bool,
    /// It looks at nothing that comes.
    pub is_deaf: bool,
    /// The broker has ended the connection.
    pub is_ended: bool,
    /// What CONNECT announced.
    pub receive_maximum: u16,
    pub packet_bytes_max: u32,
    pub topic_alias_max: u16,
    /// Own messages in flight, by identifier.
    pub sent: BTreeMap<u16, Sent>,
    next_id: u16,
    cut: Vec<u8>,
    aliases: BTreeMap<u16, String>,
    /// Identifiers of the broker's exchanges that are open, on any connection of this session.
    open: BTreeSet<u16>,
    /// The same, begun or repeated on this connection.
    window: BTreeSet<u16>,
    /// QoS 2 messages that came and whose PUBREL has not.
    unreleased: BTreeSet<u16>,
    /// The broker's session may have begun anew without the client knowing.
    is_doubtful: bool,
    /// Answers that it has not given, in order.
    held: Vec<(AckKind, PacketId)>,
}

impl Client {
    pub fn new(name: &'static str, version: Version, wire: usize) -> Self {
        Self {
            name,
            version,
            wire,
            listener: 0,
            prefix: "",
            got: VecDeque::new(),
            answers: Answers::All,
            is_refusing: false,
            held: Vec::new(),
            is_doubtful: false,
            is_deaf: false,
            is_ended: false,
            receive_maximum: u16::MAX,
            packet_bytes_max: u32::MAX,
            topic_alias_max: 0,
            sent: BTreeMap::new(),
            next_id: 0,
            cut: Vec::new(),
            aliases: BTreeMap::new(),
            open: BTreeSet::new(),
            window: BTreeSet::new(),
            unreleased: BTreeSet::new(),
        }
    }

    /// A new network connection.
    pub fn renew(&mut self, wire: usize) {
        self.wire = wire;
        self.cut.clear();
        self.aliases.clear();
        self.window.clear();
        // What they are for is sent again.
        self.held.clear();
        self.is_ended = false;
    }

    /// The broker's process has died. What it knew of QoS 1 deliveries may be lost, so their identifiers
    /// may come again for something else; those of QoS 2 may not before they are released.
    pub fn survive_crash(&mut self) {
        self.open.clone_from(&self.unreleased);
    }

    /// The broker has no session of ours.
    pub fn forget(&mut self) {
        self.open.clear();
        self.unreleased.clear();
        self.held.clear();
        self.sent.clear();
    }

    /// A topic or a filter, shared or not, as it goes over the wire.
    #[must_use]
    pub fn named(&self, text: &str) -> String {
        let filter = text.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
        let (share, rest) =
            filter.map_or(("", text), |(_, rest)| text.split_at(text.len() - rest.len()));
        [share, self.prefix, rest].concat()
    }

    /// An identifier for a packet of ours that is not in use.
    pub fn take_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.next_id)
                && !self.sent.contains_key(&self.next_id)
            {
                return id;
            }
        }
    }

    /// Takes bytes from the broker; what it answers goes to `reply`.
    pub fn receive(&mut self, bytes: &[u8], reply: &mut Vec<u8>) {
        if self.is_deaf {
            return;
        }
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut at = 0;
        let whole = |bytes| match codec::frame(bytes, u32::MAX) {
            Ok(Framed::Whole(frame)) => Some(frame),
            Ok(Framed::Cut { .. }) => None,
            Err(reject) => panic!("the broker's packets have a length: {reject}"),
        };
        while let Some(frame) = whole(&all[at..]) {
            let largest = self.packet_bytes_max as usize;
            assert!(frame.len <= largest, "{}: a packet larger than asked for", self.name);
            let packet = codec::decode(&frame, self.version)
                .unwrap_or_else(|reject| panic!("{}: {reject}: {frame:?}", self.name));
            self.on_packet(packet, reply);
            at += frame.len;
        }
        self.cut = all.split_off(at);
    }

    fn on_packet(&mut self, packet: Packet<'_>, reply: &mut Vec<u8>) {
        match packet {
            Packet::Publish(publish) => self.on_publish(&publish, reply),
            Packet::Puback(ack) => {
                self.sent.remove(&ack.packet_id.value());
                self.keep_ack(AckKind::Puback, &ack);
            }
            Packet::Pubrec(ack) => self.on_pubrec(&ack, reply),
            Packet::Pubrel(ack) => {
                if self.answers == Answers::All {
                    self.complete(ack.packet_id, reply);
                } else {
                    self.held.push((AckKind::Pubcomp, ack.packet_id));
                }
                self.unreleased.remove(&ack.packet_id.value());
                self.keep_ack(AckKind::Pubrel, &ack);
            }
            Packet::Pubcomp(ack) => {
                self.sent.remove(&ack.packet_id.value());
                self.keep_ack(AckKind::Pubcomp, &ack);
            }
            Packet::Connack(connack) => {
                // MQTT 3.1 does not say; there a CONNECT that keeps nothing has forgotten.
                if !connack.session_present && self.version != Version::V31 {
                    self.forget();
                }
                self.got.push_back(Got::Connack(welcome(&connack)));
            }
            Packet::Suback(suback) => {
                let codes = suback.reasons.to_vec();
                self.got.push_back(Got::Suback(suback.packet_id.value(), codes));
            }
            Packet::Unsuback(unsuback) => {
                let codes = unsuback.reasons.to_vec();
                self.got.push_back(Got::Unsuback(unsuback.packet_id.value(), codes));
            }
            Packet::Pingresp => self.got.push_back(Got::Pingresp),
            Packet::Auth(auth) => {
                assert_eq!(auth.method, Some(METHOD), "AUTH names the method of the CONNECT");
                let data = auth.data.unwrap_or_default().to_vec();
                self.got.push_back(Got::Auth(auth.reason, data));
            }
            Packet::Disconnect(disconnect) => {
                assert!(self.version.is_v5(), "DISCONNECT from a broker before MQTT 5.0");
                self.got.push_back(Got::Disconnect(disconnect.reason));
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq => panic!("{}: not for a client: {packet:?}", self.name),
        }
    }

    fn keep_ack(&mut self, kind: AckKind, ack: &Ack<'_>) {
        self.got.push_back(Got::Ack(kind, ack.packet_id.value(), ack.reason));
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>, reply: &mut Vec<u8>) {
        let id = ack.packet_id.value();
        self.keep_ack(AckKind::Pubrec, ack);
        if ack.reason.is_error() {
            self.sent.remove(&id);
        } else if self.answers != Answers::None {
            self.release(ack.packet_id, reply);
        } else {
            self.held.push((AckKind::Pubrel, ack.packet_id));
        }
    }

    /// PUBREL for an own message.
    fn release(&mut self, id: PacketId, reply: &mut Vec<u8>) {
        if let Some(sent) = self.sent.get_mut(&id.value()) {
            sent.is_released = true;
        }
        self.ack(AckKind::Pubrel, id, ReasonCode::Success, reply);
    }

    /// Answers everything from now on, and what it has not answered so far, in order.
    pub fn catch_up(&mut self, reply: &mut Vec<u8>) {
        self.answers = Answers::All;
        for (kind, id) in std::mem::take(&mut self.held) {
            match kind {
                AckKind::Puback => self.acknowledge(id, reply),
                AckKind::Pubrec => self.ack(AckKind::Pubrec, id, ReasonCode::Success, reply),
                AckKind::Pubrel => self.release(id, reply),
                AckKind::Pubcomp => self.complete(id, reply),
            }
        }
    }

    /// A CONNECT that was not answered may have begun the session anew: then the broker knows nothing of
    /// the exchanges that are open here.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// The broker has repeated what it knew of: the rest was of another session.
    pub fn settle_doubt(&mut self) {
        if std::mem::take(&mut self.is_doubtful) {
            self.open.clear();
            self.unreleased.clear();
        }
    }

    /// Identifiers of the broker's exchanges that are not over.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn on_publish(&mut self, publish: &Publish<'_>, reply: &mut Vec<u8>) {
        let properties = &publish.properties;
        let topic = self.resolve(publish.topic, properties.topic_alias);
        let Some(topic) = topic.strip_prefix(self.prefix) else {
            panic!("{}: {topic} is outside of {}", self.name, self.prefix);
        };
        let message = Message {
            topic: topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id.map(PacketId::value),
            ids: {
                let mut ids: Vec<_> = properties.subscription_ids().map(|id| id.value()).collect();
                ids.sort_unstable();
                ids
            },
            expiry_s: properties.message_expiry_s,
            response_topic: properties.iter().find_map(|property| match property {
                Property::ResponseTopic(topic) => Some(topic.to_owned()),
                _ => None,
            }),
            alias: properties.topic_alias.map(|alias| (alias, !publish.topic.is_empty())),
            is_refused: publish.qos == QoS::ExactlyOnce
                && self.answers != Answers::None
                && self.is_refusing
                && self.version.is_v5()
                // What it has taken already it cannot refuse any more.
                && !publish.packet_id.is_some_and(|id| self.unreleased.contains(&id.value())),
        };
        let Some(packet_id) = publish.packet_id else {
            return self.got.push_back(Got::Publish(message));
        };
        let (id, is_refused) = (packet_id.value(), message.is_refused);
        if self.is_doubtful && !publish.dup {
            self.open.remove(&id);
            self.unreleased.remove(&id);
        }
        let is_new = self.open.insert(id);
        assert!(is_new || publish.dup, "{}: identifier {id} is still in use", self.name);
        self.window.insert(id);
        let maximum = usize::from(self.receive_maximum);
        assert!(self.window.len() <= maximum, "{}: more in flight than {maximum}", self.name);
        if publish.qos == QoS::AtLeastOnce || self.unreleased.insert(id) {
            self.got.push_back(Got::Publish(message));
        }
        match (publish.qos, self.answers) {
            (QoS::ExactlyOnce, Answers::None) => self.held.push((AckKind::Pubrec, packet_id)),
            (QoS::ExactlyOnce, _) if is_refused => {
                self.unreleased.remove(&id);
                self.close_exchange(packet_id);
                let reason = ReasonCode::ImplementationSpecificError;
                self.ack(AckKind::Pubrec, packet_id, reason, reply);
            }
            (QoS::ExactlyOnce, _) => {
                self.ack(AckKind::Pubrec, packet_id, ReasonCode::Success, reply);
            }
            (_, Answers::All) => self.acknowledge(packet_id, reply),
            (_, Answers::ToPubrec | Answers::None) => {
                self.held.push((AckKind::Puback, packet_id));
            }
        }
    }

    /// Identifiers of the broker's exchanges whose PUBLISH has come on this connection.
    pub fn window_ids(&self) -> impl Iterator<Item = u16> {
        self.window.iter().copied()
    }

    /// PUBACK.
    pub fn acknowledge(&mut self, id: PacketId, reply: &mut Vec<u8>) {
        self.close_exchange(id);
        self.ack(AckKind::Puback, id, ReasonCode::Success, reply);
    }

    /// PUBCOMP.
    pub fn complete(&mut self, id: PacketId, reply: &mut Vec<u8>) {
        self.close_exchange(id);
        self.ack(AckKind::Pubcomp, id, ReasonCode::Success, reply);
    }

    /// An acknowledgement that is sent whatever has come: what it ends, ends here too.
    pub fn settle(&mut self, kind: AckKind, id: PacketId, reason: ReasonCode) {
        match kind {
            AckKind::Puback | AckKind::Pubcomp => self.close_exchange(id),
            AckKind::Pubrec if reason.is_error() => {
                self.close_exchange(id);
                self.unreleased.remove(&id.value());
            }
            AckKind::Pubrec | AckKind::Pubrel => {}
        }
    }

    fn close_exchange(&mut self, id: PacketId) {
        self.open.remove(&id.value());
        self.window.remove(&id.value());
    }

    pub fn ack(&self, kind: AckKind, id: PacketId, reason: ReasonCode, reply: &mut Vec<u8>) {
        codec::puback_into(self.version, kind, id, reason, reply);
    }

    fn resolve(&mut self, topic: &str, alias: Option<u16>) -> String {
        let Some(alias) = alias else { return topic.to_owned() };
        assert!(alias <= self.topic_alias_max, "{}: alias {alias} above its maximum", self.name);
        if topic.is_empty() {
            return self.aliases.get(&alias).expect("an alias that was announced").clone();
        }
        self.aliases.insert(alias, topic.to_owned());
        topic.to_owned()
    }
}

fn welcome(connack: &codec::Connack<'_>) -> Welcome {
    Welcome {
        session_present: connack.session_present,
        method: connack.authentication_method.map(str::to_owned),
        data: connack.authentication_data.map(<[u8]>::to_vec),
        reason: connack.reason,
        session_expiry_s: connack.session_expiry_s,
        receive_maximum: connack.receive_maximum,
        packet_bytes_max: connack.packet_bytes_max,
        topic_alias_max: connack.topic_alias_max,
        maximum_qos: connack.maximum_qos,
        server_keep_alive_s: connack.server_keep_alive_s,
        assigned_client_id: connack.assigned_client_id.map(str::to_owned),
        available: [
            connack.retain_available,
            connack.wildcard_available,
            connack.subscription_ids_available,
            connack.shared_available,
        ],
    }
}
