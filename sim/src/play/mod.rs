//! Anything, in any order: clients that come, go, are cut, come twice, subscribe and publish,
//! against the oracle.
//!
//! A play goes in rounds. In quiet moments something is arranged, then acts follow each other while
//! the world rages, then it comes to rest and everything is checked.

mod acts;
mod look;
mod quiet;
mod tally;

use std::collections::BTreeMap;

use shards::codec::{Connect, Will};
use shards::counters::Snapshot;
use shards::ids::{QoS, Version};
use shards::rng::Rng;
use shards::time::Time;

use crate::client::{Client, Message};
use crate::drive::{QOS, keeping, seconds};
use crate::oracle::{Leave, Oracle, Published, SHARED, payload};
use crate::swarm::{CLIENTS_MAX, MOUNT, Options, Scene, Stream, stream};
use crate::world::World;

use tally::Tally;

const NAMES: [&str; CLIENTS_MAX] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const TOPICS: [&str; 8] = ["a", "a/b", "a/c", "b", "b/c", "$x/a", "s/1", "s/2"];
const FILTERS: [&str; 9] = ["a", "a/#", "+", "+/b", "a/+", "b/c", "b/#", "$x/#", SHARED];

/// Says which seed failed.
#[derive(Debug)]
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with seed {}", self.0);
        }
    }
}

/// How far a client's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    /// CONNECT is written.
    Dialed,
    /// CONNACK has come.
    In,
    /// It ends; what comes is still read.
    Ending,
}

/// What a packet identifier of a request stands for.
#[derive(Debug)]
enum Asked {
    /// By filter: the oracle's number for it, and the QoS.
    Subscribe(Vec<(u64, QoS)>),
    /// The oracle's number of the packet, and the filters.
    Unsubscribe(u64, Vec<&'static str>),
}

/// One client identifier as the play sees it.
#[derive(Debug)]
struct Role {
    version: Version,
    /// What its CONNECTs ask for, and what the latest one did.
    expiry_s: u32,
    asked_expiry_s: u32,
    packet_bytes_max: Option<u32>,
    topic_alias_max: u16,
    stage: Stage,
    /// The latest CONNECT was a clean start.
    was_clean: bool,
    /// A clean start may have been lost: only another one leads back to a known state.
    needs_clean: bool,
    /// Several CONNECTs are on their way, or one whose connection is gone: until the world rests,
    /// nobody knows their order.
    is_muddled: bool,
    /// It did what the broker ends connections for.
    is_guilty: bool,
    /// Topic aliases that it has announced, from 1, and how many it may.
    aliases: Vec<&'static str>,
    aliases_max: usize,
    /// Which of its messages each packet identifier stands for.
    messages: BTreeMap<u16, usize>,
    /// SUBSCRIBEs and UNSUBSCRIBEs that are not answered on the current connection.
    asked: BTreeMap<u16, Asked>,
}

#[derive(Debug)]
pub struct Play {
    pub world: World,
    oracle: Oracle,
    rng: Rng,
    options: Options,
    /// Acts begun or left out.
    act_count: u32,
    roles: Vec<Role>,
    tally: Tally,
    /// When the world last rested.
    since: Time,
    /// Retained messages that came to a client whose SUBSCRIBE is watched.
    watched: Option<(usize, Vec<Message>)>,
}

impl Play {
    pub fn new(seed: u64) -> Self {
        Self::with(&Options::draw_as(seed, Scene::Play))
    }

    pub fn with(options: &Options) -> Self {
        let mut rng = stream(options.seed, Stream::Workload, 0);
        let mut world = World::drawn(options);
        let roles: Vec<_> =
            options.versions.iter().map(|&version| Role::draw(version, &mut rng)).collect();
        for (name, role) in NAMES.iter().zip(&roles) {
            // No wire yet: the first connection replaces this number.
            world.clients.push(Client::new(name, role.version, usize::MAX));
        }
        world.clients.push(Client::new("probe", Version::V5, usize::MAX));
        if options.is_mounted {
            // Inside and outside they mean the same topics.
            for (number, client) in world.clients.iter_mut().enumerate() {
                let is_inside = number.is_multiple_of(2) || number == roles.len();
                client.listener = u16::from(is_inside);
                client.prefix = if is_inside { "" } else { MOUNT };
            }
        }
        let now = world.now.time;
        Self {
            oracle: Oracle::new(&NAMES[..roles.len()], world.rules, now),
            world,
            rng,
            roles,
            options: options.clone(),
            act_count: 0,
            tally: Tally::default(),
            since: now,
            watched: None,
        }
    }

