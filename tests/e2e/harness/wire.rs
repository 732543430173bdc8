//! MQTT packets as the tests see them: an encoder and a decoder of our own for 3.1, 3.1.1 and 5.0.
//!
//! Independent of the codec in crate `shards` on purpose: a mistake there must not be repeated here.
//! Nothing is validated on the way out, so that tests can also say what no client may say.

/// Property identifiers of MQTT 5.0, section 2.2.2.2, as far as the tests name them.
pub(crate) mod prop {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

/// The value of a property, in the form in which its identifier is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Binary(Vec<u8>),
    Text(String),
    Pair(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prop {
    pub(crate) id: u8,
    pub(crate) value: Value,
}

impl Prop {
    pub(crate) fn byte(id: u8, value: u8) -> Self {
        Self { id, value: Value::Byte(value) }
    }

    pub(crate) fn two(id: u8, value: u16) -> Self {
        Self { id, value: Value::Two(value) }
    }

    pub(crate) fn four(id: u8, value: u32) -> Self {
        Self { id, value: Value::Four(value) }
    }

    pub(crate) fn text(id: u8, value: &str) -> Self {
        Self { id, value: Value::Text(value.to_owned()) }
    }

    pub(crate) fn binary(id: u8, value: &[u8]) -> Self {
        Self { id, value: Value::Binary(value.to_vec()) }
    }

    pub(crate) fn user(name: &str, value: &str) -> Self {
        Self { id: prop::USER_PROPERTY, value: Value::Pair(name.to_owned(), value.to_owned()) }
    }

    pub(crate) fn subscription_id(value: u32) -> Self {
        Self { id: prop::SUBSCRIPTION_ID, value: Value::Variable(value) }
    }

    pub(crate) fn number(&self) -> u32 {
        match &self.value {
            Value::Byte(v) => u32::from(*v),
            Value::Two(v) => u32::from(*v),
            Value::Four(v) | Value::Variable(v) => *v,
            Value::Binary(_) | Value::Text(_) | Value::Pair(..) => {
                panic!("property 0x{:02x} is no number", self.id)
            }
        }
    }
}

/// The first property with this identifier.
pub(crate) fn find(props: &[Prop], id: u8) -> Option<&Prop> {
    props.iter().find(|p| p.id == id)
}

/// A will as CONNECT carries it.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) props: Vec<Prop>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: 0,
            retain: false,
            props: Vec::new(),
        }
    }
}

/// CONNECT; clean start, no keep alive, no will unless said.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: u8,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) props: Vec<Prop>,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
}

impl Connect {
    pub(crate) fn new(version: u8, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive_s: 0,
            props: Vec::new(),
            will: None,
            user: None,
            password: None,
        }
    }

    pub(crate) fn login(mut self, user: &str, password: impl AsRef<[u8]>) -> Self {
        self.user = Some(user.to_owned());
        self.password = Some(password.as_ref().to_vec());
        self
    }

    /// Keeps the session over connections, in the words of the version.
    pub(crate) fn persistent(mut self) -> Self {
        self.clean = false;
        if self.version == 5 {
            self.props.push(Prop::four(prop::SESSION_EXPIRY, 3600));
        }
        self
    }

    pub(crate) fn with(mut self, property: Prop) -> Self {
        self.props.push(property);
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, if self.version == 3 { "MQIsdp" } else { "MQTT" });
        body.push(self.version);
        let mut flags = if self.clean { 0x02 } else { 0 };
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.user.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        body.push(flags);
        body.extend(self.keep_alive_s.to_be_bytes());
        put_props(&mut body, self.version, &self.props);
        put_text(&mut body, &self.client_id);
        if let Some(will) = &self.will {
            put_props(&mut body, self.version, &will.props);
            put_text(&mut body, &will.topic);
            put_binary(&mut body, &will.payload);
        }
        if let Some(user) = &self.user {
            put_text(&mut body, user);
        }
        if let Some(password) = &self.password {
            put_binary(&mut body, password);
        }
        packet(0x10, &body)
    }
}

