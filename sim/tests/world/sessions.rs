//! Sessions across network connections: present or not, expiry, what waits, what is sent again.

use shards::codec::{AckKind, Connect, Disconnect};
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;

use sim::client::{Answers, Got};
use sim::drive::{Post, VERSIONS, everywhere, keeping, plain, seconds};

#[test]
fn a_session_is_present_until_it_expires() {
    everywhere(&plain(), |world| {
        let connect = keeping(Version::V5, "client", 10);
        let (client, welcome) = world.connect_with(&connect);
        assert!(!welcome.session_present);
        world.cut(client);
        world.advance(seconds(9));
        assert!(world.reconnect(client, &connect).session_present);
        world.advance(seconds(100));
        world.disconnect(client);
        world.advance(seconds(11));
        assert_eq!(world.snapshot().counters.sessions_expired, 1);
        assert!(!world.reconnect(client, &connect).session_present);
        // A clean start ends it.
        world.disconnect(client);
        let clean = Connect { clean_start: true, ..connect };
        assert!(!world.reconnect(client, &clean).session_present);
    });
}

#[test]
fn qos_0_for_a_client_that_is_away_is_dropped_and_counted() {
    everywhere(&plain(), |world| {
        let connect = keeping(Version::V5, "client", 1000);
        let (client, _) = world.connect_with(&connect);
        world.subscribe(client, "a", QoS::AtLeastOnce);
        world.cut(client);
        world.settle();
        let publisher = world.connect("publisher", Version::V5);
        world.publish(publisher, "a", "lost", QoS::AtMostOnce);
        world.publish(publisher, "a", "kept", QoS::AtLeastOnce);
        world.settle();
        assert_eq!(world.snapshot().counters.dropped_offline, 1);
        assert!(world.reconnect(client, &connect).session_present);
        world.expect_publish(client, "a", "kept");
    });
}

#[test]
fn version_3_keeps_a_session_unless_it_is_clean() {
    everywhere(&plain(), |world| {
        for version in [Version::V31, Version::V311] {
            let kept = keeping(version, "client", 0);
            let (client, _) = world.connect_with(&kept);
            world.subscribe(client, "a", QoS::AtLeastOnce);
            world.cut(client);
            world.advance(seconds(1000));
            let publisher = world.connect("publisher", version);
            world.publish(publisher, "a", "x", QoS::AtLeastOnce);
            let present = world.reconnect(client, &kept).session_present;
            assert_eq!(present, version == Version::V311, "3.1 has no such flag");
            world.expect_publish(client, "a", "x");
            world.disconnect(client);
            let clean = Connect::new(version, "client");
            world.reconnect(client, &clean);
            world.publish(publisher, "a", "y", QoS::AtLeastOnce);
            world.expect_nothing(client);
            world.disconnect(client);
            assert!(!world.reconnect(client, &kept).session_present);
            world.reconnect(client, &clean);
            world.disconnect(client);
            world.disconnect(publisher);
        }
    });
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_none_to_some() {
    everywhere(&plain(), |world| {
        let to = |secs| Disconnect {
            session_expiry_s: Some(secs),
            ..Disconnect::new(ReasonCode::Success)
        };
        let connect = keeping(Version::V5, "client", 10);
        let (client, _) = world.connect_with(&connect);
        world.disconnect_with(client, &to(100));
        world.advance(seconds(50));
        assert!(world.reconnect(client, &connect).session_present);
        world.disconnect_with(client, &to(0));
        assert!(!world.reconnect(client, &connect).session_present);
        world.disconnect(client);
        let none = keeping(Version::V5, "other", 0);
        let (other, _) = world.connect_with(&none);
        world.disconnect_with(other, &to(10));
        world.expect_end(other, ReasonCode::ProtocolError);
        assert!(!world.reconnect(other, &none).session_present);
    });
}

#[test]
fn the_granted_expiry_has_a_maximum() {
    let settings = shards::limits::Settings { session_expiry_max_s: 20, ..plain() };
    everywhere(&settings, |world| {
        let connect = keeping(Version::V5, "client", 1000);
        let (client, welcome) = world.connect_with(&connect);
        assert_eq!(welcome.session_expiry_s, Some(20));
        world.cut(client);
        world.advance(seconds(21));
        assert!(!world.reconnect(client, &connect).session_present);
        world.disconnect(client);
    });
}

#[test]
fn what_waits_comes_in_order_and_without_qos_0() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let connect = keeping(version, "client", 1000);
            let (client, _) = world.connect_with(&connect);
            world.subscribe(client, "a/#", QoS::ExactlyOnce);
            world.cut(client);
            let publisher = world.connect("publisher", version);
            for n in 0..30 {
                let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtMostOnce][n % 3];
                world.publish(publisher, "a/b", &format!("{n}"), qos);
            }
            world.reconnect(client, &connect);
            let texts = world.take_texts(client);
            let want: Vec<_> = (0..30).filter(|n| n % 3 != 2).map(|n| format!("a/b={n}")).collect();
            assert_eq!(texts, want);
            world.reconnect(client, &Connect::new(version, "client"));
            world.disconnect(client);
            world.disconnect(publisher);
        }
    });
}

