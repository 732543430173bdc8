//! Anything, in any order: clients that come, go, are cut, come twice, subscribe and publish,
//! against the oracle.

use std::collections::{BTreeMap, BTreeSet};

use shards::codec::{AckKind, Connect, Publish, SubscribeOptions, Unsubscribe};
use shards::counters::Snapshot;
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;
use shards::rng::Rng;

use crate::client::{Client, Got};
use crate::drive::{Post, QOS, keeping, seconds};
use crate::oracle::{Oracle, SHARED};
use crate::swarm::{CLIENTS_MAX, Options, Scene, Stream, stream};
use crate::world::World;

const NAMES: [&str; CLIENTS_MAX] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const TOPICS: [&str; 8] = ["a", "a/b", "a/c", "b", "b/c", "$x/a", "s/1", "s/2"];
const FILTERS: [&str; 9] = ["a", "a/#", "+", "+/b", "a/+", "b/c", "b/#", "$x/#", SHARED];

/// Steps in which everything owed has come once nothing goes wrong any more: many times what a round
/// takes byte by byte through the smallest rings.
const REST_STEPS_MAX: u64 = 200_000;

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

/// One client identifier as the play sees it.
#[derive(Debug)]
struct Role {
    version: Version,
    expiry_s: u32,
    /// CONNACK has come on the current connection.
    is_in: bool,
    /// Which of its messages each packet identifier stands for.
    messages: BTreeMap<u16, usize>,
    /// SUBSCRIBEs whose SUBACK has not come on the current connection.
    asked: BTreeMap<u16, (&'static str, QoS)>,
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
}

impl Play {
    pub fn new(seed: u64) -> Self {
        Self::with(&Options::draw_as(seed, Scene::Play))
    }

    pub fn with(options: &Options) -> Self {
        let mut rng = stream(options.seed, Stream::Workload, 0);
        let mut world = World::drawn(options);
        let roles: Vec<_> = options
            .versions
            .iter()
            .map(|&version| Role {
                version,
                expiry_s: if rng.next_u64().is_multiple_of(3) { 30 } else { 100_000 },
                is_in: false,
                messages: BTreeMap::new(),
                asked: BTreeMap::new(),
            })
            .collect();
        for (name, role) in NAMES.iter().zip(&roles) {
            // No wire yet: the first connection replaces this number.
            world.clients.push(Client::new(name, role.version, usize::MAX));
        }
        let oracle = Oracle::new(roles.len());
        Self { world, oracle, rng, roles, options: options.clone(), act_count: 0 }
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
        }
        // Everybody comes back once more: nothing owed may be missing.
        for client in 0..self.roles.len() {
            if !self.is_in(client) {
                self.connect(client, false);
            }
        }
        self.rest();
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

    /// One thing in the middle of everything.
    fn act(&mut self) {
        let client = self.below(self.roles.len());
        match self.below(20) {
            0 if self.is_in(client) => self.cut(client, false),
            1 if self.is_in(client) => self.cut(client, true),
            // Whether the older connection is still there or not. Without a session nobody could
            // say which of several connections began it.
            2 | 3 if self.oracle.sessions[client].is_there => self.connect(client, false),
            4 if self.is_in(client) => self.world.stall(client),
            5 if self.is_in(client) => {
                let wire = self.world.clients[client].wire;
                self.world.wires[wire].is_stalled = false;
            }
            6 if self.is_in(client) => self.ask(client),
            7 if self.is_in(client) => self.drop_filter(client),
            _ => self.publish(client),
        }
    }

    fn is_in(&self, client: usize) -> bool {
        self.roles[client].is_in && !self.world.clients[client].is_ended
    }

    fn publish(&mut self, client: usize) {
        let topic = TOPICS[self.below(TOPICS.len())];
        let quota = usize::from(self.world.settings.receive_maximum);
        let may = self.world.clients[client].sent.len() < quota;
        let qos = if may { QOS[self.below(3)] } else { QoS::AtMostOnce };
        if !self.is_in(client) {
            return;
        }
        let number = self.oracle.publish(client, topic, qos);
        let id = self.world.say(client, &Post::new(topic, &number.to_string(), qos));
        if id != 0 {
            self.roles[client].messages.insert(id, number);
        }
    }

