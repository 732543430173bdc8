//! Runs: PUBLISH packets that follow each other and differ in nothing but their payloads, as somebody
//! sends them who publishes to one topic at QoS 0. What is true of the first is true of all.

use super::frame::{Framed, frame};
use super::publish::PLAIN_PUBLISH;
use crate::ids::Version;

/// Two packets or more, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    pub packets: &'a [u8],
    pub count: u32,
    /// Bytes of the longest packet.
    pub longest: usize,
}

impl<'a> Run<'a> {
    /// The run at the front of `bytes`: whole packets at QoS 0, without RETAIN, with the topic name and
    /// the properties of the first. `takes` hears the length of each packet and ends the run by saying
    /// no. `None` if there are not at least two; that is told without looking at the first as a whole,
    /// so whoever wants to know what it says decodes it.
    #[must_use]
    #[inline]
    pub fn find(
        bytes: &'a [u8],
        version: Version,
        packet_bytes_max: u32,
        mut takes: impl FnMut(usize) -> bool,
    ) -> Option<Self> {
        let mut head: Option<&[u8]> = None;
        let (mut end, mut count, mut longest) = (0, 0, 0);
        while let Some(rest) = bytes.get(end..)
            && rest.first() == Some(&PLAIN_PUBLISH)
            && let Ok(Framed::Whole(packet)) = frame(rest, packet_bytes_max)
        {
            let is_alike = match head {
                Some(head) => packet.body.starts_with(head),
                None => {
                    // Most packets are followed by something else: then nothing was lost.
                    if rest.get(packet.len) != Some(&PLAIN_PUBLISH) {
                        return None;
                    }
                    head = Some(head_of(packet.body, version)?);
                    true
                }
            };
            if !is_alike || !takes(packet.len) {
                break;
            }
            end += packet.len;
            count += 1;
            longest = longest.max(packet.len);
        }
        (count > 1).then(|| Self { packets: &bytes[..end], count, longest })
    }
}

/// Topic name and properties, with their lengths; `None` for what no run is made of.
#[inline]
fn head_of(body: &[u8], version: Version) -> Option<&[u8]> {
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let topic_end = 2 + topic;
    let end = if version.is_v5() {
        // A longer block has more than one byte of length; it is no loss to take its packets singly.
        match *body.get(topic_end)? {
            length @ 0..0x80 => topic_end + 1 + usize::from(length),
            _ => return None,
        }
    } else {
        topic_end
    };
    body.get(..end).filter(|_| topic > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Property, Publish};
    use crate::ids::{PacketId, QoS};

    fn packet(topic: &str, payload: &[u8], version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        Publish::new(topic, payload).encode(version, &mut out);
        out
    }

    fn find(bytes: &[u8], version: Version) -> Option<(usize, u32, usize)> {
        let run = Run::find(bytes, version, 1000, |_| true)?;
        Some((run.packets.len(), run.count, run.longest))
    }

    #[test]
    fn packets_of_one_topic_are_a_run() {
        for version in [Version::V31, Version::V311, Version::V5] {
            let [one, two, three] =
                [b"1".as_slice(), b"", b"333"].map(|payload| packet("a/b", payload, version));
            let bytes = [one.clone(), two.clone(), three.clone()].concat();
            assert_eq!(find(&bytes, version), Some((bytes.len(), 3, three.len())));
            // A cut packet is not part of it, nor is one alone a run.
            let cut = bytes.len() - three.len();
            assert_eq!(find(&bytes[..bytes.len() - 1], version), Some((cut, 2, one.len())));
            assert_eq!(find(&bytes[..cut - 1], version), None);
            assert_eq!(find(&one, version), None);
            assert_eq!(find(&[], version), None);
        }
    }

    #[test]
    fn another_topic_flag_or_property_ends_it() {
        let version = Version::V5;
        let one = packet("a/b", b"1", version);
        let two = [one.clone(), one.clone()].concat();
        let others = [
            Publish::new("a/bc", b"1"),
            Publish::new("a/", b"b1"),
            Publish { retain: true, ..Publish::new("a/b", b"1") },
            Publish {
                qos: QoS::AtLeastOnce,
                packet_id: PacketId::new(1),
                ..Publish::new("a/b", b"1")
            },
        ];
        for other in others {
            let mut bytes = two.clone();
            other.encode(version, &mut bytes);
            assert_eq!(find(&bytes, version), Some((two.len(), 2, one.len())), "{other:?}");
            let mut bytes = one.clone();
            other.encode(version, &mut bytes);
            assert_eq!(find(&bytes, version), None, "{other:?}");
        }
        let mut raw = Vec::new();
        Property::ContentType("text").encode_into(&mut raw);
        let properties = crate::codec::MessageProperties::parse(&raw).expect("one property");
        let mut bytes = two.clone();
        Publish { properties, ..Publish::new("a/b", b"1") }.encode(version, &mut bytes);
        assert_eq!(find(&bytes, version), Some((two.len(), 2, one.len())));
    }

    #[test]
    fn a_head_that_is_not_whole_makes_no_run() {
        let cases: [&[u8]; 5] = [
            &[0x30, 0, 0x30, 0],
            &[0x30, 1, 0, 0x30, 1, 0],
            // Only an alias may stand for a topic.
            &[0x30, 2, 0, 0, 0x30, 2, 0, 0],
            &[0x30, 3, 0, 2, b'a', 0x30, 3, 0, 2, b'a'],
            &[0x30, 4, 0, 1, b'a', 0x80, 0x30, 4, 0, 1, b'a', 0x80],
        ];
        for bytes in cases {
            assert_eq!(find(bytes, Version::V5), None, "{bytes:?}");
        }
    }

    #[test]
    fn whoever_asks_may_end_it() {
        let one = packet("a", b"1", Version::V311);
        let bytes = one.repeat(9);
        let mut left = 3;
        let run = Run::find(&bytes, Version::V311, 1000, |len| {
            assert_eq!(len, one.len());
            left -= 1;
            left >= 0
        });
        assert_eq!(run.map(|run| run.count), Some(3));
        assert_eq!(Run::find(&bytes, Version::V311, 4, |_| true), None);
    }
}
