//! CONNECT (section 3.1) of all three versions, and what to answer to a version nobody speaks.
//!
//! The codec checks the form. Whether the client identifier, the will or the credentials are
//! acceptable is for the connection to say.

use super::frame::{Frame, PacketKind};
use super::message::MessageProperties;
use super::properties::{self, Property, PropertyReader, UserProperties, write_some};
use super::text;
use super::wire::{self, Reader, Sink};
use crate::ids::{QoS, Version};
use crate::reject::{ReasonCode, Reject};

/// A client's request to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// Clean Session before MQTT 5.0.
    pub clean_start: bool,
    /// 0: none.
    pub keep_alive_s: u16,
    /// May be empty.
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub session_expiry_s: Option<u32>,
    /// Not 0.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size, not 0.
    pub packet_bytes_max: Option<u32>,
    /// 0: the client takes no topic aliases.
    pub topic_alias_max: u16,
    pub request_response_information: bool,
    /// True unless the client says otherwise.
    pub request_problem_information: bool,
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

/// The message to publish when the client is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    /// Neither empty nor with wildcards.
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// Will Delay Interval.
    pub delay_s: u32,
    pub properties: MessageProperties<'a>,
}

impl<'a> Connect<'a> {
    /// Clean start, no keep alive, nothing else; to send.
    #[must_use]
    pub fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            session_expiry_s: None,
            receive_maximum: None,
            packet_bytes_max: None,
            topic_alias_max: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::EMPTY,
        }
    }

    /// # Errors
    /// 0x84 for a protocol name or level that is none of the three: [`refused_version`] says how to
    /// answer. Malformed or a protocol error for the rest.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, Reject> {
        let mut reader = Reader::new(frame.body);
        let name = reader.binary()?;
        let version = version(name, reader.u8()?).ok_or(UNSUPPORTED)?;
        frame.expect_flags(version, 0)?;
        let flags = Flags::parse(reader.u8()?, version)?;
        let keep_alive_s = reader.u16()?;
        let block = reader.property_block(version)?;
        let client_id = "";
        let mut connect =
            Self { clean_start: flags.clean_start, keep_alive_s, ..Self::new(version, client_id) };
        connect.read_properties(block)?;
        connect.client_id = reader.string()?;
        if let Some((qos, retain)) = flags.will {
            connect.will = Some(Will::read(&mut reader, version, qos, retain)?);
        }
        // MQTT 3.1 section 3.1: the remaining length decides, whatever the flags say.
        let is_lenient = version == Version::V31;
        if flags.user_name && !(is_lenient && reader.is_empty()) {
            connect.user_name = Some(reader.string()?);
        }
        if flags.password && !(is_lenient && reader.is_empty()) {
            connect.password = Some(reader.binary()?);
        }
        reader.end()?;
        Ok(connect)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
                Property::ReceiveMaximum(count) => self.receive_maximum = Some(count),
                Property::MaximumPacketSize(bytes) => self.packet_bytes_max = Some(bytes),
                Property::TopicAliasMaximum(count) => self.topic_alias_max = count,
                Property::RequestResponseInformation(flag) => {
                    self.request_response_information = flag;
                }
                Property::RequestProblemInformation(flag) => {
                    self.request_problem_information = flag;
                }
                Property::AuthenticationMethod(name) => self.authentication_method = Some(name),
                Property::AuthenticationData(data) => self.authentication_data = Some(data),
                Property::User(..) => {}
                _ => return Err(properties::misplaced()),
            }
        }
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(Reject::protocol("authentication data without a method"));
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// Appends the packet; nothing if it would be longer than the protocol has. What `version` does
    /// not have is left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::packet(PacketKind::Connect.first_byte(), out, &|sink| self.body(sink));
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self) -> Option<usize> {
        wire::packet_len(&|sink| self.body(sink))
    }

    fn body(&self, sink: &mut dyn Sink) {
        let (name, level) = match self.version {
            Version::V31 => (NAME_V31, LEVEL_V31),
            Version::V311 => (NAME, LEVEL_V311),
            Version::V5 => (NAME, LEVEL_V5),
        };
        wire::put_binary(sink, name);
        wire::put_u8(sink, level);
        wire::put_u8(sink, self.flags());
        wire::put_u16(sink, self.keep_alive_s);
        if self.version.is_v5() {
            wire::put_properties(sink, &|sink| self.write_properties(sink));
        }
        wire::put_string(sink, self.client_id);
        if let Some(will) = &self.will {
            will.write(self.version, sink);
        }
        if let Some(user_name) = self.user_name {
            wire::put_string(sink, user_name);
        }
        if let Some(password) = self.password {
            wire::put_binary(sink, password);
        }
    }

    fn flags(&self) -> u8 {
        let will = self.will.map_or(0, |will| {
            WILL | will.qos.bits() << WILL_QOS_SHIFT | if will.retain { WILL_RETAIN } else { 0 }
        });
        let clean_start = if self.clean_start { CLEAN_START } else { 0 };
        let user_name = if self.user_name.is_some() { USER_NAME } else { 0 };
        let password = if self.password.is_some() { PASSWORD } else { 0 };
        will | clean_start | user_name | password
    }

    fn write_properties(&self, sink: &mut dyn Sink) {
        write_some(sink, self.session_expiry_s.map(Property::SessionExpiry));
        write_some(sink, self.receive_maximum.map(Property::ReceiveMaximum));
        write_some(sink, self.packet_bytes_max.map(Property::MaximumPacketSize));
        if self.topic_alias_max != 0 {
            Property::TopicAliasMaximum(self.topic_alias_max).write(sink);
        }
        if self.request_response_information {
            Property::RequestResponseInformation(true).write(sink);
        }
        if !self.request_problem_information {
            Property::RequestProblemInformation(false).write(sink);
        }
        write_some(sink, self.authentication_method.map(Property::AuthenticationMethod));
        write_some(sink, self.authentication_data.map(Property::AuthenticationData));
        self.user_properties.write(sink);
    }
}