    /// A SUBSCRIBE in the middle of everything. The shared one is left to quiet moments: who got
    /// what could not be told otherwise.
    fn ask(&mut self, client: usize) {
        let filter = FILTERS[self.below(FILTERS.len() - 1)];
        let qos = QOS[self.below(3)];
        self.oracle.ask(client, filter);
        let options = SubscribeOptions::new(qos);
        let id = self.world.say_subscribe(client, None, &[(filter, options)]);
        let asked = &mut self.roles[client].asked;
        asked.retain(|_, (other, _)| *other != filter);
        asked.insert(id, (filter, qos));
    }

    /// An UNSUBSCRIBE in the middle of everything.
    fn drop_filter(&mut self, client: usize) {
        let filter = FILTERS[self.below(FILTERS.len() - 1)];
        self.oracle.unsubscribe(client, filter);
        self.roles[client].asked.retain(|_, (other, _)| *other != filter);
        let version = self.roles[client].version;
        let id = self.world.clients[client].take_id();
        self.world.write(client, |out| Unsubscribe::new(id, &[filter]).encode(version, out));
    }

    /// The client's side ends; with a reset, what it wrote last is lost.
    fn cut(&mut self, client: usize, is_reset: bool) {
        let wire = &mut self.world.wires[self.world.clients[client].wire];
        wire.is_client_gone = true;
        wire.is_stalled = false;
        if is_reset {
            wire.upward.clear();
        }
        self.roles[client].is_in = false;
        self.roles[client].asked.clear();
    }

    /// A new connection for the session, with or without an end to it.
    fn connect(&mut self, client: usize, is_clean: bool) {
        let old = self.world.clients[client].wire;
        if let Some(wire) = self.world.wires.get_mut(old) {
            wire.is_stalled = false;
        }
        let role = &mut self.roles[client];
        role.is_in = false;
        role.asked.clear();
        let connect = Connect {
            clean_start: is_clean,
            receive_maximum: role.version.is_v5().then_some(self.options.receive_maximum),
            topic_alias_max: 1,
            keep_alive_s: self.options.keep_alive_s,
            ..keeping(role.version, NAMES[client], if is_clean { 0 } else { role.expiry_s })
        };
        let wire = self.world.dial(client);
        self.world.clients[client].renew(wire);
        self.world.say_connect(client, &connect);
        if role.version != Version::V5 {
            self.world.clients[client].receive_maximum = u16::MAX;
        }
    }

    /// What has come: the oracle hears of it.
    fn look(&mut self) {
        for client in 0..self.roles.len() {
            while let Some(got) = self.world.clients[client].got.pop_front() {
                self.on_got(client, got);
            }
        }
    }

    fn on_got(&mut self, client: usize, got: Got) {
        match got {
            Got::Connack(welcome) => {
                assert_eq!(welcome.reason, ReasonCode::Success);
                let is_known = self.oracle.sessions[client].is_there;
                if self.roles[client].version != Version::V31 {
                    assert_eq!(welcome.session_present, is_known, "client {client}");
                }
                self.oracle.begin(client);
                self.roles[client].is_in = true;
                self.repeat(client);
            }
            Got::Publish(message) => self.oracle.receive(client, &message),
            Got::Ack(AckKind::Puback | AckKind::Pubrec, id, reason) => {
                assert!(!reason.is_error(), "{reason:?}");
                if let Some(&number) = self.roles[client].messages.get(&id) {
                    self.oracle.accepted(number);
                }
            }
            Got::Ack(AckKind::Pubrel | AckKind::Pubcomp, ..) => {}
            Got::Disconnect(reason) => {
                // The model reads what an older connection had for it no more.
                assert_eq!(reason, ReasonCode::SessionTakenOver);
            }
            Got::Suback(id, codes) => {
                if let Some((filter, qos)) = self.roles[client].asked.remove(&id) {
                    assert_eq!(codes, [qos.bits()]);
                    self.oracle.granted(client, filter, qos);
                }
            }
            Got::Unsuback(..) | Got::Pingresp => {}
        }
    }

