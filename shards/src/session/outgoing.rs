//! Messages on their way to one client: the inflight window and the pending queue behind it.
//!
//! Belongs to the session and survives its connections. Identifiers are handed out upward, so the
//! entries in flight stand in the order of their first sending *and*, seen from the oldest, of their
//! identifiers: an acknowledgement is found at its distance from the oldest, or by binary search where
//! places were swept out; retransmission is a walk from the front.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::inbound::Inbound;
use super::messages::{MessageRef, Messages};
use crate::ids::{PacketId, QoS, SubscriptionId};
use crate::mark;
use crate::planted::planted;
use crate::topic::GroupId;

/// Subscription identifiers that go with one delivery. Most have none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    #[default]
    None,
    One(SubscriptionId),
    Many(Box<[SubscriptionId]>),
}

impl Ids {
    #[must_use]
    pub fn new(ids: &[SubscriptionId]) -> Self {
        match ids {
            [] => Self::None,
            [id] => Self::One(*id),
            many => Self::Many(many.into()),
        }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// One delivery to one session: which message, and how.
#[derive(Debug)]
pub struct Delivery {
    pub message: MessageRef,
    /// The lower of published and granted.
    pub qos: QoS,
    /// RETAIN as this subscriber should see it.
    pub retain: bool,
    /// The shared subscription it was picked for.
    pub group: Option<GroupId>,
    pub ids: Ids,
    /// Its number in the store, from 1; 0 if it is not there.
    pub number: u64,
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// PUBLISH sent; waits for PUBACK (QoS 1) or PUBREC (QoS 2).
    Published,
    /// PUBREL sent; waits for PUBCOMP. The message itself is no longer needed.
    Released,
}

#[derive(Debug)]
struct Inflight {
    id: PacketId,
    /// `None`: the message is acknowledged (`Released`), or the whole exchange has ended.
    delivery: Option<Delivery>,
    /// What the delivery's message counts for.
    bytes: u32,
    stage: Option<Stage>,
    /// Its PUBLISH is still to be repeated on this connection.
    is_unsent: bool,
    /// When its PUBREC came, counted in PUBRECs: PUBRELs are repeated in that order [MQTT-4.6.0-4].
    release: u32,
}

/// Outgoing exchanges and the queue of one session.
#[derive(Debug, Default)]
pub struct Outgoing {
    inflight: VecDeque<Inflight>,
    /// Exchanges still open; the rest of `inflight` are places of ended ones behind an open one.
    open: usize,
    /// Bytes of the messages in flight that are unacknowledged: they are kept for repetition.
    inflight_bytes: usize,
    last_id: Option<PacketId>,
    /// An identifier had to be skipped because it was still in use: order and identifiers no longer
    /// agree, so acknowledgements of what was begun since are found by this until the window is empty.
    skipped: Option<Box<Places>>,
    /// Entries that have left `inflight` at the front, modulo 2^32: what the places are counted from.
    gone: u32,
    /// Exchanges whose PUBLISH is to be repeated on this connection, when the window allows; some may
    /// have been acknowledged meanwhile.
    resend: VecDeque<PacketId>,
    /// Those of `resend` that have not.
    unsent: usize,
    /// PUBRECs that have come so far.
    releases: u32,
    queue: VecDeque<Delivery>,
    queue_bytes: usize,
    /// Queued deliveries of QoS 0.
    queued_qos0: usize,
    /// The last number given to a delivery that is stored.
    last_number: u64,
    /// Exchanges begun so far, of a session that is stored.
    begun: u64,
}

/// An exchange as the store knew it.
#[derive(Clone, Copy, Debug)]
pub struct RestoredExchange {
    pub packet_id: PacketId,
    pub qos: QoS,
    /// Number of its message; once that is released, it is owed no more.
    pub number: u64,
    pub begun: u64,
    pub released: Option<u32>,
}

/// An exchange as the store is to know it.
#[derive(Clone, Copy, Debug)]
pub struct OpenExchange {
    pub packet_id: PacketId,
    /// Its number among the PUBRECs, if PUBREC has come.
    pub released: Option<u32>,
}

/// Where the open exchanges stand, by identifier, from the first on whose identifier did not follow its
/// forerunner's. A client that acknowledges all but one exchange makes identifiers pass that one again and
/// again, so neither a search nor a new identifier may look at them all; nor may the first one do so that
/// is skipped, while 65,534 others are in flight.
#[derive(Debug, Default)]
struct Places {
    /// Up to this place identifiers and order agree. Counted from the first entry that ever was, like all
    /// places.
    ordered_until: u32,
    by_id: BTreeMap<PacketId, u32>,
    /// All identifiers in use.
    used: Inbound,
}

impl Places {
    fn insert(&mut self, id: PacketId, place: u32) {
        self.by_id.insert(id, place);
        self.used.insert(id);
    }

    fn remove(&mut self, id: PacketId) {
        self.by_id.remove(&id);
        self.used.remove(id);
    }
}

/// Places of ended exchanges that may stand among the open ones before they are swept out.
const ENDED_MAX: usize = 64;

/// Places that an empty list may keep for its next use.
const SPARE_MAX: usize = 1024;

impl Outgoing {
    /// Exchanges that count against the peer's receive maximum.
    #[must_use]
    pub fn inflight_count(&self) -> usize {
        self.open
    }

    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of all messages that are kept for this session, in flight or queued.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.inflight_bytes + self.queue_bytes
    }

    /// The part of them that is in flight.
    #[must_use]
    pub fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// True if one more message of `bytes` may be in flight. One always may.
    #[must_use]
    pub fn has_room_inflight(&self, bytes: usize, bytes_max: u64) -> bool {
        self.inflight_bytes == 0 || (self.inflight_bytes + bytes) as u64 <= bytes_max
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0 && self.queue.is_empty()
    }

    /// True if something could be sent, given room.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.queue.is_empty() || self.unsent > 0
    }

