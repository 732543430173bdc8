//! Section 3.1: whose session it is, whether it is kept, and what ends a connection that is asked for.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{Connect, Packet, Prop, Publish, Value, Will, find, prop};
use crate::support::{assert_ended, broker, broker_set, on_versions};

on_versions! {
    fn mqtt_311_3_1_2_4_a_kept_session_is_created_and_resumed(4),
    fn mqtt_5_3_1_2_5_an_existing_session_is_resumed(5),
    fn mqtt_5_3_1_2_6_a_missing_session_is_created(5) => created_and_resumed;
    fn mqtt_311_3_1_2_5_messages_wait_for_a_kept_session(4) => messages_wait;
    fn mqtt_311_3_1_2_6_a_clean_session_begins_and_ends_anew(4),
    fn mqtt_5_3_1_2_4_a_clean_start_throws_the_session_away(5) => clean_start;
    fn mqtt_311_3_1_2_7_retained_messages_outlive_the_session(4) => retained_outlive_the_session;
    fn mqtt_311_3_1_3_2_the_client_identifier_names_the_session(4),
    fn mqtt_5_3_1_3_2_the_client_identifier_names_the_session(5) => client_id_names_the_session;
    fn mqtt_311_3_1_3_6_clients_without_identifier_are_told_apart(4),
    fn mqtt_5_3_1_3_6_clients_without_identifier_are_told_apart(5) => without_identifier;
    fn mqtt_311_3_1_4_2_a_second_connection_ends_the_first(4),
    fn mqtt_5_3_1_4_3_a_second_connection_ends_the_first(5) => take_over;
    fn mqtt_311_3_1_4_3_clean_session_is_done(4),
    fn mqtt_5_3_1_4_4_clean_start_is_done(5) => clean_is_done;
    fn mqtt_311_3_1_4_4_an_accepted_connect_is_answered_with_0(4),
    fn mqtt_5_3_1_4_5_an_accepted_connect_is_answered_with_0(5) => accepted;
    fn mqtt_311_3_1_4_5_nothing_behind_a_refused_connect_is_done(4),
    fn mqtt_5_3_1_4_6_nothing_behind_a_refused_connect_is_done(5) => nothing_behind_a_refusal;
}

/// Whether a session of this name is there, kept for later.
#[track_caller]
fn resume(broker: &Broker, version: u8, client_id: &str) -> Client {
    Client::connect(broker, &Connect::new(version, client_id).persistent())
}

/// That no subscription of this client to `topic` is left.
#[track_caller]
fn assert_unsubscribed(client: &mut Client, topic: &str) {
    client.subscribe("fence", 0);
    client.publish(topic, "never", 0);
    client.publish("fence", "fence", 0);
    assert_eq!(client.message().text(), "fence");
}

fn created_and_resumed(version: u8) {
    let broker = broker();
    let mut client = resume(&broker, version, "kept");
    assert!(!client.present, "there was none");
    client.subscribe("t", 1);
    client.disconnect();
    let mut client = resume(&broker, version, "kept");
    assert!(client.present);
    client.publish("t", "still subscribed", 1);
    assert_eq!(client.message().text(), "still subscribed");
    // Also after the connection was lost.
    client.vanish();
    let mut client = resume(&broker, version, "kept");
    assert!(client.present);
    client.publish("t", "once more", 1);
    assert_eq!(client.message().text(), "once more");
}

fn messages_wait(version: u8) {
    let broker = broker();
    let mut client = resume(&broker, version, "away");
    client.subscribe_with(&[("both", 2), ("one", 1)], &[]);
    client.disconnect();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (topic, qos) in [("both", 1), ("one", 1), ("both", 2), ("one", 2), ("nowhere", 1)] {
        publisher.publish(topic, format!("{topic} {qos}"), qos);
    }
    let mut client = resume(&broker, version, "away");
    for (text, qos) in [("both 1", 1), ("one 1", 1), ("both 2", 2), ("one 2", 1)] {
        let message = client.message();
        assert_eq!((message.text(), message.qos), (text, qos));
    }
    client.publish("one", "fence", 1);
    assert_eq!(client.message().text(), "fence");
}

fn clean_start(version: u8) {
    let broker = broker();
    let mut client = resume(&broker, version, "clean");
    client.subscribe("t", 1);
    client.disconnect();
    Client::plain(&broker, version, "publisher").publish("t", "never", 1);
    let mut client = Client::plain(&broker, version, "clean");
    assert!(!client.present);
    assert_unsubscribed(&mut client, "t");
    client.subscribe("u", 1);
    client.vanish();
    // Nothing of that serves a later session either.
    let mut client = resume(&broker, version, "clean");
    assert!(!client.present);
    assert_unsubscribed(&mut client, "u");
}

fn retained_outlive_the_session(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "gone");
    client.publish_as(Publish::new("kept", "still here", 1).retained());
    client.disconnect();
    let mut late = Client::plain(&broker, version, "late");
    late.subscribe("kept", 0);
    let message = late.message();
    assert_eq!((message.text(), message.retain), ("still here", true));
}

