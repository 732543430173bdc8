//! The load generator's state: clients, publishers, what was delivered. It hears what comes from the
//! sockets and appends what is to be sent; time is told to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use shards::codec::{AckKind, Framed, Packet, PacketKind, Publish, decode, frame};
use shards::ids::{PacketId, QoS, Version};

use super::flood::Flood;
use super::publisher::{Due, Left, PACKET_IDS, Publisher, Stamp};
use super::stats::Stats;
use super::verify::{Faults, Flow, Verdict};
use super::window::Window;
use crate::error::Error;
use crate::net::{Handler, Key, Outs};
use crate::plan::{Course, Pace, Plan, Scenario, Wire};
use crate::relay::WELCOME;

/// Largest packet taken from a broker.
const PACKET_BYTES_MAX: u32 = 64 << 20;

/// The first byte of a CONNACK.
const CONNACK_FIRST: u8 = (PacketKind::Connack as u8) << 4;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its turn to connect has not come.
    Idle,
    /// TCP.
    Opening,
    /// CONNECT, or a floor's greeting, is on its way.
    Greeting,
    /// Waits for SUBACK or UNSUBACK.
    Subscribing,
    Ready,
    /// Its connection is being cut on purpose.
    Leaving,
    /// Comes back when it is time.
    Away,
}

/// One client. Its position is the same as in the plan.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) key: Option<Key>,
    pub(super) stage: Stage,
    /// The start of a packet whose rest has not come yet.
    cut: Vec<u8>,
    /// Begin of the connect, or (retained) of the subscribe.
    pub(super) since_ns: u64,
    /// Filters that have been asked for.
    pub(super) subscribed: usize,
    /// Where its flows begin in [`Engine::flows`].
    flows_at: usize,
    pub(super) publisher: Option<u32>,
    /// Retained messages of the present subscription.
    pub(super) seen: Vec<bool>,
    pub(super) seen_count: u32,
    /// When it comes back.
    pub(super) until_ns: u64,
    /// QoS 2: packet identifiers whose PUBREL has not come yet, oldest first.
    unreleased: VecDeque<PacketId>,
}

/// See the module's documentation. Lives on the load thread.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) plan: Plan,
    pub(super) target: SocketAddr,
    clock: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) publishers: Vec<Publisher>,
    by_key: Vec<usize>,
    /// By client and publisher heard; of a shared subscription only the order is checked here.
    flows: Vec<Flow>,
    /// By publisher, for a shared subscription as a whole.
    group: Vec<Flow>,
    /// Publishers that may have something to send.
    queue: Vec<u32>,
    pub(super) due: Due,
    /// How many paced messages were looked at.
    due_seen: u64,
    pub(super) stats: Stats,
    pub(super) faults: Faults,
    pub(super) failure: Option<Error>,
    /// Clients that are ready for the first time, ever.
    pub(super) ready_count: usize,
    pub(super) connecting: usize,
    pub(super) next_idle: usize,
    /// The smallest Receive Maximum that the broker has announced to a publisher.
    pub(super) receive_maximum: u16,
    /// The subscriber that does not read, of an overload or of a disturbance.
    pub(super) is_stalled: Option<usize>,
    /// What it did not get.
    pub(super) lost_stalled: u64,
    /// retained: subscribers ask again when they have all.
    pub(super) is_asking: bool,
    pub(super) flood: Option<Flood>,
}

impl Engine {
    pub(super) fn new(plan: Plan, target: SocketAddr) -> Self {
        let publishers: Vec<Publisher> = (0_u32..)
            .zip(&plan.publishers)
            .map(|(index, own)| Publisher::new(index, &plan, own))
            .collect();
        let mut flows_at = 0;
        let mut clients = Vec::with_capacity(plan.clients.len());
        for client in &plan.clients {
            clients.push(Client {
                key: None,
                stage: Stage::Idle,
                cut: Vec::new(),
                since_ns: 0,
                subscribed: 0,
                flows_at,
                publisher: None,
                seen: Vec::new(),
                seen_count: 0,
                until_ns: 0,
                unreleased: VecDeque::new(),
            });
            flows_at += client.heard.1 as usize;
        }
        for (index, publisher) in (0_u32..).zip(&plan.publishers) {
            if let Some(client) = clients.get_mut(publisher.client) {
                client.publisher = Some(index);
            }
        }
        let mut flows = Vec::new();
        flows.resize_with(flows_at, Flow::default);
        let mut group = Vec::new();
        group.resize_with(if plan.is_shared { publishers.len() } else { 0 }, Flow::default);
        let flood = plan.disturbance.clone().map(|clients| Flood::new(clients, &plan));
        Self {
            plan,
            target,
            clock: Instant::now(),
            clients,
            publishers,
            by_key: Vec::new(),
            flows,
            group,
            queue: Vec::new(),
            due: Due::Nothing,
            due_seen: 0,
            stats: Stats::new(),
            faults: Faults::default(),
            failure: None,
            ready_count: 0,
            connecting: 0,
            next_idle: 0,
            receive_maximum: u16::MAX,
            is_stalled: None,
            lost_stalled: 0,
            is_asking: false,
            flood,
        }
    }

