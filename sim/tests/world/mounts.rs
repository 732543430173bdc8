//! Clients below a mount point take a part of the topics for the whole, and nobody sees through.

use shards::codec::{Connect, Property, SubscribeOptions, Will};
use shards::ids::{QoS, Version};
use shards::limits::{ListenerSettings, Settings};
use shards::reject::ReasonCode;

use sim::drive::{Post, QOS, VERSIONS, everywhere, keeping, plain, seconds};
use sim::world::World;

/// Listeners without a mount point, and with these.
const MOUNTS: [&str; 2] = ["t/", "u/v/"];

fn mounted() -> Settings {
    let below =
        |mount: &str| ListenerSettings { mount: Some(mount.into()), ..ListenerSettings::default() };
    let mut listeners = vec![ListenerSettings::default()];
    listeners.extend(MOUNTS.map(below));
    Settings { listeners, ..plain() }
}

fn connect_below(world: &mut World, listener: u16, name: &'static str, version: Version) -> usize {
    world.listener = listener;
    let client = world.connect(name, version);
    world.listener = 0;
    client
}

/// The same client comes again, through another listener perhaps.
fn come_again(world: &mut World, client: usize, listener: u16, connect: &Connect<'static>) -> bool {
    world.clients[client].listener = listener;
    world.reconnect(client, connect).session_present
}

#[test]
fn topics_are_given_and_lose_the_mount_point() {
    everywhere(&mounted(), |world| {
        for version in VERSIONS {
            let all = world.connect("all", version);
            let inside = connect_below(world, 1, "inside", version);
            let beside = connect_below(world, 2, "beside", version);
            for client in [all, inside, beside] {
                world.subscribe(client, "#", QoS::ExactlyOnce);
            }
            for qos in QOS {
                world.publish(inside, "a/b", "in", qos);
                assert_eq!(world.take_texts(inside), ["a/b=in"]);
                assert_eq!(world.take_texts(all), ["t/a/b=in"]);
                world.publish(beside, "/", "in", qos);
                assert_eq!(world.take_texts(beside), ["/=in"]);
                assert_eq!(world.take_texts(all), ["u/v//=in"]);
                for topic in ["t/x", "a", "u/v/x", "u/v", "t", "tx"] {
                    world.publish(all, topic, "out", qos);
                }
                assert_eq!(world.take_texts(all).len(), 6);
                assert_eq!(world.take_texts(inside), ["x=out"]);
                assert_eq!(world.take_texts(beside), ["x=out"]);
            }
            for client in [all, inside, beside] {
                world.disconnect(client);
            }
        }
    });
}

/// Bytes that go out as they came, or by reference, are no way around it.
#[test]
fn runs_and_large_payloads_lose_it_too() {
    everywhere(&mounted(), |world| {
        let large = "x".repeat(9000);
        let names = [["a0", "a1", "a2"], ["b0", "b1", "b2"]];
        for (version, names) in [Version::V311, Version::V5].into_iter().zip(names) {
            let all = world.connect(names[0], version);
            let inside = connect_below(world, 1, names[1], version);
            let other = connect_below(world, 1, names[2], version);
            for client in [all, inside, other] {
                world.subscribe(client, "#", QoS::AtMostOnce);
            }
            for (sender, topic) in [(all, "t/a"), (inside, "a")] {
                for _ in 0..20 {
                    world.say(sender, &Post::new(topic, "x", QoS::AtMostOnce));
                }
                world.say(sender, &Post::new(topic, &large, QoS::AtMostOnce));
                world.settle();
                for (client, topic) in [(all, "t/a"), (inside, "a"), (other, "a")] {
                    let messages = world.take_messages(client);
                    assert_eq!(messages.len(), 21);
                    assert!(messages.iter().all(|message| message.topic == topic));
                    assert_eq!(messages[20].payload, large.as_bytes());
                }
            }
        }
    });
}

