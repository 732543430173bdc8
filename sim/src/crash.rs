//! Crashes: durable sessions, a process that dies at any moment with part of what it wrote, and a new
//! one that begins with the rest, on another number of shards perhaps.
//!
//! The ledger is as simple as the promise: what was acknowledged is there. A message whose publisher
//! was answered comes to everybody who had subscribed before it was sent, at QoS 2 exactly once; a
//! session whose CONNACK has come is there until its time is over; the retained message of a topic is
//! never older than the last one acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use shards::codec::{self, AckKind, Connect, Framed, Packet, Publish};
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;
use shards::rng::Rng;

use crate::client::{Client, Got, Message};
use crate::drive::{Post, QOS, keeping, seconds};
use crate::swarm::{CLIENTS_MAX, Options, Stream, stream};
use crate::wire::{Wire, flatten};
use crate::world::World;

const NAMES: [&str; CLIENTS_MAX] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
/// One topic per publisher and kind, so that the order on it is the order of one client.
const LIVE: [&str; CLIENTS_MAX] =
    ["live/0", "live/1", "live/2", "live/3", "live/4", "live/5", "live/6", "live/7"];
const KEPT: [&str; CLIENTS_MAX] =
    ["kept/0", "kept/1", "kept/2", "kept/3", "kept/4", "kept/5", "kept/6", "kept/7"];
const FILTERS: [&str; 5] = ["live/#", "live/+", "live/1", "+/2", SHARED];
/// It matches what others do too, so nobody can tell who is owed what for its sake.
const SHARED: &str = "$share/g/live/#";

/// Sessions with the shorter expiry end when [`Crashes::pass_time`] finds them alone.
const SHORT_S: u32 = 30;
const LONG_S: u32 = 1_000_000;

/// One message and what became of it.
#[derive(Debug)]
struct Sent {
    topic: &'static str,
    qos: QoS,
    /// Clients that must get it once it is accepted.
    owed: BTreeSet<usize>,
    is_accepted: bool,
    /// The broker died, or its store failed, while the publisher waited: parts may be kept.
    is_torn: bool,
    /// The publisher has sent it again.
    is_repeated: bool,
}

/// One client and its session as it may rely on it.
#[derive(Debug)]
struct Member {
    version: Version,
    expiry_s: u32,
    is_in: bool,
    /// CONNACK has come for the session that is there now.
    is_known: bool,
    /// A CONNECT is out whose outcome the client does not know.
    is_unsure: bool,
    /// It has forgotten its session, and begins anew until the broker has heard it.
    wants_clean: bool,
    /// Its current connection does so.
    is_asking: bool,
    /// Filters whose SUBACK has come and that have not changed since.
    filters: BTreeSet<&'static str>,
    ever: BTreeSet<&'static str>,
    asked: BTreeMap<u16, &'static str>,
    messages: BTreeMap<u16, usize>,
    came: BTreeMap<usize, u32>,
}

impl Member {
    fn draw(version: Version, rng: &mut Rng) -> Self {
        Self {
            // MQTT 3.1 does not say whether a session was there.
            version: if version == Version::V31 { Version::V311 } else { version },
            expiry_s: if rng.next_u64().is_multiple_of(3) { SHORT_S } else { LONG_S },
            is_in: false,
            is_known: false,
            is_unsure: false,
            wants_clean: false,
            is_asking: false,
            filters: BTreeSet::new(),
            ever: BTreeSet::new(),
            asked: BTreeMap::new(),
            messages: BTreeMap::new(),
            came: BTreeMap::new(),
        }
    }

    /// Its time may be over.
    fn is_short(&self) -> bool {
        self.version.is_v5() && self.expiry_s == SHORT_S
    }
}

/// The play of one seed.
#[derive(Debug)]
pub struct Crashes {
    pub world: World,
    rng: Rng,
    members: Vec<Member>,
    sent: Vec<Sent>,
    options: Options,
    /// Acts begun or left out.
    act_count: u32,
}

impl Crashes {
    #[must_use]
    pub fn with(options: &Options) -> Self {
        let mut rng = stream(options.seed, Stream::Workload, 0);
        let mut world = World::drawn(options);
        let members: Vec<_> =
            options.versions.iter().map(|&version| Member::draw(version, &mut rng)).collect();
        for (name, member) in NAMES.iter().zip(&members) {
            world.clients.push(Client::new(name, member.version, usize::MAX));
        }
        Self { world, rng, members, sent: Vec::new(), options: options.clone(), act_count: 0 }
    }

