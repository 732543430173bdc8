//! What a connection may do and when: CONNECT and its limits, errors, keep alive, permission.

use shards::auth::Verdict;
use shards::codec::{AckKind, Auth, Connect, SubscribeOptions};
use shards::ids::{QoS, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use sim::client::Got;
use sim::drive::{Post, VERSIONS, everywhere, keeping, plain, seconds};
use sim::world::World;

/// A CONNECT that is refused with this reason.
#[track_caller]
fn check_refused(world: &mut World, connect: &Connect<'static>, reason: ReasonCode) {
    let client = world.open(connect.client_id, connect.version);
    let welcome = world.greet(client, connect);
    assert_eq!(welcome.reason, reason);
    assert!(!welcome.session_present);
    assert!(world.clients[client].is_ended);
    assert!(world.clients[client].got.is_empty());
}

#[test]
fn silence_ends_a_connection_at_one_and_a_half_times_its_keep_alive() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let connect = Connect { keep_alive_s: 10, ..Connect::new(version, "client") };
            let (client, _) = world.connect_with(&connect);
            for _ in 0..5 {
                world.advance(seconds(14));
                world.expect_alive(client);
            }
            world.advance(seconds(16));
            world.expect_end(client, ReasonCode::KeepAliveTimeout);
            let (idle, _) = world.connect_with(&Connect::new(version, "idle"));
            world.advance(seconds(1000));
            world.expect_alive(idle);
            world.disconnect(idle);
        }
        assert_eq!(world.snapshot().counters.keep_alive_timeouts, 3);
    });
}

#[test]
fn the_broker_may_ask_for_a_shorter_keep_alive() {
    let settings = Settings { keep_alive_max_s: 10, ..plain() };
    everywhere(&settings, |world| {
        for (asked, want) in [(0, Some(10)), (5, None), (10, None), (60, Some(10))] {
            let connect = Connect { keep_alive_s: asked, ..Connect::new(Version::V5, "client") };
            let (client, welcome) = world.connect_with(&connect);
            assert_eq!(welcome.server_keep_alive_s, want);
            world.advance(seconds(16));
            world.expect_end(client, ReasonCode::KeepAliveTimeout);
        }
    });
}

#[test]
fn connect_must_come_in_time() {
    everywhere(&plain(), |world| {
        let silent = world.open("silent", Version::V5);
        let half = world.open("half", Version::V5);
        let mut bytes = Vec::new();
        Connect::new(Version::V5, "half").encode(&mut bytes);
        world.write(half, |out| out.extend_from_slice(&bytes[..bytes.len() - 1]));
        world.advance(seconds(9));
        assert!(!world.clients[silent].is_ended && !world.clients[half].is_ended);
        world.advance(seconds(2));
        for client in [silent, half] {
            assert!(world.clients[client].is_ended);
            assert!(world.clients[client].got.is_empty());
        }
        assert_eq!(world.snapshot().counters.connect_timeouts, 2);
    });
}

#[test]
fn a_peer_that_never_closes_is_aborted() {
    everywhere(&plain(), |world| {
        for stalls in [false, true] {
            let client = world.connect("client", Version::V5);
            let wire = world.clients[client].wire;
            world.wires[wire].is_lingering = true;
            world.wires[wire].is_stalled = stalls;
            world.write(client, |out| out.extend_from_slice(&[0xF0, 0]));
            world.settle();
            assert_eq!(world.snapshot().gauges.connections, 1);
            world.advance(seconds(3));
            assert!(world.wires[wire].is_aborted);
            assert_eq!(world.snapshot().gauges.connections, 0);
        }
    });
}

#[test]
fn the_first_packet_is_connect_and_the_only_one() {
    everywhere(&plain(), |world| {
        for bytes in [&[0xC0, 0][..], &[0x30, 3, 0, 1, b'a'], &[0xE0, 0], &[0, 0], &[0xFF; 9]] {
            let client = world.open("nobody", Version::V5);
            world.write(client, |out| out.extend_from_slice(bytes));
            world.settle();
            assert!(world.clients[client].is_ended);
            assert!(world.clients[client].got.is_empty());
        }
        for version in VERSIONS {
            let client = world.connect("client", version);
            world.write(client, |out| Connect::new(version, "client").encode(out));
            world.settle();
            world.expect_end(client, ReasonCode::ProtocolError);
        }
        assert_eq!(world.snapshot().gauges.connections, 0);
    });
}

