//! Subscriptions: overlapping, shared, without one's own messages; their identifiers and codes.

use std::collections::BTreeSet;

use crate::harness::broker::{Broker, Options};
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{Packet, Prop, Publish, find, prop, subscribe};

on_shards!(
    overlapping_subscriptions_bring_one_copy,
    subscription_identifiers_come_back,
    no_local_keeps_ones_own_messages_away,
    a_new_subscription_replaces_the_old,
    unsubscribe_says_what_it_found,
    a_shared_message_goes_to_one_member,
    a_shared_subscription_survives_its_members,
    an_unacknowledged_shared_message_moves_on,
    no_local_on_a_shared_subscription_is_an_error,
    invalid_filters_are_refused,
);

const NO_LOCAL: u8 = 0x04;

fn overlapping_subscriptions_bring_one_copy(broker: &Broker) {
    if broker.deviates("sends a copy for each overlapping subscription") {
        return;
    }
    let mut publisher = Client::plain(broker, 4, "overlap-from");
    for version in [3, 4, 5] {
        for number in 0..4 {
            let mut client = Client::plain(broker, version, &format!("overlap-{version}-{number}"));
            client.subscribe_with(&[("o/#", 0), ("o/+", 2), ("o/a", 1)], &[]);
            publisher.publish("o/a", "one", 2);
            publisher.publish("o/b", "fence", 2);
            let message = client.message();
            assert_eq!((message.text(), message.qos), ("one", 2), "the highest granted QoS");
            assert_eq!(client.message().text(), "fence");
        }
    }
}

fn subscription_identifiers_come_back(broker: &Broker) {
    let mut publisher = Client::plain(broker, 5, "ids-from");
    for number in 0..8 {
        let mut client = Client::plain(broker, 5, &format!("ids-{number}"));
        client.subscribe_with(&[("i/a", 0)], &[Prop::subscription_id(1)]);
        client.subscribe_with(&[("i/b", 0)], &[Prop::subscription_id(268_435_455)]);
        client.subscribe_with(&[("i/c", 0)], &[]);
        for topic in ["i/a", "i/b", "i/c"] {
            publisher.publish(topic, "x", 0);
        }
        let mut id = || find(&client.message().props, prop::SUBSCRIPTION_ID).map(Prop::number);
        assert_eq!([id(), id(), id()], [Some(1), Some(268_435_455), None]);

        // Overlapping: all of them, on one copy or on one copy each.
        client.subscribe_with(&[("i/+", 0)], &[Prop::subscription_id(7)]);
        publisher.publish("i/a", "both", 0);
        let mut ids = Vec::new();
        while ids.len() < 2 {
            let message = client.message();
            assert_eq!(message.text(), "both");
            let of = message.props.iter().filter(|p| p.id == prop::SUBSCRIPTION_ID);
            ids.extend(of.map(Prop::number));
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 7]);
    }
}

fn no_local_keeps_ones_own_messages_away(broker: &Broker) {
    let mut other = Client::plain(broker, 5, "local-other");
    for number in 0..8 {
        let mut client = Client::plain(broker, 5, &format!("local-{number}"));
        client.subscribe("local", 1 | NO_LOCAL);
        client.publish("local", "own", 1);
        other.publish("local", "other", 1);
        assert_eq!(client.message().text(), "other");
    }
}

fn a_new_subscription_replaces_the_old(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "replace-from");
    for version in [3, 4, 5] {
        let mut client = Client::plain(broker, version, &format!("replace-{version}"));
        for qos in [2, 0, 1] {
            assert_eq!(client.subscribe("replace", qos), qos);
            publisher.publish("replace", "x", 2);
            assert_eq!(client.message().qos, qos);
        }
        publisher.publish("replace", "fence", 0);
        assert_eq!(client.message().text(), "fence", "one subscription, one copy");
    }
}

fn unsubscribe_says_what_it_found(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "unsub-from");
    for version in [3, 4, 5] {
        let mut client = Client::plain(broker, version, &format!("unsub-{version}"));
        client.subscribe_with(&[("u/a", 0), ("u/#", 0), ("fence", 0)], &[]);
        let codes = client.unsubscribe(&["u/a", "u/b", "u/#"]);
        if version == 5 {
            assert_eq!(codes, [0x00, 0x11, 0x00]);
        } else {
            assert_eq!(codes, [0_u8; 0]);
        }
        publisher.publish("u/a", "no longer", 0);
        publisher.publish("fence", "fence", 0);
        assert_eq!(client.message().text(), "fence");
    }
}

