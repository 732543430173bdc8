//! Wills: when they are published, when not, and how late.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{Connect, Prop, Will, packet, prop};

on_shards!(
    an_unclean_end_publishes_the_will,
    a_clean_disconnect_discards_the_will,
    a_disconnect_with_will_publishes_it,
    a_take_over_publishes_the_will,
    a_will_is_retained_on_request,
    a_delayed_will_comes_late_or_with_the_end_of_the_session,
    a_return_in_time_cancels_a_delayed_will,
    a_will_carries_its_properties,
);

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Client::plain(broker, 5, "watcher");
    watcher.subscribe("will/#", 2);
    watcher
}

/// A closed connection, a reset one and one that breaks the protocol.
fn an_unclean_end_publishes_the_will(broker: &Broker) {
    let mut watcher = watcher(broker);
    for version in [3, 4, 5] {
        for qos in [0, 1, 2] {
            for end in ["closed", "reset", "broken", "silent"] {
                let topic = format!("will/{version}/{qos}/{end}");
                let mut will = Will::new(&topic, end);
                will.qos = qos;
                let mut connect = Connect::new(version, &topic.replace('/', "-")).will(will);
                if end == "silent" {
                    if qos > 0 {
                        continue;
                    }
                    connect = connect.keep_alive(1);
                }
                let mut client = Client::connect(broker, &connect);
                match end {
                    "closed" => client.vanish(),
                    "reset" => client.reset(),
                    "broken" => {
                        client.send(&[0xF0, 0x00]);
                        client.until_end();
                    }
                    _ => {
                        client.until_end();
                    }
                }
                let message = watcher.message();
                assert_eq!((message.topic.as_str(), message.text()), (topic.as_str(), end));
                assert_eq!((message.qos, message.retain), (qos, false));
            }
        }
    }
}

/// The fence is a will that does come, of a client that connected later.
fn a_clean_disconnect_discards_the_will(broker: &Broker) {
    let mut watcher = watcher(broker);
    for version in [3, 4, 5] {
        for number in 0..8 {
            let id = format!("{version}-{number}");
            let will = Will::new("will/none", "never");
            Client::connect(broker, &Connect::new(version, &id).will(will)).disconnect();
            let will = Will::new("will/fence", &id);
            Client::connect(broker, &Connect::new(version, &id).will(will)).vanish();
            assert_eq!(watcher.message().text(), id);
        }
    }
}

fn a_disconnect_with_will_publishes_it(broker: &Broker) {
    let mut watcher = watcher(broker);
    for number in 0..8 {
        let id = format!("with-will-{number}");
        let will = Will::new("will/asked", &id);
        let mut client = Client::connect(broker, &Connect::new(5, &id).will(will));
        client.send(&packet(0xE0, &[0x04]));
        client.until_end();
        assert_eq!(watcher.message().text(), id);
    }
}

fn a_take_over_publishes_the_will(broker: &Broker) {
    let mut watcher = watcher(broker);
    for version in [3, 4, 5] {
        for number in 0..8 {
            let id = format!("taken-{version}-{number}");
            let connect = Connect::new(version, &id).will(Will::new("will/taken", &id));
            let mut first = Client::connect(broker, &connect);
            let second = Client::plain(broker, version, &id);
            first.until_end();
            assert_eq!(watcher.message().text(), id);
            second.disconnect();
        }
    }
}

fn a_will_is_retained_on_request(broker: &Broker) {
    let mut watcher = watcher(broker);
    let mut will = Will::new("will/kept", "gone");
    will.retain = true;
    Client::connect(broker, &Connect::new(4, "kept").will(will)).vanish();
    let live = watcher.message();
    assert_eq!((live.text(), live.retain), ("gone", false));
    let mut late = Client::plain(broker, 4, "late");
    late.subscribe("will/kept", 0);
    let kept = late.message();
    assert_eq!((kept.text(), kept.retain), ("gone", true));
}

fn a_delayed_will_comes_late_or_with_the_end_of_the_session(broker: &Broker) {
    let mut watcher = watcher(broker);
    // The session outlives the delay, ends before it, or ends at once.
    for (delay, expiry, want) in [(1, 60, 1), (60, 1, 1), (60, 0, 0)] {
        if expiry == 0 && broker.deviates("2.0.11 keeps the will of a session that ends at once") {
            continue;
        }
        let id = format!("delayed-{delay}-{expiry}");
        let mut will = Will::new("will/delayed", &id);
        will.props.push(Prop::four(prop::WILL_DELAY, delay));
        let connect =
            Connect::new(5, &id).with(Prop::four(prop::SESSION_EXPIRY, expiry)).will(will);
        let client = Client::connect(broker, &connect);
        let begin = Instant::now();
        client.vanish();
        assert_eq!(watcher.message().text(), id);
        let late = begin.elapsed();
        assert!(late >= Duration::from_secs(want), "{id}: after {late:?}");
        assert!(late < Duration::from_secs(want + 15), "{id}: only after {late:?}");
    }
}

fn a_return_in_time_cancels_a_delayed_will(broker: &Broker) {
    let mut watcher = watcher(broker);
    for number in 0..4 {
        let id = format!("back-{number}");
        let mut will = Will::new("will/cancelled", "never");
        will.props.push(Prop::four(prop::WILL_DELAY, 1));
        let connect = Connect::new(5, &id).persistent().will(will);
        Client::connect(broker, &connect).vanish();
        let mut back = Connect::new(5, &id).persistent();
        back.will = None;
        let client = Client::connect(broker, &back);
        assert!(client.present);
        client.disconnect();
    }
    // The fence: a will of a later client with a longer delay.
    let mut will = Will::new("will/fence", "fence");
    will.props.push(Prop::four(prop::WILL_DELAY, 2));
    Client::connect(broker, &Connect::new(5, "fence").persistent().will(will)).vanish();
    assert_eq!(watcher.message().text(), "fence");
}

fn a_will_carries_its_properties(broker: &Broker) {
    let mut watcher = watcher(broker);
    let mut will = Will::new("will/props", "text");
    let props = vec![
        Prop::byte(prop::PAYLOAD_FORMAT, 1),
        Prop::text(prop::CONTENT_TYPE, "text/plain"),
        Prop::text(prop::RESPONSE_TOPIC, "answers/here"),
        Prop::binary(prop::CORRELATION_DATA, &[0, 255, 1]),
        Prop::user("b", "1"),
        Prop::user("a", "2"),
        Prop::user("b", "1"),
    ];
    will.props = props.clone();
    Client::connect(broker, &Connect::new(5, "props").will(will)).vanish();
    let mut got = watcher.message().props;
    // Only the order among user properties is promised.
    got.sort_by_key(|p| p.id);
    assert_eq!(got, props);
}