#[test]
fn a_protocol_nobody_speaks_is_refused() {
    everywhere(&plain(), |world| {
        for (level, answers) in [(6, true), (0x84, true), (0, true)] {
            let client = world.open("nobody", Version::V5);
            let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 1, b'x'];
            world.write(client, |out| out.extend_from_slice(&connect));
            // The refusal comes in the form that its level suggests; only that it ends is checked.
            world.clients[client].version = if level == 6 { Version::V5 } else { Version::V311 };
            world.settle();
            assert!(world.clients[client].is_ended);
            assert_eq!(!world.clients[client].got.is_empty(), answers);
        }
    });
}

#[test]
fn enhanced_authentication_is_not_on_offer() {
    everywhere(&plain(), |world| {
        let connect =
            Connect { authentication_method: Some("x"), ..Connect::new(Version::V5, "denied") };
        check_refused(world, &connect, ReasonCode::BadAuthenticationMethod);
        let client = world.connect("client", Version::V5);
        let auth = Auth::new(ReasonCode::ReAuthenticate, "x");
        world.write(client, |out| auth.encode(Version::V5, out));
        world.settle();
        world.expect_end(client, ReasonCode::ProtocolError);
    });
}

#[test]
fn a_denied_client_is_told() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let reason = ReasonCode::BadUserNameOrPassword;
            check_refused(world, &Connect::new(version, "denied"), reason);
            check_refused(world, &Connect::new(version, "denied-too"), reason);
        }
        assert_eq!(world.snapshot().gauges.sessions, 0);
    });
}

#[test]
fn what_is_sent_behind_connect_waits_for_a_late_answer() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let watcher = world.connect("watcher", version);
            world.subscribe(watcher, "a", QoS::AtLeastOnce);
            for verdict in [Verdict::allow(), Verdict::Deny(ReasonCode::NotAuthorized)] {
                let client = world.open("later", version);
                world.say_connect(client, &Connect::new(version, "later"));
                let id = world.say(client, &Post::new("a", "x", QoS::AtLeastOnce));
                world.settle();
                world.expect_nothing(client);
                world.expect_nothing(watcher);
                let is_allowed = verdict == Verdict::allow();
                world.decide(client, verdict);
                let welcome = world.expect_welcome(client);
                if is_allowed {
                    assert_eq!(welcome.reason, ReasonCode::Success);
                    world.expect_ack(client, AckKind::Puback, id);
                    world.expect_publish(watcher, "a", "x");
                    world.expect_alive(client);
                    world.disconnect(client);
                } else {
                    assert_eq!(welcome.reason, ReasonCode::NotAuthorized);
                    assert!(world.clients[client].is_ended);
                    world.expect_nothing(watcher);
                }
            }
            world.disconnect(watcher);
        }
        // Who gets no answer runs into the connect time-out.
        let client = world.open("later", Version::V5);
        world.say_connect(client, &Connect::new(Version::V5, "later"));
        world.advance(seconds(11));
        assert!(world.clients[client].is_ended);
        assert_eq!(world.snapshot().gauges.sessions, 0);
        assert_eq!(world.snapshot().gauges.connections, 0);
    });
}

#[test]
fn what_a_client_may_not_do_is_refused() {
    everywhere(&plain(), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "#", QoS::ExactlyOnce);
        for version in VERSIONS {
            let client = world.connect("client", version);
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let reason = world.post(client, &Post::retained("forbidden/x", "x", qos));
                let want = ReasonCode::NotAuthorized;
                assert_eq!(reason, if version.is_v5() { want } else { ReasonCode::Success });
            }
            world.publish(client, "forbidden/x", "x", QoS::AtMostOnce);
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let codes = world.subscribe_with(
                client,
                None,
                &[("forbidden/x", options), ("b", options), ("c/#/d", options)],
            );
            let want = if version.is_v5() { [0x87, 1, 0x8F] } else { [0x80, 1, 0x80] };
            assert_eq!(codes, want);
            world.expect_alive(client);
            world.disconnect(client);
        }
        world.expect_nothing(watcher);
        assert_eq!(world.snapshot().gauges.retained_messages, 0);
        assert_eq!(world.snapshot().counters.denied_publish, 9);
        assert_eq!(world.snapshot().counters.denied_subscribe, 3);
    });
}