    /// Acts that were played or left out.
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

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).expect("less than a usize")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Plays to the end. What it answers tells one course of events from another.
    pub fn run(&mut self) -> (u64, Snapshot) {
        for client in 0..self.roles.len() {
            self.connect(client, false);
        }
        self.rest();
        // Not from an act's stream: acts that are left out must not change how many there are.
        let mut plan = stream(self.options.seed, Stream::Workload, u64::from(u32::MAX));
        let rounds = 3 + plan.next_u64() % 4;
        for _ in 0..rounds {
            self.rearrange();
            let acts = 10 + plan.next_u64() % 30;
            self.world.rage();
            for _ in 0..acts {
                if !self.begin_act() {
                    continue;
                }
                self.act();
                let count = self.below(12);
                self.world.stir(count);
                self.look();
            }
            self.rest();
            self.probe();
        }
        // Everybody comes back once more: nothing owed may be missing.
        for client in 0..self.roles.len() {
            if !self.is_in(client) {
                self.connect(client, false);
            }
        }
        self.rest();
        self.probe();
        self.world.end();
        (self.world.step_count, self.world.snapshot())
    }

    /// Plays, and asks every shard to stop in the middle of everything.
    pub fn stop_anywhere(&mut self) {
        for client in 0..self.roles.len() {
            self.connect(client, false);
        }
        self.rest();
        self.rearrange();
        self.world.rage();
        for _ in 0..self.below(30) {
            self.begin_act();
            self.act();
            let count = self.below(12);
            self.world.stir(count);
            self.look();
        }
        self.world.stop();
        // Who does not read is given up after the linger time.
        self.world.advance(seconds(5));
        assert!(self.world.is_stopped(), "a shard does not stop");
        let gauges = self.world.snapshot().gauges;
        assert_eq!((gauges.connections, gauges.clients_connected), (0, 0));
        assert!(self.world.wires.iter().all(|wire| wire.is_closed), "a connection is forgotten");
    }

    fn is_in(&self, client: usize) -> bool {
        self.roles[client].stage == Stage::In && !self.world.clients[client].is_ended
    }

    /// A new connection, with a clean start if asked for or if only that leads to a known state.
    fn connect(&mut self, client: usize, is_clean: bool) {
        let now = self.world.now.time;
        let role = &self.roles[client];
        let is_lost = role.version == Version::V31
            && self.oracle.sessions[client].is_resumable(now).is_none();
        let is_clean = is_clean || role.needs_clean || is_lost;
        self.give_up(client, Leave::Lost);
        let role = &self.roles[client];
        let keeps = !is_clean || !is_lost && self.rng.next_u64().is_multiple_of(2);
        let expiry_s = match role.version {
            Version::V5 if keeps => role.expiry_s,
            Version::V31 | Version::V311 if !is_clean => u32::MAX,
            _ => 0,
        };
        let will = self.draw_will(client);
        let (number, delay_s) = will.unwrap_or_default();
        self.oracle.connect(client, is_clean, will);
        let text = will.map(|(number, _)| payload(number, self.oracle.published(number).bytes));
        let role = &mut self.roles[client];
        role.stage = Stage::Dialed;
        role.was_clean = is_clean;
        role.is_guilty = false;
        role.aliases.clear();
        role.asked.clear();
        let is_v5 = role.version.is_v5();
        let mut connect = Connect {
            clean_start: is_clean,
            receive_maximum: is_v5.then_some(self.options.receive_maximum),
            packet_bytes_max: role.packet_bytes_max,
            topic_alias_max: if is_v5 { role.topic_alias_max } else { 0 },
            keep_alive_s: self.options.keep_alive_s,
            ..keeping(role.version, NAMES[client], expiry_s)
        };
        role.asked_expiry_s = expiry_s.min(self.world.settings.session_expiry_max_s);
        let topic = will.map(|(number, _)| {
            self.world.clients[client].named(self.oracle.published(number).topic)
        });
        connect.will = topic.as_deref().zip(text.as_deref()).map(|(topic, text)| {
            let message = self.oracle.published(number);
            let will = Will::new(topic, text);
            Will { qos: message.qos, retain: message.retain, delay_s, ..will }
        });
        if is_clean {
            self.roles[client].messages.clear();
        }
        let wire = self.world.dial(client);
        self.world.clients[client].renew(wire);
        self.world.say_connect(client, &connect);
    }

