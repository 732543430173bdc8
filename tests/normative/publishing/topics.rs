//! Topic names and topic filters, section 4.7.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Packet, Publish, packet};
use crate::publishing::steps::pair;
use crate::support::{assert_ends, broker, broker_set, on_versions};

on_versions! {
    fn mqtt_311_4_7_1_1_wildcards_in_filters_only(4),
    fn mqtt_5_4_7_0_1_wildcards_in_filters_only(5) => wildcards_in_filters_only;
    fn mqtt_311_4_7_1_2_hash_is_a_level_of_its_own_and_the_last(4),
    fn mqtt_5_4_7_1_1_hash_is_a_level_of_its_own_and_the_last(5) => hash;
    fn mqtt_311_4_7_1_3_plus_is_a_level_of_its_own(4),
    fn mqtt_5_4_7_1_2_plus_is_a_level_of_its_own(5) => plus;
    fn mqtt_311_4_7_2_1_a_leading_wildcard_does_not_match_dollar(4),
    fn mqtt_5_4_7_2_1_a_leading_wildcard_does_not_match_dollar(5) => dollar;
    fn mqtt_311_4_7_3_1_at_least_one_character(4),
    fn mqtt_5_4_7_3_1_at_least_one_character(5) => at_least_one_character;
    fn mqtt_311_4_7_3_2_no_nul(4),
    fn mqtt_5_4_7_3_2_no_nul(5) => no_nul;
    fn mqtt_311_4_7_3_3_up_to_65535_bytes(4),
    fn mqtt_5_4_7_3_3_up_to_65535_bytes(5) => up_to_65535_bytes;
    fn mqtt_311_4_7_3_4_nothing_is_normalized(4),
    fn mqtt_5_4_7_3_4_nothing_is_normalized(5) => nothing_is_normalized;
}

/// A subscriber of `filter` gets those of `topics` that are to match, and no other.
#[track_caller]
fn assert_matches(broker: &Broker, version: u8, filter: &str, matching: &[&str], other: &[&str]) {
    let (mut subscriber, mut publisher) = pair(broker, version, filter, 0);
    for topic in other {
        publisher.publish(topic, "no", 0);
    }
    for topic in matching {
        publisher.publish(topic, "yes", 0);
        let message = subscriber.message();
        assert_eq!((&*message.topic, message.text()), (*topic, "yes"), "for {filter}");
    }
    subscriber.subscribe("fence", 0);
    publisher.publish("fence", "yes", 0);
    assert_eq!(subscriber.message().topic, "fence", "after what {filter} matches");
}

/// A SUBSCRIBE with this filter is refused, and another one beside it is not.
#[track_caller]
fn assert_filter_refused(broker: &Broker, version: u8, filter: &str) {
    let mut client = Client::plain(broker, version, "subscriber");
    client.send(&wire::subscribe(version, 1, &[(filter, 0), ("good", 1)], &[]));
    let refused = if version < 5 { 0x80 } else { 0x8F };
    let suback = Packet::Suback { id: 1, codes: vec![refused, 1] };
    assert_eq!(client.recv(), suback, "{filter:?}");
}

fn wildcards_in_filters_only(version: u8) {
    let broker = broker();
    for topic in ["#", "+", "a/#", "+/a"] {
        let bytes = Publish::new(topic, "no", 0).encode(version);
        assert_ends(&broker, version, &bytes, 0x81);
    }
    assert_matches(&broker, version, "+/a/#", &["b/a", "b/a/c"], &["a", "b/b/a"]);
}

fn hash(version: u8) {
    let broker = broker();
    for filter in ["a#", "a/b#", "#/a", "a/#/b", "##", "a/##", "#a"] {
        assert_filter_refused(&broker, version, filter);
    }
    assert_matches(&broker, version, "#", &["a", "a/b", "/", "/a"], &[]);
    assert_matches(&broker, version, "a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b/a", "/a"]);
    assert_matches(&broker, version, "a/b/#", &["a/b", "a/b/c/d"], &["a", "a/c"]);
}

