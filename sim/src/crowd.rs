//! Clients that nobody keeps book of: all that a client may do and some of what it may not, under
//! limits so tiny that messages are dropped.
//!
//! What holds all the same is checked: what the model clients look at in every packet, that nothing
//! is left waiting once nothing goes wrong any more, and that nothing is left behind when all are
//! gone. Who is owed which message is the play's part.

use shards::auth::Verdict;
use shards::codec::{
    self, AckKind, Auth, Connect, Disconnect, MessageProperties, Property, Publish, RetainHandling,
    SubscribeOptions, Unsubscribe, Will,
};
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;
use shards::rng::Rng;

use crate::client::{Answers, Client, Got};
use crate::drive::{Post, QOS, seconds};
use crate::rules::{METHOD, Rules};
use crate::swarm::{CLIENTS_MAX, Options, Stream, stream};
use crate::world::World;

const NAMES: [&str; CLIENTS_MAX] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];
const TOPICS: [&str; 6] = ["a", "a/b", "b", "s/1", "s/2", "forbidden/x"];
const FILTERS: [&str; 9] =
    ["#", "a/#", "+/b", "a", "b", "$share/g/#", "$share/g/s/+", "$share/h/s/1", "forbidden/#"];
/// The longest exchange can be disturbed in most ways.
const MOSTLY_QOS_2: [QoS; 4] = [QOS[0], QOS[1], QOS[2], QOS[2]];
const SMALL: &str = "0123456789 a payload of some bytes, enough to be more than one chunk";

/// What a client may say in enhanced authentication.
const WORDS: [&str; 6] = ["ok", "ok", "ok 1", "more", "later", "no"];

/// An identifier that no broker comes to in a short time.
const NEVER_USED: u16 = 60_000;

/// Steps in which a crowd comes to rest: large payloads go through byte by byte.
const REST_STEPS_MAX: u64 = 2_000_000;

#[derive(Debug)]
pub struct Crowd {
    pub world: World,
    options: Options,
    rng: Rng,
    act_count: u32,
    /// By client, whether it knows what became of its latest CONNECT.
    is_answered: Vec<bool>,
    /// More than one CONNECT was under way when the current one began.
    is_unclear: Vec<bool>,
    /// More than one payload that is shared by reference.
    large: String,
}

impl Crowd {
    #[must_use]
    pub fn with(options: &Options) -> Self {
        let mut world = World::drawn(options);
        for (name, &version) in NAMES.iter().zip(&options.versions) {
            // 3.1 does not say whether a session is there, so its client could not know.
            let version = if version == Version::V31 { Version::V311 } else { version };
            world.clients.push(Client::new(name, version, usize::MAX));
        }
        let rng = stream(options.seed, Stream::Workload, 0);
        let large = SMALL.repeat(150);
        let count = world.clients.len();
        let (is_answered, is_unclear) = (vec![true; count], vec![false; count]);
        let options = options.clone();
        Self { world, options, rng, act_count: 0, is_answered, is_unclear, large }
    }

    /// Acts that were played or left out.
    #[must_use]
    pub fn act_count(&self) -> u32 {
        self.act_count
    }