    /// A will for the next connection: the number of its message, and its delay.
    fn draw_will(&mut self, client: usize) -> Option<(usize, u32)> {
        if self.below(2) == 0 {
            return None;
        }
        let topic = TOPICS[self.below(TOPICS.len())];
        let qos = QOS[self.below(3)];
        let is_v5 = self.roles[client].version.is_v5();
        let delay_s = if is_v5 { [0, 0, 10, 60][self.below(4)] } else { 0 };
        let retain = self.one_in(3);
        // Who may not publish its will does not come in.
        let is_let = self.world.rules.lets_publish(NAMES[client], topic);
        let topic = if is_let { topic } else { "a/b" };
        let mut message = Published::new(client, topic, qos, usize::MAX);
        (message.retain, message.is_will) = (retain, true);
        // So that a CONNECT that moves to another shard is too large for the ring itself.
        message.bytes = if self.one_in(12) { 9000 } else { 8 };
        Some((self.oracle.publish(message), delay_s))
    }

    /// The oracle hears of the end of a connection that was welcomed.
    fn leave(&mut self, client: usize, leave: Leave) {
        self.oracle.left(client, leave);
        // Another CONNECT may have taken it over, and with it the will.
        if self.roles[client].is_muddled {
            self.oracle.muddle_wills(client);
        }
    }

    /// What there was of a connection is over for the client.
    fn give_up(&mut self, client: usize, leave: Leave) {
        let (stage, was_clean) = (self.roles[client].stage, self.roles[client].was_clean);
        let mut expiry_s = self.roles[client].asked_expiry_s;
        match stage {
            Stage::Out => {}
            Stage::Ending | Stage::In => {
                if stage == Stage::In {
                    self.leave(client, leave);
                }
                if let Leave::Disconnect { expiry_s: Some(changed_s), .. } = leave {
                    expiry_s = changed_s;
                }
                // Both sides forget a session that ends with its connection.
                if expiry_s == 0 {
                    self.world.clients[client].forget();
                }
            }
            Stage::Dialed => {
                self.roles[client].is_muddled = true;
                self.roles[client].needs_clean |= was_clean;
                self.oracle.left_unwelcomed(client, expiry_s, was_clean);
                self.oracle.muddle_wills(client);
            }
        }
        let role = &mut self.roles[client];
        role.stage = Stage::Out;
        role.asked.clear();
    }
}

impl Role {
    fn draw(version: Version, rng: &mut Rng) -> Self {
        let mut pick = |all: &[u32]| {
            let at = usize::try_from(rng.next_u64() % all.len() as u64).expect("an index");
            all[at]
        };
        let packet_bytes_max = pick(&[0, 0, 0, 120]);
        Self {
            version,
            expiry_s: pick(&[0, 30, 30, 100_000, 100_000, 100_000]),
            packet_bytes_max: (version.is_v5() && packet_bytes_max > 0).then_some(packet_bytes_max),
            topic_alias_max: u16::try_from(pick(&[0, 1, 3])).expect("small"),
            asked_expiry_s: 0,
            stage: Stage::Out,
            was_clean: false,
            needs_clean: false,
            is_muddled: false,
            is_guilty: false,
            aliases: Vec::new(),
            aliases_max: 0,
            messages: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }
}