#[test]
fn aliases_stand_for_what_the_client_calls_it() {
    everywhere(&mounted(), |world| {
        world.listener = 1;
        let aliasing = Connect { topic_alias_max: 5, ..Connect::new(Version::V5, "inside") };
        let (inside, _) = world.connect_with(&aliasing);
        world.listener = 0;
        let all = world.connect("all", Version::V5);
        world.subscribe(inside, "#", QoS::AtLeastOnce);
        world.subscribe(all, "t/+", QoS::AtLeastOnce);
        let alias = [Property::TopicAlias(3)];
        for topic in ["a", ""] {
            let post = Post { properties: &alias, ..Post::new(topic, "1", QoS::AtLeastOnce) };
            assert_eq!(world.post(inside, &post), ReasonCode::Success);
            let message = world.expect_publish(inside, "a", "1");
            assert!(message.alias.is_some());
            world.expect_publish(all, "t/a", "1");
        }
    });
}

#[test]
fn retained_messages_are_those_below_it() {
    everywhere(&mounted(), |world| {
        let all = world.connect("all", Version::V5);
        for topic in ["a", "t", "t/", "t/a", "t/$x", "t//", "u/v/a"] {
            world.retain(all, topic, topic);
        }
        for version in VERSIONS {
            let inside = connect_below(world, 1, "inside", version);
            world.subscribe(inside, "#", QoS::AtLeastOnce);
            let mut texts = world.take_texts(inside);
            texts.sort_unstable();
            assert_eq!(texts, ["/=t//", "a=t/a"]);
            world.subscribe(inside, "$x/#", QoS::AtLeastOnce);
            assert_eq!(world.take_texts(inside), ["$x=t/$x"]);
            world.subscribe(inside, "/#", QoS::AtLeastOnce);
            assert_eq!(world.take_texts(inside), ["/=t//"]);
            world.retain(inside, "a", "t/a");
            world.take_messages(inside);
            world.disconnect(inside);
        }
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "t/a", QoS::AtLeastOnce);
        world.expect_publish(watcher, "t/a", "t/a");
        // Cleared from below.
        let inside = connect_below(world, 1, "inside", Version::V5);
        world.retain(inside, "a", "");
        world.take_messages(watcher);
        world.subscribe(watcher, "t/a", QoS::AtLeastOnce);
        world.expect_nothing(watcher);
    });
}

/// MQTT-4.7.2-1, for the topics as the client names them.
#[test]
fn a_wildcard_in_front_reaches_no_dollar_topic() {
    everywhere(&mounted(), |world| {
        let all = world.connect("all", Version::V5);
        let inside = connect_below(world, 1, "inside", Version::V5);
        let named = connect_below(world, 1, "named", Version::V5);
        let deep = connect_below(world, 1, "deep", Version::V5);
        let member = connect_below(world, 1, "member", Version::V5);
        world.subscribe_with(inside, Some(1), &[("#", SubscribeOptions::new(QoS::AtLeastOnce))]);
        world.subscribe_with(inside, Some(2), &[("+/b", SubscribeOptions::new(QoS::ExactlyOnce))]);
        world.subscribe_with(named, Some(3), &[("#", SubscribeOptions::new(QoS::ExactlyOnce))]);
        world.subscribe_with(named, Some(4), &[("$x/b", SubscribeOptions::new(QoS::AtLeastOnce))]);
        world.subscribe(deep, "a/+", QoS::AtLeastOnce);
        world.subscribe(member, "$share/g/+/b", QoS::AtLeastOnce);
        for (sender, topic) in [(inside, "$x/b"), (all, "t/$x/b")] {
            world.publish(sender, topic, "1", QoS::ExactlyOnce);
            world.expect_nothing(inside);
            let message = world.expect_publish(named, "$x/b", "1");
            assert_eq!((message.qos, message.ids), (QoS::AtLeastOnce, vec![4]));
            world.expect_nothing(member);
        }
        world.publish(all, "t/a/b", "2", QoS::ExactlyOnce);
        assert_eq!(world.expect_publish(inside, "a/b", "2").ids, [1, 2]);
        world.expect_publish(member, "a/b", "2");
        world.publish(all, "t/a/$b", "3", QoS::AtLeastOnce);
        assert_eq!(world.take_texts(deep), ["a/b=2", "a/$b=3"]);
    });
}

#[test]
fn the_brokers_own_topics_are_out_of_reach() {
    let settings = Settings { sys_interval_s: 1, ..mounted() };
    everywhere(&settings, |world| {
        let inside = connect_below(world, 1, "inside", Version::V5);
        for filter in ["$SYS/#", "#", "+/broker/#"] {
            world.subscribe(inside, filter, QoS::AtMostOnce);
        }
        world.advance(seconds(3));
        world.expect_nothing(inside);
        // What it calls so is its own.
        world.publish(inside, "$SYS/broker/x", "mine", QoS::AtLeastOnce);
        world.expect_publish(inside, "$SYS/broker/x", "mine");
    });
}