#[test]
fn empty_client_identifiers() {
    everywhere(&plain(), |world| {
        let (client, welcome) = world.connect_with(&Connect::new(Version::V5, ""));
        assert!(welcome.assigned_client_id.is_some_and(|name| name.len() > 8));
        let (other, _) = world.connect_with(&Connect::new(Version::V311, ""));
        world.subscribe(other, "a", QoS::AtMostOnce);
        world.publish(client, "a", "x", QoS::AtLeastOnce);
        world.expect_publish(other, "a", "x");
        let invalid = ReasonCode::ClientIdentifierNotValid;
        check_refused(world, &keeping(Version::V311, "", 0), invalid);
        check_refused(world, &Connect::new(Version::V31, ""), invalid);
        assert_eq!(world.snapshot().counters.connections_handed_over, 0);
    });
    let settings = Settings { empty_client_id: false, client_id_bytes_max: 5, ..plain() };
    everywhere(&settings, |world| {
        for name in ["", "denied-for-its-length"] {
            for version in VERSIONS {
                let invalid = ReasonCode::ClientIdentifierNotValid;
                check_refused(world, &Connect::new(version, name), invalid);
            }
        }
        world.connect("right", Version::V5);
    });
}

#[test]
fn what_is_not_available_is_said_and_refused() {
    let settings = Settings {
        maximum_qos: QoS::AtMostOnce,
        retain_available: false,
        wildcard_available: false,
        subscription_ids_available: false,
        shared_available: false,
        topic_alias_max: 0,
        receive_maximum: u16::MAX,
        ..plain()
    };
    everywhere(&settings, |world| {
        let connect = Connect::new(Version::V5, "client");
        let (client, welcome) = world.connect_with(&connect);
        assert_eq!(welcome.maximum_qos, Some(QoS::AtMostOnce));
        assert_eq!(welcome.available, [Some(false); 4]);
        assert_eq!((welcome.topic_alias_max, welcome.receive_maximum), (None, None));
        let options = SubscribeOptions::new(QoS::ExactlyOnce);
        let filters = [("a/+", options), ("$share/g/a", options), ("a", options)];
        assert_eq!(world.subscribe_with(client, None, &filters), [0xA2, 0x9E, 0]);
        world.say_subscribe(client, Some(1), &[("a", options)]);
        world.settle();
        world.expect_end(client, ReasonCode::SubscriptionIdentifiersNotSupported);
        for (post, reason) in [
            (Post::new("a", "x", QoS::AtLeastOnce), ReasonCode::QoSNotSupported),
            (Post::retained("a", "x", QoS::AtMostOnce), ReasonCode::RetainNotSupported),
        ] {
            let (client, _) = world.connect_with(&connect);
            world.say(client, &post);
            world.settle();
            world.expect_end(client, reason);
        }
        for (qos, retain, reason) in [
            (QoS::AtLeastOnce, false, ReasonCode::QoSNotSupported),
            (QoS::AtMostOnce, true, ReasonCode::RetainNotSupported),
        ] {
            let will = shards::codec::Will { qos, retain, ..shards::codec::Will::new("a", b"x") };
            check_refused(world, &Connect { will: Some(will), ..connect }, reason);
        }
    });
}

#[test]
fn there_is_a_most_of_sessions_and_connections() {
    let settings = Settings { sessions_max: 2, ..plain() };
    everywhere(&settings, |world| {
        let names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
        let mut refused = 0;
        for (at, name) in names.into_iter().enumerate() {
            let connect = keeping(Version::V5, name, 100);
            let client = world.open(name, Version::V5);
            let welcome = world.greet(client, &connect);
            if welcome.reason == ReasonCode::Success {
                // A known client may always come back.
                assert!(world.reconnect(client, &connect).session_present, "{at}");
            } else {
                assert_eq!(welcome.reason, ReasonCode::QuotaExceeded);
                refused += 1;
            }
        }
        let sessions = world.snapshot().gauges.sessions;
        assert_eq!(sessions + refused, 10);
        assert!(sessions <= 2 * world.shard_count() as u64);
    });
    let settings = Settings { connections_max: 2, ..plain() };
    everywhere(&settings, |world| {
        for _ in 0..8 * world.shard_count() {
            world.open("nobody", Version::V5);
        }
        world.settle();
        let snapshot = world.snapshot();
        assert!(snapshot.gauges.connections <= 2 * world.shard_count() as u64);
        assert!(snapshot.counters.connections_refused > 0);
    });
}

#[test]
fn there_is_a_most_of_subscriptions_and_levels() {
    let settings = Settings { subscriptions_max: 2, topic_levels_max: 3, ..plain() };
    everywhere(&settings, |world| {
        let client = world.connect("client", Version::V5);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        let filters = ["a/b/c", "a/b/c/d", "$share/g/a/b/c", "d"].map(|filter| (filter, options));
        let codes = world.subscribe_with(client, None, &filters);
        assert_eq!(codes, [1, 0x8F, 1, 0x97]);
        world.publish(client, "a/b/c", "x", QoS::AtMostOnce);
        world.take_messages(client);
        world.say(client, &Post::new("a/b/c/d", "x", QoS::AtMostOnce));
        world.settle();
        world.expect_end(client, ReasonCode::TopicNameInvalid);
    });
}