    /// Nanoseconds since the run began.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// From now on messages are due like this.
    pub(super) fn set_due(&mut self, due: Due) {
        self.due = due;
        self.due_seen = 0;
        for index in 0..u32::try_from(self.publishers.len()).unwrap_or(u32::MAX) {
            self.enqueue(index);
        }
    }

    pub(super) fn enqueue(&mut self, publisher: u32) {
        let own = &mut self.publishers[publisher as usize];
        if !own.is_queued {
            own.is_queued = true;
            self.queue.push(publisher);
        }
    }

    /// Appends everything that is due by now.
    pub(super) fn pump(&mut self, outs: &mut Outs) {
        let now_ns = self.now_ns();
        let due_count = self.due.count(now_ns);
        let publishers = self.publishers.len() as u64;
        if matches!(self.due, Due::Paced { .. }) {
            for k in (self.due_seen..due_count).take(self.publishers.len()) {
                self.enqueue(u32::try_from(k % publishers).unwrap_or(0));
            }
            self.due_seen = due_count;
        }
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|index| {
            let publisher = &mut self.publishers[*index as usize];
            let client = &self.clients[publisher.client];
            let Some(key) = client.key.filter(|_| client.stage == Stage::Ready) else {
                return true;
            };
            let waiting = outs.waiting(key);
            let out = outs.buffer(key);
            let left = publisher.pump(self.due, due_count, publishers, now_ns, out, waiting);
            publisher.is_queued = left == Left::Some;
            publisher.is_queued
        });
        self.queue = queue;
        if let Some(flood) = &mut self.flood
            && let Some(key) = self.clients[flood.clients.publisher].key
        {
            flood.pump(key, outs);
        }
    }

    /// The client that has taken this place among the sockets.
    pub(super) fn bind(&mut self, client: usize, key: Key) {
        if self.by_key.len() <= key.index() {
            self.by_key.resize(key.index() + 1, usize::MAX);
        }
        self.by_key[key.index()] = client;
        let client = &mut self.clients[client];
        client.key = Some(key);
        client.cut.clear();
        client.stage = Stage::Opening;
    }

    pub(super) fn sent(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.next).sum()
    }

    /// True when all that was sent has been delivered and acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        let expected = self.sent().saturating_mul(u64::from(self.plan.fanout));
        let acknowledged = !self.plan.acknowledges()
            || self
                .publishers
                .iter()
                .all(|publisher| publisher.window.as_ref().is_none_or(Window::is_empty));
        self.stats.delivered_all >= expected && acknowledged
    }

    /// Counts what never came.
    pub(super) fn count_missing(&mut self) {
        if self.plan.is_shared {
            let flows = self.group.iter().zip(&self.publishers);
            self.faults.lost = flows.map(|(flow, publisher)| flow.missing(publisher.next)).sum();
            return;
        }
        if matches!(self.plan.course, Course::Retained { .. }) {
            let missing =
                |client: &Client| client.seen.iter().filter(|seen| !**seen).count() as u64;
            self.faults.lost = self.clients.iter().map(missing).sum();
            return;
        }
        let mut lost = 0;
        for (index, client) in self.plan.clients.iter().enumerate() {
            let (first, count) = client.heard;
            let before = lost;
            for (offset, publisher) in (first..first + count).enumerate() {
                let flow = &self.flows[self.clients[index].flows_at + offset];
                if self.is_heard(index, publisher) {
                    lost += flow.missing(self.publishers[publisher as usize].next);
                }
            }
            if self.is_stalled == Some(index) {
                self.lost_stalled = lost - before;
            }
        }
        self.faults.lost = lost;
    }

    /// True if this client is among those that get the publisher's messages.
    fn is_heard(&self, client: usize, publisher: u32) -> bool {
        match self.plan.scenario {
            Scenario::Wildcards => self.plan.clients[client].channels.contains(&publisher),
            _ => true,
        }
    }

    /// Handles all whole packets in `bytes`; returns how many bytes they have.
    fn packets(&mut self, client: usize, bytes: &[u8], now_ns: u64, outs: &mut Outs) -> usize {
        let mut used = 0;
        while self.failure.is_none() {
            if self.clients[client].stage == Stage::Greeting && self.plan.wire == Wire::Floor {
                if bytes.len() < WELCOME.len() {
                    return used;
                }
                if !bytes.starts_with(WELCOME) {
                    self.answer(client, "not a floor's welcome");
                    return used;
                }
                used += WELCOME.len();
                self.on_greeted(client, false, now_ns, outs);
            }
            let is_greeting = self.clients[client].stage == Stage::Greeting;
            if is_greeting && bytes.get(used).is_some_and(|first| *first != CONNACK_FIRST) {
                // Whatever speaks there may never complete what looks like a packet.
                self.answer(client, "it does not begin with a CONNACK");
                return used;
            }
            let framed = match frame(&bytes[used..], PACKET_BYTES_MAX) {
                Ok(Framed::Whole(framed)) => framed,
                Ok(Framed::Cut { .. }) => return used,
                Err(reject) => {
                    self.answer(client, reject.why);
                    return used;
                }
            };
            used += framed.len;
            match decode(&framed, self.plan.version()) {
                Ok(Packet::Publish(publish)) => self.on_publish(client, &publish, now_ns, outs),
                Ok(packet) => self.on_packet(client, &packet, now_ns, outs),
                // A broker that does not have this version refuses in the form of one that it has.
                Err(reject) => match decode(&framed, Version::V311) {
                    Ok(Packet::Connack(old)) if is_greeting && old.reason.is_error() => {
                        let why = format!("{:?} in CONNACK, in the form of 3.1.1", old.reason);
                        self.refuse(client, why);
                    }
                    Ok(_) | Err(_) => self.answer(client, reject.why),
                },
            }
        }
        used
    }

    fn on_packet(&mut self, client: usize, packet: &Packet<'_>, now_ns: u64, outs: &mut Outs) {
        match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                if ack.reason.is_error() {
                    let why = format!("{:?} for a PUBLISH", ack.reason);
                    return self.refuse(client, why);
                }
                self.on_acknowledged(client, ack.packet_id);
            }
            Packet::Pubrec(ack) => {
                if ack.reason.is_error() {
                    let why = format!("{:?} for a PUBLISH", ack.reason);
                    return self.refuse(client, why);
                }
                self.acknowledge(client, AckKind::Pubrel, ack.packet_id, outs);
            }
            Packet::Pubrel(ack) => {
                let unreleased = &mut self.clients[client].unreleased;
                if let Some(at) = unreleased.iter().position(|id| *id == ack.packet_id) {
                    unreleased.remove(at);
                }
                self.acknowledge(client, AckKind::Pubcomp, ack.packet_id, outs);
            }
            Packet::Connack(connack) => {
                if connack.reason.is_error() {
                    return self.refuse(client, format!("{:?} in CONNACK", connack.reason));
                }
                if let (Some(max), Some(own)) =
                    (connack.receive_maximum, self.clients[client].publisher)
                    && let Some(window) = &mut self.publishers[own as usize].window
                    && self.plan.acknowledges()
                {
                    window.limit(u32::from(max));
                    self.receive_maximum = self.receive_maximum.min(max);
                }
                self.on_greeted(client, connack.session_present, now_ns, outs);
            }
            Packet::Suback(suback) => {
                let wanted = self.plan.qos.bits();
                if let Some(code) = suback.reasons.iter().find(|code| **code != wanted) {
                    let why = format!("SUBACK says 0x{code:02X} where QoS {wanted} was asked for");
                    return self.refuse(client, why);
                }
                self.on_subscribed(client, now_ns, outs);
            }
            Packet::Unsuback(_) => self.on_unsubscribed(client, now_ns, outs),
            Packet::Pingresp => {}
            Packet::Disconnect(disconnect) => {
                self.refuse(client, format!("DISCONNECT with {:?}", disconnect.reason));
            }
            Packet::Publish(_)
            | Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => self.answer(client, "a packet that no broker sends"),
        }
    }

    fn on_publish(&mut self, client: usize, publish: &Publish<'_>, now_ns: u64, outs: &mut Outs) {
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) if self.plan.wire != Wire::Floor => {
                self.acknowledge(client, AckKind::Puback, id, outs);
            }
            (QoS::ExactlyOnce, Some(id)) if self.plan.wire != Wire::Floor => {
                self.acknowledge(client, AckKind::Pubrec, id, outs);
                let unreleased = &mut self.clients[client].unreleased;
                // The exchange goes on where a cut connection has left it; the message is not new.
                if publish.dup && unreleased.contains(&id) {
                    self.faults.redelivered += 1;
                    return;
                }
                unreleased.push_back(id);
            }
            _ => {}
        }
        let Some(stamp) = Stamp::read(publish.payload) else {
            self.faults.misrouted += 1;
            return;
        };
        if matches!(self.plan.course, Course::Retained { .. }) {
            return self.on_retained(client, stamp.sequence, now_ns, outs);
        }
        let (first, count) = self.plan.clients[client].heard;
        let offset = stamp.publisher.wrapping_sub(first);
        if offset >= count {
            self.faults.misrouted += 1;
            return;
        }
        let at = self.clients[client].flows_at + offset as usize;
        let is_new = if self.plan.is_shared {
            self.judge_shared(at, stamp)
        } else {
            self.judge(at, stamp.sequence, publish)
        };
        if is_new {
            self.stats.delivered(stamp.intended_ns, now_ns);
            let publisher = &mut self.publishers[stamp.publisher as usize];
            if let Some(window) = &mut publisher.window
                && matches!(self.plan.pace, Pace::Closed { .. })
                && window.complete(stamp.sequence)
            {
                self.enqueue(stamp.publisher);
            }
        }
    }

    /// Compares a delivery with those before it. True if it is not one of them again.
    #[inline]
    fn judge(&mut self, at: usize, sequence: u64, publish: &Publish<'_>) -> bool {
        match self.flows[at].take(sequence) {
            Verdict::New => true,
            Verdict::Late => {
                // Redelivered after a connection was cut: the order is that of the first try.
                if !publish.dup {
                    self.faults.reordered += 1;
                }
                true
            }
            Verdict::Duplicate => {
                if publish.dup && publish.qos == QoS::AtLeastOnce {
                    self.faults.redelivered += 1;
                } else {
                    self.faults.duplicated += 1;
                }
                false
            }
        }
    }

    /// Each message once among all subscribers, and to each of them in order.
    fn judge_shared(&mut self, at: usize, stamp: Stamp) -> bool {
        let in_order = self.flows[at].advance(stamp.sequence);
        if self.group[stamp.publisher as usize].take(stamp.sequence) == Verdict::Duplicate {
            self.faults.duplicated += 1;
            return false;
        }
        if !in_order {
            self.faults.reordered += 1;
        }
        true
    }

    fn on_acknowledged(&mut self, client: usize, id: PacketId) {
        let Some(index) = self.clients[client].publisher else {
            return self.answer(client, "an acknowledgement of nothing");
        };
        let publisher = &mut self.publishers[index as usize];
        let Some(window) = &mut publisher.window else { return };
        let remainder = u64::from(id.value()) - 1;
        match window.find(remainder, PACKET_IDS) {
            None => self.answer(client, "an acknowledgement of nothing"),
            Some(sequence) => {
                if window.complete(sequence) {
                    self.enqueue(index);
                }
            }
        }
    }

    fn acknowledge(&self, client: usize, kind: AckKind, id: PacketId, outs: &mut Outs) {
        if let Some(key) = self.clients[client].key {
            let [high, low] = id.value().to_be_bytes();
            let first = kind.packet_kind().first_byte();
            outs.buffer(key).extend_from_slice(&[first, 2, high, low]);
        }
    }

    pub(super) fn refuse(&mut self, client: usize, why: String) {
        let client = self.plan.clients[client].id.clone();
        self.fail(Error::Refused { client, why });
    }

    pub(super) fn answer(&mut self, client: usize, why: &str) {
        let client = self.plan.clients[client].id.clone();
        self.fail(Error::Answer { client, why: why.to_owned() });
    }
}

