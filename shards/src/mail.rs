//! What shards tell each other, as records of bytes. The form is versioned by [`MAIL_VERSION`]: between
//! processes (hand-over on upgrade, other nodes) both sides would compare it first.
//!
//! Integers are little-endian; texts and byte strings carry a 32-bit length; a refcounted payload
//! travels beside the record ([`crate::mailbox`]) and is announced by a flag.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::codec::{Framed, Publish, frame};
use crate::ids::{QoS, Version};
use crate::origin::Origin;
use crate::session::messages::{Message, Payload};
use crate::time::Time;

/// Version of the record forms below.
pub const MAIL_VERSION: u8 = 3;

/// A message for the subscribers of another shard.
#[derive(Debug)]
pub struct PublishMail<'a> {
    pub message: Message<'a>,
    /// For the receiver's ordinary subscribers (false: only for `groups` or the retained store).
    pub is_for_subscribers: bool,
    /// The receiver owns the topic and keeps or clears its retained message.
    pub is_for_retained: bool,
    /// The receiver reports what became of it under this number.
    pub completion: Option<u64>,
    /// Hash of the publisher's client identifier, for shared subscriptions.
    pub publisher: u64,
    /// The receiver's own numbers of shared groups that it was picked for, 8 bytes each.
    pub groups: &'a [u8],
    /// With a group: the shards none of whose members may receive it.
    pub tried: u64,
}

/// Plain QoS 0 packets of one topic for the ordinary subscribers of another shard, as they came.
#[derive(Debug)]
pub struct RunMail<'a> {
    /// The protocol that they are encoded in.
    pub is_v5: bool,
    pub packets: &'a [u8],
}

/// One record.
#[derive(Debug)]
pub enum Mail<'a> {
    Publish(PublishMail<'a>),
    Run(RunMail<'a>),
    /// What became of a message that asked for it: a reason code.
    Outcome {
        completion: u64,
        reason: u8,
    },
    /// The first subscriber of a filter came, or the last left.
    Interest {
        filter: &'a str,
        is_added: bool,
    },
    /// Members of a shared subscription on the sender; `total` 0 is none.
    Share {
        filter: &'a str,
        name: &'a str,
        group: u64,
        online: u32,
        total: u32,
    },
    /// Answer once everything before this has been applied.
    Barrier {
        barrier: u64,
    },
    /// Applied; with the number of records that the sender had posted to each shard by then.
    Passed {
        barrier: u64,
        posted: &'a [u8],
    },
    /// Retained messages that match, after `cursor`; to be answered when the receiver has handled, from
    /// each shard, as many records as `barrier` says.
    RetainedAsk {
        question: u64,
        filter: &'a str,
        cursor: Option<&'a str>,
        barrier: &'a [u8],
    },
    RetainedItem {
        question: u64,
        message: Message<'a>,
    },
    /// The slice is complete. With a cursor there may be more after it.
    RetainedEnd {
        question: u64,
        cursor: Option<&'a str>,
    },
    /// A network connection and what was read from it.
    HandOver {
        origin: Origin,
        bytes: Payload<'a>,
    },
    /// The sender's counters and gauges, 8 bytes each.
    Counters {
        values: &'a [u8],
    },
    /// The sender has published its last message.
    StopFence,
    /// The sender has told of everything that it got back from the store.
    RestoreFence,
}

const PUBLISH: u8 = 1;
const OUTCOME: u8 = 2;
const INTEREST: u8 = 3;
const SHARE: u8 = 4;
const BARRIER: u8 = 5;
const PASSED: u8 = 6;
const RETAINED_ASK: u8 = 7;
const RETAINED_ITEM: u8 = 8;
const RETAINED_END: u8 = 9;
const HAND_OVER: u8 = 10;
const COUNTERS: u8 = 11;
const STOP_FENCE: u8 = 12;
const RESTORE_FENCE: u8 = 13;
const RUN: u8 = 14;

const RETAIN: u8 = 0x04;
const EXPIRES: u8 = 0x08;
const PARCEL: u8 = 0x10;
const FOR_SUBSCRIBERS: u8 = 0x20;
const FOR_RETAINED: u8 = 0x40;
const COMPLETION: u8 = 0x80;

impl Mail<'_> {
    /// The payload that goes beside the record, if it has one.
    #[must_use]
    pub fn parcel(&self) -> Option<Bytes> {
        let payload = match self {
            Self::Publish(publish) => publish.message.payload,
            Self::RetainedItem { message, .. } => message.payload,
            Self::HandOver { bytes, .. } => *bytes,
            _ => return None,
        };
        match payload {
            Payload::Shared(bytes) => Some(bytes.clone()),
            Payload::Inline(_) => None,
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Publish(publish) => write_publish(publish, out),
            Self::Run(run) => {
                out.extend_from_slice(&[RUN, u8::from(run.is_v5)]);
                bytes_into(run.packets, out);
            }
            Self::Outcome { completion, reason } => {
                out.push(OUTCOME);
                u64_into(*completion, out);
                out.push(*reason);
            }
            Self::Interest { filter, is_added } => {
                out.extend_from_slice(&[INTEREST, u8::from(*is_added)]);
                bytes_into(filter.as_bytes(), out);
            }
            Self::Share { filter, name, group, online, total } => {
                out.push(SHARE);
                bytes_into(filter.as_bytes(), out);
                bytes_into(name.as_bytes(), out);
                u64_into(*group, out);
                u32_into(*online, out);
                u32_into(*total, out);
            }
            Self::Barrier { barrier } => {
                out.push(BARRIER);
                u64_into(*barrier, out);
            }
            Self::Passed { barrier, posted } => {
                out.push(PASSED);
                u64_into(*barrier, out);
                bytes_into(posted, out);
            }
            Self::RetainedAsk { question, filter, cursor, barrier } => {
                out.push(RETAINED_ASK);
                u64_into(*question, out);
                bytes_into(filter.as_bytes(), out);
                cursor_into(*cursor, out);
                bytes_into(barrier, out);
            }
            Self::RetainedItem { question, message } => {
                out.push(RETAINED_ITEM);
                u64_into(*question, out);
                message_into(message, 0, out);
            }
            Self::RetainedEnd { question, cursor } => {
                out.push(RETAINED_END);
                u64_into(*question, out);
                cursor_into(*cursor, out);
            }
            Self::HandOver { origin, bytes } => write_hand_over(origin, *bytes, out),
            Self::Counters { values } => {
                out.push(COUNTERS);
                bytes_into(values, out);
            }
            Self::StopFence => out.push(STOP_FENCE),
            Self::RestoreFence => out.push(RESTORE_FENCE),
        }
    }
}