#[test]
fn mqtt_5_3_1_2_23_a_session_is_kept_if_it_expires_later() {
    let broker = broker();
    for (number, (expiry, is_kept)) in
        [(None, false), (Some(0), false), (Some(60), true), (Some(u32::MAX), true)]
            .iter()
            .enumerate()
    {
        for is_lost in [false, true] {
            let client_id = format!("expiry-{number}-{is_lost}");
            let mut connect = Connect::new(5, &client_id);
            connect.clean = false;
            connect.props = expiry.iter().map(|&s| Prop::four(prop::SESSION_EXPIRY, s)).collect();
            let client = Client::connect(&broker, &connect);
            if is_lost {
                client.vanish();
            } else {
                client.disconnect();
            }
            assert_eq!(Client::connect(&broker, &connect).present, *is_kept, "{client_id}");
        }
    }
}

fn client_id_names_the_session(version: u8) {
    let broker = broker();
    // Differences that a comparison without case, or of a prefix, would not see.
    let names = ["name", "Name", "name1", "nam", "name "];
    for name in names {
        let mut client = resume(&broker, version, name);
        assert!(!client.present, "{name:?}");
        client.subscribe(&format!("to/{name}"), 1);
        client.disconnect();
    }
    let mut publisher = Client::plain(&broker, version, "publisher");
    for name in names {
        publisher.publish(&format!("to/{name}"), name, 1);
    }
    for name in names {
        let mut client = resume(&broker, version, name);
        assert!(client.present, "{name:?}");
        assert_eq!(client.message().text(), name);
        client.assert_no_message();
    }
}

fn without_identifier(version: u8) {
    let broker = broker();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::plain(&broker, version, "")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("to/{number}"), 0);
    }
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (number, client) in clients.iter_mut().enumerate() {
        publisher.publish(&format!("to/{number}"), number.to_string(), 0);
        assert_eq!(client.message().text(), number.to_string());
        client.assert_no_message();
    }
}

#[track_caller]
fn assigned(client: &Client) -> String {
    match find(&client.props, prop::ASSIGNED_CLIENT_ID) {
        Some(Prop { value: Value::Text(client_id), .. }) => client_id.clone(),
        other => panic!("no assigned client identifier but {other:?}"),
    }
}

#[test]
fn mqtt_5_3_1_3_7_an_assigned_identifier_counts_as_the_clients_own() {
    let broker = broker();
    for _ in 0..4 {
        let mut first = resume(&broker, 5, "");
        let client_id = assigned(&first);
        first.subscribe("t", 1);
        let mut second = resume(&broker, 5, &client_id);
        assert!(second.present);
        assert_eq!(find(&second.props, prop::ASSIGNED_CLIENT_ID), None);
        assert_ended(&mut first, 5, 0x8E);
        second.publish("t", "resumed", 1);
        assert_eq!(second.message().text(), "resumed");
        second.disconnect();
        Client::plain(&broker, 5, &client_id).disconnect();
    }
}

#[test]
fn mqtt_5_3_2_2_16_an_assigned_identifier_is_nobody_elses() {
    let broker = broker();
    let kept: Vec<String> = (0..64)
        .map(|_| {
            let client = resume(&broker, 5, "");
            assert!(!client.present);
            let client_id = assigned(&client);
            client.disconnect();
            client_id
        })
        .collect();
    for (number, client_id) in kept.iter().enumerate() {
        assert!(!kept[..number].contains(client_id), "{client_id} twice");
        assert!(resume(&broker, 5, client_id).present, "each has its own session");
    }
}

#[track_caller]
fn assert_id_refused(broker: &Broker, connect: &Connect, code: u8) {
    let (mut client, got) = Client::offer(broker, connect);
    assert_eq!((got, client.present), (code, false));
    assert_eq!(client.until_end(), []);
}

#[test]
fn mqtt_5_3_1_3_8_a_refused_identifier_is_answered_with_0x85() {
    let broker = broker_set(&["limits.client_id_bytes_max=23", "session.empty_client_id=false"]);
    assert_id_refused(&broker, &Connect::new(5, ""), 0x85);
    assert_id_refused(&broker, &Connect::new(5, "123456789012345678901234"), 0x85);
    Client::plain(&broker, 5, "12345678901234567890123").ping();
}

#[test]
fn mqtt_311_3_1_3_7_no_identifier_for_a_kept_session_is_an_error() {
    let broker = broker();
    let mut connect = Connect::new(4, "");
    connect.clean = false;
    assert_id_refused(&broker, &connect, 2);
    connect.client_id.push('1');
    Client::connect(&broker, &connect).ping();
}

#[test]
fn mqtt_311_3_1_3_8_no_identifier_for_a_kept_session_is_refused_with_2() {
    let broker = broker();
    let mut connect = Connect::new(4, "");
    connect.clean = false;
    assert_id_refused(&broker, &connect, 2);
    connect.clean = true;
    Client::connect(&broker, &connect).ping();
}

