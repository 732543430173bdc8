//! A shared subscription whose members come and go while messages are on their way: as long as one
//! member stays, every QoS 1 message reaches somebody.

use std::collections::BTreeSet;

use shards::codec::{Connect, SubscribeOptions, Unsubscribe};
use shards::ids::{QoS, Version};
use shards::limits::{Settings, ShareStrategy};
use shards::rng::Rng;

use sim::client::{Answers, Got};
use sim::drive::{Post, keeping, plain, seconds};
use sim::play::Seed;
use sim::world::World;

const SEEDS: u64 = 250;
const MEMBERS: [&str; 5] = ["m0", "m1", "m2", "m3", "m4"];
const STRATEGIES: [ShareStrategy; 6] = [
    ShareStrategy::RoundRobin,
    ShareStrategy::Random,
    ShareStrategy::Sticky,
    ShareStrategy::HashClient,
    ShareStrategy::HashTopic,
    ShareStrategy::LeastInflight,
];

struct Flux {
    world: World,
    rng: Rng,
    publishers: [usize; 2],
    stayer: usize,
    /// Their latest clients; `None` when gone.
    members: [Option<usize>; 5],
    sent: usize,
    came: BTreeSet<String>,
}

#[test]
fn every_message_finds_a_member() {
    for seed in 0..SEEDS {
        let _place = Seed(seed);
        let mut flux = Flux::new(seed);
        for _ in 0..150 {
            flux.act();
        }
        flux.end();
    }
}

impl Flux {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xF1);
        let mut pick = |end: u64| usize::try_from(rng.next_u64() % end).expect("small");
        let settings = Settings {
            share_strategy: STRATEGIES[pick(6)],
            mailbox_bytes: [64, 4096][pick(2)],
            inflight_max: [1, 1024][pick(2)],
            ..plain()
        };
        let shards = [1, 2, 3, 8][pick(4)];
        let mut world = World::new(shards, Some(seed), &settings);
        let stayer = world.connect("stayer", Version::V5);
        world.subscribe(stayer, "$share/g/t/+", QoS::AtLeastOnce);
        let publishers = [world.connect("p0", Version::V5), world.connect("p1", Version::V311)];
        let (members, came) = ([None; 5], BTreeSet::new());
        Self { world, rng, publishers, stayer, members, sent: 0, came }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).expect("less than a usize")
    }

    fn act(&mut self) {
        let at = self.below(MEMBERS.len());
        match (self.below(8), self.members[at]) {
            (0, None) => self.join(at),
            (0, Some(member)) => self.leave(at, member),
            (1, Some(member)) => {
                // Those that do not acknowledge leave something behind.
                let answers = [Answers::All, Answers::None][self.below(2)];
                self.world.answer(member, answers);
            }
            (2, _) if self.below(6) == 0 => self.world.advance(seconds(3)),
            _ => {
                let which = self.below(2);
                let publisher = self.publishers[which];
                let topic = format!("t/{}", self.below(3));
                let payload = self.sent.to_string();
                self.world.say(publisher, &Post::new(&topic, &payload, QoS::AtLeastOnce));
                self.sent += 1;
            }
        }
        let count = self.below(12);
        self.world.stir(count);
        self.look();
    }

    fn join(&mut self, at: usize) {
        let name = MEMBERS[at];
        let member = self.world.open(name, Version::V5);
        let connect: Connect<'_> = keeping(Version::V5, name, [0, 5][self.below(2)]);
        self.world.say_connect(member, &connect);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        self.world.say_subscribe(member, None, &[("$share/g/t/+", options)]);
        self.members[at] = Some(member);
    }

    fn leave(&mut self, at: usize, member: usize) {
        if self.below(3) == 0 {
            let id = self.world.clients[member].take_id();
            self.world.write(member, |out| {
                Unsubscribe::new(id, &["$share/g/t/+"]).encode(Version::V5, out);
            });
            return;
        }
        let wire = self.world.clients[member].wire;
        self.world.wires[wire].is_client_gone = true;
        if self.below(2) == 0 {
            self.world.wires[wire].upward.clear();
        }
        self.members[at] = None;
    }

    /// What a client has read has come, acknowledged or not.
    fn look(&mut self) {
        for client in &mut self.world.clients {
            for got in client.got.drain(..) {
                match got {
                    Got::Publish(message) => {
                        self.came.insert(message.text().to_owned());
                    }
                    Got::Ack(_, _, reason) => assert!(!reason.is_error()),
                    _ => {}
                }
            }
        }
    }

    fn end(mut self) {
        self.world.settle();
        for wire in 0..self.world.wires.len() {
            let client = self.world.wires[wire].client;
            if client != self.stayer && !self.publishers.contains(&client) {
                self.world.wires[wire].is_client_gone = true;
            }
        }
        self.world.advance(seconds(20));
        self.look();
        let lost: Vec<_> = (0..self.sent).filter(|n| !self.came.contains(&n.to_string())).collect();
        assert!(lost.is_empty(), "nobody got {lost:?} of {}", self.sent);
        self.world.end();
    }
}