#[test]
fn what_was_not_acknowledged_is_sent_again_within_a_smaller_window() {
    everywhere(&plain(), |world| {
        let connect = keeping(Version::V5, "client", 1000);
        let (client, _) = world.connect_with(&connect);
        world.answer(client, Answers::None);
        world.subscribe(client, "a", QoS::ExactlyOnce);
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..10 {
            let qos = if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            world.publish(publisher, "a", &format!("{n}"), qos);
        }
        let first = world.take_messages(client);
        assert_eq!(first.len(), 10);
        assert!(first.iter().all(|message| !message.dup));
        world.cut(client);
        world.publish(publisher, "a", "10", QoS::AtLeastOnce);
        // The model checks the window; QoS 2 that it knows is acknowledged and not told again.
        world.answer(client, Answers::All);
        let small = Connect { receive_maximum: Some(2), ..connect };
        assert!(world.reconnect(client, &small).session_present);
        let again = world.take_messages(client);
        let texts: Vec<_> = again.iter().map(|message| message.text()).collect();
        assert_eq!(texts, ["0", "2", "4", "6", "8", "10"]);
        assert!(again[..5].iter().all(|message| message.dup));
        assert!(!again[5].dup);
        for (before, after) in first.iter().step_by(2).zip(&again) {
            assert_eq!(before.packet_id, after.packet_id);
        }
        assert_eq!(world.snapshot().counters.messages_resent, 10);
    });
}

#[test]
fn pubrel_is_sent_again() {
    everywhere(&plain(), |world| {
        for version in [Version::V311, Version::V5] {
            let connect = keeping(version, "client", 1000);
            let (client, _) = world.connect_with(&connect);
            world.answer(client, Answers::ToPubrec);
            world.subscribe(client, "a", QoS::ExactlyOnce);
            let publisher = world.connect("publisher", version);
            world.publish(publisher, "a", "x", QoS::ExactlyOnce);
            let id = world.take_messages(client)[0].packet_id.unwrap();
            world.cut(client);
            world.answer(client, Answers::All);
            assert!(world.reconnect(client, &connect).session_present);
            world.expect_ack(client, AckKind::Pubrel, id);
            world.expect_nothing(client);
            world.cut(client);
            world.reconnect(client, &connect);
            world.expect_nothing(client);
            world.reconnect(client, &Connect::new(version, "client"));
            world.disconnect(client);
            world.disconnect(publisher);
        }
    });
}

#[test]
fn a_take_over_tells_the_older_connection() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            for clean_start in [false, true] {
                let connect = Connect { clean_start, ..keeping(version, "client", 100) };
                let (first, _) = world.connect_with(&connect);
                world.subscribe(first, "a", QoS::AtLeastOnce);
                let (second, welcome) = world.connect_with(&connect);
                assert_eq!(welcome.session_present, !clean_start && version != Version::V31);
                world.expect_end(first, ReasonCode::SessionTakenOver);
                let publisher = world.connect("publisher", version);
                world.publish(publisher, "a", "x", QoS::AtLeastOnce);
                assert_eq!(world.take_messages(second).len(), usize::from(!clean_start));
                world.disconnect(publisher);
                let (third, _) = world.connect_with(&Connect::new(version, "client"));
                world.disconnect(third);
            }
        }
    });
}

