//! Retained messages: set, replaced, cleared, expired, asked for by new subscriptions.

use shards::codec::{Property, RetainHandling, SubscribeOptions};
use shards::ids::{QoS, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use sim::client::Answers;
use sim::drive::{Post, QOS, VERSIONS, everywhere, keeping, plain, seconds};

#[test]
fn a_new_subscription_gets_the_last_retained_message() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let publisher = world.connect("publisher", version);
            world.retain(publisher, "a/b", "old");
            world.retain(publisher, "a/b", "new");
            for filter in ["a/b", "a/+", "#"] {
                let subscriber = world.connect("subscriber", version);
                world.subscribe(subscriber, filter, QoS::AtMostOnce);
                let message = world.expect_publish(subscriber, "a/b", "new");
                assert!(message.retain);
                assert_eq!(message.qos, QoS::AtMostOnce);
                world.disconnect(subscriber);
            }
            assert_eq!(world.snapshot().gauges.retained_messages, 1);
            world.retain(publisher, "a/b", "");
            assert_eq!(world.snapshot().gauges.retained_messages, 0);
            assert_eq!(world.snapshot().gauges.retained_bytes, 0);
            let subscriber = world.connect("subscriber", version);
            world.subscribe(subscriber, "a/b", QoS::AtMostOnce);
            world.expect_nothing(subscriber);
            world.disconnect(subscriber);
            world.disconnect(publisher);
        }
    });
}

#[test]
fn a_retained_message_has_the_lower_of_both_qos_and_the_identifier() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        for kept in QOS {
            world.post(publisher, &Post::retained("a", "x", kept));
            for granted in QOS {
                let subscriber = world.connect("subscriber", Version::V5);
                let options = SubscribeOptions::new(granted);
                world.subscribe_with(subscriber, Some(9), &[("+", options)]);
                let message = world.expect_publish(subscriber, "a", "x");
                assert_eq!((message.qos, message.ids.as_slice()), (kept.min(granted), &[9][..]));
                world.disconnect(subscriber);
            }
        }
    });
}

#[test]
fn retain_handling_says_when_they_come() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        world.retain(publisher, "a", "x");
        let subscriber = world.connect("subscriber", Version::V5);
        let with = |retain_handling| SubscribeOptions {
            retain_handling,
            ..SubscribeOptions::new(QoS::AtLeastOnce)
        };
        for (handling, comes) in [
            (RetainHandling::Never, false),
            (RetainHandling::IfNew, false),
            (RetainHandling::Always, true),
            (RetainHandling::Always, true),
        ] {
            world.subscribe_with(subscriber, None, &[("a", with(handling))]);
            let came = !world.take_messages(subscriber).is_empty();
            assert_eq!(came, comes, "{handling:?}");
        }
        world.unsubscribe(subscriber, &["a"]);
        world.subscribe_with(subscriber, None, &[("a", with(RetainHandling::IfNew))]);
        world.expect_publish(subscriber, "a", "x");
        // A shared subscription never gets any [MQTT-4.8 and 3.8.4].
        world.subscribe_with(subscriber, None, &[("$share/g/a", with(RetainHandling::Always))]);
        world.expect_nothing(subscriber);
    });
}

#[test]
fn a_retained_message_expires() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        let properties = &[Property::MessageExpiry(10)];
        for topic in ["a/1", "a/2", "a/3"] {
            let post = Post { properties, ..Post::retained(topic, "x", QoS::AtLeastOnce) };
            world.post(publisher, &post);
        }
        world.advance(seconds(4));
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "a/1", QoS::AtLeastOnce);
        assert_eq!(world.expect_publish(subscriber, "a/1", "x").expiry_s, Some(6));
        world.advance(seconds(7));
        world.subscribe(subscriber, "a/#", QoS::AtLeastOnce);
        world.expect_nothing(subscriber);
        assert_eq!(world.snapshot().gauges.retained_messages, 0);
        assert_eq!(world.snapshot().counters.retained_expired, 3);
    });
}

/// More topics than one slice holds, on every owner, for somebody who reads slowly, has a small
/// window, and gets live messages meanwhile.
#[test]
fn wide_wildcards_come_in_slices_and_live_messages_behind_them() {
    let settings = Settings { out_bytes_max: 400, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..300 {
            world.say(publisher, &Post::retained(&format!("a/{n}"), "old", QoS::AtLeastOnce));
        }
        world.settle();
        assert_eq!(world.snapshot().gauges.retained_messages, 300);
        let connect = shards::codec::Connect {
            receive_maximum: Some(5),
            ..shards::codec::Connect::new(Version::V5, "subscriber")
        };
        let (subscriber, _) = world.connect_with(&connect);
        world.stall(subscriber);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.say_subscribe(subscriber, None, &[("a/#", options)]);
        world.settle();
        for n in 0..5 {
            world.publish(publisher, &format!("a/{n}"), "live", QoS::AtLeastOnce);
        }
        world.unstall(subscriber);
        let texts = world.take_texts(subscriber);
        assert_eq!(texts.len(), 305, "{texts:?}");
        assert!(texts[..300].iter().all(|text| text.ends_with("old")));
        let live: Vec<_> = (0..5).map(|n| format!("a/{n}=live")).collect();
        assert_eq!(texts[300..], live);
        world.clients[subscriber].got.clear();
    });
}

