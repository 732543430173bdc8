//! Sequences of what clients do with their sessions: connect, subscribe, publish, acknowledge what
//! they should and what they should not, stall, vanish, take over, and let time pass.
//!
//! Input: a setup and a list of operations. The model clients check what every client may rely on: an
//! identifier is not used again while it is in flight, the window is kept, aliases are known. Here is
//! checked that no message comes twice that may come once, that nobody is let down who behaves, and
//! that nothing is left.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use shards::codec::{
    AckKind, Connect, Disconnect, Property, RetainHandling, SubscribeOptions, Unsubscribe, Will,
};
use shards::ids::{PacketId, QoS, Version};
use shards::limits::{OverflowPolicy, Settings, ShareStrategy};
use shards::reject::ReasonCode;
use shards::store::StoreOutcome;
use sim::client::{Answers, Client, Got, Message};
use sim::drive::{Post, QOS, keeping, plain, seconds};
use sim::world::World;

use crate::{reference, version_of};

const NAMES: [&str; 3] = ["c0", "c1", "c2"];
const TOPICS: [&str; 5] = ["a", "a/b", "b", "s/1", "$x"];
const FILTERS: [&str; 8] = ["a", "a/#", "#", "+/b", "b", "$share/g/s/+", "$share/g/#", "$x"];

/// More would only make an input slow.
const OPS_MAX: usize = 120;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    shards: u8,
    seed: u8,
    is_tight: bool,
    is_durable: bool,
    has_no_aliases: bool,
    overflow: u8,
    share_strategy: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Connect {
        client: u8,
        version: u8,
        is_clean: bool,
        expiry: u8,
        window: u8,
        has_will: bool,
    },
    Subscribe {
        client: u8,
        filter: u8,
        options: u8,
    },
    Unsubscribe {
        client: u8,
        filter: u8,
    },
    Publish {
        client: u8,
        topic: u8,
        qos: u8,
        properties: u8,
        retain: bool,
        is_large: bool,
    },
    /// An acknowledgement of any kind for any identifier, with any reason.
    Acknowledge {
        client: u8,
        kind: u8,
        id: u8,
        has_failed: bool,
    },
    Answer {
        client: u8,
        answers: u8,
    },
    Disconnect {
        client: u8,
        has_will: bool,
        expiry: u8,
    },
    Cut {
        client: u8,
        is_reset: bool,
    },
    Stall {
        client: u8,
    },
    Unstall {
        client: u8,
    },
    Time {
        amount: u8,
    },
    Stir {
        count: u8,
    },
    Settle,
    HoldStores,
    FinishStores {
        has_failed: bool,
    },
}

/// What one client identifier has seen.
#[derive(Debug, Default)]
struct Role {
    /// By message: how often it came, and how often as a first copy.
    came: BTreeMap<u32, (u32, u32)>,
    /// It has acknowledged what it had not got, or it cannot know whether its session is the same: a
    /// message may come again.
    is_lax: bool,
    is_in: bool,
}

struct Play {
    world: World,
    roles: [Role; NAMES.len()],
    /// QoS of every message; its number is its payload.
    published: Vec<QoS>,
}

/// # Panics
/// If the core does, or breaks one of the promises above.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut input) else { return };
    let mut play = Play::new(setup);
    for _ in 0..OPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        play.act(op);
        play.look();
    }
    play.finish();
}