    /// Sends again what is not acknowledged [MQTT-4.4.0-1].
    fn repeat(&mut self, client: usize) {
        let model = &self.world.clients[client];
        let version = model.version;
        let mut bytes = Vec::new();
        let mut numbers: Vec<_> = model
            .sent
            .iter()
            .map(|(&id, sent)| (self.roles[client].messages[&id], id, sent))
            .collect();
        // In the order in which they were sent first.
        numbers.sort_by_key(|&(number, ..)| number);
        for (number, id, sent) in numbers {
            let packet_id = PacketId::new(id).expect("not 0");
            if sent.is_released {
                model.ack(AckKind::Pubrel, packet_id, ReasonCode::Success, &mut bytes);
                continue;
            }
            self.oracle.repeated(number);
            Publish {
                qos: sent.qos,
                dup: true,
                packet_id: Some(packet_id),
                ..Publish::new(&sent.topic, &sent.payload)
            }
            .encode(version, &mut bytes);
        }
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// Nothing more happens until everything has come; then the oracle checks.
    fn rest(&mut self) {
        self.world.calm();
        for (at, wire) in self.world.wires.iter_mut().enumerate() {
            wire.is_stalled = false;
            wire.is_client_gone |= self.world.clients[wire.client].wire != at;
        }
        // What comes may be answered, which ends: nobody says anything of its own accord.
        let mut is_answered = true;
        while is_answered {
            self.world.settle_within(REST_STEPS_MAX);
            let before = self.world.written_bytes();
            self.look();
            is_answered = self.world.written_bytes() != before;
        }
        self.world.expect_quiet();
        let online: BTreeSet<_> =
            (0..self.roles.len()).filter(|&client| self.is_in(client)).collect();
        for &client in &online {
            let sent = &self.world.clients[client].sent;
            assert!(sent.is_empty(), "client {client} waits for {sent:?}");
            assert!(self.roles[client].asked.is_empty(), "client {client} waits for a SUBACK");
        }
        self.oracle.check(&online);
    }

    /// While nothing is on its way: other subscriptions, ends of sessions, time.
    fn rearrange(&mut self) {
        for _ in 0..3 {
            if !self.begin_act() {
                continue;
            }
            let client = self.below(self.roles.len());
            match self.below(8) {
                0 => self.begin_anew(client),
                1 => self.pass_time(),
                2 if self.is_in(client) => {
                    self.world.disconnect(client);
                    self.roles[client].is_in = false;
                    self.look();
                }
                3 if self.is_in(client) => {
                    let filter = FILTERS[self.below(FILTERS.len())];
                    self.oracle.unsubscribe(client, filter);
                    self.world.unsubscribe(client, &[filter]);
                }
                _ if self.is_in(client) => {
                    let filter = FILTERS[self.below(FILTERS.len())];
                    let least = usize::from(filter == SHARED);
                    let qos = QOS[least + self.below(3 - least)];
                    let options = SubscribeOptions::new(qos);
                    self.world.subscribe_with(client, None, &[(filter, options)]);
                    self.oracle.subscribe(client, filter, qos);
                }
                _ => {
                    self.connect(client, false);
                    self.rest();
                }
            }
        }
    }

    /// A clean start ends the session that is there; its own ends with its connection.
    fn begin_anew(&mut self, client: usize) {
        self.connect(client, true);
        self.forget(client);
        self.rest();
        self.world.disconnect(client);
        self.look();
        self.forget(client);
        self.connect(client, false);
        self.rest();
    }

    fn forget(&mut self, client: usize) {
        self.oracle.end(client);
        self.roles[client].messages.clear();
    }

    /// Long enough for some sessions to expire, also of clients whose silence has to be noticed first.
    fn pass_time(&mut self) {
        self.world.advance(seconds(80));
        for client in 0..self.roles.len() {
            let role = &self.roles[client];
            let expires = role.version.is_v5() && role.expiry_s < 40;
            if expires && !self.is_in(client) && self.oracle.sessions[client].is_there {
                self.forget(client);
            }
        }
        self.rest();
    }
}
