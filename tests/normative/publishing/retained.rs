//! RETAIN, section 3.3.1.3: what is kept, what takes it away, and who is sent it.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::Publish;
use crate::publishing::steps::pair;
use crate::support::{broker, on_versions};

on_versions! {
    fn mqtt_311_3_3_1_5_kept_with_its_qos(4) => kept_with_its_qos;
    fn mqtt_5_3_3_1_5_the_newest_takes_the_place(5) => newest_takes_the_place;
    fn mqtt_311_3_3_1_6_each_matching_topic_at_a_new_subscription(4) => each_matching_topic;
    fn mqtt_311_3_3_1_7_qos_0_discards_what_was_kept(4) => newest_takes_the_place;
    fn mqtt_311_3_3_1_8_retain_set_at_a_new_subscription(4) => retain_set_at_a_new_subscription;
    fn mqtt_311_3_3_1_9_retain_clear_at_an_established_one(4),
    fn mqtt_5_3_3_1_12_retain_clear_at_an_established_one(5) => retain_clear;
    fn mqtt_311_3_3_1_10_an_empty_message_takes_it_away(4),
    fn mqtt_5_3_3_1_6_an_empty_message_takes_it_away(5) => empty_takes_it_away;
    fn mqtt_311_3_3_1_11_an_empty_message_is_not_kept(4),
    fn mqtt_5_3_3_1_7_an_empty_message_is_not_kept(5) => empty_is_not_kept;
    fn mqtt_311_3_3_1_12_without_retain_nothing_changes(4),
    fn mqtt_5_3_3_1_8_without_retain_nothing_changes(5) => without_retain_nothing_changes;
}

const RETAIN_AS_PUBLISHED: u8 = 0x08;

/// Retain handling as it stands in the options of a subscription.
const ONLY_IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

/// What a new subscriber of `filter` is sent before anything else; ordinary subscriptions answer in
/// order, so what comes behind the fence was not kept.
#[track_caller]
fn kept(broker: &Broker, version: u8, filter: &str) -> Vec<Publish> {
    let mut client = Client::plain(broker, version, "late");
    client.subscribe(filter, 2);
    until_fence(&mut client, broker, version)
}

/// Messages before one that is published now.
#[track_caller]
fn until_fence(client: &mut Client, broker: &Broker, version: u8) -> Vec<Publish> {
    client.subscribe("fence", 2);
    Client::plain(broker, version, "fence").publish("fence", "fence", 1);
    let mut got = Vec::new();
    loop {
        let message = client.message();
        if message.topic == "fence" {
            return got;
        }
        got.push(message);
    }
}

#[track_caller]
fn assert_kept(broker: &Broker, version: u8, topic: &str, want: &[&str]) {
    let got = kept(broker, version, topic);
    assert!(got.iter().map(Publish::text).eq(want.iter().copied()), "{got:?}");
    assert!(got.iter().all(|message| message.retain && message.topic == topic), "{got:?}");
}

fn kept_with_its_qos(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for qos in [0, 1, 2] {
        let topic = format!("t/{qos}");
        publisher.publish_as(Publish::new(&topic, "text", qos).retained());
        for granted in [0, 1, 2] {
            let mut late = Client::plain(&broker, version, "late");
            late.subscribe(&topic, granted);
            let message = late.message();
            assert_eq!((message.text(), message.qos), ("text", qos.min(granted)));
        }
    }
}

fn newest_takes_the_place(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (number, (before, after)) in [(2, 0), (1, 0), (0, 2), (0, 0)].into_iter().enumerate() {
        let topic = format!("t/{number}");
        publisher.publish_as(Publish::new(&topic, "old", before).retained());
        publisher.publish_as(Publish::new(&topic, "new", after).retained());
        // QoS 0 is not acknowledged; this is, behind it.
        publisher.publish("behind", "", 1);
        assert_kept(&broker, version, &topic, &["new"]);
    }
}

fn each_matching_topic(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for topic in ["a/1", "a/2", "a/2/x", "b/1", "A/1"] {
        publisher.publish_as(Publish::new(topic, topic, 1).retained());
    }
    for (filter, want) in [
        ("a/+", &["a/1", "a/2"][..]),
        ("a/#", &["a/1", "a/2", "a/2/x"]),
        ("+/1", &["A/1", "a/1", "b/1"]),
        ("a/2", &["a/2"]),
        ("a/3", &[]),
    ] {
        let mut got = kept(&broker, version, filter);
        got.sort_by(|one, other| one.topic.cmp(&other.topic));
        assert!(got.iter().map(Publish::text).eq(want.iter().copied()), "{filter}: {got:?}");
    }
}

