//! Shared subscriptions: each message to one member, whatever the strategy.

use shards::codec::{Connect, Property, SubscribeOptions};
use shards::ids::{QoS, Version};
use shards::limits::{Settings, ShareStrategy};

use sim::client::Answers;
use sim::drive::{Post, everywhere, keeping, plain, seconds};
use sim::world::World;

const STRATEGIES: [ShareStrategy; 6] = [
    ShareStrategy::RoundRobin,
    ShareStrategy::Random,
    ShareStrategy::Sticky,
    ShareStrategy::HashClient,
    ShareStrategy::HashTopic,
    ShareStrategy::LeastInflight,
];

const MEMBERS: [&str; 5] = ["m0", "m1", "m2", "m3", "m4"];

fn with(share_strategy: ShareStrategy) -> Settings {
    Settings { share_strategy, ..plain() }
}

/// How many messages each client got.
fn counts(world: &mut World, clients: &[usize]) -> Vec<usize> {
    clients.iter().map(|&client| world.take_messages(client).len()).collect()
}

#[test]
fn each_message_goes_to_exactly_one_member() {
    for strategy in STRATEGIES {
        everywhere(&with(strategy), |world| {
            let members: Vec<_> =
                MEMBERS.iter().map(|name| world.connect(name, Version::V5)).collect();
            let options = SubscribeOptions::new(QoS::ExactlyOnce);
            for &member in &members {
                world.subscribe_with(member, Some(3), &[("$share/g/a/+", options)]);
            }
            let ordinary = world.connect("ordinary", Version::V311);
            world.subscribe(ordinary, "a/+", QoS::AtMostOnce);
            let publishers = [world.connect("p0", Version::V5), world.connect("p1", Version::V311)];
            for n in 0..30 {
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][n % 3];
                world.publish(publishers[n % 2], &format!("a/{}", n % 7), &format!("{n}"), qos);
            }
            assert_eq!(world.take_messages(ordinary).len(), 30);
            let counts = counts(world, &members);
            assert_eq!(counts.iter().sum::<usize>(), 30, "{strategy:?}: {counts:?}");
            let busy = counts.iter().filter(|&&count| count > 0).count();
            match strategy {
                ShareStrategy::RoundRobin => {
                    assert!(counts.iter().all(|&count| count >= 2), "{counts:?}");
                }
                ShareStrategy::HashClient => assert!(busy <= 2, "{counts:?}"),
                ShareStrategy::HashTopic => assert!(busy <= 7, "{counts:?}"),
                ShareStrategy::Sticky => assert_eq!(busy, 1, "{counts:?}"),
                ShareStrategy::Random | ShareStrategy::LeastInflight => {
                    assert!(busy >= 2, "{counts:?}");
                }
            }
        });
    }
}

#[test]
fn groups_with_other_names_or_filters_are_others() {
    everywhere(&plain(), |world| {
        let names = ["$share/g/a", "$share/h/a", "$share/g/+", "a"];
        let clients: Vec<_> = names
            .iter()
            .zip(MEMBERS)
            .map(|(filter, name)| {
                let client = world.connect(name, Version::V5);
                world.subscribe(client, filter, QoS::AtLeastOnce);
                client
            })
            .collect();
        let publisher = world.connect("publisher", Version::V5);
        world.publish(publisher, "a", "x", QoS::AtLeastOnce);
        assert_eq!(counts(world, &clients), [1, 1, 1, 1]);
        assert_eq!(world.unsubscribe(clients[0], &["$share/g/a", "$share/x/a"]), [0, 0x11]);
        world.publish(publisher, "a", "x", QoS::AtLeastOnce);
        assert_eq!(counts(world, &clients), [0, 1, 1, 1]);
    });
}

#[test]
fn members_that_are_away_get_nothing_while_one_is_there() {
    for strategy in STRATEGIES {
        everywhere(&with(strategy), |world| {
            let connects: Vec<_> =
                MEMBERS.iter().map(|name| keeping(Version::V5, name, 1000)).collect();
            let members: Vec<_> = connects
                .iter()
                .map(|connect| {
                    let (member, _) = world.connect_with(connect);
                    world.subscribe(member, "$share/g/a", QoS::AtLeastOnce);
                    member
                })
                .collect();
            for &member in &members[1..] {
                world.cut(member);
            }
            let publisher = world.connect("publisher", Version::V5);
            for _ in 0..10 {
                world.publish(publisher, "a", "x", QoS::AtLeastOnce);
            }
            assert_eq!(world.take_messages(members[0]).len(), 10);
            // Nobody is there: what cannot be lost waits for one of them.
            world.cut(members[0]);
            for _ in 0..10 {
                world.publish(publisher, "a", "y", QoS::AtLeastOnce);
                world.publish(publisher, "a", "lost", QoS::AtMostOnce);
            }
            for (&member, connect) in members.iter().zip(&connects) {
                assert!(world.reconnect(member, connect).session_present);
            }
            assert_eq!(counts(world, &members).iter().sum::<usize>(), 10, "{strategy:?}");
        });
    }
}