fn plus(version: u8) {
    let broker = broker();
    for filter in ["a+", "+a", "a/b+", "a/+b/c", "++", "a/++"] {
        assert_filter_refused(&broker, version, filter);
    }
    assert_matches(&broker, version, "+", &["a", "b"], &["a/b", "/a", "a/"]);
    assert_matches(&broker, version, "a/+", &["a/b", "a/"], &["a", "a/b/c", "b/b"]);
    assert_matches(&broker, version, "+/+", &["/a", "a/", "a/b", "/"], &["a", "a/b/c"]);
    assert_matches(&broker, version, "a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]);
    assert_matches(&broker, version, "+/b/#", &["a/b", "a/b/c"], &["b", "a/c/b"]);
}

fn dollar(version: u8) {
    let broker = broker();
    let other = ["$own", "$own/a", "$own/a/b", "$"];
    assert_matches(&broker, version, "#", &["own$/a", "a/$own"], &other);
    assert_matches(&broker, version, "+/a", &["own/a"], &other);
    assert_matches(&broker, version, "+/#", &["own/a"], &other);
    assert_matches(&broker, version, "$own/#", &other[..3], &["own/a"]);
    assert_matches(&broker, version, "$own/+", &["$own/a"], &["own/a"]);
    // Nor among what is retained.
    let mut publisher = Client::plain(&broker, version, "publisher");
    for topic in ["$own/a", "own/a"] {
        publisher.publish_as(Publish::new(topic, "kept", 1).retained());
    }
    for (filter, want) in [("#", "own/a"), ("+/a", "own/a"), ("$own/#", "$own/a")] {
        let mut late = Client::plain(&broker, version, "late");
        late.subscribe_with(&[(filter, 0), ("fence", 0)], &[]);
        publisher.publish("fence", "fence", 1);
        assert_eq!([late.message().topic, late.message().topic], [want, "fence"], "for {filter}");
    }
}

fn at_least_one_character(version: u8) {
    let broker = broker();
    assert_ends(&broker, version, &Publish::new("", "no", 0).encode(version), 0x82);
    assert_filter_refused(&broker, version, "");
    let mut client = Client::plain(&broker, version, "client");
    let codes = if version < 5 { vec![] } else { vec![0x8F] };
    assert_eq!(client.unsubscribe(&[""]), codes);
    assert_matches(&broker, version, "a", &["a"], &[]);
    assert_matches(&broker, version, "/", &["/"], &["a", "//"]);
}

fn no_nul(version: u8) {
    let broker = broker();
    for text in ["\0", "a\0b", "a/\0"] {
        assert_ends(&broker, version, &Publish::new(text, "no", 0).encode(version), 0x81);
        assert_ends(&broker, version, &wire::subscribe(version, 1, &[(text, 0)], &[]), 0x81);
        assert_ends(&broker, version, &wire::unsubscribe(version, 1, &[text]), 0x81);
    }
}

/// A length field of two bytes says no more, so what is shown is that it may say so much.
fn up_to_65535_bytes(version: u8) {
    let broker = broker_set(&["limits.topic_levels_max=65535"]);
    for topic in ["x".repeat(65_535), "漢".repeat(21_845), "ab/".repeat(21_845)] {
        assert_eq!(topic.len(), 65_535);
        let shorter = &topic[..topic.len() - 3];
        let (mut subscriber, mut publisher) = pair(&broker, version, &topic, 1);
        publisher.publish(shorter, "no", 1);
        publisher.publish(&topic, "yes", 1);
        let message = subscriber.message();
        assert!(message.topic == topic && message.text() == "yes");
    }
    // A name that is said to be longer than its packet is not read beyond it.
    assert_ends(&broker, version, &packet(0x30, &[0xFF, 0xFF, b'a']), 0x81);
}

fn nothing_is_normalized(version: u8) {
    let broker = broker();
    // Composed and decomposed, of other width, other case, with and without a mark, other separators.
    let names = [
        "é",
        "e\u{301}",
        "E\u{301}",
        "e",
        "Å",
        "\u{212B}",
        "A\u{30A}",
        "\u{FEFF}e",
        "ﬁ",
        "fi",
        "Ａ",
        "A",
        "a",
        "a/b",
        "a//b",
        "/a/b",
        "a/b/",
        "a\\b",
        " a",
        "a ",
        "%61",
        "a\u{200D}",
    ];
    for name in names {
        let others: Vec<&str> = names.into_iter().filter(|other| *other != name).collect();
        assert_matches(&broker, version, name, &[name], &others);
    }
}
