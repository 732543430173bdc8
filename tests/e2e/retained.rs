//! Retained messages: set, replace, clear, and what a new subscriber sees of them.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::Publish;

on_shards!(
    a_retained_message_is_set_replaced_and_cleared,
    retain_handling_decides_what_a_subscription_brings,
    retain_as_published_keeps_the_flag,
    a_wildcard_brings_the_retained_messages_of_all_shards,
    live_messages_wait_behind_retained_ones,
);

const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_IF_NEW: u8 = 0x10;
const RETAIN_HANDLING_NEVER: u8 = 0x20;

fn a_retained_message_is_set_replaced_and_cleared(broker: &Broker) {
    for version in [3, 4, 5] {
        for qos in [0, 1, 2] {
            let topic = format!("kept/{version}/{qos}");
            let id = |role: &str| format!("{role}-{version}-{qos}");
            let mut publisher = Client::plain(broker, version, &id("from"));
            let mut live = Client::plain(broker, version, &id("live"));
            live.subscribe(&topic, qos);
            for text in ["one", "two"] {
                publisher.publish_as(Publish::new(&topic, text, qos).retained());
                // Whoever was subscribed before gets a live message, not a retained one.
                let message = live.message();
                assert_eq!((message.text(), message.retain), (text, false));
                let mut late = Client::plain(broker, version, &id(text));
                late.subscribe(&topic, qos);
                let message = late.message();
                assert_eq!((message.text(), message.retain, message.qos), (text, true, qos));
            }
            publisher.publish_as(Publish::new(&topic, "", qos).retained());
            assert_eq!(live.message().text(), "", "the clearing message is delivered as any other");
            let mut none = Client::plain(broker, version, &id("none"));
            none.subscribe(&topic, qos);
            publisher.publish(&topic, "fence", qos);
            assert_eq!(none.message().text(), "fence");
        }
    }
}

fn retain_handling_decides_what_a_subscription_brings(broker: &Broker) {
    let mut publisher = Client::plain(broker, 5, "handling-from");
    publisher.publish_as(Publish::new("handling", "kept", 1).retained());
    for number in 0..8 {
        let mut client = Client::plain(broker, 5, &format!("handling-{number}"));
        let fence = format!("fence/{number}");
        client.subscribe(&fence, 1);
        let mut next_after = |client: &mut Client, options: u8| {
            client.subscribe("handling", 1 | options);
            publisher.publish(&fence, "fence", 1);
            let first = client.message();
            if first.text() == "kept" {
                assert_eq!(client.message().text(), "fence");
            }
            first.text() == "kept"
        };
        assert!(!next_after(&mut client, RETAIN_HANDLING_NEVER));
        assert!(!next_after(&mut client, RETAIN_HANDLING_IF_NEW), "the subscription existed");
        assert!(next_after(&mut client, 0), "each SUBSCRIBE brings it");
        assert_eq!(client.unsubscribe(&["handling"]), [0]);
        assert!(next_after(&mut client, RETAIN_HANDLING_IF_NEW), "the subscription is new");
    }
}

fn retain_as_published_keeps_the_flag(broker: &Broker) {
    let mut publisher = Client::plain(broker, 5, "published-from");
    for number in 0..8 {
        let topic = format!("published/{number}");
        let mut with = Client::plain(broker, 5, &format!("with-{number}"));
        let mut without = Client::plain(broker, 5, &format!("without-{number}"));
        with.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED);
        without.subscribe(&topic, 1);
        publisher.publish_as(Publish::new(&topic, "yes", 1).retained());
        publisher.publish(&topic, "no", 1);
        let flags = |client: &mut Client| [client.message().retain, client.message().retain];
        assert_eq!(flags(&mut with), [true, false]);
        assert_eq!(flags(&mut without), [false, false]);
    }
}

fn a_wildcard_brings_the_retained_messages_of_all_shards(broker: &Broker) {
    let mut topics: Vec<String> = (0..200).map(|n| format!("all/{}/{n}", n % 7)).collect();
    for part in topics.chunks(25) {
        let mut publisher = Client::plain(broker, 4, &part[0].replace('/', "-"));
        for topic in part {
            publisher.publish_as(Publish::new(topic, topic, 1).retained());
        }
    }
    topics.sort();
    for (filter, want) in [("all/#", 200), ("all/3/+", 28), ("#", 200)] {
        for number in 0..4 {
            let mut client = Client::plain(broker, 4, &format!("all-{number}-{want}"));
            client.subscribe(filter, 1);
            let mut got: Vec<String> = (0..want)
                .map(|_| {
                    let message = client.message();
                    assert!(message.retain);
                    assert_eq!(message.topic, message.text());
                    message.topic
                })
                .collect();
            got.sort();
            got.dedup();
            assert_eq!(got.len(), want, "{filter}");
            if want == 200 {
                assert_eq!(got, topics);
            }
        }
    }
}

/// A subscriber never sees an older state after a newer one. The retained copy of a message may come
/// before the message itself, but not after it.
fn live_messages_wait_behind_retained_ones(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "state-from");
    publisher.publish_as(Publish::new("state", "0", 1).retained());
    let mut state = 0;
    for number in 0..20 {
        let mut client = Client::plain(broker, 4, &format!("state-{number}"));
        client.send(&crate::harness::wire::subscribe(4, 77, &[("state", 1)], &[]));
        for _ in 0..10 {
            state += 1;
            publisher.publish_as(Publish::new("state", state.to_string(), 1).retained());
        }
        let mut last = (-1, false);
        while last.0 < state {
            let message = client.message();
            let now = (message.text().parse().expect("a number"), message.retain);
            let is_after_its_copy = now.0 == last.0 && last.1 && !now.1;
            assert!(now.0 > last.0 || is_after_its_copy, "(state, retain) {now:?} after {last:?}");
            last = now;
        }
    }
}