#[test]
fn a_known_filter_can_be_renewed_when_no_more_fit() {
    let settings = Settings { subscriptions_max: 1, ..plain() };
    everywhere(&settings, |world| {
        let client = world.connect("client", Version::V5);
        world.subscribe(client, "a", QoS::AtMostOnce);
        world.subscribe(client, "a", QoS::AtLeastOnce);
        world.publish(client, "a", "x", QoS::AtLeastOnce);
        assert_eq!(world.expect_publish(client, "a", "x").qos, QoS::AtLeastOnce);
    });
}

#[test]
fn unsubscribe_says_what_was_there() {
    everywhere(&plain(), |world| {
        let client = world.connect("client", Version::V5);
        for filter in ["a", "b/#", "$share/g/a"] {
            world.subscribe(client, filter, QoS::AtLeastOnce);
        }
        let other = world.connect("other", Version::V5);
        world.subscribe(other, "c", QoS::AtLeastOnce);
        let filters = ["a", "a", "c", "b/+", "$share/g/a", "$share/g/b", "x/#/y"];
        let codes = world.unsubscribe(client, &filters);
        assert_eq!(codes, [0, 0x11, 0x11, 0x11, 0, 0x11, 0x8F]);
        assert_eq!(world.snapshot().gauges.subscriptions, 2);
        let old = world.connect("old", Version::V311);
        world.subscribe(old, "a", QoS::AtMostOnce);
        assert!(world.unsubscribe(old, &["a", "nothing"]).is_empty());
        world.publish(other, "a", "x", QoS::AtLeastOnce);
        world.expect_nothing(old);
        world.expect_nothing(client);
    });
}

#[test]
fn packets_that_only_a_server_sends_end_the_connection() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            for bytes in [&[0xD0, 0][..], &[0x20, 2, 0, 0], &[0x90, 3, 0, 1, 0]] {
                let client = world.connect("client", version);
                world.write(client, |out| out.extend_from_slice(bytes));
                world.settle();
                assert!(world.clients[client].is_ended);
            }
        }
    });
}

#[test]
fn acknowledgements_that_fit_nothing() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let client = world.connect("client", version);
            // For no exchange: harmless; PUBREC and PUBREL are answered.
            for (kind, answer) in [
                (AckKind::Puback, None),
                (AckKind::Pubcomp, None),
                (AckKind::Pubrec, Some(AckKind::Pubrel)),
                (AckKind::Pubrel, Some(AckKind::Pubcomp)),
            ] {
                let id = shards::ids::PacketId::new(77).unwrap();
                let ok = ReasonCode::Success;
                let mut bytes = Vec::new();
                world.clients[client].answers = sim::client::Answers::None;
                world.clients[client].ack(kind, id, ok, &mut bytes);
                world.write(client, |out| out.extend_from_slice(&bytes));
                world.settle();
                let got: Vec<_> = world.clients[client].got.drain(..).collect();
                let reason = if version.is_v5() {
                    ReasonCode::PacketIdentifierNotFound
                } else {
                    ReasonCode::Success
                };
                let want: Vec<_> =
                    answer.map(|kind| Got::Ack(kind, 77, reason)).into_iter().collect();
                assert_eq!(got, want);
            }
            world.expect_alive(client);
            world.disconnect(client);
        }
    });
}

#[test]
fn the_broker_says_how_it_is() {
    let settings = Settings { sys_interval_s: 5, ..plain() };
    everywhere(&settings, |world| {
        let client = world.connect("client", Version::V5);
        let publisher = world.connect("publisher", Version::V5);
        world.publish(publisher, "a", "x", QoS::AtLeastOnce);
        world.advance(seconds(12));
        world.subscribe(client, "$SYS/#", QoS::AtMostOnce);
        let texts = world.take_texts(client);
        for want in [
            "$SYS/broker/clients/connected=2".to_owned(),
            "$SYS/broker/publish/messages/received=1".to_owned(),
            format!("$SYS/broker/shards={}", world.shard_count()),
        ] {
            assert!(texts.contains(&want), "no {want} in {texts:?}");
        }
        // Updates come live.
        world.advance(seconds(6));
        assert!(world.take_messages(client).len() > 50);
    });
}