    /// Plays to the end.
    pub fn run(&mut self) {
        let mut plan = stream(self.options.seed, Stream::Workload, u64::from(u32::MAX));
        let rounds = 2 + plan.next_u64() % 3;
        for _ in 0..rounds {
            let acts = 30 + plan.next_u64() % 50;
            self.world.rage();
            for _ in 0..acts {
                if self.begin_act() {
                    self.act();
                    let count = self.pick(&[5, 25, 150]);
                    self.world.stir(count);
                    self.look();
                }
            }
            self.rest();
        }
        self.world.end();
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

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn is_there(&self, client: usize) -> bool {
        let model = &self.world.clients[client];
        let wire = self.world.wires.get(model.wire);
        !model.is_ended && wire.is_some_and(|wire| !wire.is_client_gone && !wire.is_dead())
    }

    /// One thing in the middle of everything.
    fn act(&mut self) {
        let client = self.below(self.world.clients.len());
        if !self.is_there(client) {
            let answers =
                self.pick(&[Answers::All, Answers::All, Answers::ToPubrec, Answers::None]);
            return self.connect(client, answers);
        }
        match self.below(40) {
            0 => self.connect(client, Answers::All),
            1 => self.go(client),
            2 => self.leave(client),
            3 => self.world.stall(client),
            4 | 5 => self.world.clients[client].answers = Answers::All,
            6 => self.world.clients[client].answers = Answers::ToPubrec,
            7 | 23 => self.world.clients[client].answers = Answers::None,
            8..=13 => self.subscribe(client),
            14 | 15 => self.unsubscribe(client),
            16..=18 | 24 => self.acknowledge_anything(client),
            19 => self.repeat_one(client),
            20 | 21 => {
                let millis = self.pick(&[10, 1000, 3000]);
                self.world.pass(std::time::Duration::from_millis(millis));
            }
            25 if self.options.has_rights => self.authenticate(client),
            26 if self.options.has_rights => self.decide(client),
            27 if self.options.has_rights => {
                let is_narrow = self.one_in(2);
                self.world.rule(Rules { has_rights: true, is_narrow });
            }
            22 if self.one_in(4) => self.break_rules(client),
            28 => self.publish_run(client),
            _ => self.publish(client),
        }
    }

    fn connect(&mut self, client: usize, answers: Answers) {
        let version = self.world.clients[client].version;
        let is_v5 = version.is_v5();
        let mut raw = Vec::new();
        if is_v5 && self.one_in(2) {
            Property::MessageExpiry(1).encode_into(&mut raw);
        }
        let will = self.one_in(2).then(|| Will {
            qos: self.pick(&QOS),
            retain: self.one_in(3),
            topic: "a/b",
            payload: b"gone",
            delay_s: if is_v5 { self.pick(&[0, 1, 50]) } else { 0 },
            properties: MessageProperties::parse(&raw).expect("it is a property of a will"),
        });
        let connect = Connect {
            clean_start: self.one_in(3),
            session_expiry_s: is_v5.then(|| self.pick(&[0, 2, 40, 100_000, 100_000])),
            receive_maximum: is_v5.then(|| self.pick(&[1, 2, 5, 500])),
            packet_bytes_max: (is_v5 && self.one_in(3)).then(|| self.pick(&[30, 90])),
            topic_alias_max: if is_v5 { self.pick(&[0, 1, 9]) } else { 0 },
            keep_alive_s: self.options.keep_alive_s,
            will,
            ..Connect::new(version, NAMES[client])
        };
        let connect = self.draw_credentials(connect);
        // Its session may have ended and begun anew without the client's knowledge, by a CONNECT whose
        // answer has not come or by an older one that comes last; and what is larger than it takes counts
        // as delivered, which it cannot know either.
        let was_answered = std::mem::replace(&mut self.is_answered[client], false);
        let of_client = |&&at: &&usize| self.world.wires[at].client == client;
        let has_older = self.world.live.iter().filter(of_client).count() > 1;
        // The connection before this one may have been overtaken by one before it.
        let is_unclear = !was_answered || has_older;
        let was_unclear = std::mem::replace(&mut self.is_unclear[client], is_unclear);
        if is_unclear || was_unclear || connect.packet_bytes_max.is_some() {
            self.world.clients[client].forget();
        }
        if !self.world.settings.listeners.is_empty() {
            self.world.clients[client].listener = self.pick(&[0, 1]);
        }
        let wire = self.world.dial(client);
        self.world.clients[client].renew(wire);
        self.world.clients[client].answers = answers;
        self.world.say_connect(client, &connect);
        // A client need not wait for CONNACK [MQTT-3.1.4-6].
        let ahead = if self.one_in(10) { 2200 } else { self.pick(&[0, 0, 1, 5]) };
        self.world.write(client, |out| out.extend(codec::PINGREQ.repeat(ahead)));
    }

    /// Who the client says that it is.
    fn draw_credentials<'a>(&mut self, mut connect: Connect<'a>) -> Connect<'a> {
        if !self.options.has_rights {
            return connect;
        }
        if connect.version.is_v5() && self.one_in(3) {
            connect.authentication_method = Some(METHOD);
            connect.authentication_data = Some(self.pick(&WORDS).as_bytes());
        } else if self.one_in(2) {
            connect.user_name = Some(self.pick(&["anna", "bert", "carl"]));
            connect.password = self.pick(&[None, Some(&b"2"[..])]);
        }
        connect
    }

    /// A step of enhanced authentication, whether it is the client's turn or not.
    fn authenticate(&mut self, client: usize) {
        if !self.world.clients[client].version.is_v5() {
            return;
        }
        let reason = self.pick(&[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate]);
        let data = Some(self.pick(&WORDS).as_bytes());
        let auth = Auth { data, ..Auth::new(reason, METHOD) };
        self.world.write(client, |out| auth.encode(Version::V5, out));
    }

    /// An answer that comes late, or to nothing.
    fn decide(&mut self, client: usize) {
        let verdict = match self.below(4) {
            0 => Verdict::Deny(ReasonCode::NotAuthorized),
            1 => Verdict::Challenge(b"more?".to_vec()),
            _ => Verdict::allow(),
        };
        self.world.decide_if_there(client, verdict);
    }

    fn publish(&mut self, client: usize) {
        let version = self.world.clients[client].version;
        let settings = &self.world.settings;
        // Mostly within what CONNACK gave: who breaks the rules is gone.
        let (aliases_max, qos_max, may_retain, bytes_max) =
            if self.rng.next_u64().is_multiple_of(30) {
                (2, QoS::ExactlyOnce, true, u32::MAX)
            } else {
                let aliases_max = settings.topic_alias_max.min(2);
                let bytes_max = settings.packet_bytes_max;
                (aliases_max, settings.maximum_qos, settings.retain_available, bytes_max)
            };
        let (topic, qos) = (self.pick(&TOPICS), self.pick(&MOSTLY_QOS_2).min(qos_max));
        let retain = may_retain && self.one_in(3);
        let payload = match self.below(24) {
            0 => "",
            1 if self.large.len() < bytes_max as usize => &self.large,
            2..=8 => "x",
            _ => SMALL,
        }
        .to_owned();
        let mut properties = Vec::new();
        let mut topic = topic;
        if version.is_v5() {
            if self.one_in(3) {
                properties.push(Property::MessageExpiry(self.pick(&[1, 1, 2, 60])));
            }
            if aliases_max > 0 && self.one_in(3) {
                let alias = 1 + self.below(usize::from(aliases_max));
                properties.push(Property::TopicAlias(u16::try_from(alias).expect("small")));
                // It may not have been given a topic yet.
                if self.one_in(6) {
                    topic = "";
                }
            }
        }
        let post = Post { retain, properties: &properties, ..Post::new(topic, &payload, qos) };
        self.world.say(client, &post);
    }

    /// Several at once that differ in nothing, as somebody sends them who measures something.
    fn publish_run(&mut self, client: usize) {
        let topic = self.pick(&TOPICS);
        for _ in 0..self.pick(&[2, 3, 9]) {
            self.world.say(client, &Post::new(topic, SMALL, QoS::AtMostOnce));
        }
    }

    fn subscribe(&mut self, client: usize) {
        let count = 1 + self.below(3);
        let filters: Vec<_> = (0..count)
            .map(|_| {
                let filter = self.pick(&FILTERS);
                let is_plain = !filter.starts_with("$share");
                let options = SubscribeOptions {
                    qos: self.pick(&MOSTLY_QOS_2),
                    no_local: is_plain && self.one_in(4),
                    retain_as_published: self.one_in(2),
                    retain_handling: self.pick(&[
                        RetainHandling::Always,
                        RetainHandling::IfNew,
                        RetainHandling::Never,
                    ]),
                };
                let is_v5 = self.world.clients[client].version.is_v5();
                (filter, if is_v5 { options } else { SubscribeOptions::new(options.qos) })
            })
            .collect();
        let id = self.pick(&[None, Some(3), Some(77)]);
        let id = id.filter(|_| self.world.clients[client].version.is_v5());
        self.world.say_subscribe(client, id, &filters);
    }

    fn unsubscribe(&mut self, client: usize) {
        let filters = [self.pick(&FILTERS), self.pick(&FILTERS)];
        let version = self.world.clients[client].version;
        let id = self.world.clients[client].take_id();
        self.world.write(client, |out| Unsubscribe::new(id, &filters).encode(version, out));
    }

    /// DISCONNECT, with or without the will, sometimes with another expiry.
    fn leave(&mut self, client: usize) {
        let version = self.world.clients[client].version;
        let is_v5 = version.is_v5();
        let reason = if is_v5 && self.one_in(2) {
            ReasonCode::DisconnectWithWill
        } else {
            ReasonCode::Success
        };
        let disconnect = Disconnect {
            session_expiry_s: (is_v5 && self.one_in(3)).then(|| self.pick(&[0, 1, 30])),
            ..Disconnect::new(reason)
        };
        self.world.write(client, |out| disconnect.encode(version, out));
        self.go(client);
    }

    /// The client's side ends; what it wrote arrives.
    fn go(&mut self, client: usize) {
        let wire = self.world.clients[client].wire;
        self.world.wires[wire].is_client_gone = true;
        self.world.clients[client].is_ended = true;
    }

    /// An acknowledgement of what has come, fitting or not, or of nothing. What is still to come is
    /// left alone: a client that acknowledges it could not tell its identifier's next use.
    fn acknowledge_anything(&mut self, client: usize) {
        let kinds = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp];
        let has_held = self.world.clients[client].answers == Answers::None;
        let kind = if has_held && self.one_in(2) { AckKind::Pubrec } else { self.pick(&kinds) };
        let mut ids: Vec<u16> = self.world.clients[client].window_ids().take(9).collect();
        ids.push(NEVER_USED);
        let id = PacketId::new(self.pick(&ids)).expect("not 0");
        let is_v5 = self.world.clients[client].version.is_v5();
        let reason = if is_v5 && kind == AckKind::Pubrec && self.one_in(2) {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        let mut bytes = Vec::new();
        self.world.clients[client].settle(kind, id, reason);
        self.world.clients[client].ack(kind, id, reason, &mut bytes);
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// An own message once more, although its connection is still there: MQTT 5.0 forbids it, brokers
    /// see it.
    fn repeat_one(&mut self, client: usize) {
        let model = &self.world.clients[client];
        let version = model.version;
        let Some((&id, sent)) = model.sent.iter().next_back() else { return };
        if sent.is_released || sent.topic.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let packet_id = PacketId::new(id);
        Publish { qos: sent.qos, dup: true, packet_id, ..Publish::new(&sent.topic, &sent.payload) }
            .encode(version, &mut bytes);
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// Something that ends the connection.
    fn break_rules(&mut self, client: usize) {
        let all: [&[u8]; 4] =
            [b"\xF3\x01\x00", b"\x00\x00", b"\x30\x03\x00\x01#", b"\x20\x02\x00\x00"];
        let bytes = self.pick(&all);
        self.world.write(client, |out| out.extend_from_slice(bytes));
    }

    /// Who is let in sends again what is not acknowledged [MQTT-4.4.0-1].
    fn look(&mut self) {
        for client in 0..self.world.clients.len() {
            while let Some(got) = self.world.clients[client].got.pop_front() {
                let Got::Connack(welcome) = got else { continue };
                self.is_answered[client] = true;
                if welcome.reason == ReasonCode::Success {
                    self.repeat_all(client);
                }
            }
        }
    }

    fn repeat_all(&mut self, client: usize) {
        let model = &self.world.clients[client];
        let mut bytes = Vec::new();
        for (&id, sent) in &model.sent {
            let packet_id = PacketId::new(id).expect("not 0");
            if sent.is_released {
                model.ack(AckKind::Pubrel, packet_id, ReasonCode::Success, &mut bytes);
            } else if !sent.topic.is_empty() {
                let (qos, packet_id) = (sent.qos, Some(packet_id));
                Publish { qos, dup: true, packet_id, ..Publish::new(&sent.topic, &sent.payload) }
                    .encode(model.version, &mut bytes);
            }
        }
        self.world.write(client, |out| out.extend_from_slice(&bytes));
    }

    /// Nothing goes wrong any more. Who did not answer comes again and does; then nothing may wait.
    fn rest(&mut self) {
        self.world.calm();
        for client in 0..self.world.clients.len() {
            let has_held = self.world.clients[client].answers != Answers::All;
            if has_held && self.is_there(client) {
                self.go(client);
                self.world.clients[client].answers = Answers::All;
            }
        }
        for at in 0..self.world.wires.len() {
            let client = self.world.wires[at].client;
            self.world.wires[at].is_client_gone |= self.world.clients[client].wire != at;
        }
        self.settle();
        for client in 0..self.world.clients.len() {
            if !self.is_there(client) {
                self.connect(client, Answers::All);
            }
        }
        self.settle();
        self.world.expect_quiet();
        if self.one_in(2) {
            let count = self.pick(&[3, 60]);
            self.world.advance(seconds(count));
            self.look();
        }
    }

    fn settle(&mut self) {
        let mut steps = u64::MAX;
        loop {
            self.world.settle_within(REST_STEPS_MAX);
            // Nobody waits for an answer that is never given.
            self.world.decide_all();
            self.world.settle_within(REST_STEPS_MAX);
            self.look();
            if self.world.wait_for_late() {
                steps = u64::MAX;
                continue;
            }
            if self.world.written_bytes() == 0 {
                return;
            }
            if self.world.step_count == steps {
                self.world.expect_quiet();
                panic!("a shard does not read what its clients have written");
            }
            steps = self.world.step_count;
        }
    }
}