impl<'a> Mail<'a> {
    /// Reads a record. `parcel` is where the payload that goes beside it is put, so that the mail can
    /// borrow it; `take` fetches it. `None` is a fault of ours: records come from [`Mail::write`].
    pub fn read(
        record: &'a [u8],
        parcel: &'a mut Option<Bytes>,
        take: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Self> {
        let mut reader = Reader(record);
        Some(match reader.byte()? {
            PUBLISH => Self::Publish(read_publish(reader, parcel, take)?),
            RUN => Self::Run(RunMail { is_v5: reader.byte()? != 0, packets: reader.bytes()? }),
            OUTCOME => Self::Outcome { completion: reader.u64()?, reason: reader.byte()? },
            INTEREST => Self::Interest { is_added: reader.byte()? != 0, filter: reader.text()? },
            SHARE => Self::Share {
                filter: reader.text()?,
                name: reader.text()?,
                group: reader.u64()?,
                online: reader.u32()?,
                total: reader.u32()?,
            },
            BARRIER => Self::Barrier { barrier: reader.u64()? },
            PASSED => Self::Passed { barrier: reader.u64()?, posted: reader.bytes()? },
            RETAINED_ASK => Self::RetainedAsk {
                question: reader.u64()?,
                filter: reader.text()?,
                cursor: reader.cursor()?,
                barrier: reader.bytes()?,
            },
            RETAINED_ITEM => {
                let question = reader.u64()?;
                let flags = reader.byte()?;
                let message = read_message(&mut reader, flags, parcel, take)?;
                Self::RetainedItem { question, message }
            }
            RETAINED_END => Self::RetainedEnd { question: reader.u64()?, cursor: reader.cursor()? },
            HAND_OVER => read_hand_over(reader, parcel, take)?,
            COUNTERS => Self::Counters { values: reader.bytes()? },
            STOP_FENCE => Self::StopFence,
            RESTORE_FENCE => Self::RestoreFence,
            _ => return None,
        })
    }
}

/// Which topic's subscribers a record is for, without reading the rest of it. `None` if it is for none.
#[must_use]
pub fn topic_of(record: &[u8]) -> Option<&str> {
    let mut reader = Reader(record);
    match reader.byte()? {
        PUBLISH => {
            let flags = reader.byte()?;
            if flags & FOR_SUBSCRIBERS == 0 {
                return None;
            }
            if flags & EXPIRES != 0 {
                reader.u64()?;
            }
            reader.text()
        }
        RUN => {
            let version = if reader.byte()? != 0 { Version::V5 } else { Version::V311 };
            let Ok(Framed::Whole(packet)) = frame(reader.bytes()?, u32::MAX) else { return None };
            Some(Publish::decode(&packet, version).ok()?.topic)
        }
        _ => None,
    }
}

/// The numbers in a list of 8-byte values.
pub fn u64s(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
}

fn write_publish(publish: &PublishMail<'_>, out: &mut Vec<u8>) {
    out.push(PUBLISH);
    let mut flags = 0;
    for (is_set, flag) in [
        (publish.is_for_subscribers, FOR_SUBSCRIBERS),
        (publish.is_for_retained, FOR_RETAINED),
        (publish.completion.is_some(), COMPLETION),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    message_into(&publish.message, flags, out);
    if let Some(completion) = publish.completion {
        u64_into(completion, out);
    }
    u64_into(publish.publisher, out);
    bytes_into(publish.groups, out);
    if !publish.groups.is_empty() {
        u64_into(publish.tried, out);
    }
}

fn read_publish<'a>(
    mut reader: Reader<'a>,
    parcel: &'a mut Option<Bytes>,
    take: impl FnOnce() -> Option<Bytes>,
) -> Option<PublishMail<'a>> {
    let flags = reader.byte()?;
    let message = read_message(&mut reader, flags, parcel, take)?;
    let completion = if flags & COMPLETION == 0 { None } else { Some(reader.u64()?) };
    let publisher = reader.u64()?;
    let groups = reader.bytes()?;
    Some(PublishMail {
        message,
        is_for_subscribers: flags & FOR_SUBSCRIBERS != 0,
        is_for_retained: flags & FOR_RETAINED != 0,
        completion,
        publisher,
        groups,
        tried: if groups.is_empty() { 0 } else { reader.u64()? },
    })
}