    /// True if a QoS 0 message is queued: newer ones must not pass it [MQTT-4.6.0-5].
    #[must_use]
    pub fn has_queued_qos0(&self) -> bool {
        self.queued_qos0 > 0
    }

    /// Opens an exchange (QoS 1 or 2) for a message of `bytes` and gives it an identifier that is not
    /// in use. Gives the delivery back if all 65,535 are.
    ///
    /// # Errors
    /// The delivery, when no identifier is free.
    pub fn begin(&mut self, delivery: Delivery, bytes: usize) -> Result<PacketId, Delivery> {
        debug_assert!(delivery.qos != QoS::AtMostOnce);
        let Some(id) = self.free_id() else { return Err(delivery) };
        self.last_id = Some(id);
        self.open += 1;
        // No packet is that long.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.inflight_bytes += bytes as usize;
        let place = self.place(self.inflight.len());
        if let Some(places) = &mut self.skipped {
            places.insert(id, place);
        }
        self.inflight.push_back(Inflight {
            id,
            delivery: Some(delivery),
            bytes,
            stage: Some(Stage::Published),
            is_unsent: false,
            release: 0,
        });
        Ok(id)
    }

    /// Where the exchange `id` stands, and its QoS while its PUBLISH is unacknowledged.
    #[must_use]
    pub fn stage(&self, id: PacketId) -> Option<(Stage, Option<QoS>)> {
        let entry = &self.inflight[self.find(id)?];
        Some((entry.stage?, entry.delivery.as_ref().map(|delivery| delivery.qos)))
    }

    /// The delivery of an exchange whose PUBLISH is unacknowledged.
    #[must_use]
    pub fn delivery(&self, id: PacketId) -> Option<&Delivery> {
        self.inflight[self.find(id)?].delivery.as_ref()
    }

