//! One publisher: its packet as a template, its window, and how far it is.

use shards::codec::{PacketKind, Publish};
use shards::ids::{PacketId, QoS, Version};

use super::window::Window;
use crate::plan::{Course, NUMBER_DIGITS, Numbered, Pace, Plan, PublisherPlan};

/// Bits of the sequence number in the first eight bytes of a payload; the publisher is above them.
const SEQUENCE_BITS: u32 = 40;

/// Packet identifiers are 1 to 65,535, in the order of the sequence numbers.
pub(super) const PACKET_IDS: u64 = 65_535;

/// Bytes of a publisher's messages that may wait for the kernel. Beyond it a publisher falls behind;
/// its messages keep their intended time.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// The head of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u32,
    pub(super) sequence: u64,
    pub(super) intended_ns: u64,
}

impl Stamp {
    fn write(self, payload: &mut [u8]) {
        let id = u64::from(self.publisher) << SEQUENCE_BITS | self.sequence;
        if let Some(head) = payload.first_chunk_mut::<16>() {
            *head = (u128::from(id) << 64 | u128::from(self.intended_ns)).to_be_bytes();
        }
    }

    /// `None` if the payload is too short to be ours.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (head, _) = payload.split_first_chunk::<8>()?;
        let (time, _) = payload.get(8..)?.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*head);
        Some(Self {
            publisher: u32::try_from(id >> SEQUENCE_BITS).ok()?,
            sequence: id & ((1 << SEQUENCE_BITS) - 1),
            intended_ns: u64::from_be_bytes(*time),
        })
    }
}

/// The moments at which messages are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Nothing,
    /// As much as the windows allow.
    Everything,
    /// Message `k` of all publishers, which take turns, at `start_ns + k / per_s`; none after
    /// `stop_ns`.
    Paced {
        start_ns: u64,
        stop_ns: u64,
        per_s: f64,
    },
}

impl Due {
    /// How many messages are due by now.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a product of bounded times and rates, rounded down"
    )]
    pub(super) fn count(self, now_ns: u64) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Everything => u64::MAX,
            Self::Paced { start_ns, stop_ns, per_s } => {
                let now_ns = now_ns.min(stop_ns);
                if now_ns < start_ns {
                    return 0;
                }
                ((now_ns - start_ns) as f64 * per_s / 1e9) as u64 + 1
            }
        }
    }

    /// When message `k` was to be sent.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a time within the run"
    )]
    fn moment(self, k: u64, now_ns: u64) -> u64 {
        match self {
            Self::Nothing | Self::Everything => now_ns,
            Self::Paced { start_ns, per_s, .. } => start_ns + (k as f64 * 1e9 / per_s) as u64,
        }
    }
}

/// What a turn of one publisher left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing, or something that an acknowledgement or delivery will set free.
    Nothing,
    /// The kernel has not taken enough: to be tried again soon.
    Some,
}

/// Lives on the load thread.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) client: usize,
    index: u32,
    template: Vec<u8>,
    payload_at: usize,
    packet_id_at: Option<usize>,
    number: Option<(usize, u64)>,
    /// Sequence number of the next message; so many were sent.
    pub(super) next: u64,
    /// The first one of the present pace.
    base: u64,
    /// QoS 0 in an open loop has none.
    pub(super) window: Option<Window>,
    /// What must come before a message is no longer outstanding.
    expected: u32,
    /// Messages to send at most.
    limit: u64,
    pub(super) is_queued: bool,
}

impl Publisher {
    pub(super) fn new(index: u32, plan: &Plan, own: &PublisherPlan) -> Self {
        let payload = vec![b'.'; plan.payload_bytes];
        let retain = matches!(plan.course, Course::Retained { .. });
        let qos = plan.qos;
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        let publish = Publish { qos, retain, packet_id, ..Publish::new(&own.topic, &payload) };
        let mut template = Vec::new();
        publish.encode(plan.version(), &mut template);
        debug_assert!(
            template.first().is_some_and(|first| first >> 4 == PacketKind::Publish as u8)
        );
        let payload_at = template.len() - payload.len();
        // Behind the topic: the packet identifier, and in version 5.0 a property length of 0.
        let ids_at = payload_at - usize::from(plan.version() == Version::V5);
        let packet_id_at = packet_id.map(|_| ids_at - 2);
        let topic_at = packet_id_at.unwrap_or(ids_at) - own.topic.len();
        let number =
            own.numbered.map(|Numbered { offset, count }| (topic_at + offset, u64::from(count)));
        let (window, expected) = Self::window_of(plan);
        let limit = match plan.course {
            Course::Retained { messages } => u64::from(messages),
            Course::Steady
            | Course::Connect { .. }
            | Course::Persistent { .. }
            | Course::Overload { .. } => u64::MAX,
        };
        Self {
            client: own.client,
            index,
            template,
            payload_at,
            packet_id_at,
            number,
            next: 0,
            base: 0,
            window,
            expected,
            limit,
            is_queued: false,
        }
    }

