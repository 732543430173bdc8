//! Section 3.1: the will.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{Connect, Prop, Publish, Will, prop};
use crate::support::{broker, on_versions};

on_versions! {
    fn mqtt_311_3_1_2_8_a_lost_connection_publishes_the_will(4),
    fn mqtt_5_3_1_2_7_the_will_is_kept_with_the_session(5) => lost_connection;
    fn mqtt_311_3_1_2_10_a_will_is_dropped_once_published_or_disconnected(4),
    fn mqtt_5_3_1_2_10_a_will_is_dropped_once_published_or_disconnected(5) => will_is_dropped;
    fn mqtt_311_3_1_2_12_no_will_is_published_if_none_was_given(4) => no_will_no_message;
    fn mqtt_311_3_1_2_16_a_will_without_retain_is_not_kept(4),
    fn mqtt_5_3_1_2_14_a_will_without_retain_is_not_kept(5) => will_is_not_retained;
    fn mqtt_311_3_1_2_17_a_will_with_retain_is_kept(4),
    fn mqtt_5_3_1_2_15_a_will_with_retain_is_kept(5) => will_is_retained;
}

fn watcher(broker: &Broker, version: u8) -> Client {
    let mut watcher = Client::plain(broker, version, "watcher");
    watcher.subscribe("will/#", 2);
    watcher
}

/// The next will is this one: no other was published before it.
#[track_caller]
fn assert_next(watcher: &mut Client, text: &str) {
    assert_eq!(watcher.message().text(), text);
}

fn with_delay(will: Will, seconds: u32) -> Will {
    let props = vec![Prop::four(prop::WILL_DELAY, seconds)];
    Will { props, ..will }
}

/// Closed, reset, broken off by the broker for what was sent, at each QoS.
fn lost_connection(version: u8) {
    let broker = broker();
    let mut watcher = watcher(&broker, version);
    for qos in [0, 1, 2] {
        for end in ["closed", "reset", "broken"] {
            let mut will = Will::new("will/lost", end);
            will.qos = qos;
            let mut client = Client::connect(&broker, &Connect::new(version, end).will(will));
            client.ping();
            match end {
                "closed" => client.vanish(),
                "reset" => client.reset(),
                _ => {
                    client.send(&[0x00, 0x00]);
                    client.until_end();
                }
            }
            let message = watcher.message();
            assert_eq!((message.topic.as_str(), message.text()), ("will/lost", end));
            assert_eq!((message.qos, message.retain), (qos, false));
        }
    }
}

/// The same client comes back without a will and is lost again: each will is published once at most.
/// The fence is another will of the same client.
fn will_is_dropped(version: u8) {
    let broker = broker();
    let mut watcher = watcher(&broker, version);
    for number in 0..8 {
        let client_id = format!("dropped-{number}");
        let plain = || Connect::new(version, &client_id).persistent();
        let with_will = |text| Client::connect(&broker, &plain().will(Will::new("will/t", text)));
        with_will("first").vanish();
        assert_next(&mut watcher, "first");
        Client::connect(&broker, &plain()).vanish();
        with_will("never").disconnect();
        Client::connect(&broker, &plain()).vanish();
        with_will("fence").vanish();
        assert_next(&mut watcher, "fence");
    }
}

fn no_will_no_message(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("#", 0);
    for number in 0..8 {
        let connect = Connect::new(version, &format!("none-{number}"));
        Client::connect(&broker, &connect).vanish();
        Client::connect(&broker, &connect).reset();
        Client::connect(&broker, &connect.will(Will::new("fence", "fence"))).vanish();
        assert_eq!(watcher.message().topic, "fence");
    }
}

fn will_is_not_retained(version: u8) {
    let broker = broker();
    let mut watcher = watcher(&broker, version);
    watcher.publish_as(Publish::new("will/t", "before", 1).retained());
    assert_next(&mut watcher, "before");
    let connect = Connect::new(version, "gone").will(Will::new("will/t", "will"));
    Client::connect(&broker, &connect).vanish();
    let message = watcher.message();
    assert_eq!((message.text(), message.retain), ("will", false));
    // What was retained stays.
    let mut late = Client::plain(&broker, version, "late");
    late.subscribe("will/t", 0);
    let message = late.message();
    assert_eq!((message.text(), message.retain), ("before", true));
}