fn settings(setup: Setup) -> Settings {
    let loose = Settings {
        session_expiry_max_s: 1000,
        mailbox_bytes: 4096,
        retained_messages_max: 16,
        is_durable: setup.is_durable,
        topic_alias_out_max: if setup.has_no_aliases { 0 } else { 2 },
        overflow: [
            OverflowPolicy::DropOldest,
            OverflowPolicy::DropNewest,
            OverflowPolicy::Refuse,
            OverflowPolicy::Disconnect,
        ][usize::from(setup.overflow % 4)],
        share_strategy: [
            ShareStrategy::RoundRobin,
            ShareStrategy::Random,
            ShareStrategy::Sticky,
            ShareStrategy::HashClient,
            ShareStrategy::HashTopic,
            ShareStrategy::LeastInflight,
        ][usize::from(setup.share_strategy % 6)],
        ..plain()
    };
    if !setup.is_tight {
        return loose;
    }
    Settings {
        mailbox_bytes: 64,
        out_bytes_max: 200,
        inflight_max: 2,
        queue_messages_max: 3,
        queue_bytes_max: 20_000,
        ..loose
    }
}

impl Play {
    fn new(setup: Setup) -> Self {
        let shards = [1, 2, 3, 8][usize::from(setup.shards % 4)];
        let seed = (setup.seed != 0).then_some(u64::from(setup.seed));
        let mut world = World::new(shards, seed, &settings(setup));
        for name in NAMES {
            // No wire yet: the first connection replaces this number.
            let version = version_of(setup.seed);
            world.clients.push(Client::new(name, version, usize::MAX));
        }
        Self { world, roles: Default::default(), published: Vec::new() }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Connect { client, version, is_clean, expiry, window, has_will } => {
                let client = usize::from(client) % NAMES.len();
                self.connect(client, version, is_clean, expiry, window, has_will);
            }
            Op::Subscribe { client, filter, options } => self.subscribe(client, filter, options),
            Op::Unsubscribe { client, filter } => {
                let Some(client) = self.one_in(client) else { return };
                let filter = FILTERS[usize::from(filter) % FILTERS.len()];
                let (version, id) =
                    (self.world.clients[client].version, self.world.clients[client].take_id());
                self.world
                    .write(client, |out| Unsubscribe::new(id, &[filter]).encode(version, out));
            }
            Op::Publish { client, topic, qos, properties, retain, is_large } => {
                let qos = QOS[usize::from(qos) % QOS.len()];
                self.publish(client, topic, qos, properties, retain, is_large);
            }
            Op::Acknowledge { client, kind, id, has_failed } => {
                self.acknowledge(client, kind, id, has_failed);
            }
            Op::Answer { client, answers } => {
                let choices = [Answers::All, Answers::ToPubrec, Answers::None];
                let answers = choices[usize::from(answers) % choices.len()];
                self.world.answer(usize::from(client) % NAMES.len(), answers);
            }
            Op::Disconnect { client, has_will, expiry } => {
                self.disconnect(client, has_will, expiry);
            }
            Op::Cut { client, is_reset } => {
                let Some(client) = self.one_open(client) else { return };
                self.cut(client, is_reset);
            }
            Op::Stall { client } | Op::Unstall { client } => {
                let Some(client) = self.one_open(client) else { return };
                let wire = self.world.clients[client].wire;
                self.world.wires[wire].is_stalled = matches!(op, Op::Stall { .. });
            }
            Op::Time { amount } => {
                let amount = [1, 3, 20, 40, 300][usize::from(amount % 5)];
                self.world.advance(seconds(amount));
            }
            Op::Stir { count } => self.world.stir(usize::from(count)),
            Op::Settle => self.world.settle(),
            Op::HoldStores => self.world.is_store_held = true,
            Op::FinishStores { has_failed } => {
                let outcome = if has_failed { StoreOutcome::Failed } else { StoreOutcome::Durable };
                self.world.finish_stores(outcome);
                self.world.is_store_held = false;
                self.world.store_outcome = StoreOutcome::Durable;
            }
        }
    }

    /// A client whose network connection is there, as far as it knows.
    fn one_open(&self, client: u8) -> Option<usize> {
        let client = usize::from(client) % NAMES.len();
        let is_open = self.world.clients[client].wire < self.world.wires.len()
            && !self.world.clients[client].is_ended;
        is_open.then_some(client)
    }

    /// The same, and CONNACK has come.
    fn one_in(&self, client: u8) -> Option<usize> {
        self.one_open(client).filter(|&client| self.roles[client].is_in)
    }

    fn connect(
        &mut self,
        client: usize,
        version: u8,
        is_clean: bool,
        expiry: u8,
        window: u8,
        has_will: bool,
    ) {
        let version = version_of(version);
        let expiry_s = [0, 10, 100, u32::MAX][usize::from(expiry % 4)];
        let connect = Connect {
            clean_start: is_clean,
            receive_maximum: version.is_v5().then_some(1 + u16::from(window % 4)),
            topic_alias_max: u16::from(window >> 4),
            will: has_will.then(|| Will::new("b", b"will")),
            ..keeping(version, NAMES[client], expiry_s)
        };
        let wire = self.world.dial(client);
        self.world.clients[client].version = version;
        self.world.clients[client].renew(wire);
        self.roles[client].is_in = false;
        if version == Version::V31 {
            // Its CONNACK does not say whether the session is the same.
            self.world.clients[client].forget();
            self.roles[client].is_lax = true;
        }
        self.world.say_connect(client, &connect);
        if !version.is_v5() {
            self.world.clients[client].topic_alias_max = 0;
        }
    }

    fn subscribe(&mut self, client: u8, filter: u8, bits: u8) {
        let Some(client) = self.one_in(client) else { return };
        let filter = FILTERS[usize::from(filter) % FILTERS.len()];
        let handlings = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never];
        let options = SubscribeOptions {
            // A shared subscription must not have it.
            no_local: bits & 4 != 0 && !filter.starts_with("$share/"),
            retain_as_published: bits & 8 != 0,
            retain_handling: handlings[usize::from(bits >> 4) % handlings.len()],
            ..SubscribeOptions::new(QOS[usize::from(bits % 3)])
        };
        let id = (self.world.clients[client].version.is_v5() && bits & 2 != 0).then_some(7);
        self.world.say_subscribe(client, id, &[(filter, options)]);
    }

    fn publish(
        &mut self,
        client: u8,
        topic: u8,
        qos: QoS,
        properties: u8,
        retain: bool,
        is_large: bool,
    ) {
        let Some(client) = self.one_in(client) else { return };
        let topic = TOPICS[usize::from(topic) % TOPICS.len()];
        let number = self.published.len();
        self.published.push(qos);
        // Large enough to travel by reference.
        let filling = if is_large { " ".repeat(9000) } else { String::new() };
        // Retained messages come once more with each subscription: they are not counted.
        let text = if retain { format!("r{filling}") } else { format!("{number}{filling}") };
        let alias = Property::TopicAlias(1 + u16::from(properties >> 6));
        let expiry = Property::MessageExpiry(u32::from(properties >> 4 & 3) * 10);
        let properties = match properties & 3 {
            0 => &[][..],
            1 => &[alias][..],
            2 => &[expiry][..],
            _ => &[alias, expiry][..],
        };
        self.world.say(client, &Post { retain, properties, ..Post::new(topic, &text, qos) });
    }

    fn acknowledge(&mut self, client: u8, kind: u8, id: u8, has_failed: bool) {
        let Some(client) = self.one_in(client) else { return };
        let id = PacketId::new(u16::from(id % 8)).unwrap_or(PacketId::MIN);
        let kinds = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp];
        let kind = kinds[usize::from(kind) % kinds.len()];
        let reason = match (has_failed, kind) {
            (false, _) => ReasonCode::Success,
            (true, AckKind::Puback | AckKind::Pubrec) => ReasonCode::UnspecifiedError,
            (true, AckKind::Pubrel | AckKind::Pubcomp) => ReasonCode::PacketIdentifierNotFound,
        };
        let mut bytes = Vec::new();
        let model = &mut self.world.clients[client];
        // The broker may take the exchange as over; the model must not insist on it.
        model.acknowledge(id, &mut bytes);
        bytes.clear();
        model.ack(kind, id, reason, &mut bytes);
        self.world.write(client, |out| out.extend_from_slice(&bytes));
        self.roles[client].is_lax = true;
    }

    fn disconnect(&mut self, client: u8, has_will: bool, expiry: u8) {
        let Some(client) = self.one_in(client) else { return };
        let version = self.world.clients[client].version;
        let reason = if has_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        let disconnect = Disconnect {
            session_expiry_s: (version.is_v5() && expiry & 1 != 0).then_some(u32::from(expiry)),
            ..Disconnect::new(if version.is_v5() { reason } else { ReasonCode::Success })
        };
        self.world.write(client, |out| disconnect.encode(version, out));
        self.roles[client].is_in = false;
    }

    /// The client's side ends; with a reset, what it wrote last is lost.
    fn cut(&mut self, client: usize, is_reset: bool) {
        let wire = &mut self.world.wires[self.world.clients[client].wire];
        wire.is_client_gone = true;
        if is_reset {
            wire.upward.clear();
        }
        self.roles[client].is_in = false;
    }

    /// What has come.
    fn look(&mut self) {
        for client in 0..NAMES.len() {
            while let Some(got) = self.world.clients[client].got.pop_front() {
                match got {
                    Got::Connack(welcome) => {
                        assert_eq!(welcome.reason, ReasonCode::Success, "client {client}");
                        let is_lax = self.world.clients[client].version == Version::V31;
                        if !welcome.session_present {
                            self.roles[client] = Role { is_lax, ..Role::default() };
                        }
                        self.roles[client].is_in = true;
                    }
                    Got::Publish(message) => self.count(client, &message),
                    Got::Ack(..)
                    | Got::Suback(..)
                    | Got::Unsuback(..)
                    | Got::Auth(..)
                    | Got::Pingresp
                    | Got::Disconnect(_) => {}
                }
            }
        }
    }

    /// No message comes more often than there are ways to it: one for all ordinary subscriptions, and
    /// one for each shared group.
    fn count(&mut self, client: usize, message: &Message) {
        let Ok(number) = message.text().trim_end().parse::<u32>() else { return };
        let published = self.published[usize::try_from(number).expect("few")];
        assert!(message.qos <= published, "message {number} came with a higher QoS");
        let is_way = |filter: &&&str| {
            reference::split_share(filter)
                .is_some_and(|(_, filter)| reference::matches(filter, &message.topic))
        };
        let ways = 1 + u32::try_from(FILTERS.iter().filter(is_way).count()).expect("few");
        let role = &mut self.roles[client];
        let (count, firsts) = role.came.entry(number).or_default();
        *count += 1;
        *firsts += u32::from(!message.dup);
        if role.is_lax {
            return;
        }
        assert!(*firsts <= ways, "message {number} was sent {firsts} times to client {client}");
        let is_once = message.qos != QoS::AtLeastOnce;
        assert!(!is_once || *count <= ways, "message {number} came {count} times to {client}");
    }

    /// Everybody comes back and behaves: all that is owed goes out. Then all leave for good.
    fn finish(&mut self) {
        self.world.is_store_held = false;
        self.world.store_outcome = StoreOutcome::Durable;
        for wire in &mut self.world.wires {
            wire.is_stalled = false;
        }
        for client in 0..NAMES.len() {
            self.world.answer(client, Answers::All);
        }
        // The first round ends old connections, whose wills may be too much for a full queue.
        for _ in 0..2 {
            for client in 0..NAMES.len() {
                self.connect(client, 2, false, 1, 3, false);
                self.world.settle();
                self.look();
            }
        }
        for client in 0..NAMES.len() {
            assert!(self.roles[client].is_in, "client {client} has no CONNACK");
            self.world.expect_alive(client);
        }
        self.look();
        let kept = self.world.snapshot().gauges.messages_kept;
        assert_eq!(kept, 0, "messages wait for clients that take everything");
        self.world.end();
    }
}