    fn window_of(plan: &Plan) -> (Option<Window>, u32) {
        let acks = u32::from(plan.acknowledges());
        match plan.pace {
            Pace::Closed { window } => (Some(Window::new(window)), plan.fanout + acks),
            Pace::Open { .. } if acks > 0 => (Some(Window::new(plan.inflight)), acks),
            Pace::Open { .. } => (None, 0),
        }
    }

    /// From now on messages count from 0 for [`Due`], and of what is outstanding only
    /// acknowledgements count. Nothing may be outstanding.
    pub(super) fn release(&mut self, inflight: Option<u32>) {
        self.base = self.next;
        self.window = inflight.map(|max| Window::starting_at(self.next, max));
        self.expected = 1;
    }

    pub(super) fn record_bytes(&self) -> usize {
        self.template.len()
    }

    /// Appends all messages that are due and fit. `waiting`: bytes that are with `out` already.
    pub(super) fn pump(
        &mut self,
        due: Due,
        due_count: u64,
        publishers: u64,
        now_ns: u64,
        out: &mut Vec<u8>,
        waiting: usize,
    ) -> Left {
        let own = u64::from(self.index);
        let due_own = match due {
            Due::Nothing => 0,
            Due::Everything => u64::MAX,
            Due::Paced { .. } => {
                self.base + due_count.saturating_add(publishers - 1 - own) / publishers
            }
        };
        let wanted = due_own.min(self.limit).saturating_sub(self.next);
        let allowed = self.window.as_ref().map_or(u64::MAX, Window::room).min(wanted);
        // At least one message, however large.
        let room = WAITING_BYTES_MAX.saturating_sub(waiting).div_ceil(self.template.len()) as u64;
        let count = allowed.min(room);
        out.reserve(usize::try_from(count).unwrap_or(0) * self.template.len());
        for _ in 0..count {
            let k = (self.next - self.base) * publishers + own;
            self.append(due.moment(k, now_ns), out);
        }
        if allowed > count { Left::Some } else { Left::Nothing }
    }

    fn append(&mut self, intended_ns: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.template);
        let packet = &mut out[start..];
        let sequence = self.next;
        self.next += 1;
        if let Some(window) = &mut self.window {
            window.open(self.expected);
        }
        if let Some(at) = self.packet_id_at {
            let id = u16::try_from(sequence % PACKET_IDS + 1).unwrap_or(u16::MAX);
            packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        if let Some((at, count)) = self.number {
            write_number(&mut packet[at..at + NUMBER_DIGITS], scatter(sequence, count));
        }
        let stamp = Stamp { publisher: self.index, sequence, intended_ns };
        stamp.write(&mut packet[self.payload_at..]);
    }
}

/// The `sequence`th of `count` numbers in an order that visits all of them and keeps neighbours
/// apart.
fn scatter(sequence: u64, count: u64) -> u64 {
    // A prime above every count: multiplying by it permutes the numbers below `count`.
    const STEP: u64 = 2_147_483_647;
    sequence % count * STEP % count
}

fn write_number(digits: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn stamps_are_read_as_written() {
        let mut payload = [0; 20];
        let stamp = Stamp { publisher: 70_000, sequence: 1 << 39, intended_ns: u64::MAX };
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..15]), None);
    }

    #[test]
    fn numbers_visit_every_topic() {
        for count in [1, 2, 10, 999, 10_000] {
            let seen: BTreeSet<u64> = (0..count).map(|number| scatter(number, count)).collect();
            assert_eq!(seen.len() as u64, count);
        }
        let mut digits = [b'x'; 4];
        write_number(&mut digits, 123);
        assert_eq!(&digits, b"0123");
    }

    #[test]
    fn paced_messages_are_due_at_their_moment() {
        let due = Due::Paced { start_ns: 1_000, stop_ns: 2_000_001_000, per_s: 1000.0 };
        assert_eq!(due.count(999), 0);
        assert_eq!(due.count(1_000), 1);
        assert_eq!(due.count(1_001_000), 2);
        assert_eq!(due.moment(1, 0), 1_001_000);
        assert_eq!(due.count(u64::MAX), 2001, "none after the end");
    }
}