#[test]
fn what_a_member_leaves_unacknowledged_goes_to_another() {
    for strategy in STRATEGIES {
        everywhere(&with(strategy), |world| {
            let leaver = world.connect("leaver", Version::V5);
            world.answer(leaver, Answers::None);
            world.subscribe(leaver, "$share/g/a", QoS::ExactlyOnce);
            let publisher = world.connect("publisher", Version::V5);
            for (payload, qos) in
                [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)]
            {
                world.publish(publisher, "a", payload, qos);
            }
            assert_eq!(world.take_messages(leaver).len(), 3);
            let other = world.connect("other", Version::V5);
            world.subscribe(other, "$share/g/a", QoS::ExactlyOnce);
            world.cut(leaver);
            // QoS 2 that has begun goes to nobody else [MQTT-4.8.2-5].
            let message = world.expect_publish(other, "a", "1");
            assert!(!message.dup);
            assert_eq!(world.snapshot().counters.share_redelivered, 1);
        });
    }
}

#[test]
fn what_waits_behind_a_window_goes_to_another_in_order() {
    everywhere(&plain(), |world| {
        let connect = Connect { receive_maximum: Some(1), ..keeping(Version::V5, "leaver", 5) };
        let (leaver, _) = world.connect_with(&connect);
        world.answer(leaver, Answers::None);
        world.subscribe(leaver, "$share/g/a", QoS::ExactlyOnce);
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..6 {
            world.publish(publisher, "a", &format!("{n}"), QoS::ExactlyOnce);
        }
        let other = world.connect("other", Version::V5);
        world.subscribe(other, "$share/g/a", QoS::ExactlyOnce);
        world.cut(leaver);
        world.expect_nothing(other);
        world.advance(seconds(6));
        let texts = world.take_texts(other);
        assert_eq!(texts, ["a=1", "a=2", "a=3", "a=4", "a=5"]);
    });
}

/// What has expired by then, in flight or waiting, does not.
#[test]
fn what_has_expired_goes_to_nobody_else() {
    everywhere(&plain(), |world| {
        let connect = Connect { receive_maximum: Some(1), ..keeping(Version::V5, "leaver", 5) };
        let (leaver, _) = world.connect_with(&connect);
        world.answer(leaver, Answers::None);
        world.subscribe(leaver, "$share/g/a", QoS::AtLeastOnce);
        let publisher = world.connect("publisher", Version::V5);
        for (payload, secs) in [("0", 3), ("1", 3), ("2", 100)] {
            let properties = &[Property::MessageExpiry(secs)];
            let post = Post { properties, ..Post::new("a", payload, QoS::AtLeastOnce) };
            world.say(publisher, &post);
        }
        world.settle();
        let other = world.connect("other", Version::V5);
        world.subscribe(other, "$share/g/a", QoS::AtLeastOnce);
        world.cut(leaver);
        world.advance(seconds(6));
        assert_eq!(world.take_texts(other), ["a=2"]);
        assert_eq!(world.snapshot().counters.dropped_expired, 2);
        world.clients[publisher].got.clear();
    });
}

#[test]
fn the_last_member_takes_what_it_owes_with_it() {
    everywhere(&plain(), |world| {
        let leaver = world.connect("leaver", Version::V5);
        world.answer(leaver, Answers::None);
        world.subscribe(leaver, "$share/g/a", QoS::AtLeastOnce);
        let publisher = world.connect("publisher", Version::V5);
        world.publish(publisher, "a", "x", QoS::AtLeastOnce);
        world.cut(leaver);
        let late = world.connect("late", Version::V5);
        world.subscribe(late, "$share/g/a", QoS::AtLeastOnce);
        world.expect_nothing(late);
    });
}

/// Members come and go while messages are on their way between shards: none is lost as long as one
/// member stays.
#[test]
fn a_message_on_its_way_to_a_member_that_leaves_finds_another() {
    for strategy in STRATEGIES {
        everywhere(&with(strategy), |world| {
            let stayer = world.connect("stayer", Version::V5);
            world.subscribe(stayer, "$share/g/a", QoS::AtLeastOnce);
            let publisher = world.connect("publisher", Version::V5);
            let mut sent = 0;
            let mut came = 0;
            for name in MEMBERS {
                let member = world.connect(name, Version::V5);
                world.subscribe(member, "$share/g/a", QoS::AtLeastOnce);
                for _ in 0..8 {
                    world.say(publisher, &Post::new("a", "x", QoS::AtLeastOnce));
                    sent += 1;
                }
                world.stir(6);
                let id = world.clients[member].take_id();
                world.write(member, |out| {
                    shards::codec::Unsubscribe::new(id, &["$share/g/a"]).encode(Version::V5, out);
                });
                world.settle();
                came += world.take_messages(member).len();
            }
            came += world.take_messages(stayer).len();
            assert_eq!(came, sent, "{strategy:?}");
            world.clients[publisher].got.clear();
        });
    }
}