impl<'a> Will<'a> {
    /// At QoS 0, without delay; to send.
    #[must_use]
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self {
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            payload,
            delay_s: 0,
            properties: MessageProperties::EMPTY,
        }
    }

    fn read(
        reader: &mut Reader<'a>,
        version: Version,
        qos: QoS,
        retain: bool,
    ) -> Result<Self, Reject> {
        let block = reader.property_block(version)?;
        let (properties, delay_s) = MessageProperties::parse_will(block)?;
        let topic = text::topic_name(reader.binary()?)?;
        if topic.is_empty() {
            return Err(Reject::malformed("empty will topic"));
        }
        Ok(Self { qos, retain, topic, payload: reader.binary()?, delay_s, properties })
    }

    /// `delay_s` is written unless the raw properties have a delay of their own.
    fn write(&self, version: Version, sink: &mut dyn Sink) {
        if version.is_v5() {
            wire::put_properties(sink, &|sink| {
                if self.delay_s != 0 && !self.properties.has_will_delay() {
                    Property::WillDelay(self.delay_s).write(sink);
                }
                sink.put(self.properties.raw());
            });
        }
        wire::put_string(sink, self.topic);
        wire::put_binary(sink, self.payload);
    }
}

/// The connect flags.
#[derive(Debug)]
struct Flags {
    clean_start: bool,
    /// QoS and RETAIN of the will.
    will: Option<(QoS, bool)>,
    user_name: bool,
    password: bool,
}

impl Flags {
    fn parse(bits: u8, version: Version) -> Result<Self, Reject> {
        // MQTT 3.1 calls the lowest bit unused, not reserved.
        if bits & RESERVED != 0 && version != Version::V31 {
            return Err(Reject::malformed("reserved connect flag"));
        }
        let retain = bits & WILL_RETAIN != 0;
        let Some(qos) = QoS::from_bits(bits >> WILL_QOS_SHIFT & 0b11) else {
            return Err(Reject::malformed("will with QoS 3"));
        };
        let has_will = bits & WILL != 0;
        if !has_will && (retain || qos != QoS::AtMostOnce) {
            return Err(Reject::malformed("will QoS or RETAIN without a will"));
        }
        let (user_name, password) = (bits & USER_NAME != 0, bits & PASSWORD != 0);
        if password && !user_name && !version.is_v5() {
            return Err(Reject::malformed("password without a user name"));
        }
        let will = has_will.then_some((qos, retain));
        Ok(Self { clean_start: bits & CLEAN_START != 0, will, user_name, password })
    }
}

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

const NAME_V31: &[u8] = b"MQIsdp";
const NAME: &[u8] = b"MQTT";
const LEVEL_V31: u8 = 3;
const LEVEL_V311: u8 = 4;
const LEVEL_V5: u8 = 5;

const UNSUPPORTED: Reject = Reject {
    reason: ReasonCode::UnsupportedProtocolVersion,
    why: "neither MQTT 3.1 nor 3.1.1 nor 5.0",
};

fn version(name: &[u8], level: u8) -> Option<Version> {
    match (name, level) {
        (NAME_V31, LEVEL_V31) => Some(Version::V31),
        (NAME, LEVEL_V311) => Some(Version::V311),
        (NAME, LEVEL_V5) => Some(Version::V5),
        _ => None,
    }
}

/// In the form of which version a CONNECT that was refused can be answered; `None`: close without
/// an answer, the peer does not speak MQTT.
///
/// For a CONNECT of a supported version that is the version itself. An unknown level gets CONNACK
/// 0x01 in the form of 3.1.1 if it is below 5 and 0x84 in the form of 5.0 if it is above, so that
/// each client understands it. The highest bit of the level is not counted: bridges set it to ask
/// for an extension, and fall back when they are told 0x01.
#[must_use]
pub fn refused_version(frame: &Frame<'_>) -> Option<Version> {
    let mut reader = Reader::new(frame.body);
    let name = reader.binary().ok()?;
    let level = reader.u8().ok()?;
    if let Some(version) = version(name, level) {
        return Some(version);
    }
    match name {
        NAME_V31 => Some(Version::V31),
        NAME if level & 0x7F < LEVEL_V5 => Some(Version::V311),
        NAME => Some(Version::V5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(name: &[u8], level: u8, want: Option<Version>) {
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name);
        body.extend_from_slice(&[level, 0, 0, 0]);
        let frame = Frame { first: 0x10, body: &body, len: body.len() + 2 };
        assert_eq!(Connect::decode(&frame).unwrap_err().reason, UNSUPPORTED.reason);
        assert_eq!(refused_version(&frame), want);
    }

    #[test]
    fn mqtt_5_3_1_2_2_each_client_understands_its_refusal() {
        check_refused(b"MQTT", 6, Some(Version::V5));
        check_refused(b"MQTT", 3, Some(Version::V311));
        check_refused(b"MQTT", 0, Some(Version::V311));
        check_refused(b"MQTT", 0x84, Some(Version::V311));
        check_refused(b"MQTT", 0x85, Some(Version::V5));
        check_refused(b"MQIsdp", 4, Some(Version::V31));
        check_refused(b"MQIsdp", 0x83, Some(Version::V31));
        check_refused(b"HTTP", 4, None);
        check_refused(b"", 5, None);
    }

    #[test]
    fn cut_connect_has_no_version() {
        let frame = Frame { first: 0x10, body: &[0, 4, b'M', b'Q', b'T', b'T'], len: 8 };
        assert_eq!(refused_version(&frame), None);
    }
}