    /// Ends the exchange `id` (PUBACK, PUBCOMP, or PUBREC with an error).
    pub fn end(&mut self, id: PacketId) -> Option<Delivery> {
        let at = self.find(id)?;
        let entry = &mut self.inflight[at];
        entry.stage.take()?;
        let delivery = entry.delivery.take();
        if delivery.is_some() {
            self.inflight_bytes -= entry.bytes as usize;
        }
        assert!(self.open > 0, "an open exchange is counted");
        self.open -= 1;
        if let Some(places) = &mut self.skipped {
            places.remove(id);
        }
        self.unsent -= usize::from(std::mem::take(&mut entry.is_unsent));
        self.sweep();
        delivery
    }

    /// PUBREC came: the message is the client's now, PUBREL is due. Gives the message back.
    pub fn release(&mut self, id: PacketId) -> Option<Delivery> {
        let at = self.find(id)?;
        let entry = &mut self.inflight[at];
        entry.stage?;
        if entry.stage != Some(Stage::Released) {
            self.releases = self.releases.wrapping_add(1);
            entry.release = self.releases;
        }
        entry.stage = Some(Stage::Released);
        self.unsent -= usize::from(std::mem::take(&mut entry.is_unsent));
        let delivery = entry.delivery.take()?;
        self.inflight_bytes -= entry.bytes as usize;
        Some(delivery)
    }