fn message_into(message: &Message<'_>, flags: u8, out: &mut Vec<u8>) {
    let mut flags = flags | message.qos.bits();
    if message.retain {
        flags |= RETAIN;
    }
    if message.expires.is_some() {
        flags |= EXPIRES;
    }
    let inline = match message.payload {
        Payload::Inline(payload) => payload,
        Payload::Shared(_) => {
            flags |= PARCEL;
            &[]
        }
    };
    out.push(flags);
    if let Some(expires) = message.expires {
        u64_into(expires.as_micros(), out);
    }
    bytes_into(message.topic.as_bytes(), out);
    bytes_into(message.properties, out);
    bytes_into(inline, out);
}

fn read_message<'a>(
    reader: &mut Reader<'a>,
    flags: u8,
    parcel: &'a mut Option<Bytes>,
    take: impl FnOnce() -> Option<Bytes>,
) -> Option<Message<'a>> {
    let expires = if flags & EXPIRES == 0 { None } else { Some(Time::from_micros(reader.u64()?)) };
    let topic = reader.text()?;
    let properties = reader.bytes()?;
    let inline = reader.bytes()?;
    let payload = if flags & PARCEL == 0 {
        Payload::Inline(inline)
    } else {
        *parcel = take();
        Payload::Shared(parcel.as_ref()?)
    };
    let (qos, retain) = (QoS::from_bits(flags & 0x03)?, flags & RETAIN != 0);
    Some(Message { topic, properties, payload, qos, retain, expires })
}

