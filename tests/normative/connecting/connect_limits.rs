//! Section 3.1: keep alive, and what the client asks the server to keep to.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, Will, find, prop};
use crate::support::{assert_ended, broker, broker_set, on_versions};

on_versions! {
    fn mqtt_311_3_1_2_24_silence_beyond_keep_alive_ends_the_connection(4),
    fn mqtt_5_3_1_2_22_silence_beyond_keep_alive_ends_the_connection(5) => keep_alive;
}

/// One and a half times a keep alive of one second.
const ALLOWANCE: Duration = Duration::from_millis(1500);

/// The lower bound is the promise. Who talks meanwhile, in packets of any kind, stays; what follows is
/// what follows a lost connection.
fn keep_alive(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("will", 0);
    let mut talker = Client::connect(&broker, &Connect::new(version, "talker").keep_alive(1));
    let will = Will::new("will", "silent");
    let connect = Connect::new(version, "silent").persistent().keep_alive(1).will(will);
    let begin = Instant::now();
    let mut silent = Client::connect(&broker, &connect);
    silent.subscribe("t", 1);
    let end = std::thread::spawn(move || {
        assert_ended(&mut silent, version, 0x8D);
        begin.elapsed()
    });
    let mut number = 0_u32;
    while !end.is_finished() {
        number += 1;
        if number.is_multiple_of(2) {
            talker.ping();
        } else {
            talker.publish("talk", "x", 1);
        }
        // Paces the packets; nothing is inferred from the time.
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let silence = end.join().expect("the silent client is ended");
    assert!(silence >= ALLOWANCE, "closed after {silence:?}");
    talker.ping();
    assert_eq!(watcher.message().text(), "silent");
    let mut again = Connect::new(version, "silent").persistent();
    again.will = None;
    assert!(Client::connect(&broker, &again).present, "the session is kept");
}

/// The client asks for more, or for none, and is held to what it was told.
#[track_caller]
fn assert_server_keep_alive(asked_s: u16) {
    let broker = broker_set(&["session.keep_alive_max_s=1"]);
    let begin = Instant::now();
    let mut client = Client::connect(&broker, &Connect::new(5, "told").keep_alive(asked_s));
    let told = find(&client.props, prop::SERVER_KEEP_ALIVE).map(Prop::number);
    assert_eq!(told, Some(1));
    assert_ended(&mut client, 5, 0x8D);
    assert!(begin.elapsed() >= ALLOWANCE);
}

#[test]
fn mqtt_5_3_1_2_21_the_servers_keep_alive_counts() {
    assert_server_keep_alive(600);
}

#[test]
fn mqtt_5_3_2_2_21_the_servers_keep_alive_counts_instead_of_none() {
    assert_server_keep_alive(0);
}

#[test]
fn mqtt_5_3_2_2_22_without_another_the_clients_keep_alive_counts() {
    // A maximum that is not reached changes nothing.
    let broker = broker_set(&["session.keep_alive_max_s=600"]);
    let begin = Instant::now();
    let mut client = Client::connect(&broker, &Connect::new(5, "own").keep_alive(1));
    assert_eq!(find(&client.props, prop::SERVER_KEEP_ALIVE), None);
    assert_ended(&mut client, 5, 0x8D);
    assert!(begin.elapsed() >= ALLOWANCE);
}

/// The longest packet that these clients take.
const PACKET_BYTES_MAX: u32 = 100;

fn small(client_id: &str) -> Connect {
    Connect::new(5, client_id).with(Prop::four(prop::MAXIMUM_PACKET_SIZE, PACKET_BYTES_MAX))
}

/// A message whose PUBLISH at QoS 0 on topic "t" has so many bytes.
fn message_of(bytes: u32) -> Publish {
    let payload = usize::try_from(bytes).expect("a small number") - 6;
    Publish::new("t", vec![b'x'; payload], 0)
}

/// Live, retained and queued; in the middle of others and with everything counted, as properties.
#[test]
fn mqtt_5_3_1_2_24_no_packet_longer_than_the_client_takes() {
    let broker = broker();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    let mut client = Client::connect(&broker, &small("small").persistent());
    client.subscribe("t", 0);
    for bytes in [PACKET_BYTES_MAX + 1, PACKET_BYTES_MAX, 200, PACKET_BYTES_MAX - 1] {
        publisher.publish_as(message_of(bytes));
    }
    let exact = usize::try_from(PACKET_BYTES_MAX).expect("a small number");
    assert_eq!(client.recv_bytes().len(), exact);
    assert_eq!(client.recv_bytes().len(), exact - 1);
    // A user property of one byte each takes seven.
    publisher.publish_as(message_of(PACKET_BYTES_MAX - 6).with(Prop::user("n", "v")));
    publisher.publish_as(message_of(PACKET_BYTES_MAX - 7).with(Prop::user("n", "v")));
    assert_eq!(client.recv_bytes().len(), exact);
    // Retained ones that a new subscription asks for.
    publisher.publish_as(Publish::new("r/large", [b'x'; 100], 1).retained());
    publisher.publish_as(Publish::new("r/small", [b'x'; 50], 1).retained());
    client.subscribe("r/+", 0);
    assert_eq!(client.message().topic, "r/small");
    // At QoS 1, two bytes more; waiting for a client that is away and comes back.
    client.subscribe("t", 1);
    client.vanish();
    let mut queued = message_of(PACKET_BYTES_MAX - 1);
    queued.qos = 1;
    publisher.publish_as(queued);
    publisher.publish("t", "fence", 1);
    let mut client = Client::connect(&broker, &Connect { clean: false, ..small("small") });
    assert!(client.present);
    assert_eq!(client.message().text(), "fence");
}

/// The client comes back and takes less than before: what was in flight and is too long now is not sent
/// again, at either QoS, and holds nothing up. A PUBREL that is due still comes.
#[test]
fn mqtt_5_3_1_2_24_no_packet_longer_than_the_client_takes_by_now() {
    let broker = broker();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    let mut client = Client::connect(&broker, &Connect::new(5, "smaller").persistent());
    client.subscribe("t", 2);
    for qos in [1, 2, 2] {
        let mut long = message_of(PACKET_BYTES_MAX + 1);
        long.qos = qos;
        publisher.publish_as(long);
    }
    publisher.publish("t", "short", 1);
    let in_flight: Vec<Publish> = (0..4).map(|_| client.message_unacked()).collect();
    let received = in_flight[2].id;
    client.send(&wire::ack(wire::PUBREC, received));
    assert_eq!(client.recv(), Packet::Pubrel { id: received, code: 0 });
    client.vanish();
    let one = Prop::two(prop::RECEIVE_MAXIMUM, 1);
    let connect = Connect { clean: false, ..small("smaller").persistent() }.with(one);
    let mut client = Client::connect(&broker, &connect);
    assert!(client.present);
    assert_eq!(client.recv(), Packet::Pubrel { id: received, code: 0 });
    client.send(&wire::ack(wire::PUBCOMP, received));
    let again = client.message();
    assert_eq!((again.text(), again.id, again.dup), ("short", in_flight[3].id, true));
    publisher.publish("t", "fence", 1);
    assert_eq!(client.message().text(), "fence");
}

/// It takes no place in the window, is not waiting for a client that takes more, and others get it.
#[test]
fn mqtt_5_3_1_2_25_a_message_too_long_counts_as_delivered() {
    let broker = broker();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    let one = Prop::two(prop::RECEIVE_MAXIMUM, 1);
    let mut client = Client::connect(&broker, &small("small").persistent().with(one));
    let mut other = Client::plain(&broker, 5, "other");
    for qos in [1, 2] {
        client.subscribe("t", qos);
        other.subscribe("t", qos);
        for _ in 0..3 {
            let mut long = message_of(PACKET_BYTES_MAX + 1);
            long.qos = qos;
            assert_eq!(publisher.publish_as(long), 0);
            assert_eq!(other.message().payload.len(), 95);
        }
        publisher.publish("t", "short", qos);
        assert_eq!(client.message().text(), "short");
        assert_eq!(other.message().text(), "short");
    }
    client.vanish();
    let mut client = Client::connect(&broker, &Connect::new(5, "small").persistent());
    assert!(client.present);
    publisher.publish("t", "fence", 1);
    assert_eq!(client.message().text(), "fence");
}

/// The aliases of the messages that come, and that each message is what was published.
#[track_caller]
fn aliases(broker: &Broker, alias_max: Option<u16>) -> Vec<u32> {
    let mut connect = Connect::new(5, "aliases");
    connect.props.extend(alias_max.map(|max| Prop::two(prop::TOPIC_ALIAS_MAXIMUM, max)));
    let mut client = Client::connect(broker, &connect);
    client.subscribe("#", 0);
    let mut publisher = Client::plain(broker, 5, "publisher");
    let mut topics = std::collections::BTreeMap::new();
    let mut seen = Vec::new();
    for number in 0..200 {
        let topic = format!("alias/{}", number % 7);
        publisher.publish(&topic, &topic, 0);
        let message = client.message();
        let alias = find(&message.props, prop::TOPIC_ALIAS).map(Prop::number);
        let got = match alias {
            Some(alias) if message.topic.is_empty() => {
                topics.get(&alias).cloned().expect("an alias that was given a topic")
            }
            Some(alias) => topics.entry(alias).insert_entry(message.topic.clone()).get().clone(),
            None => message.topic.clone(),
        };
        assert_eq!((got.as_str(), message.text()), (topic.as_str(), topic.as_str()));
        seen.extend(alias);
    }
    seen
}

#[test]
fn mqtt_5_3_1_2_26_no_alias_above_the_clients_maximum() {
    let broker = broker();
    for max in [1, 3, 65_535] {
        let seen = aliases(&broker, Some(max));
        assert!(!seen.is_empty(), "some are used");
        assert!(seen.iter().all(|alias| (1..=u32::from(max)).contains(alias)), "{seen:?}");
    }
}

#[test]
fn mqtt_5_3_1_2_27_no_alias_for_a_client_that_takes_none() {
    let broker = broker();
    assert_eq!(aliases(&broker, None), []);
    assert_eq!(aliases(&broker, Some(0)), []);
}

#[test]
fn mqtt_5_3_1_2_28_no_response_information_unasked() {
    let broker = broker();
    let asked = |value| Prop::byte(prop::REQUEST_RESPONSE_INFORMATION, value);
    for connect in [Connect::new(5, "unasked"), Connect::new(5, "unasked").with(asked(0))] {
        let client = Client::connect(&broker, &connect);
        assert_eq!(find(&client.props, prop::RESPONSE_INFORMATION), None);
    }
}

/// Requests that fail, each for a reason that could be told in words. CONNACK and DISCONNECT, which may
/// say it all the same, show that the broker has words.
#[test]
fn mqtt_5_3_1_2_29_no_words_for_a_client_that_wants_none() {
    let broker = broker();
    let none = Prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 0);
    let mut client = Client::connect(&broker, &Connect::new(5, "terse").with(none));
    client.send(&wire::subscribe(5, 1, &[("a/#/b", 0)], &[]));
    assert_eq!(client.recv_bytes(), [0x90, 4, 0, 1, 0, 0x8F]);
    client.send(&wire::unsubscribe(5, 2, &["none", "a/#/b"]));
    assert_eq!(client.recv_bytes(), [0xB0, 5, 0, 2, 0, 0x11, 0x8F]);
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        let mut publish = Publish::new("$SYS/forbidden", "x", qos);
        publish.id = 3;
        client.send(&publish.encode(5));
        assert_eq!(client.recv_bytes(), [first, 3, 0, 3, 0x87]);
    }
    client.send(&wire::ack(wire::PUBREL, 4));
    assert_eq!(client.recv_bytes(), [0x70, 3, 0, 4, 0x92]);
    client.send(&wire::ack(wire::PUBREC, 5));
    assert_eq!(client.recv_bytes(), [0x62, 3, 0, 5, 0x92]);
    // What a publisher said is not a word of the broker's.
    client.subscribe("t", 0);
    client.publish_as(Publish::new("t", "x", 0).with(Prop::user("n", "v")));
    assert_eq!(client.message().props, [Prop::user("n", "v")]);
    client.send(&[0x00, 0x00]);
    let packets = client.until_end();
    let [Packet::Disconnect { code: 0x81, props }] = &packets[..] else { panic!("{packets:?}") };
    assert!(find(props, prop::REASON_STRING).is_some());
}

/// Not offered: no authentication method is known, so the CONNECT is refused and the rest with it.
#[test]
fn mqtt_5_3_1_2_30_nothing_comes_behind_an_authentication_method() {
    let broker = broker();
    let mut watcher = Client::plain(&broker, 5, "watcher");
    watcher.subscribe("t", 0);
    let method = Prop::text(prop::AUTHENTICATION_METHOD, "SCRAM-SHA-1");
    let connect = Connect::new(5, "method").with(method).encode();
    let mut client = Client::open(&broker, 5);
    client.send_lossy(&[connect, Publish::new("t", "never", 0).encode(5)].concat());
    let packets = client.until_end();
    assert!(matches!(packets[..], [Packet::Connack { code: 0x8C, .. }]), "{packets:?}");
    watcher.publish("t", "fence", 0);
    assert_eq!(watcher.message().text(), "fence");
}
