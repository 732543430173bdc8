//! From one client to others: QoS, overlapping subscriptions, large payloads.

use shards::codec::SubscribeOptions;
use shards::ids::{QoS, Version};
use shards::reject::ReasonCode;

use sim::drive::{Post, QOS, VERSIONS, everywhere, plain};

#[test]
fn every_qos_from_every_version_to_every_version() {
    everywhere(&plain(), |world| {
        for from in VERSIONS {
            for to in VERSIONS {
                let publisher = world.connect("publisher", from);
                let subscriber = world.connect("subscriber", to);
                for granted in QOS {
                    world.subscribe(subscriber, "a/+", granted);
                    for published in QOS {
                        world.publish(publisher, "a/b", "hello", published);
                        let message = world.expect_publish(subscriber, "a/b", "hello");
                        assert_eq!(message.qos, granted.min(published));
                        assert!(!message.retain);
                        assert!(!message.dup);
                        world.expect_nothing(publisher);
                    }
                }
                world.disconnect(publisher);
                world.disconnect(subscriber);
            }
        }
    });
}

#[test]
fn nobody_there_is_said_in_the_acknowledgement() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = world.post(publisher, &Post::new("a", "x", qos));
            assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
        }
    });
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        let subscriber = world.connect("subscriber", Version::V5);
        for (id, filter, qos) in
            [(1, "a/b", QoS::AtMostOnce), (2, "a/+", QoS::ExactlyOnce), (3, "#", QoS::AtLeastOnce)]
        {
            let options = SubscribeOptions::new(qos);
            world.subscribe_with(subscriber, Some(id), &[(filter, options)]);
        }
        world.publish(publisher, "a/b", "x", QoS::ExactlyOnce);
        let message = world.expect_publish(subscriber, "a/b", "x");
        assert_eq!(message.qos, QoS::ExactlyOnce);
        assert_eq!(message.ids, [1, 2, 3]);
        world.unsubscribe(subscriber, &["a/+"]);
        world.publish(publisher, "a/b", "y", QoS::ExactlyOnce);
        let message = world.expect_publish(subscriber, "a/b", "y");
        assert_eq!(message.qos, QoS::AtLeastOnce);
        assert_eq!(message.ids, [1, 3]);
    });
}

#[test]
fn no_local_counts_for_each_subscription() {
    everywhere(&plain(), |world| {
        let own = world.connect("own", Version::V5);
        let other = world.connect("other", Version::V5);
        let no_local =
            SubscribeOptions { no_local: true, ..SubscribeOptions::new(QoS::AtLeastOnce) };
        for client in [own, other] {
            world.subscribe_with(client, Some(1), &[("a/#", no_local)]);
        }
        world.publish(own, "a/b", "x", QoS::AtLeastOnce);
        world.expect_nothing(own);
        assert_eq!(world.expect_publish(other, "a/b", "x").ids, [1]);
        // A second subscription without the option brings the message, under its own identifier.
        let options = SubscribeOptions::new(QoS::AtMostOnce);
        world.subscribe_with(own, Some(2), &[("a/b", options)]);
        world.publish(own, "a/b", "y", QoS::AtLeastOnce);
        let message = world.expect_publish(own, "a/b", "y");
        assert_eq!((message.ids.as_slice(), message.qos), (&[2][..], QoS::AtMostOnce));
    });
}

#[test]
fn retain_as_published_counts_for_each_subscription() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        for (name, as_published) in [("plain", false), ("as-published", true)] {
            let subscriber = world.connect(name, Version::V5);
            let options = SubscribeOptions {
                retain_as_published: as_published,
                ..SubscribeOptions::new(QoS::AtLeastOnce)
            };
            world.subscribe_with(subscriber, None, &[("a", options)]);
            world.retain(publisher, "a", "kept");
            assert_eq!(world.expect_publish(subscriber, "a", "kept").retain, as_published);
            world.publish(publisher, "a", "not", QoS::AtMostOnce);
            assert!(!world.expect_publish(subscriber, "a", "not").retain);
            world.retain(publisher, "a", "");
            world.take_messages(subscriber);
        }
    });
}