fn will_is_retained(version: u8) {
    let broker = broker();
    let mut watcher = watcher(&broker, version);
    watcher.publish_as(Publish::new("will/t", "before", 1).retained());
    assert_next(&mut watcher, "before");
    let mut will = Will::new("will/t", "will");
    will.retain = true;
    Client::connect(&broker, &Connect::new(version, "gone").will(will)).vanish();
    let message = watcher.message();
    assert_eq!((message.text(), message.retain), ("will", false), "it was subscribed before");
    let mut late = Client::plain(&broker, version, "late");
    late.subscribe("will/t", 0);
    let message = late.message();
    assert_eq!((message.text(), message.retain), ("will", true));
}

/// After the delay, at the end of the session if that is earlier, and not at all if a DISCONNECT or a
/// new connection came first.
#[test]
fn mqtt_5_3_1_2_8_a_will_is_published_after_its_delay_or_with_the_session() {
    let broker = broker();
    let mut watcher = watcher(&broker, 5);
    for (delay, expiry, want) in [(1, 60, 1), (60, 1, 1), (60, 0, 0), (0, 60, 0)] {
        let text = format!("delay {delay} expiry {expiry}");
        let connect = Connect::new(5, &text)
            .with(Prop::four(prop::SESSION_EXPIRY, expiry))
            .will(with_delay(Will::new("will/t", &text), delay));
        let client = Client::connect(&broker, &connect);
        let begin = Instant::now();
        client.vanish();
        assert_next(&mut watcher, &text);
        assert!(begin.elapsed() >= Duration::from_secs(want), "{text}: too early");
    }
    // A clean start ends the session, and the delay with it.
    let will = with_delay(Will::new("will/t", "ended"), 60);
    Client::connect(&broker, &Connect::new(5, "ended").persistent().will(will)).vanish();
    Client::plain(&broker, 5, "ended").disconnect();
    assert_next(&mut watcher, "ended");
    let will = with_delay(Will::new("will/t", "never"), 1);
    Client::connect(&broker, &Connect::new(5, "left").persistent().will(will)).disconnect();
    let will = with_delay(Will::new("will/t", "fence"), 2);
    Client::connect(&broker, &Connect::new(5, "left").persistent().will(will)).vanish();
    assert_next(&mut watcher, "fence");
}

/// The fence is a will with a longer delay on the same session.
#[test]
fn mqtt_5_3_1_3_9_a_new_connection_in_time_cancels_the_will() {
    let broker = broker();
    let mut watcher = watcher(&broker, 5);
    let connect = || Connect::new(5, "back").persistent();
    let will = with_delay(Will::new("will/t", "never"), 1);
    Client::connect(&broker, &connect().will(will.clone())).vanish();
    let mut back = Client::connect(&broker, &connect().will(will));
    assert!(back.present);
    // A take-over is a new connection as well.
    let client = Client::connect(&broker, &connect());
    back.until_end();
    client.vanish();
    let will = with_delay(Will::new("will/t", "fence"), 2);
    Client::connect(&broker, &connect().will(will)).vanish();
    assert_next(&mut watcher, "fence");
}

#[test]
fn mqtt_5_3_1_3_10_user_properties_of_a_will_keep_their_order() {
    let broker = broker();
    let mut watcher = watcher(&broker, 5);
    let props = vec![
        Prop::user("b", "1"),
        Prop::user("a", "2"),
        Prop::user("b", "1"),
        Prop::user("", "empty"),
        Prop::user("a", "1"),
    ];
    let will = Will { props: props.clone(), ..Will::new("will/t", "x") };
    Client::connect(&broker, &Connect::new(5, "ordered").will(will)).vanish();
    assert_eq!(watcher.message().props, props);
}