#[test]
fn a_retained_copy_that_a_live_message_has_overtaken_does_not_come() {
    let settings = Settings { out_bytes_max: 200, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..200 {
            world.say(publisher, &Post::retained(&format!("a/{n:03}"), "old", QoS::AtLeastOnce));
        }
        world.settle();
        let subscriber = world.connect("subscriber", Version::V5);
        world.stall(subscriber);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.say_subscribe(subscriber, None, &[("a/#", options)]);
        world.settle();
        for n in 0..200 {
            world.retain(publisher, &format!("a/{n:03}"), "new");
        }
        world.unstall(subscriber);
        let texts = world.take_texts(subscriber);
        for n in 0..200 {
            let of_topic: Vec<_> =
                texts.iter().filter_map(|text| text.strip_prefix(&format!("a/{n:03}="))).collect();
            assert!(of_topic == ["new"] || of_topic == ["old", "new"], "{n}: {of_topic:?}");
        }
        assert!(world.snapshot().counters.retained_overtaken > 0);
        world.clients[subscriber].got.clear();
    });
}

#[test]
fn unsubscribing_stops_what_has_not_come() {
    let settings = Settings { out_bytes_max: 200, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..300 {
            world.say(publisher, &Post::retained(&format!("a/{n}"), "old", QoS::AtLeastOnce));
        }
        world.settle();
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "b", QoS::AtLeastOnce);
        world.stall(subscriber);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.say_subscribe(subscriber, None, &[("a/#", options)]);
        world.settle();
        world.publish(publisher, "b", "behind", QoS::AtLeastOnce);
        let id = world.clients[subscriber].take_id();
        world.write(subscriber, |out| {
            shards::codec::Unsubscribe::new(id, &["a/#"]).encode(Version::V5, out);
        });
        world.unstall(subscriber);
        let texts = world.take_texts(subscriber);
        assert!(texts.len() < 200, "{} came", texts.len());
        assert_eq!(texts.last().map(String::as_str), Some("b=behind"));
        world.publish(publisher, "b", "alive", QoS::AtMostOnce);
        world.expect_publish(subscriber, "b", "alive");
        world.clients[subscriber].got.clear();
    });
}

#[test]
fn an_unacknowledged_retained_message_is_resent_and_those_not_begun_are_not() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        for topic in ["a/1", "a/2"] {
            world.retain(publisher, topic, "x");
        }
        let connect = shards::codec::Connect {
            receive_maximum: Some(1),
            ..keeping(Version::V5, "subscriber", 100)
        };
        let (subscriber, _) = world.connect_with(&connect);
        world.answer(subscriber, Answers::None);
        world.subscribe(subscriber, "a/+", QoS::AtLeastOnce);
        let first = world.take_messages(subscriber);
        assert_eq!(first.len(), 1);
        world.cut(subscriber);
        world.answer(subscriber, Answers::All);
        assert!(world.reconnect(subscriber, &connect).session_present);
        let again = world.take_messages(subscriber);
        assert_eq!(again.len(), 1);
        assert!(again[0].dup && again[0].retain);
        assert_eq!(again[0].topic, first[0].topic);
    });
}

#[test]
fn there_is_a_most_of_retained_messages() {
    let settings = Settings { retained_messages_max: 1, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..20 {
            world.post(publisher, &Post::retained(&format!("t/{n}"), "x", QoS::AtLeastOnce));
        }
        let snapshot = world.snapshot();
        assert!(snapshot.gauges.retained_messages <= world.shard_count() as u64);
        assert_eq!(
            snapshot.counters.retained_refused + snapshot.gauges.retained_messages,
            20,
            "each is kept or counted"
        );
    });
    let settings = Settings { retained_bytes_max: 10, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        world.post(publisher, &Post::retained("t", "far too long for it", QoS::AtLeastOnce));
        assert_eq!(world.snapshot().gauges.retained_messages, 0);
    });
}

#[test]
fn dollar_topics_are_out_of_reach_of_leading_wildcards() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "#", QoS::AtLeastOnce);
        world.subscribe(subscriber, "+/x", QoS::AtLeastOnce);
        world.retain(publisher, "$own/x", "v");
        world.expect_nothing(subscriber);
        world.subscribe(subscriber, "$own/+", QoS::AtLeastOnce);
        world.expect_publish(subscriber, "$own/x", "v");
        let reason = world.post(publisher, &Post::new("$SYS/x", "v", QoS::AtLeastOnce));
        assert_eq!(reason, ReasonCode::NotAuthorized);
    });
}

/// What a live message has overtaken for one subscription is still due to a newer one.
#[test]
fn a_newer_subscription_gets_what_an_older_one_was_told_live() {
    let settings = Settings { out_bytes_max: 200, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..100 {
            world.say(publisher, &Post::retained(&format!("a/{n}"), "old", QoS::AtLeastOnce));
        }
        world.settle();
        let subscriber = world.connect("subscriber", Version::V5);
        world.stall(subscriber);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.say_subscribe(subscriber, Some(1), &[("a/#", options)]);
        world.settle();
        for n in 0..100 {
            world.retain(publisher, &format!("a/{n}"), "new");
        }
        world.say_subscribe(subscriber, Some(2), &[("a/7", options), ("+/8", options)]);
        world.unstall(subscriber);
        let messages = world.take_messages(subscriber);
        for topic in ["a/7", "a/8"] {
            let is_it = |m: &&sim::client::Message| m.topic == topic && m.ids == [2];
            let found: Vec<_> = messages.iter().filter(is_it).collect();
            assert_eq!(found.len(), 1, "{topic}: {found:?}");
            assert!(found[0].retain && found[0].text() == "new");
        }
        world.clients[subscriber].got.clear();
    });
}
