//! Clients that send anything: packets in no order, with wrong contents, broken in the middle.
//! Nothing may panic, nobody else may notice, nothing may be left behind.

use shards::codec::{
    Ack, AckKind, Auth, Connect, Disconnect, MessageProperties, Property, Publish, RetainHandling,
    Subscribe, SubscribeOptions, Unsubscribe, Will,
};
use shards::ids::{PacketId, QoS, SubscriptionId, Version};
use shards::limits::{OverflowPolicy, Settings};
use shards::reject::ReasonCode;
use shards::rng::Rng;

use sim::drive::{Post, QOS, VERSIONS, plain, seconds};
use sim::world::World;

const SEEDS: u64 = 250;
const NAMES: [&str; 4] = ["g0", "g1", "later", "denied"];
const TOPICS: [&str; 7] = ["a", "a/b", "forbidden/x", "$SYS/x", "a/b/c/d/e", "", "/"];
const FILTERS: [&str; 10] =
    ["a", "#", "+/b", "a/#", "$share/g/#", "$share/g/a", "a/#/b", "$share/", "", "$SYS/#"];
const REASONS: [ReasonCode; 5] = [
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::UnspecifiedError,
    ReasonCode::PacketIdentifierNotFound,
    ReasonCode::ReAuthenticate,
];

struct Babble {
    rng: Rng,
    version: Version,
}

impl Babble {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).expect("less than a usize")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn id(&mut self) -> PacketId {
        let value = u16::try_from(1 + self.below(4)).expect("small");
        PacketId::new(value).expect("not 0")
    }

    fn connect(&mut self, out: &mut Vec<u8>) {
        self.version = self.pick(&VERSIONS);
        let will = (self.below(2) == 0).then(|| Will {
            qos: self.pick(&QOS),
            retain: self.below(2) == 0,
            delay_s: self.pick(&[0, 3, 100]),
            ..Will::new(self.pick(&["a", "a/b", "forbidden/x"]), b"will")
        });
        Connect {
            clean_start: self.below(3) == 0,
            keep_alive_s: self.pick(&[0, 1, 10]),
            will,
            user_name: self.pick(&[None, Some("u")]),
            session_expiry_s: self.pick(&[None, Some(0), Some(5), Some(u32::MAX)]),
            receive_maximum: self.pick(&[None, Some(1), Some(3)]),
            packet_bytes_max: self.pick(&[None, None, Some(3), Some(30)]),
            topic_alias_max: self.pick(&[0, 1, 100]),
            ..Connect::new(self.version, self.pick(&NAMES))
        }
        .encode(out);
    }

    fn publish(&mut self, out: &mut Vec<u8>) {
        let mut raw = Vec::new();
        for property in [
            Property::MessageExpiry(u32::try_from(self.below(9)).expect("small")),
            Property::TopicAlias(u16::try_from(1 + self.below(66)).expect("small")),
            Property::User("k", "v"),
        ] {
            if self.below(3) == 0 {
                property.encode_into(&mut raw);
            }
        }
        let payload = vec![b'x'; self.pick(&[0, 1, 5, 100, 9000])];
        let qos = self.pick(&QOS);
        let topic = if self.below(12) == 0 { self.pick(&TOPICS) } else { self.pick(&TOPICS[..3]) };
        Publish {
            dup: qos != QoS::AtMostOnce && self.below(3) == 0,
            qos,
            retain: self.below(3) == 0,
            packet_id: (qos != QoS::AtMostOnce).then(|| self.id()),
            properties: MessageProperties::parse(&raw).expect("each at most once"),
            ..Publish::new(topic, &payload)
        }
        .encode(self.version, out);
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) {
        let filters: Vec<_> = (0..1 + self.below(3))
            .map(|_| {
                let options = SubscribeOptions {
                    no_local: self.below(30) == 0,
                    retain_as_published: self.below(2) == 0,
                    retain_handling: self.pick(&[
                        RetainHandling::Always,
                        RetainHandling::IfNew,
                        RetainHandling::Never,
                    ]),
                    ..SubscribeOptions::new(self.pick(&QOS))
                };
                (self.pick(&FILTERS), options)
            })
            .collect();
        let mut subscribe = Subscribe::new(self.id(), &filters);
        subscribe.subscription_id = self.pick(&[None, SubscriptionId::new(7)]);
        subscribe.encode(self.version, out);
    }

    /// One packet; now and then one that is none.
    fn packet(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let version = self.version;
        // What ends a connection is rare, or nothing would happen.
        let is_rude = self.below(12) == 0;
        match self.below(16) {
            0 if is_rude => self.connect(out),
            1..=5 => self.publish(out),
            6 | 7 => self.subscribe(out),
            8 => {
                let filters = [self.pick(&FILTERS), self.pick(&FILTERS)];
                Unsubscribe::new(self.id(), &filters).encode(version, out);
            }
            9..=12 => {
                let kinds = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp];
                let (kind, reason) = (self.pick(&kinds), self.pick(&REASONS));
                Ack::new(self.id(), reason).encode(kind, version, out);
            }
            14 if is_rude => {
                let session_expiry_s = self.pick(&[None, None, Some(0), Some(4)]);
                let reason = self.pick(&REASONS);
                Disconnect { session_expiry_s, ..Disconnect::new(reason) }.encode(version, out);
            }
            15 if is_rude => Auth::new(self.pick(&REASONS), "m").encode(version, out),
            _ => out.extend_from_slice(&shards::codec::PINGREQ),
        }
        if self.below(60) == 0 && out.len() > start {
            let at = start + self.below(out.len() - start);
            out[at] ^= 1 << self.below(8);
        }
    }
}