#[test]
fn mqtt_311_3_1_3_9_a_refused_identifier_is_answered_with_2() {
    let broker = broker_set(&["limits.client_id_bytes_max=23", "session.empty_client_id=false"]);
    assert_id_refused(&broker, &Connect::new(4, ""), 2);
    assert_id_refused(&broker, &Connect::new(4, "123456789012345678901234"), 2);
    Client::plain(&broker, 4, "12345678901234567890123").ping();
}

fn take_over(version: u8) {
    let broker = broker();
    let mut bystander = Client::plain(&broker, version, "bystander");
    for number in 0..8 {
        let connect = Connect::new(version, &format!("taken-{number}")).persistent();
        let mut first = Client::connect(&broker, &connect);
        let mut second = Client::connect(&broker, &connect);
        assert!(second.present);
        assert_ended(&mut first, version, 0x8E);
        second.ping();
    }
    bystander.ping();
}

/// With and without an earlier session, connected and not.
fn clean_is_done(version: u8) {
    let broker = broker();
    for clean in [false, true] {
        for earlier in ["none", "away", "there"] {
            let client_id = format!("{clean}-{earlier}");
            let mut first = (earlier != "none").then(|| resume(&broker, version, &client_id));
            if let Some(client) = &mut first {
                client.subscribe("t", 1);
            }
            if earlier == "away" {
                first.take().expect("it was there").disconnect();
            }
            let mut connect = Connect::new(version, &client_id).persistent();
            connect.clean = clean;
            let mut client = Client::connect(&broker, &connect);
            let is_kept = !clean && earlier != "none";
            assert_eq!(client.present, is_kept, "{client_id}");
            if is_kept {
                client.publish("t", "kept", 1);
                assert_eq!(client.message().text(), "kept");
            } else {
                assert_unsubscribed(&mut client, "t");
            }
        }
    }
}

fn accepted(version: u8) {
    let broker = broker();
    let everything =
        Connect::new(version, "everything").will(Will::new("t", "gone")).keep_alive(60);
    for connect in [Connect::new(version, "plain"), everything] {
        let mut client = Client::open(&broker, version);
        client.send(&connect.encode());
        let bytes = client.recv_bytes();
        // Acknowledge flags and reason code behind the fixed header.
        assert_eq!((bytes[0], &bytes[2..4]), (0x20, &[0, 0][..]));
        client.ping();
    }
}

/// A CONNECT of this version that is understood and refused.
fn refused_connect(version: u8, client_id: &str) -> (Connect, u8) {
    let connect = Connect::new(version, client_id);
    match version {
        5 => (connect.with(Prop::text(prop::AUTHENTICATION_METHOD, "none such")), 0x8C),
        // Topics below $SYS are the broker's own.
        _ => (connect.will(Will::new("$SYS/will", "gone")), 5),
    }
}

/// Nor is the will of such a client published.
fn nothing_behind_a_refusal(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe_with(&[("behind", 0), ("$SYS/will", 0)], &[]);
    for number in 0..8 {
        let (mut connect, code) = refused_connect(version, &format!("refused-{number}"));
        if version == 5 {
            connect = connect.will(Will::new("behind", "never"));
        }
        let publish = Publish::new("behind", "never", 0).encode(version);
        let plain = Connect::new(version, "behind").encode();
        let mut client = Client::open(&broker, version);
        client.send_lossy(&[connect.encode(), publish, plain].concat());
        let packets = client.until_end();
        let [Packet::Connack { present: false, code: got, .. }] = packets[..] else {
            panic!("{packets:?}");
        };
        assert_eq!(got, code);
        watcher.publish("behind", "fence", 0);
        assert_eq!(watcher.message().text(), "fence");
    }
}

/// Enhanced authentication, a will that is not allowed, no room for another session.
#[test]
fn mqtt_5_3_1_4_2_a_failed_check_ends_the_connection() {
    let broker = broker_set(&["limits.sessions_max=1", "mqtt.maximum_qos=1"]);
    let refuse = |connect: &Connect, code| {
        let (mut client, got) = Client::offer(&broker, connect);
        assert_eq!(got, code, "{connect:?}");
        assert_eq!(client.until_end(), []);
    };
    let (connect, code) = refused_connect(5, "method");
    refuse(&connect, code);
    refuse(&Connect::new(5, "reserved").will(Will::new("$SYS/will", "gone")), 0x87);
    let mut will = Will::new("t", "gone");
    will.qos = 2;
    refuse(&Connect::new(5, "qos").will(will), 0x9B);
    // One session a shard: the third client finds both taken, if not the second.
    let mut there = Vec::new();
    let full = (0..64).find(|number| {
        let (client, code) = Client::offer(&broker, &Connect::new(5, &format!("full-{number}")));
        there.extend((code == 0).then_some(client));
        code == 0x97
    });
    let full = format!("full-{}", full.expect("there are two shards"));
    refuse(&Connect::new(5, &full), 0x97);
    for client in &mut there {
        client.ping();
    }
}