/// PUBLISH, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) props: Vec<Prop>,
}

impl Publish {
    pub(crate) fn new(topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos,
            retain: false,
            dup: false,
            id: 0,
            props: Vec::new(),
        }
    }

    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn with(mut self, property: Prop) -> Self {
        self.props.push(property);
        self
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the tests send text in this place")
    }

    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.payload.len() + self.topic.len() + 16);
        put_text(&mut body, &self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        put_props(&mut body, version, &self.props);
        body.extend_from_slice(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }

    fn decode(first: u8, version: u8, body: &[u8]) -> Self {
        let mut rest = body;
        let topic = take_text(&mut rest);
        let qos = first >> 1 & 3;
        let id = if qos > 0 { take_u16(&mut rest) } else { 0 };
        let props = take_props(&mut rest, version);
        Self {
            topic,
            payload: rest.to_vec(),
            qos,
            retain: first & 1 == 1,
            dup: first & 8 == 8,
            id,
            props,
        }
    }
}

/// What the broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack { present: bool, code: u8, props: Vec<Prop> },
    Publish(Publish),
    Puback { id: u16, code: u8 },
    Pubrec { id: u16, code: u8 },
    Pubrel { id: u16, code: u8 },
    Pubcomp { id: u16, code: u8 },
    Suback { id: u16, codes: Vec<u8> },
    Unsuback { id: u16, codes: Vec<u8> },
    Pingresp,
    Disconnect { code: u8, props: Vec<Prop> },
    Auth { code: u8, props: Vec<Prop> },
}

impl Packet {
    /// # Panics
    /// If the bytes are no packet that a broker may send: that is a failed test.
    pub(crate) fn decode(first: u8, version: u8, body: &[u8]) -> Self {
        let mut rest = body;
        let got = match first >> 4 {
            2 => Self::decode_connack(&mut rest),
            3 => {
                let publish = Publish::decode(first, version, body);
                rest = &[];
                Self::Publish(publish)
            }
            kind @ 4..=7 => {
                assert_eq!(first & 0x0F, if kind == 6 { 2 } else { 0 }, "flags of 0x{first:02x}");
                let (id, code) = take_ack(&mut rest, version);
                match kind {
                    4 => Self::Puback { id, code },
                    5 => Self::Pubrec { id, code },
                    6 => Self::Pubrel { id, code },
                    _ => Self::Pubcomp { id, code },
                }
            }
            kind @ (9 | 11) => {
                let id = take_u16(&mut rest);
                take_props(&mut rest, version);
                let codes = std::mem::take(&mut rest).to_vec();
                if kind == 9 { Self::Suback { id, codes } } else { Self::Unsuback { id, codes } }
            }
            13 => Self::Pingresp,
            14 => {
                assert_eq!(version, 5, "only MQTT 5.0 servers send DISCONNECT");
                let code = if rest.is_empty() { 0 } else { take_u8(&mut rest) };
                let props = if rest.is_empty() { Vec::new() } else { take_props(&mut rest, 5) };
                Self::Disconnect { code, props }
            }
            15 => {
                assert_eq!(version, 5, "AUTH is of MQTT 5.0");
                let code = if rest.is_empty() { 0 } else { take_u8(&mut rest) };
                let props = if rest.is_empty() { Vec::new() } else { take_props(&mut rest, 5) };
                Self::Auth { code, props }
            }
            _ => panic!("a server does not send a packet that begins with 0x{first:02x}"),
        };
        assert!(rest.is_empty(), "{} bytes behind {got:?}", rest.len());
        got
    }

    fn decode_connack(rest: &mut &[u8]) -> Self {
        let flags = take_u8(rest);
        assert!(flags <= 1, "CONNACK flags 0x{flags:02x}");
        let code = take_u8(rest);
        // A broker that refuses a protocol version may answer in another one, so the form decides.
        let props = if rest.is_empty() { Vec::new() } else { take_props(rest, 5) };
        Self::Connack { present: flags == 1, code, props }
    }
}