#[test]
fn whatever_comes_hurts_nobody_else() {
    for seed in 0..SEEDS {
        let _place = sim::play::Seed(seed);
        play(seed);
    }
}

fn play(seed: u64) {
    let mut babble = Babble { rng: Rng::new(seed ^ 0xBAD), version: Version::V5 };
    let overflow = babble.pick(&[
        OverflowPolicy::DropOldest,
        OverflowPolicy::DropNewest,
        OverflowPolicy::Refuse,
        OverflowPolicy::Disconnect,
    ]);
    let settings = Settings {
        session_expiry_max_s: 50,
        queue_messages_max: babble.pick(&[1, 3, 10_000]),
        out_bytes_max: babble.pick(&[100, 1 << 20]),
        mailbox_bytes: babble.pick(&[64, 1 << 17]),
        packet_bytes_max: babble.pick(&[200, 1 << 20]),
        topic_levels_max: 4,
        subscriptions_max: babble.pick(&[1, 100]),
        receive_maximum: babble.pick(&[2, 1000]),
        retained_messages_max: 2,
        is_durable: babble.below(3) == 0,
        overflow,
        ..plain()
    };
    let shards = babble.pick(&[1, 2, 3, 8]);
    let mut world = World::new(shards, Some(seed), &settings);
    let good = [world.connect("good", Version::V5), world.connect("other", Version::V311)];
    world.subscribe(good[0], "good/+", QoS::AtLeastOnce);
    for _ in 0..12 {
        let client = world.open("", Version::V5);
        world.clients[client].is_deaf = true;
        let mut bytes = Vec::new();
        if babble.below(20) != 0 {
            babble.connect(&mut bytes);
        }
        for _ in 0..babble.below(40) {
            babble.packet(&mut bytes);
        }
        world.write(client, |out| out.append(&mut bytes));
        if babble.below(4) == 0 {
            world.stall(client);
        }
        let count = babble.below(60);
        world.stir(count);
        if babble.below(3) == 0 {
            let wire = world.clients[client].wire;
            world.wires[wire].is_client_gone = true;
        }
        if babble.below(3) == 0 {
            world.advance(seconds(2));
        }
        if babble.below(4) == 0 {
            world.say(good[1], &Post::new("good/x", "x", QoS::AtLeastOnce));
            world.settle();
            world.expect_publish(good[0], "good/x", "x");
        }
    }
    world.settle();
    world.publish(good[1], "good/y", "y", QoS::AtMostOnce);
    world.expect_publish(good[0], "good/y", "y");
    for wire in &mut world.wires {
        wire.is_stalled = false;
        wire.is_client_gone = true;
    }
    world.advance(seconds(200));
    world.expect_empty();
}