fn write_hand_over(origin: &Origin, bytes: Payload<'_>, out: &mut Vec<u8>) {
    out.push(HAND_OVER);
    u64_into(origin.handle, out);
    out.extend_from_slice(&origin.listener.to_le_bytes());
    out.extend_from_slice(&origin.peer.port().to_le_bytes());
    match origin.peer.ip() {
        IpAddr::V4(ip) => bytes_into(&ip.octets(), out),
        IpAddr::V6(ip) => bytes_into(&ip.octets(), out),
    }
    match bytes {
        Payload::Inline(bytes) => {
            out.push(0);
            bytes_into(bytes, out);
        }
        Payload::Shared(_) => out.push(PARCEL),
    }
}

fn read_hand_over<'a>(
    mut reader: Reader<'a>,
    parcel: &'a mut Option<Bytes>,
    take: impl FnOnce() -> Option<Bytes>,
) -> Option<Mail<'a>> {
    let handle = reader.u64()?;
    let listener = u16::from_le_bytes(reader.array()?);
    let port = u16::from_le_bytes(reader.array()?);
    let ip = reader.bytes()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    let bytes = if reader.byte()? == PARCEL {
        *parcel = take();
        Payload::Shared(parcel.as_ref()?)
    } else {
        Payload::Inline(reader.bytes()?)
    };
    let origin = Origin { handle, listener, peer: SocketAddr::new(ip, port) };
    Some(Mail::HandOver { origin, bytes })
}

fn u32_into(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64_into(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes_into(bytes: &[u8], out: &mut Vec<u8>) {
    u32_into(u32::try_from(bytes.len()).expect("a packet is smaller than 2^28 bytes"), out);
    out.extend_from_slice(bytes);
}

fn cursor_into(cursor: Option<&str>, out: &mut Vec<u8>) {
    out.push(u8::from(cursor.is_some()));
    bytes_into(cursor.unwrap_or("").as_bytes(), out);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn cursor(&mut self) -> Option<Option<&'a str>> {
        let is_some = self.byte()? != 0;
        let text = self.text()?;
        Some(is_some.then_some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mail: &Mail<'_>) {
        let mut record = Vec::new();
        mail.write(&mut record);
        let mut parcel = None;
        let read = Mail::read(&record, &mut parcel, || mail.parcel()).expect("what was written");
        assert_eq!(format!("{read:?}"), format!("{mail:?}"));
        for cut in 0..record.len() {
            // A cut record may be unreadable, but never a panic.
            let _ = Mail::read(&record[..cut], &mut None, || None);
        }
    }

    fn message(payload: Payload<'_>) -> Message<'_> {
        Message {
            topic: "a/ü",
            properties: &[1, 0],
            payload,
            qos: QoS::ExactlyOnce,
            retain: true,
            expires: Some(Time::from_secs(9)),
        }
    }

    #[test]
    fn every_mail_survives_the_ring() {
        let large = Bytes::from_static(b"large");
        for payload in [Payload::Inline(b"small"), Payload::Shared(&large)] {
            for completion in [None, Some(77)] {
                check(&Mail::Publish(PublishMail {
                    message: message(payload),
                    is_for_subscribers: true,
                    is_for_retained: completion.is_none(),
                    completion,
                    publisher: u64::MAX,
                    groups: &[1, 0, 0, 0, 2, 0, 0, 0],
                    tried: 5,
                }));
            }
            check(&Mail::RetainedItem { question: 1, message: message(payload) });
            for peer in ["127.0.0.1:80", "[::1]:65535"] {
                let origin =
                    Origin { handle: 5, listener: 2, peer: peer.parse().expect("an address") };
                check(&Mail::HandOver { origin, bytes: payload });
            }
        }
        check(&Mail::Run(RunMail { is_v5: true, packets: &[0x30, 0] }));
        check(&Mail::Outcome { completion: 1, reason: 0x97 });
        check(&Mail::Interest { filter: "a/#", is_added: true });
        check(&Mail::Share { filter: "a/#", name: "g", group: 1, online: 2, total: 3 });
        check(&Mail::Barrier { barrier: 4 });
        check(&Mail::Passed { barrier: 4, posted: &[0; 16] });
        check(&Mail::RetainedAsk { question: 1, filter: "#", cursor: Some("a"), barrier: &[] });
        check(&Mail::RetainedAsk { question: 1, filter: "#", cursor: None, barrier: &[0; 8] });
        check(&Mail::RetainedEnd { question: 1, cursor: Some("") });
        check(&Mail::Counters { values: &[0; 24] });
        check(&Mail::StopFence);
        check(&Mail::RestoreFence);
    }
}