#[test]
fn many_at_once_with_one_identifier_leave_one() {
    everywhere(&plain(), |world| {
        let connect = keeping(Version::V5, "client", 100);
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let client = world.open("client", Version::V5);
                world.say_connect(client, &connect);
                world.stir(2);
                client
            })
            .collect();
        world.settle();
        let alive = clients.iter().filter(|&&client| !world.clients[client].is_ended).count();
        assert_eq!(alive, 1);
        assert_eq!(world.snapshot().gauges.sessions, 1);
        for client in clients {
            world.expect_welcome(client);
        }
    });
}

#[test]
fn a_repeated_qos_2_publish_is_delivered_once() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let connect = keeping(version, "publisher", 100);
            let (publisher, _) = world.connect_with(&connect);
            let subscriber = world.connect("subscriber", version);
            world.subscribe(subscriber, "a", QoS::ExactlyOnce);
            world.answer(publisher, Answers::None);
            let id = world.say(publisher, &Post::new("a", "x", QoS::ExactlyOnce));
            world.settle();
            let again = |out: &mut Vec<u8>| {
                shards::codec::Publish {
                    qos: QoS::ExactlyOnce,
                    dup: true,
                    packet_id: PacketId::new(id),
                    ..shards::codec::Publish::new("a", b"x")
                }
                .encode(version, out);
            };
            for _ in 0..3 {
                world.write(publisher, again);
                world.write(publisher, again);
                world.settle();
                let pubrecs: Vec<_> = world.clients[publisher].got.drain(..).collect();
                let pubrec = Got::Ack(AckKind::Pubrec, id, ReasonCode::Success);
                assert!(pubrecs.len() >= 2, "{pubrecs:?}");
                assert!(pubrecs.iter().all(|got| *got == pubrec), "{pubrecs:?}");
                world.cut(publisher);
                world.reconnect(publisher, &connect);
            }
            world.expect_publish(subscriber, "a", "x");
            // After PUBREL the identifier is free for another message.
            for want in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
                let pubrel = PacketId::new(id).unwrap();
                world.write(publisher, |out| {
                    let ok = ReasonCode::Success;
                    shards::codec::puback_into(version, AckKind::Pubrel, pubrel, ok, out);
                });
                world.settle();
                let reason = world.expect_ack(publisher, AckKind::Pubcomp, id);
                assert_eq!(reason, if version.is_v5() { want } else { ReasonCode::Success });
            }
            world.write(publisher, again);
            world.settle();
            world.expect_publish(subscriber, "a", "x");
            world.clients[publisher].got.clear();
            world.reconnect(publisher, &Connect::new(version, "publisher"));
            world.disconnect(publisher);
            world.disconnect(subscriber);
        }
    });
}

#[test]
fn a_session_goes_from_one_version_to_another() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V5);
        let (client, _) = world.connect_with(&keeping(Version::V5, "client", 1000));
        world.answer(client, Answers::None);
        world.subscribe_with(
            client,
            Some(4),
            &[("a", shards::codec::SubscribeOptions::new(QoS::AtLeastOnce))],
        );
        world.publish(publisher, "a", "x", QoS::AtLeastOnce);
        assert_eq!(world.expect_publish(client, "a", "x").ids, [4]);
        world.cut(client);
        world.answer(client, Answers::All);
        let old = keeping(Version::V311, "client", 0);
        assert!(world.reconnect(client, &old).session_present);
        let message = world.expect_publish(client, "a", "x");
        assert!(message.dup && message.ids.is_empty());
        world.publish(publisher, "a", "y", QoS::AtLeastOnce);
        world.expect_publish(client, "a", "y");
    });
}

/// Both CONNECTs may be worked on in one batch, before the first CONNACK has left.
#[test]
fn a_connection_that_is_taken_over_at_once_is_told() {
    everywhere(&plain(), |world| {
        for _ in 0..20 {
            let connect = keeping(Version::V5, "same", 100);
            let clients = [0, 1].map(|_| world.open("same", Version::V5));
            for client in clients {
                world.say_connect(client, &connect);
            }
            world.settle();
            let [first, second] = clients;
            let is_first = world.clients[first].is_ended;
            let (old, new) = if is_first { (first, second) } else { (second, first) };
            world.expect_welcome(old);
            world.expect_end(old, ReasonCode::SessionTakenOver);
            world.expect_welcome(new);
            world.disconnect(new);
        }
    });
}