#[test]
fn members_of_a_shared_subscription_may_be_on_both_sides() {
    everywhere(&mounted(), |world| {
        let all = world.connect("all", Version::V5);
        let inside = connect_below(world, 1, "inside", Version::V5);
        let beside = connect_below(world, 2, "beside", Version::V5);
        world.subscribe(all, "$share/g/t/+", QoS::AtLeastOnce);
        world.subscribe(inside, "$share/g/+", QoS::AtLeastOnce);
        world.subscribe(beside, "$share/g/+", QoS::AtLeastOnce);
        for _ in 0..20 {
            world.publish(inside, "a", "1", QoS::AtLeastOnce);
        }
        let counts = [(all, "t/a=1"), (inside, "a=1")].map(|(client, text)| {
            let texts = world.take_texts(client);
            assert!(texts.iter().all(|other| other == text));
            texts.len()
        });
        assert_eq!(counts[0] + counts[1], 20);
        assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
        world.expect_nothing(beside);
        assert_eq!(world.unsubscribe(inside, &["$share/g/+"]), [0]);
        world.publish(inside, "a", "1", QoS::AtLeastOnce);
        world.expect_publish(all, "t/a", "1");
    });
}

#[test]
fn unsubscribe_means_the_same_filter() {
    everywhere(&mounted(), |world| {
        let inside = connect_below(world, 1, "inside", Version::V5);
        world.subscribe(inside, "a", QoS::AtLeastOnce);
        let codes = world.unsubscribe(inside, &["t/a", "a", "a", "a/#/b", ""]);
        let expected = [
            ReasonCode::NoSubscriptionExisted,
            ReasonCode::Success,
            ReasonCode::NoSubscriptionExisted,
            ReasonCode::TopicFilterInvalid,
            ReasonCode::TopicFilterInvalid,
        ];
        assert_eq!(codes, expected.map(ReasonCode::byte));
    });
}

#[test]
fn wills_are_published_below_it() {
    everywhere(&mounted(), |world| {
        for version in VERSIONS {
            let all = world.connect("all", version);
            world.subscribe(all, "#", QoS::AtLeastOnce);
            let will = Will { qos: QoS::AtLeastOnce, ..Will::new("gone", b"bye") };
            world.listener = 1;
            let connect = Connect { will: Some(will), ..Connect::new(version, "mortal") };
            let (mortal, _) = world.connect_with(&connect);
            world.cut(mortal);
            world.expect_publish(all, "t/gone", "bye");
            world.listener = 0;
        }
    });
}

/// Response Topic is passed on as it is: it is data between clients.
#[test]
fn a_response_topic_stays_as_it_is() {
    everywhere(&mounted(), |world| {
        let inside = connect_below(world, 1, "inside", Version::V5);
        let all = world.connect("all", Version::V5);
        world.subscribe(all, "t/ask", QoS::AtLeastOnce);
        let properties = [Property::ResponseTopic("answer")];
        let plain = Post::new("ask", "?", QoS::AtLeastOnce);
        world.post(inside, &Post { properties: &properties, ..plain });
        let message = world.expect_publish(all, "t/ask", "?");
        assert_eq!(message.response_topic.as_deref(), Some("answer"));
    });
}

/// A session belongs to the mount point that it was begun below.
#[test]
fn a_session_is_not_resumed_below_another_mount_point() {
    everywhere(&mounted(), |world| {
        for version in [Version::V311, Version::V5] {
            let all = world.connect("all", version);
            let connect = keeping(version, "roamer", 100);
            world.listener = 1;
            let (roamer, _) = world.connect_with(&connect);
            world.listener = 0;
            world.subscribe(roamer, "#", QoS::AtLeastOnce);
            world.cut(roamer);
            world.publish(all, "t/x", "kept", QoS::AtLeastOnce);
            assert!(come_again(world, roamer, 1, &connect));
            world.expect_publish(roamer, "x", "kept");
            for listener in [2, 0, 1] {
                world.publish(all, "t/x", "old", QoS::AtLeastOnce);
                world.take_messages(roamer);
                // Whether the older connection is still there or not.
                if listener == 0 {
                    world.cut(roamer);
                    world.publish(all, "u/v/x", "old", QoS::AtLeastOnce);
                }
                world.clients[roamer].forget();
                assert!(!come_again(world, roamer, listener, &connect), "below {listener}");
                for topic in ["t/x", "u/v/x", "x"] {
                    world.publish(all, topic, "new", QoS::AtLeastOnce);
                }
                world.expect_nothing(roamer);
                world.subscribe(roamer, "#", QoS::AtLeastOnce);
            }
            let last = Connect::new(version, "roamer");
            come_again(world, roamer, 1, &last);
            world.disconnect(roamer);
        }
    });
}