    /// Acts that were played or left out.
    #[must_use]
    pub fn act_count(&self) -> u32 {
        self.act_count
    }

    /// The next act draws from streams of its own. False if it is to be left out.
    fn begin_act(&mut self) -> bool {
        self.act_count += 1;
        let number = self.act_count;
        self.rng = stream(self.options.seed, Stream::Workload, u64::from(number));
        self.world.begin_act(number);
        !self.options.skips.acts.contains(&number)
    }

    /// The store fails now and then.
    fn has_failures(&self) -> bool {
        self.options.store_failures_in > 0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).expect("less than a usize")
    }

    /// Plays to the end.
    pub fn run(&mut self) {
        // Not from an act's stream: acts that are left out must not change how many there are.
        let mut plan = stream(self.options.seed, Stream::Workload, u64::from(u32::MAX));
        for _ in 0..3 + plan.next_u64() % 4 {
            for _ in 0..10 + plan.next_u64() % 30 {
                if self.begin_act() {
                    self.act();
                    let count = self.below(14);
                    self.world.stir(count);
                    self.look();
                }
            }
            self.begin_act();
            self.crash();
            if self.below(3) == 0 {
                self.pass_time();
            }
            if self.below(2) == 0 {
                self.rest();
            }
        }
        self.rest();
        self.check_retained();
        self.finish();
    }

    fn act(&mut self) {
        let client = self.below(self.members.len());
        match self.below(16) {
            _ if !self.is_in(client) => self.connect(client),
            0 => self.cut(client),
            1 => self.connect(client),
            2 | 3 => self.subscribe(client),
            4 => self.unsubscribe(client),
            5 if self.below(4) == 0 => self.begin_anew(client),
            6 | 7 => self.publish(client, KEPT[client], true),
            8 => self.world.stall(client),
            9 => self.world.unstall_wire(client),
            10 => self.world.is_store_held = !self.world.is_store_held,
            11 if self.below(8) == 0 => self.crash(),
            _ => self.publish(client, LIVE[client], false),
        }
    }

    fn is_in(&self, client: usize) -> bool {
        self.members[client].is_in && !self.world.clients[client].is_ended
    }

    /// The broker has no connection of it either: one that came late may be left.
    fn is_away(&self, client: usize) -> bool {
        let is_there = |wire: &Wire| wire.client == client && !wire.is_closed;
        !self.is_in(client) && !self.world.wires.iter().any(is_there)
    }

    fn connect(&mut self, client: usize) {
        self.world.unstall_wire(client);
        let member = &mut self.members[client];
        let is_open =
            self.world.wires.get(self.world.clients[client].wire).is_some_and(|w| !w.is_closed);
        if member.wants_clean && member.is_asking && is_open {
            // Of two connections that both begin anew nobody knows which comes last.
            return;
        }
        member.is_asking = member.wants_clean;
        member.is_in = false;
        member.is_unsure |= !member.is_known;
        member.asked.clear();
        let connect = Connect {
            clean_start: member.wants_clean,
            receive_maximum: member.version.is_v5().then_some(4),
            ..keeping(member.version, NAMES[client], member.expiry_s)
        };
        let version = member.version;
        let wire = self.world.dial(client);
        self.world.clients[client].renew(wire);
        self.world.say_connect(client, &connect);
        if version != Version::V5 {
            self.world.clients[client].receive_maximum = u16::MAX;
        }
    }

    /// A clean start: what was there before must never come back. 3.1.1 cannot do it and keep a session.
    fn begin_anew(&mut self, client: usize) {
        if !self.members[client].version.is_v5() {
            return;
        }
        // Older connections have had their say.
        let is_held = std::mem::take(&mut self.world.is_store_held);
        self.world.settle();
        self.world.is_store_held = is_held;
        self.look();
        self.forget(client);
        self.members[client].wants_clean = true;
        self.connect(client);
    }

    fn forget(&mut self, client: usize) {
        let member = &mut self.members[client];
        member.is_known = false;
        member.filters.clear();
        member.messages.clear();
        for sent in &mut self.sent {
            sent.owed.remove(&client);
        }
        self.world.clients[client].forget();
    }

    fn cut(&mut self, client: usize) {
        let wire = self.world.clients[client].wire;
        self.world.unstall_wire(client);
        self.world.wires[wire].is_client_gone = true;
        self.members[client].is_in = false;
        self.members[client].asked.clear();
    }

    fn subscribe(&mut self, client: usize) {
        let filter = FILTERS[self.below(FILTERS.len())];
        self.change(client, filter);
        self.members[client].ever.insert(filter);
        let options = codec::SubscribeOptions::new(QoS::ExactlyOnce);
        let id = self.world.say_subscribe(client, None, &[(filter, options)]);
        self.members[client].asked.insert(id, filter);
    }

    fn unsubscribe(&mut self, client: usize) {
        let filter = FILTERS[self.below(FILTERS.len())];
        self.change(client, filter);
        let version = self.members[client].version;
        let id = self.world.clients[client].take_id();
        self.world.write(client, |out| {
            codec::Unsubscribe::new(id, &[filter]).encode(version, out);
        });
    }

    /// What this filter brings is uncertain from here on.
    fn change(&mut self, client: usize, filter: &'static str) {
        let member = &mut self.members[client];
        member.filters.remove(filter);
        member.asked.retain(|_, other| *other != filter);
        let filters = member.filters.clone();
        for sent in &mut self.sent {
            if !filters.iter().any(|filter| matches(filter, sent.topic)) {
                sent.owed.remove(&client);
            }
        }
    }

    fn publish(&mut self, client: usize, topic: &'static str, retain: bool) {
        let quota = usize::from(self.world.settings.receive_maximum);
        if self.world.clients[client].sent.len() >= quota {
            return;
        }
        let qos = QOS[usize::from(retain) + self.below(3 - usize::from(retain))];
        let owed = (0..self.members.len())
            .filter(|&at| self.members[at].filters.iter().any(|filter| matches(filter, topic)))
            .collect();
        self.sent.push(Sent {
            topic,
            qos,
            owed,
            is_accepted: false,
            is_torn: false,
            is_repeated: false,
        });
        let number = self.sent.len() - 1;
        let text = number.to_string();
        let post =
            if retain { Post::retained(topic, &text, qos) } else { Post::new(topic, &text, qos) };
        let id = self.world.say(client, &post);
        if id != 0 {
            self.members[client].messages.insert(id, number);
        }
    }

    fn crash(&mut self) {
        self.look();
        let shards = 1 + u8::try_from(self.below(8)).expect("small");
        let shards = self.options.skips.shards.unwrap_or(shards);
        let down_s = [0, 0, 1, SHORT_S + 2][self.below(4)];
        // Sometimes nothing is under way: then it is known who is away.
        let is_quiet = self.below(3) == 0;
        if is_quiet {
            self.calm();
            self.world.settle();
            self.look();
        } else if self.below(2) == 0 {
            // More is under way, of which a part is done: operations that belong together are torn.
            self.world.is_store_held = true;
            let count = self.below(60);
            self.world.stir(count);
            self.look();
        }
        for client in 0..self.members.len() {
            if down_s > SHORT_S && self.members[client].is_short() {
                self.outlast(client, is_quiet);
            }
        }
        for (client, member) in self.world.clients.iter_mut().zip(&mut self.members) {
            // What was not acknowledged yet may be kept by some shards already. What was handed to the
            // network counts as acknowledged: the broker had it stored.
            let acked = self.world.wires.get(client.wire).map_or_else(Vec::new, acked);
            for (id, sent) in &client.sent {
                if let Some(&number) = member.messages.get(id) {
                    self.sent[number].is_torn |= !sent.is_released && !acked.contains(id);
                }
            }
            client.survive_crash();
            member.is_in = false;
            member.asked.clear();
        }
        self.world.is_store_held = false;
        self.world.crash(shards, seconds(down_s.into()));
        self.check_ready();
    }

    /// The broker is away for longer than this session's interval, which begins when its connection
    /// ends, with a crash at the latest when there is a broker again.
    fn outlast(&mut self, client: usize, is_quiet: bool) {
        let is_in = self.is_in(client);
        if is_in && !self.has_failures() {
            return;
        }
        if is_quiet && self.is_away(client) && !self.has_failures() {
            self.forget(client);
            self.members[client].is_unsure = false;
            return;
        }
        self.doubt(client);
    }

    /// Nobody knows whether this session is there.
    fn doubt(&mut self, client: usize) {
        let member = &mut self.members[client];
        member.is_known = false;
        member.is_unsure = true;
        member.filters.clear();
        for sent in &mut self.sent {
            sent.owed.remove(&client);
        }
    }

    /// Nothing is held back.
    fn calm(&mut self) {
        self.world.is_store_held = false;
        for client in 0..self.members.len() {
            if self.members[client].is_in || self.world.clients[client].wire != usize::MAX {
                self.world.unstall_wire(client);
            }
        }
    }

    fn check_ready(&self) {
        let gauges = self.world.snapshot().gauges;
        assert_eq!((gauges.connections, gauges.clients_connected), (0, 0));
    }

    /// Long enough for sessions with a short expiry whose clients are away.
    fn pass_time(&mut self) {
        self.world.advance(seconds(u64::from(SHORT_S) + 2));
        self.look();
        for client in 0..self.members.len() {
            if self.members[client].is_short() && self.is_away(client) {
                self.forget(client);
                // It has ended, if it was there at all; the store may not have heard of it.
                self.members[client].is_unsure = self.has_failures();
            }
        }
    }

    fn look(&mut self) {
        for client in 0..self.members.len() {
            while let Some(got) = self.world.clients[client].got.pop_front() {
                self.on_got(client, got);
            }
        }
    }

    fn on_got(&mut self, client: usize, got: Got) {
        match got {
            Got::Connack(welcome) => {
                assert_eq!(welcome.reason, ReasonCode::Success);
                let member = &mut self.members[client];
                if member.wants_clean {
                    assert!(!welcome.session_present, "client {client} did not begin anew");
                } else if member.is_known {
                    assert!(welcome.session_present, "the session of client {client} is lost");
                } else if !member.is_unsure {
                    assert!(!welcome.session_present, "client {client} has a session of the past");
                }
                member.is_known = true;
                member.is_unsure = false;
                member.wants_clean = false;
                member.is_asking = false;
                member.is_in = true;
                self.repeat(client);
            }
            Got::Publish(message) => self.receive(client, &message),
            Got::Ack(AckKind::Puback | AckKind::Pubrec, id, reason) => {
                if let Some(&number) = self.members[client].messages.get(&id) {
                    let sent = &mut self.sent[number];
                    sent.is_accepted |= !reason.is_error();
                    sent.is_torn |= reason.is_error();
                }
            }
            Got::Suback(id, codes) => {
                assert_eq!(codes, [QoS::ExactlyOnce.bits()]);
                if let Some(filter) = self.members[client].asked.remove(&id)
                    && filter != SHARED
                {
                    self.members[client].filters.insert(filter);
                }
            }
            Got::Disconnect(reason) => assert!(
                matches!(reason, ReasonCode::SessionTakenOver | ReasonCode::UnspecifiedError),
                "{reason:?}"
            ),
            Got::Ack(..) | Got::Unsuback(..) | Got::Pingresp | Got::Auth(..) => {}
        }
    }

    fn receive(&mut self, client: usize, message: &Message) {
        let number: usize = message.text().parse().expect("payloads are numbers");
        let sent = &self.sent[number];
        assert_eq!(message.topic, sent.topic);
        let member = &mut self.members[client];
        assert!(
            member.ever.iter().any(|filter| matches(filter, sent.topic)),
            "message {number} came to client {client}, which never asked for it"
        );
        let count = member.came.entry(number).or_default();
        // A retained copy comes with the subscription, and the live one perhaps after it.
        *count += u32::from(!message.retain);
        let most = 1 + u32::from(member.ever.contains(SHARED));
        assert!(
            *count <= most || sent.is_torn || sent.qos != QoS::ExactlyOnce,
            "message {number} of QoS 2 came {count} times to client {client}"
        );
    }

    /// Sends again what is not acknowledged, in its order [MQTT-4.4.0-1].
    fn repeat(&mut self, client: usize) {
        let model = &self.world.clients[client];
        let messages = &self.members[client].messages;
        let mut numbers: Vec<_> =
            model.sent.iter().map(|(&id, sent)| (messages[&id], id, sent)).collect();
        numbers.sort_by_key(|&(number, ..)| number);
        let (mut bytes, has_failures) = (Vec::new(), self.has_failures());
        for (number, id, sent) in numbers {
            let packet_id = PacketId::new(id).expect("not 0");
            if sent.is_released {
                model.ack(AckKind::Pubrel, packet_id, ReasonCode::Success, &mut bytes);
                continue;
            }
            self.sent[number].is_repeated = true;
            // 3.1.1 learns of a store that failed by the end of its connection alone.
            self.sent[number].is_torn |= has_failures;
            Publish {
                qos: sent.qos,
                dup: true,
                retain: sent.topic.starts_with("kept/"),
                packet_id: Some(packet_id),
                ..Publish::new(&sent.topic, &sent.payload)
            }
            .encode(model.version, &mut bytes);
        }
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// Nothing fails any more and everybody is there: all that is owed comes.
    fn rest(&mut self) {
        let failures_in = std::mem::take(&mut self.world.store_failures_in);
        self.calm();
        for _ in 0..4 {
            self.world.settle();
            self.look();
            for client in 0..self.members.len() {
                if !self.is_in(client) {
                    self.connect(client);
                }
            }
        }
        self.world.settle();
        self.look();
        for client in 0..self.members.len() {
            assert!(self.is_in(client), "client {client} cannot come in");
            let left = &self.world.clients[client].sent;
            assert!(left.is_empty(), "client {client} waits for {left:?}");
        }
        for (number, sent) in self.sent.iter().enumerate().filter(|(_, sent)| sent.is_accepted) {
            for &client in sent.owed.iter().filter(|_| sent.qos != QoS::AtMostOnce) {
                assert!(
                    self.members[client].came.contains_key(&number),
                    "message {number} was acknowledged and never came to client {client}"
                );
            }
        }
        self.world.store_failures_in = failures_in;
    }

    /// A new client is given, of each topic, the last message acknowledged or one sent after it.
    fn check_retained(&mut self) {
        self.world.store_failures_in = 0;
        let reader = self.world.connect("reader", Version::V5);
        self.world.subscribe(reader, "kept/#", QoS::AtMostOnce);
        let mut kept = BTreeMap::new();
        for message in self.world.take_messages(reader) {
            let number: usize = message.text().parse().expect("payloads are numbers");
            kept.insert(message.topic.clone(), number);
        }
        for topic in KEPT {
            let accepted = self.sent.iter().rposition(|s| s.topic == topic && s.is_accepted);
            let Some(accepted) = accepted else { continue };
            let found = kept.get(topic);
            // At QoS 1 what is sent again is kept again, newer ones of QoS 2 may have been kept before.
            let may_be_older = |sent: &Sent| sent.qos == QoS::AtLeastOnce && sent.is_repeated;
            assert!(
                found.is_some_and(|&found| found >= accepted || may_be_older(&self.sent[found])),
                "{topic} keeps {found:?}, and {accepted} was acknowledged"
            );
        }
    }

    /// When all sessions are ended the store holds retained messages alone.
    fn finish(&mut self) {
        self.world.end();
        let left = self.world.store.kept().find(|(key, _)| key.client_id().is_some());
        assert!(left.is_none(), "the store still holds {left:?}");
    }
}

/// Messages whose PUBREC is on its way to the client.
fn acked(wire: &Wire) -> Vec<u16> {
    let bytes = wire.sending.as_ref().map_or_else(Vec::new, flatten);
    let (mut rest, mut acked) = (&bytes[..], Vec::new());
    while let Ok(Framed::Whole(frame)) = codec::frame(rest, u32::MAX) {
        // The same in all versions up to the reason, which comes after the identifier.
        if let Ok(Packet::Pubrec(ack)) = codec::decode(&frame, Version::V5)
            && !ack.reason.is_error()
        {
            acked.push(ack.packet_id.value());
        }
        rest = &rest[frame.len..];
    }
    acked
}

fn matches(filter: &str, topic: &str) -> bool {
    shards::topic::TopicFilter::parse(filter, 8).expect("a valid filter").matches(topic)
}
