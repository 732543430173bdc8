//! What stands in the records of the store. Each begins with the version of its form; times are Unix
//! seconds, because a shard's own clock means nothing to the next process.

use crate::auth::{Identity, Rights};
use crate::ids::{QoS, SubscriptionId, Version};

/// The form written here. A record of another one is not read.
const FORM: u8 = 1;

/// A record that cannot be read: of a later version of muring, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The terms of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub version: Version,
    /// Session expiry interval in seconds; `u32::MAX` is never.
    pub expiry_s: u32,
    /// When its connection ended; `None` if it has one.
    pub left: Option<u64>,
    pub identity: Option<Identity>,
    /// The mount point that all its topics have; empty if it has none.
    pub mount: Box<str>,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// [`crate::topic::SubOptions::bits`].
    pub options: u8,
    pub id: Option<SubscriptionId>,
}

/// A message, owed to a session or retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRecord<'a> {
    pub topic: &'a str,
    /// As they go to MQTT 5.0 subscribers; without message expiry and topic alias.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
    /// As published.
    pub qos: QoS,
    pub retain: bool,
    /// When it expires, if it does.
    pub expires: Option<u64>,
    /// The shared subscription that it was picked for, with `$share`; empty if none.
    pub group: &'a str,
    pub delivery: DeliveryRecord<'a>,
}

/// How a message is delivered. All defaults for a retained one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryRecord<'a> {
    pub qos: u8,
    pub retain: bool,
    /// Subscription identifiers, 4 bytes each.
    pub ids: &'a [u8],
}

/// An exchange with the receiver that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRecord {
    pub qos: QoS,
    /// Its message; once PUBREC has come, that one is owed no more.
    pub number: u64,
    /// Counts the exchanges of a session: PUBLISHes are repeated in this order.
    pub begun: u64,
    /// Once PUBREC has come: its number among the PUBRECs, in whose order PUBRELs are repeated.
    pub released: Option<u32>,
}

const LEFT: u8 = 1;
const IDENTITY: u8 = 2;
const MOUNT: u8 = 4;
const USER: u8 = 1;
const RIGHTS: u8 = 2;
const RELEASED: u8 = 0x04;
const EXPIRES: u8 = 0x08;
const RETAIN: u8 = 0x04;
const HOW_RETAIN: u8 = 0x10;
const HOW_QOS_SHIFT: u8 = 5;

impl SessionRecord {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(self.left.is_some(), LEFT)
            | flag(self.identity.is_some(), IDENTITY)
            | flag(!self.mount.is_empty(), MOUNT);
        let mut out = vec![FORM, version_byte(self.version), flags];
        out.extend_from_slice(&self.expiry_s.to_le_bytes());
        out.extend_from_slice(&self.left.unwrap_or(0).to_le_bytes());
        if let Some(identity) = &self.identity {
            write_identity(identity, &mut out);
        }
        if !self.mount.is_empty() {
            bytes_into(self.mount.as_bytes(), &mut out);
        }
        out
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(record: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(record)?;
        let version = version_of(reader.byte()?)?;
        let flags = reader.byte()?;
        let expiry_s = reader.u32()?;
        let left = Some(reader.u64()?).filter(|_| flags & LEFT != 0);
        let identity = if flags & IDENTITY == 0 { None } else { Some(read_identity(&mut reader)?) };
        let mount = if flags & MOUNT == 0 { Box::default() } else { reader.text()?.into() };
        Ok(Self { version, expiry_s, left, identity, mount })
    }
}

impl SubscriptionRecord {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![FORM, self.options];
        out.extend_from_slice(&self.id.map_or(0, SubscriptionId::value).to_le_bytes());
        out
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(record: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(record)?;
        Ok(Self { options: reader.byte()?, id: SubscriptionId::new(reader.u32()?) })
    }
}

impl<'a> MessageRecord<'a> {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = self.qos.bits()
            | flag(self.retain, RETAIN)
            | flag(self.expires.is_some(), EXPIRES)
            | flag(self.delivery.retain, HOW_RETAIN)
            | self.delivery.qos << HOW_QOS_SHIFT;
        let mut out = vec![FORM];
        // First, because it can be put in later (`with_group`).
        bytes_into(self.group.as_bytes(), &mut out);
        out.push(flags);
        if let Some(expires) = self.expires {
            out.extend_from_slice(&expires.to_le_bytes());
        }
        for part in [self.delivery.ids, self.topic.as_bytes(), self.properties] {
            bytes_into(part, &mut out);
        }
        out.extend_from_slice(self.payload);
        out
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(record: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(record)?;
        let group = reader.text()?;
        let flags = reader.byte()?;
        let expires = if flags & EXPIRES == 0 { None } else { Some(reader.u64()?) };
        let ids = reader.bytes()?;
        let topic = reader.text()?;
        let properties = reader.bytes()?;
        Ok(Self {
            topic,
            properties,
            payload: reader.0,
            qos: QoS::from_bits(flags & 3).ok_or(Unreadable)?,
            retain: flags & RETAIN != 0,
            expires,
            group,
            delivery: DeliveryRecord {
                qos: flags >> HOW_QOS_SHIFT,
                retain: flags & HOW_RETAIN != 0,
                ids,
            },
        })
    }
}

/// Puts a group into the record of a message that was written without one.
pub fn with_group(record: &mut Vec<u8>, group: &str) {
    let mut head = vec![FORM];
    bytes_into(group.as_bytes(), &mut head);
    record.splice(..1 + size_of::<u32>(), head);
}