/// A control packet from its first byte and what follows the remaining length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    put_variable(&mut out, u32::try_from(body.len()).expect("test packets are small"));
    out.extend_from_slice(body);
    out
}

/// SUBSCRIBE; options are the whole byte of MQTT 5.0, or the QoS alone.
pub(crate) fn subscribe(version: u8, id: u16, filters: &[(&str, u8)], props: &[Prop]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_props(&mut body, version, props);
    for (filter, options) in filters {
        put_text(&mut body, filter);
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_props(&mut body, version, &[]);
    for filter in filters {
        put_text(&mut body, filter);
    }
    packet(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the short form: success.
pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).expect("test strings are short").to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_variable(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let low = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        out.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return;
        }
    }
}

/// The property length and the properties; nothing before 5.0.
pub(crate) fn put_props(out: &mut Vec<u8>, version: u8, props: &[Prop]) {
    if version < 5 {
        return;
    }
    let mut bytes = Vec::new();
    for Prop { id, value } in props {
        bytes.push(*id);
        match value {
            Value::Byte(v) => bytes.push(*v),
            Value::Two(v) => bytes.extend(v.to_be_bytes()),
            Value::Four(v) => bytes.extend(v.to_be_bytes()),
            Value::Variable(v) => put_variable(&mut bytes, *v),
            Value::Binary(v) => put_binary(&mut bytes, v),
            Value::Text(v) => put_text(&mut bytes, v),
            Value::Pair(name, v) => {
                put_text(&mut bytes, name);
                put_text(&mut bytes, v);
            }
        }
    }
    put_variable(out, u32::try_from(bytes.len()).expect("test properties are small"));
    out.extend(bytes);
}

fn take_u8(rest: &mut &[u8]) -> u8 {
    let (first, after) = rest.split_first().expect("packet cut short");
    *rest = after;
    *first
}

fn take_u16(rest: &mut &[u8]) -> u16 {
    u16::from_be_bytes([take_u8(rest), take_u8(rest)])
}

fn take_u32(rest: &mut &[u8]) -> u32 {
    u32::from(take_u16(rest)) << 16 | u32::from(take_u16(rest))
}

fn take_variable(rest: &mut &[u8]) -> u32 {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = take_u8(rest);
        value |= u32::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("variable byte integer of more than four bytes");
}

fn take_binary(rest: &mut &[u8]) -> Vec<u8> {
    let count = usize::from(take_u16(rest));
    let (bytes, after) = rest.split_at(count);
    *rest = after;
    bytes.to_vec()
}

fn take_text(rest: &mut &[u8]) -> String {
    String::from_utf8(take_binary(rest)).expect("strings are UTF-8")
}

fn take_ack(rest: &mut &[u8], version: u8) -> (u16, u8) {
    let id = take_u16(rest);
    if rest.is_empty() {
        return (id, 0);
    }
    assert_eq!(version, 5, "acknowledgements before 5.0 have two bytes");
    let code = take_u8(rest);
    if !rest.is_empty() {
        take_props(rest, version);
    }
    (id, code)
}

fn take_props(rest: &mut &[u8], version: u8) -> Vec<Prop> {
    if version < 5 {
        return Vec::new();
    }
    let count = usize::try_from(take_variable(rest)).expect("at most 28 bits");
    let (mut bytes, after) = rest.split_at(count);
    *rest = after;
    let mut props = Vec::new();
    while !bytes.is_empty() {
        let id = u8::try_from(take_variable(&mut bytes)).expect("all identifiers are small");
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(take_u8(&mut bytes)),
            0x13 | 0x21..=0x23 => Value::Two(take_u16(&mut bytes)),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(take_u32(&mut bytes)),
            0x0B => Value::Variable(take_variable(&mut bytes)),
            0x09 | 0x16 => Value::Binary(take_binary(&mut bytes)),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(take_text(&mut bytes)),
            0x26 => Value::Pair(take_text(&mut bytes), take_text(&mut bytes)),
            _ => panic!("unknown property 0x{id:02x}"),
        };
        props.push(Prop { id, value });
    }
    props
}
