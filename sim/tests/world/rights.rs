//! Who may receive what, and rules that change while everybody is there.

use shards::codec::{AckKind, Connect, SubscribeOptions, Will};
use shards::ids::{QoS, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use sim::drive::{Post, VERSIONS, everywhere, keeping, plain};
use sim::rules::Rules;
use sim::world::World;

const NARROW: Rules = Rules { has_rights: true, is_narrow: true };

/// The payloads that have come.
fn texts(world: &mut World, client: usize) -> Vec<String> {
    let messages = world.take_messages(client);
    messages.iter().map(|message| message.text().to_owned()).collect()
}

fn publish_all(world: &mut World, sender: usize, qos: QoS) {
    for topic in ["secret/x", "open/x"] {
        world.publish(sender, topic, topic, qos);
    }
}

#[test]
fn a_wide_subscription_gets_only_what_its_client_may_receive() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        world.retain(sender, "secret/kept", "secret");
        world.retain(sender, "open/kept", "open");
        for version in VERSIONS {
            let narrow = world.connect("narrow", version);
            world.subscribe(narrow, "#", QoS::AtLeastOnce);
            assert_eq!(texts(world, narrow), ["open"]);
            let wide = world.connect("wide", version);
            world.subscribe(wide, "secret/+", QoS::AtLeastOnce);
            assert_eq!(texts(world, wide), ["secret"]);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                publish_all(world, sender, qos);
                assert_eq!(texts(world, narrow), ["open/x"]);
                assert_eq!(texts(world, wide), ["secret/x"]);
            }
            world.disconnect(narrow);
            world.disconnect(wide);
        }
        assert_eq!(world.snapshot().counters.denied_delivery, 3 * 4);
    });
}

/// Packets of one topic behind each other share the answer.
#[test]
fn a_run_is_asked_for_once() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V311);
        let narrow = world.connect("narrow", Version::V311);
        let wide = world.connect("wide", Version::V311);
        world.subscribe(narrow, "#", QoS::AtMostOnce);
        world.subscribe(wide, "#", QoS::AtMostOnce);
        for topic in ["secret/x", "open/x"] {
            for _ in 0..20 {
                world.say(sender, &Post::new(topic, "x", QoS::AtMostOnce));
            }
        }
        world.settle();
        assert_eq!(world.take_messages(narrow).len(), 20);
        assert_eq!(world.take_messages(wide).len(), 40);
        assert_eq!(world.snapshot().counters.denied_delivery, 20);
    });
}

/// An exact permission counts although another subscription is wider than what is permitted.
#[test]
fn overlapping_subscriptions_are_denied_only_together() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        let narrow = world.connect("narrow", Version::V5);
        // By the rules of this world nobody else's name makes a wildcard wide.
        world.subscribe(narrow, "secret/#", QoS::AtLeastOnce);
        world.subscribe(narrow, "secret/x", QoS::AtLeastOnce);
        world.publish(sender, "secret/x", "x", QoS::AtLeastOnce);
        assert_eq!(texts(world, narrow), ["x"]);
        world.publish(sender, "secret/y", "y", QoS::AtLeastOnce);
        world.expect_nothing(narrow);
    });
}

/// Another member gets what the one that was picked may not receive, wherever it lives.
#[test]
fn a_shared_message_goes_to_a_member_that_may_receive_it() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        let names = ["narrow0", "narrow1", "narrow2", "wide", "narrow3"];
        let members: Vec<_> = names.map(|name| world.connect(name, Version::V5)).into();
        for &member in &members {
            world.subscribe(member, "$share/g/#", QoS::AtLeastOnce);
        }
        for _ in 0..20 {
            publish_all(world, sender, QoS::AtLeastOnce);
        }
        let mut all = 0;
        for &member in &members {
            let came = texts(world, member);
            all += came.len();
            let secret = came.iter().filter(|text| *text == "secret/x").count();
            assert_eq!(secret, if member == members[3] { 20 } else { 0 });
        }
        assert_eq!(all, 40);
        // With nobody left who may, it goes to nobody.
        world.disconnect(members[3]);
        world.publish(sender, "secret/x", "x", QoS::AtLeastOnce);
        members.iter().for_each(|&member| world.expect_nothing(member));
        assert_eq!(world.snapshot().counters.denied_delivery, 1);
    });
}

#[test]
fn denials_are_told_where_the_protocol_can_tell() {
    everywhere(&plain(), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "#", QoS::AtLeastOnce);
        for version in VERSIONS {
            let client = world.connect("client", version);
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let filters = [("forbidden/#", options), ("$share/g/forbidden/a", options)];
            let refused = if version.is_v5() { 0x87 } else { 0x80 };
            let codes = world.subscribe_with(client, None, &filters);
            if version != Version::V31 {
                assert_eq!(codes, [refused, refused]);
            }
            for (qos, kind) in
                [(QoS::AtLeastOnce, AckKind::Puback), (QoS::ExactlyOnce, AckKind::Pubrec)]
            {
                let id = world.say(client, &Post::new("forbidden/a", "x", qos));
                world.settle();
                let reason = world.expect_ack(client, kind, id);
                let told =
                    if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::Success };
                assert_eq!(reason, told);
            }
            world.publish(client, "forbidden/a", "x", QoS::AtMostOnce);
            world.expect_alive(client);
            world.disconnect(client);
        }
        world.expect_nothing(watcher);
        let counters = world.snapshot().counters;
        assert_eq!((counters.denied_publish, counters.denied_subscribe), (9, 6));
    });
}