impl ExchangeRecord {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let released = if self.released.is_some() { RELEASED } else { 0 };
        let mut out = vec![FORM, self.qos.bits() | released];
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.begun.to_le_bytes());
        out.extend_from_slice(&self.released.unwrap_or(0).to_le_bytes());
        out
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(record: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(record)?;
        let flags = reader.byte()?;
        let qos = QoS::from_bits(flags & 3).ok_or(Unreadable)?;
        let number = reader.u64()?;
        let begun = reader.u64()?;
        let released = reader.u32()?;
        let is_released = flags & RELEASED != 0;
        Ok(Self { qos, number, begun, released: is_released.then_some(released) })
    }
}

/// The record of what needs none but its key.
#[must_use]
pub fn empty() -> Vec<u8> {
    vec![FORM]
}

fn write_identity(identity: &Identity, out: &mut Vec<u8>) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.push(flag(identity.user.is_some(), USER) | flag(identity.rights.is_some(), RIGHTS));
    out.extend_from_slice(&u32::from(identity.listener).to_le_bytes());
    if let Some(user) = &identity.user {
        bytes_into(user.as_bytes(), out);
    }
    let Some(rights) = &identity.rights else { return };
    for filters in [&rights.publish, &rights.subscribe] {
        let count = u32::try_from(filters.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        filters.iter().for_each(|filter| bytes_into(filter.as_bytes(), out));
    }
}

fn read_identity(reader: &mut Reader<'_>) -> Result<Identity, Unreadable> {
    let flags = reader.byte()?;
    let listener = u16::try_from(reader.u32()?).map_err(|_| Unreadable)?;
    let user = if flags & USER == 0 { None } else { Some(reader.text()?.into()) };
    let rights = if flags & RIGHTS == 0 {
        None
    } else {
        let mut filters = || -> Result<Box<[Box<str>]>, Unreadable> {
            let count = reader.u32()?;
            (0..count).map(|_| Ok(reader.text()?.into())).collect()
        };
        Some(Box::new(Rights { publish: filters()?, subscribe: filters()? }))
    };
    Ok(Identity { user, rights, listener })
}

fn version_byte(version: Version) -> u8 {
    match version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    }
}

fn version_of(byte: u8) -> Result<Version, Unreadable> {
    match byte {
        3 => Ok(Version::V31),
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        _ => Err(Unreadable),
    }
}

fn bytes_into(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads from the front of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(record: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Self(record);
        if reader.byte()? == FORM { Ok(reader) } else { Err(Unreadable) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.take::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> MessageRecord<'static> {
        MessageRecord {
            topic: "a/b",
            properties: &[1, 0],
            payload: b"21.5",
            qos: QoS::ExactlyOnce,
            retain: true,
            expires: Some(1_700_000_000),
            group: "$share/g/a/#",
            delivery: DeliveryRecord { qos: 1, retain: false, ids: &[7, 0, 0, 0] },
        }
    }

    fn rights() -> Box<Rights> {
        let publish = Box::new(["a/+".into(), "b/#".into()]);
        Box::new(Rights { publish, subscribe: Box::default() })
    }

    fn identity(rights: Option<Box<Rights>>) -> Identity {
        Identity { user: rights.is_some().then(|| "anna".into()), rights, listener: 3 }
    }

    #[test]
    fn what_is_written_is_read() {
        for left in [None, Some(1_700_000_000)] {
            for identity in [None, Some(identity(None)), Some(identity(Some(rights())))] {
                let session = SessionRecord {
                    version: Version::V311,
                    expiry_s: 30,
                    left,
                    identity,
                    mount: "a/".into(),
                };
                assert_eq!(SessionRecord::read(&session.write()), Ok(session));
            }
        }
        for id in [None, SubscriptionId::new(268_435_455)] {
            let subscription = SubscriptionRecord { options: 9, id };
            assert_eq!(SubscriptionRecord::read(&subscription.write()), Ok(subscription));
        }
        for released in [None, Some(u32::MAX)] {
            let exchange =
                ExchangeRecord { qos: QoS::ExactlyOnce, number: 7, begun: 1 << 40, released };
            assert_eq!(ExchangeRecord::read(&exchange.write()), Ok(exchange));
        }
        assert_eq!(MessageRecord::read(&message().write()), Ok(message()));
        let plain = MessageRecord {
            expires: None,
            retain: false,
            payload: b"",
            delivery: DeliveryRecord::default(),
            ..message()
        };
        assert_eq!(MessageRecord::read(&plain.write()), Ok(plain));
        let mut later = MessageRecord { group: "", ..message() }.write();
        with_group(&mut later, message().group);
        assert_eq!(MessageRecord::read(&later), Ok(message()));
    }

    #[test]
    fn a_record_that_is_cut_or_of_another_form_is_refused() {
        let record = message().write();
        let body = record.len() - message().payload.len();
        for end in 0..body {
            assert_eq!(MessageRecord::read(&record[..end]), Err(Unreadable), "{end}");
        }
        let session = SessionRecord {
            version: Version::V5,
            expiry_s: 1,
            left: None,
            identity: None,
            mount: "".into(),
        }
        .write();
        assert_eq!(SessionRecord::read(&session[..session.len() - 1]), Err(Unreadable));
        let later = [&[FORM + 1], &session[1..]].concat();
        assert_eq!(SessionRecord::read(&later), Err(Unreadable));
    }
}