/// The same after a restart with another configuration.
#[test]
fn a_session_from_the_store_keeps_its_mount_point() {
    let settings = Settings { is_durable: true, ..mounted() };
    everywhere(&settings, |world| {
        let connect = keeping(Version::V5, "kept", 1000);
        world.listener = 1;
        let (kept, _) = world.connect_with(&connect);
        world.listener = 0;
        world.subscribe(kept, "#", QoS::AtLeastOnce);
        world.settle();
        world.crash(2, seconds(1));
        world.clients[kept].survive_crash();
        let all = world.connect("all", Version::V5);
        world.publish(all, "t/$x", "hidden", QoS::AtLeastOnce);
        world.publish(all, "t/x", "1", QoS::AtLeastOnce);
        assert!(come_again(world, kept, 1, &connect));
        world.expect_publish(kept, "x", "1");
        world.settle();
        world.settings.listeners.swap(1, 2);
        world.crash(1, seconds(1));
        world.clients[kept].survive_crash();
        let all = world.connect("all", Version::V5);
        world.publish(all, "t/x", "2", QoS::AtLeastOnce);
        world.publish(all, "u/v/x", "2", QoS::AtLeastOnce);
        world.clients[kept].forget();
        assert!(!come_again(world, kept, 1, &connect));
        world.expect_nothing(kept);
    });
}

#[test]
fn what_becomes_too_long_is_refused() {
    let settings = Settings { topic_levels_max: 4, connect_packet_bytes_max: 100_000, ..mounted() };
    everywhere(&settings, |world| {
        let long = "x".repeat(65_534);
        let bad = [long.as_str(), "a/b/c/d"];
        for (topic, name) in bad.into_iter().zip(["long", "deep"]) {
            let inside = connect_below(world, 1, name, Version::V5);
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let codes = world.subscribe_with(inside, None, &[(topic, options), ("a/b/c", options)]);
            let refused = ReasonCode::TopicFilterInvalid.byte();
            assert_eq!(codes, [refused, QoS::AtLeastOnce.bits()]);
            world.publish(inside, "a/b/c", "fits", QoS::AtLeastOnce);
            world.expect_publish(inside, "a/b/c", "fits");
            world.say(inside, &Post::new(topic, "1", QoS::AtMostOnce));
            world.settle();
            world.expect_end(inside, ReasonCode::TopicNameInvalid);
            let all = world.connect(name, Version::V5);
            world.publish(all, topic, "1", QoS::AtLeastOnce);
            world.expect_alive(all);
            let will = Will::new(topic, b"bye");
            world.listener = 1;
            let client = world.open("denied", Version::V5);
            let connect = Connect { will: Some(will), ..Connect::new(Version::V5, "willing") };
            assert_eq!(world.greet(client, &connect).reason, ReasonCode::TopicNameInvalid);
            world.listener = 0;
        }
    });
}

/// Rules are about topics as everybody else knows them.
#[test]
fn rights_are_asked_for_with_the_mount_point() {
    let mut settings = mounted();
    settings.listeners[1].mount = Some("forbidden/".into());
    everywhere(&settings, |world| {
        let inside = connect_below(world, 1, "inside", Version::V5);
        let post = Post::new("a", "1", QoS::AtLeastOnce);
        assert_eq!(world.post(inside, &post), ReasonCode::NotAuthorized);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        let codes = world.subscribe_with(inside, None, &[("a", options)]);
        assert_eq!(codes, [ReasonCode::NotAuthorized.byte()]);
        let beside = connect_below(world, 2, "beside", Version::V5);
        let post = Post::new("forbidden/a", "1", QoS::AtLeastOnce);
        assert!(!world.post(beside, &post).is_error());
    });
}