    /// A number for a delivery that is stored.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Counts an exchange that is stored.
    pub fn next_begun(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Goes on counting behind numbers that were given out elsewhere.
    pub fn count_to(&mut self, number: u64, begun: u64) {
        self.last_number = self.last_number.max(number);
        self.begun = self.begun.max(begun);
    }

    /// PUBRECs that have come so far: the number of the latest.
    #[must_use]
    pub fn releases(&self) -> u32 {
        self.releases
    }

    /// Visits what is in flight, oldest first, then the queue.
    pub fn each_mut(&mut self, mut visit: impl FnMut(Option<OpenExchange>, Option<&mut Delivery>)) {
        for entry in self.inflight.iter_mut().filter(|entry| entry.stage.is_some()) {
            let is_released = entry.stage == Some(Stage::Released);
            let released = is_released.then_some(entry.release);
            let open = OpenExchange { packet_id: entry.id, released };
            visit(Some(open), entry.delivery.as_mut());
        }
        for delivery in &mut self.queue {
            visit(None, Some(delivery));
        }
    }

    /// After a restart: `queued` are all deliveries in the order of their numbers, `exchanges` those of
    /// them that have begun and those whose message is released. Gives back what a crash has left half
    /// done: QoS 1 exchanges whose message is gone, and messages that were released. A QoS 2 exchange
    /// whose message is gone had been released: its identifier is the client's until PUBREL.
    pub fn restore(
        &mut self,
        queued: Vec<Delivery>,
        mut exchanges: Vec<RestoredExchange>,
        messages: &Messages,
    ) -> (Vec<PacketId>, Vec<Delivery>) {
        let (mut lost, mut released) = (Vec::new(), Vec::new());
        let mut waiting: BTreeMap<u64, Delivery> =
            queued.into_iter().map(|delivery| (delivery.number, delivery)).collect();
        // Those of released messages are still spoken of.
        let numbers = waiting.keys().copied().chain(exchanges.iter().map(|e| e.number));
        self.last_number = numbers.max().unwrap_or(0);
        exchanges.sort_by_key(|exchange| exchange.begun);
        for exchange in exchanges {
            let is_qos_1 = exchange.qos == QoS::AtLeastOnce;
            let delivery = match (waiting.remove(&exchange.number), exchange.released) {
                (Some(delivery), None) => Some(delivery),
                (None, None) if is_qos_1 => {
                    lost.push(exchange.packet_id);
                    continue;
                }
                (delivery, _) => {
                    released.extend(delivery);
                    None
                }
            };
            let is_released = delivery.is_none();
            let bytes = delivery.as_ref().map_or(0, |d| messages.view(&d.message).bytes());
            self.inflight_bytes += bytes;
            self.inflight.push_back(Inflight {
                id: exchange.packet_id,
                delivery,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                stage: Some(if is_released { Stage::Released } else { Stage::Published }),
                is_unsent: false,
                release: exchange.released.unwrap_or(0),
            });
            self.releases = self.releases.max(exchange.released.unwrap_or(0));
            self.begun = self.begun.max(exchange.begun);
            self.last_id = Some(exchange.packet_id);
        }
        self.open = self.inflight.len();
        // Their order and that of their identifiers need not agree.
        self.skipped = (self.open > 0).then(|| self.places(0));
        for delivery in waiting.into_values() {
            self.enqueue(delivery, messages);
        }
        (lost, released)
    }

    /// A new connection: every unacknowledged PUBLISH is to be repeated, as the window allows. Answers
    /// with the exchanges whose PUBREL is to be repeated now, in order.
    pub fn resume(&mut self) -> Vec<PacketId> {
        if planted!(IdentifierReused) {
            self.last_id = None;
        }
        self.resend.clear();
        let mut pubrels = Vec::new();
        for entry in &mut self.inflight {
            entry.is_unsent = entry.stage == Some(Stage::Published);
            match entry.stage {
                Some(Stage::Published) => self.resend.push_back(entry.id),
                // How long ago, so that a count that wraps keeps the order.
                Some(Stage::Released) => {
                    pubrels.push((self.releases.wrapping_sub(entry.release), entry.id));
                }
                None => {}
            }
        }
        if planted!(ResentReversed) {
            self.resend.make_contiguous().reverse();
        }
        if planted!(PubrelForgotten) {
            pubrels.clear();
        }
        self.unsent = self.resend.len();
        mark!(PubrelResent if !pubrels.is_empty());
        pubrels.sort_unstable_by(|one, other| other.cmp(one));
        pubrels.into_iter().map(|(_, id)| id).collect()
    }

    /// The next PUBLISH to repeat, if the window has room for it.
    pub fn next_resend(&mut self, window: u16) -> Option<PacketId> {
        loop {
            if self.unsent == 0 {
                self.resend = VecDeque::new();
                return None;
            }
            if self.open - self.unsent >= usize::from(window) {
                mark!(ResendWindowFull);
                return None;
            }
            let id = self.resend.pop_front()?;
            // It may have been acknowledged already, by a client that counts differently.
            let at = self.find(id);
            if let Some(entry) = at.and_then(|at| self.inflight.get_mut(at))
                && std::mem::take(&mut entry.is_unsent)
            {
                self.unsent -= 1;
                mark!(Resent);
                return Some(id);
            }
            mark!(ResendOvertaken);
        }
    }

    /// Appends to the queue. The caller has checked the limits.
    pub fn enqueue(&mut self, delivery: Delivery, messages: &Messages) {
        self.queue_bytes += messages.view(&delivery.message).bytes();
        self.queued_qos0 += usize::from(delivery.qos == QoS::AtMostOnce);
        self.queue.push_back(delivery);
    }

    #[must_use]
    pub fn front(&self) -> Option<&Delivery> {
        self.queue.front()
    }

    pub fn dequeue(&mut self, messages: &Messages) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queue_bytes -= messages.view(&delivery.message).bytes();
        self.queued_qos0 -= usize::from(delivery.qos == QoS::AtMostOnce);
        if self.queue.is_empty() && self.queue.capacity() > SPARE_MAX {
            self.queue = VecDeque::new();
        }
        Some(delivery)
    }

    /// Takes the queued deliveries that `goes` names out of the queue, in order.
    pub fn remove_queued(
        &mut self,
        messages: &Messages,
        mut goes: impl FnMut(&Delivery) -> bool,
    ) -> Vec<Delivery> {
        let (gone, stay): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(|d| goes(d));
        self.queue = stay.into();
        for delivery in &gone {
            self.queue_bytes -= messages.view(&delivery.message).bytes();
            self.queued_qos0 -= usize::from(delivery.qos == QoS::AtMostOnce);
        }
        gone
    }