#[test]
fn new_rules_end_connections_and_subscriptions() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        let mut clients = Vec::new();
        for version in VERSIONS {
            let name = ["barred0", "barred1", "barred2"][clients.len()];
            let (barred, _) = world.connect_with(&keeping(version, name, 1000));
            world.subscribe(barred, "stays/#", QoS::AtLeastOnce);
            world.subscribe(barred, "closing/#", QoS::AtLeastOnce);
            clients.push(barred);
        }
        let (offline, _) = world.connect_with(&keeping(Version::V5, "offline", 1000));
        world.subscribe(offline, "closing/a", QoS::AtLeastOnce);
        world.subscribe(offline, "$share/g/closing/+", QoS::AtLeastOnce);
        world.subscribe(offline, "stays/a", QoS::AtLeastOnce);
        world.disconnect(offline);
        let stays = world.connect("stays", Version::V311);
        world.subscribe(stays, "closing/+", QoS::AtLeastOnce);
        world.subscribe(stays, "stays/+", QoS::AtLeastOnce);
        world.rule(NARROW);
        world.settle();
        for &barred in &clients {
            world.expect_end(barred, ReasonCode::NotAuthorized);
        }
        assert_eq!(world.snapshot().gauges.subscriptions, 3 + 1 + 1);
        // Back to rules that allow it: nobody is subscribed to it any more.
        world.rule(Rules::default());
        world.settle();
        world.publish(sender, "closing/a", "x", QoS::AtLeastOnce);
        world.publish(sender, "stays/a", "y", QoS::AtLeastOnce);
        assert_eq!(texts(world, stays), ["y"]);
        assert!(world.reconnect(offline, &keeping(Version::V5, "offline", 1000)).session_present);
        assert_eq!(texts(world, offline), ["y"]);
    });
}

#[test]
fn new_rules_narrow_and_widen_what_is_delivered() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        let (odd, _) = world.connect_with(&keeping(Version::V5, "c1", 1000));
        world.subscribe(odd, "a/+", QoS::AtLeastOnce);
        world.subscribe(odd, "$share/g/b/+", QoS::AtLeastOnce);
        for is_there in [true, false] {
            if !is_there {
                world.disconnect(odd);
            }
            for rules in [NARROW, Rules::default()] {
                world.rule(rules);
                world.settle();
                for topic in ["a/c", "a/b", "b/c"] {
                    world.publish(sender, topic, topic, QoS::AtLeastOnce);
                }
                if !is_there {
                    assert!(
                        world.reconnect(odd, &keeping(Version::V5, "c1", 1000)).session_present
                    );
                    world.settle();
                }
                let mut came = texts(world, odd);
                came.sort();
                let all: &[&str] = if rules == NARROW { &["a/b"] } else { &["a/b", "a/c", "b/c"] };
                let counters = world.snapshot().counters;
                assert_eq!(came, all, "{rules:?} {is_there} {counters:?}");
                if !is_there {
                    world.disconnect(odd);
                }
            }
        }
    });
}

#[test]
fn a_will_that_may_not_be_published_any_more_is_not() {
    everywhere(&plain(), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "#", QoS::AtLeastOnce);
        for is_narrow in [false, true] {
            let will = Some(Will::new("closing/will", b"gone"));
            let (client, _) =
                world.connect_with(&Connect { will, ..Connect::new(Version::V5, "client") });
            world.rule(Rules { is_narrow, ..Rules::default() });
            world.settle();
            world.cut(client);
            world.settle();
            let count = usize::from(!is_narrow);
            assert_eq!(world.take_messages(watcher).len(), count);
        }
        assert_eq!(world.snapshot().counters.wills_published, 1);
    });
}

/// Many subscriptions take many turns, and nobody waits for them.
#[test]
fn new_rules_look_at_everything_in_pieces() {
    let settings = Settings { subscriptions_max: 10_000, ..plain() };
    everywhere(&settings, |world| {
        let client = world.connect("client", Version::V5);
        let names: Vec<_> = (0..600).map(|n| format!("closing/{n}")).collect();
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        for some in names.chunks(100) {
            let filters: Vec<_> = some.iter().map(|name| (name.as_str(), options)).collect();
            world.subscribe_with(client, None, &filters);
        }
        assert_eq!(world.snapshot().gauges.subscriptions, 600);
        world.rule(NARROW);
        world.settle();
        assert_eq!(world.snapshot().gauges.subscriptions, 0);
        world.expect_alive(client);
    });
}