fn retain_set_at_a_new_subscription(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for qos in [0, 1, 2] {
        let topic = format!("t/{qos}");
        publisher.publish_as(Publish::new(&topic, "text", qos).retained());
        publisher.publish("behind", "", 1);
        assert_kept(&broker, version, &topic, &["text"]);
    }
}

fn retain_clear(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    for qos in [0, 1, 2] {
        for message in [Publish::new("t", "x", qos).retained(), Publish::new("t", "y", qos)] {
            publisher.publish_as(message.clone());
            let got = subscriber.message();
            assert_eq!((got.text(), got.retain), (message.text(), false));
        }
    }
    assert_kept(&broker, version, "t", &["x"]);
}

fn empty_takes_it_away(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t/#", 1);
    for qos in [0, 1, 2] {
        let topic = format!("t/{qos}");
        publisher.publish_as(Publish::new(&topic, "text", 1).retained());
        assert_kept(&broker, version, &topic, &["text"]);
        publisher.publish_as(Publish::new(&topic, "", qos).retained());
        publisher.publish("behind", "", 1);
        assert_kept(&broker, version, &topic, &[]);
        // It is an ordinary message for those who are there.
        assert_eq!(subscriber.message().text(), "text");
        let last = subscriber.message();
        assert_eq!((last.text(), last.qos, last.retain), ("", qos.min(1), false));
    }
}

fn empty_is_not_kept(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for qos in [0, 1, 2] {
        publisher.publish_as(Publish::new(&format!("t/{qos}"), "", qos).retained());
    }
    publisher.publish_as(Publish::new("t/kept", "text", 1).retained());
    let got = kept(&broker, version, "t/#");
    assert!(got.iter().map(|message| &*message.topic).eq(["t/kept"]), "{got:?}");
}

fn without_retain_nothing_changes(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish_as(Publish::new("t/a", "kept", 1).retained());
    for qos in [0, 1, 2] {
        for (topic, text) in [("t/a", "other"), ("t/a", ""), ("t/b", "other")] {
            publisher.publish(topic, text, qos);
        }
    }
    assert_kept(&broker, version, "t/a", &["kept"]);
    assert_kept(&broker, version, "t/b", &[]);
}

/// Subscribes with these options and says what was kept, again and again.
#[track_caller]
fn kept_at_each_subscribe(options: u8, want: [usize; 3]) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for topic in ["t/a", "t/b"] {
        publisher.publish_as(Publish::new(topic, "text", 1).retained());
    }
    let mut client = Client::plain(&broker, 5, "subscriber");
    for (round, want) in want.into_iter().enumerate() {
        if round == 2 {
            client.unsubscribe(&["t/+"]);
        }
        assert_eq!(client.subscribe("t/+", 1 | options), 1);
        let got = until_fence(&mut client, &broker, 5);
        assert_eq!(got.len(), want, "subscribe {round}: {got:?}");
        assert!(got.iter().all(|message| message.retain), "{got:?}");
    }
}

#[test]
fn mqtt_5_3_3_1_9_handling_0_sends_them_at_every_subscribe() {
    kept_at_each_subscribe(0, [2, 2, 2]);
}

#[test]
fn mqtt_5_3_3_1_10_handling_1_sends_them_to_a_new_subscription_only() {
    kept_at_each_subscribe(ONLY_IF_NEW, [2, 0, 2]);
}

#[test]
fn mqtt_5_3_3_1_11_handling_2_sends_none() {
    kept_at_each_subscribe(NEVER, [0, 0, 0]);
}

#[test]
fn mqtt_5_3_3_1_13_retain_as_published() {
    let broker = broker();
    let mut subscriber = Client::plain(&broker, 5, "subscriber");
    subscriber.subscribe("t", 2 | RETAIN_AS_PUBLISHED);
    let mut publisher = Client::plain(&broker, 4, "publisher");
    for qos in [0, 1, 2] {
        publisher.publish_as(Publish::new("t", "x", qos).retained());
        publisher.publish_as(Publish::new("t", "y", qos));
        let (first, second) = (subscriber.message(), subscriber.message());
        assert_eq!((first.text(), first.retain), ("x", true));
        assert_eq!((second.text(), second.retain), ("y", false));
    }
}