impl Handler for Engine {
    fn opened(&mut self, key: Key, outs: &mut Outs) {
        let client = self.by_key[key.index()];
        self.greet(client, key, outs);
    }

    fn received(&mut self, key: Key, bytes: &[u8], outs: &mut Outs) {
        let client = self.by_key[key.index()];
        if self.flood.as_mut().is_some_and(|flood| flood.take(client, bytes)) {
            return;
        }
        let now_ns = self.now_ns();
        let mut cut = std::mem::take(&mut self.clients[client].cut);
        let mut bytes = bytes;
        while !cut.is_empty() && !bytes.is_empty() && self.failure.is_none() {
            // No more than what completes the packet, so that the others are read in place.
            let wanted = match frame(&cut, PACKET_BYTES_MAX) {
                Ok(Framed::Cut { needed: Some(needed) }) => needed.saturating_sub(cut.len()).max(1),
                _ => 1,
            };
            let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
            cut.extend_from_slice(head);
            bytes = rest;
            let used = self.packets(client, &cut, now_ns, outs);
            cut.drain(..used);
        }
        if cut.is_empty() {
            let used = self.packets(client, bytes, now_ns, outs);
            cut.extend_from_slice(&bytes[used..]);
        }
        self.clients[client].cut = cut;
    }

    fn closed(&mut self, key: Key, error: Option<io::Error>, _outs: &mut Outs) {
        let client = self.by_key[key.index()];
        self.on_closed(client, error);
    }
}