    /// Takes everything: what is in flight with its message still unacknowledged, then the queue.
    /// The flag says whether a delivery had begun.
    pub fn take_all(&mut self) -> impl Iterator<Item = (Delivery, bool)> {
        self.open = 0;
        self.skipped = None;
        self.inflight_bytes = 0;
        self.unsent = 0;
        self.queue_bytes = 0;
        self.queued_qos0 = 0;
        self.resend.clear();
        let inflight = std::mem::take(&mut self.inflight).into_iter();
        let queue = std::mem::take(&mut self.queue).into_iter();
        inflight
            .filter_map(|entry| Some((entry.delivery?, true)))
            .chain(queue.map(|delivery| (delivery, false)))
    }

    fn free_id(&mut self) -> Option<PacketId> {
        if self.open >= usize::from(u16::MAX) {
            return None;
        }
        let id = self.last_id.map_or(PacketId::MIN, PacketId::next);
        // While order and identifiers agree, only the oldest can be in the way.
        if planted!(IdentifierReused)
            || self.find(id).is_none_or(|at| self.inflight[at].stage.is_none())
        {
            return Some(id);
        }
        mark!(IdentifierSkipped);
        if self.skipped.is_none() {
            self.skipped = Some(self.places(self.inflight.len()));
        }
        self.skipped.as_ref().map(|places| places.used.next_absent(id))
    }