/// Eight members in two groups: each group sees each message once, and no member goes without.
fn a_shared_message_goes_to_one_member(broker: &Broker) {
    for qos in [0, 1, 2] {
        let mut members: Vec<Client> = (0..8)
            .map(|number| {
                let mut client = Client::plain(broker, 5, &format!("share-{qos}-{number}"));
                let filter = format!("$share/g{}/share/{qos}/+", number % 2);
                client.subscribe_with(&[(&filter, qos), ("fence", qos)], &[]);
                client
            })
            .collect();
        let mut publisher = Client::plain(broker, 4, "share-from");
        for number in 0..200 {
            publisher.publish(&format!("share/{qos}/{number}"), number.to_string(), qos);
        }
        publisher.publish("fence", "fence", qos);
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        for (number, member) in members.iter_mut().enumerate() {
            let mut count = 0;
            loop {
                let message = member.message();
                if message.topic == "fence" {
                    break;
                }
                count += 1;
                assert!(seen[number % 2].insert(message.text().to_owned()), "{message:?} twice");
            }
            assert!(count > 0, "member {number} got nothing");
        }
        assert_eq!(seen.each_ref().map(BTreeSet::len), [200, 200]);
    }
}

/// Members come and go between messages; each message still finds exactly one.
fn a_shared_subscription_survives_its_members(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "churn-from");
    let mut steady = Client::plain(broker, 5, "churn-steady");
    steady.subscribe_with(&[("$share/churn/c", 1), ("fence", 1)], &[]);
    let mut got = 0;
    for number in 0..20 {
        let mut guest = Client::plain(broker, 5, &format!("churn-{number}"));
        guest.subscribe_with(&[("$share/churn/c", 1), ("fence", 1)], &[]);
        for _ in 0..5 {
            publisher.publish("c", "x", 1);
        }
        publisher.publish("fence", "fence", 1);
        for client in [&mut steady, &mut guest] {
            while client.message().topic != "fence" {
                got += 1;
            }
        }
        if number % 2 == 0 {
            assert_eq!(guest.unsubscribe(&["$share/churn/c"]), [0]);
        } else {
            guest.disconnect();
        }
    }
    assert_eq!(got, 100);
}

/// A member that leaves with a QoS 1 message unacknowledged does not take it along.
fn an_unacknowledged_shared_message_moves_on(broker: &Broker) {
    if broker.deviates("does not hand unacknowledged shared messages on") {
        return;
    }
    let mut publisher = Client::plain(broker, 4, "moves-from");
    for number in 0..8 {
        let topic = format!("moves/{number}");
        let filter = format!("$share/moves/{topic}");
        let mut leaving = Client::plain(broker, 5, &format!("moves-leaving-{number}"));
        leaving.subscribe(&filter, 1);
        publisher.publish(&topic, "job", 1);
        assert_eq!(leaving.message_unacked().text(), "job");
        let mut staying = Client::plain(broker, 5, &format!("moves-staying-{number}"));
        staying.subscribe(&filter, 1);
        leaving.vanish();
        assert_eq!(staying.message().text(), "job");
    }
}

fn no_local_on_a_shared_subscription_is_an_error(broker: &Broker) {
    if broker.deviates("2.0.11 accepts no local on a shared subscription") {
        return;
    }
    let mut client = Client::plain(broker, 5, "shared-local");
    client.send(&subscribe(5, 1, &[("$share/g/t", 1 | NO_LOCAL)], &[]));
    let last = client.until_end();
    assert!(matches!(last.as_slice(), [Packet::Disconnect { code: 0x82, .. }]), "{last:?}");
}

/// A filter that breaks the grammar gets 0x8F (or ends the connection); it never gets a grant.
fn invalid_filters_are_refused(broker: &Broker) {
    for filter in ["a/#/b", "a#", "a+/b", "", "$share//t", "$share/+/t", "a/b#", "$share/g"] {
        if filter.starts_with("$share") && broker.deviates("2.0.11 takes any share name") {
            continue;
        }
        let mut client = Client::plain(broker, 5, "invalid");
        client.send(&subscribe(5, 1, &[(filter, 0)], &[]));
        match client.recv() {
            Packet::Suback { codes, .. } => assert!(codes[0] >= 0x80, "{filter:?}: {codes:02x?}"),
            Packet::Disconnect { code, .. } => {
                assert!([0x81, 0x82, 0x8F].contains(&code), "{filter:?}: 0x{code:02x}");
            }
            other => panic!("{filter:?}: {other:?}"),
        }
    }
}

#[test]
fn sys_topics_tell_about_the_broker() {
    for shards in [1, 2, 8] {
        let mut options = Options::new(shards);
        options.sys_interval_s = Some(1);
        let broker = Broker::start_with(&options);
        let mut client = Client::plain(&broker, 4, "sys");
        let mut all = Client::plain(&broker, 4, "not-sys");
        all.subscribe("#", 0);
        client.subscribe("$SYS/#", 0);
        for _ in 0..3 {
            assert!(client.message().topic.starts_with("$SYS/broker/"));
        }
        all.publish_as(Publish::new("fence", "fence", 0));
        assert_eq!(all.message().topic, "fence", "# does not match $SYS");
    }
}