    /// The place of the entry at `at`.
    fn place(&self, at: usize) -> u32 {
        // Fewer entries than 2^32 exist at a time, so places are told apart although they wrap.
        self.gone.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Where all stand, if the first `ordered` are in the order of their identifiers.
    fn places(&self, ordered: usize) -> Box<Places> {
        let mut places =
            Box::new(Places { ordered_until: self.place(ordered), ..Places::default() });
        for (at, entry) in self.inflight.iter().enumerate() {
            if entry.stage.is_none() {
                continue;
            }
            places.used.insert(entry.id);
            if at >= ordered {
                places.by_id.insert(entry.id, self.place(at));
            }
        }
        places
    }

    /// How many entries from the front on are in the order of their identifiers.
    fn ordered(&self) -> usize {
        let Some(places) = &self.skipped else { return self.inflight.len() };
        places.ordered_until.wrapping_sub(self.gone) as usize
    }

    fn find(&self, id: PacketId) -> Option<usize> {
        let front = self.inflight.front()?.id;
        let mut last = self.inflight.len();
        if let Some(places) = &self.skipped {
            if let Some(place) = places.by_id.get(&id) {
                return usize::try_from(place.wrapping_sub(self.gone)).ok();
            }
            last = self.ordered();
        }
        // 0 is no identifier, so distances are taken modulo 65,535.
        let distance =
            |id: PacketId| (u32::from(id.value()) + 65_535 - u32::from(front.value())) % 65_535;
        let wanted = distance(id);
        // No identifier is left out, so that is its place unless ended ones were swept out before it.
        let likely = wanted as usize;
        if likely < last && self.inflight[likely].id == id {
            return Some(likely);
        }
        // So it is with the next new one; a search would read entries that nobody has touched for long.
        let back = self.inflight.get(last.checked_sub(1)?)?;
        if distance(back.id) < wanted {
            return None;
        }
        let mut first = 0;
        while first < last {
            let middle = usize::midpoint(first, last);
            match distance(self.inflight[middle].id).cmp(&wanted) {
                Ordering::Less => first = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => last = middle,
            }
        }
        None
    }

    fn sweep(&mut self) {
        while self.inflight.front().is_some_and(|entry| entry.stage.is_none()) {
            self.inflight.pop_front();
            let gone = self.gone.wrapping_add(1);
            if let Some(places) = &mut self.skipped
                && places.ordered_until == self.gone
            {
                places.ordered_until = gone;
            }
            self.gone = gone;
        }
        if self.inflight.len() > 2 * self.open + ENDED_MAX {
            self.compact();
        }
        if self.open == 0 {
            self.skipped = None;
            if self.inflight.capacity() > SPARE_MAX {
                self.inflight = VecDeque::new();
            }
        }
    }

    fn compact(&mut self) {
        mark!(InflightCompacted);
        let ordered = self.ordered();
        let (mut at, mut kept_ordered) = (0, 0);
        self.inflight.retain(|entry| {
            let is_kept = entry.stage.is_some();
            kept_ordered += usize::from(is_kept && at < ordered);
            at += 1;
            is_kept
        });
        let first = self.place(kept_ordered);
        if let Some(places) = &mut self.skipped {
            places.ordered_until = first;
            let moved = self.inflight.iter().skip(kept_ordered).map(|entry| entry.id);
            let places_of = (0..).map(|step| first.wrapping_add(step));
            places.by_id = moved.zip(places_of).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::messages::{Message, Payload};

    fn message(messages: &mut Messages, qos: QoS) -> Delivery {
        let message = messages.keep(&Message {
            topic: "t",
            properties: &[],
            payload: Payload::Inline(b"x"),
            qos,
            retain: false,
            expires: None,
        });
        Delivery { message, qos, retain: false, group: None, ids: Ids::None, number: 0 }
    }

    #[test]
    fn identifiers_are_never_reused_while_in_flight() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        let mut live: Vec<PacketId> = Vec::new();
        let mut state = 11u64;
        for _ in 0..300_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let random = (state >> 33) as usize;
            if live.len() < 20 && random.is_multiple_of(2) || live.is_empty() {
                let delivery = message(&mut messages, QoS::AtLeastOnce);
                let id = outgoing.begin(delivery, 2).expect("few are in flight");
                assert!(!live.contains(&id), "{id:?} is in flight");
                live.push(id);
            } else {
                // The very first stays unacknowledged for long, so identifiers wrap around it.
                let at = if live.len() > 1 && !random.is_multiple_of(50_000) {
                    1 + random % (live.len() - 1)
                } else {
                    0
                };
                let delivery = outgoing.end(live.remove(at)).expect("it is in flight");
                messages.release(delivery.message);
            }
            assert_eq!(outgoing.inflight_count(), live.len());
            assert_eq!(outgoing.held_bytes(), 2 * live.len());
        }
        assert!(outgoing.resume().is_empty());
        let order: Vec<_> = std::iter::from_fn(|| outgoing.next_resend(u16::MAX)).collect();
        assert_eq!(order, live);
        for (delivery, _) in outgoing.take_all().collect::<Vec<_>>() {
            messages.release(delivery.message);
        }
        assert_eq!(messages.count(), 0);
    }

    #[test]
    fn all_identifiers_can_be_in_flight_and_acknowledged_in_any_order() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        for _ in 0..65_535 {
            let delivery = message(&mut messages, QoS::ExactlyOnce);
            outgoing.begin(delivery, 2).expect("there are 65,535");
        }
        let delivery = message(&mut messages, QoS::ExactlyOnce);
        let refused = outgoing.begin(delivery, 2).expect_err("none is free");
        messages.release(refused.message);
        for value in (1..=65_535u16).rev() {
            let id = PacketId::new(value).expect("not 0");
            messages.release(outgoing.release(id).expect("published").message);
            assert_eq!(outgoing.stage(id), Some((Stage::Released, None)));
            assert!(outgoing.end(id).is_none(), "the message was given back before");
            assert_eq!(outgoing.stage(id), None);
        }
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.held_bytes(), 0);
        assert_eq!(messages.count(), 0);
    }

    /// The last first, and each time a new exchange in its place: neither looks at all the others, else
    /// this takes minutes.
    #[test]
    fn a_full_window_that_is_acknowledged_backwards_goes_on() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        let mut ids: Vec<_> = (0..65_535)
            .map(|_| outgoing.begin(message(&mut messages, QoS::AtLeastOnce), 2).expect("free"))
            .collect();
        for at in (0..ids.len()).rev() {
            messages.release(outgoing.end(ids[at]).expect("in flight").message);
            let id = outgoing.begin(message(&mut messages, QoS::AtLeastOnce), 2);
            assert_eq!(id.ok(), Some(ids[at]), "no other is free");
        }
        for id in ids.drain(..) {
            messages.release(outgoing.end(id).expect("in flight").message);
        }
        assert!(outgoing.is_empty() && outgoing.skipped.is_none());
        assert_eq!((outgoing.held_bytes(), messages.count()), (0, 0));
    }

    #[test]
    fn what_was_acknowledged_before_its_repetition_is_not_repeated() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        let ids: Vec<_> = (0..4)
            .map(|_| outgoing.begin(message(&mut messages, QoS::ExactlyOnce), 2).expect("free"))
            .collect();
        assert!(outgoing.resume().is_empty());
        assert_eq!(outgoing.next_resend(1), Some(ids[0]));
        assert_eq!(outgoing.next_resend(1), None, "the window is full");
        messages.release(outgoing.release(ids[1]).expect("published").message);
        messages.release(outgoing.end(ids[2]).expect("published").message);
        assert_eq!(outgoing.next_resend(2), None, "one is published, one released");
        assert_eq!(outgoing.next_resend(3), Some(ids[3]));
        assert!(!outgoing.waits());
        assert_eq!(outgoing.next_resend(9), None);
        assert_eq!(outgoing.inflight_count(), 3);
    }

    #[test]
    fn qos_0_in_the_queue_is_known() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        for qos in [QoS::AtLeastOnce, QoS::AtMostOnce, QoS::AtMostOnce] {
            let delivery = message(&mut messages, qos);
            outgoing.enqueue(delivery, &messages);
        }
        assert!(outgoing.dequeue(&messages).is_some() && outgoing.has_queued_qos0());
        assert!(outgoing.dequeue(&messages).is_some() && outgoing.has_queued_qos0());
        assert!(outgoing.dequeue(&messages).is_some() && !outgoing.has_queued_qos0());
    }

    #[test]
    fn mqtt_311_4_6_0_4_pubrels_are_repeated_in_the_order_of_the_pubrecs() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing { releases: u32::MAX - 1, ..Outgoing::default() };
        let ids: Vec<_> = (0..4)
            .map(|_| {
                let delivery = message(&mut messages, QoS::ExactlyOnce);
                outgoing.begin(delivery, 2).expect("free")
            })
            .collect();
        for at in [2, 0, 3] {
            let delivery = outgoing.release(ids[at]).expect("published");
            messages.release(delivery.message);
            assert!(outgoing.release(ids[at]).is_none(), "a repeated PUBREC changes nothing");
        }
        assert_eq!(outgoing.resume(), [ids[2], ids[0], ids[3]]);
        assert_eq!(outgoing.next_resend(10), Some(ids[1]));
        for (delivery, _) in outgoing.take_all().collect::<Vec<_>>() {
            messages.release(delivery.message);
        }
    }

    #[test]
    fn an_unknown_identifier_changes_nothing() {
        let mut messages = Messages::default();
        let mut outgoing = Outgoing::default();
        assert!(outgoing.end(PacketId::MIN).is_none());
        let delivery = message(&mut messages, QoS::AtLeastOnce);
        let id = outgoing.begin(delivery, 2).expect("free");
        assert!(outgoing.end(id.next()).is_none());
        assert_eq!(outgoing.inflight_count(), 1);
        assert!(outgoing.end(id).map(|d| messages.release(d.message)).is_some());
        assert!(outgoing.end(id).is_none());
    }
}
