//! Section 1: strings and variable byte integers.

use crate::harness::client::Client;
use crate::harness::wire::{self, Prop, Publish, packet, prop};
use crate::support::{assert_ends, assert_refused, broker, on_versions};

use super::raw::RawConnect;

on_versions! {
    fn mqtt_311_1_5_3_1_only_well_formed_utf8(4),
    fn mqtt_5_1_5_4_1_only_well_formed_utf8(5) => only_well_formed_utf8;
    fn mqtt_311_1_5_3_2_no_nul_in_a_string(4),
    fn mqtt_5_1_5_4_2_no_nul_in_a_string(5) => no_nul;
    fn mqtt_311_1_5_3_3_feff_is_a_character(4),
    fn mqtt_5_1_5_4_3_feff_is_a_character(5) => feff_is_a_character;
}

/// A cut sequence, a lone continuation, surrogates alone and in a pair, an overlong form, beyond the
/// last character.
pub(super) const ILL_FORMED: [&[u8]; 7] = [
    b"a/\xC3",
    b"a/\x80",
    b"a/\xED\xA0\x80",
    b"a/\xED\xBF\xBF",
    b"a/\xED\xA0\xBD\xED\xB8\x80",
    b"a/\xC0\xAF",
    b"a/\xF4\x90\x80\x80",
];

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE with these bytes in the place of their string.
fn with_string(version: u8, string: &[u8]) -> [Vec<u8>; 3] {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let mut publish = Vec::new();
    wire::put_binary(&mut publish, string);
    publish.extend_from_slice(properties);
    let mut unsubscribe = [&[0, 1][..], properties].concat();
    wire::put_binary(&mut unsubscribe, string);
    let subscribe = [&unsubscribe[..], &[0]].concat();
    [packet(0x30, &publish), packet(0x82, &subscribe), packet(0xA2, &unsubscribe)]
}

fn assert_no_string(version: u8, strings: &[&[u8]]) {
    let broker = broker();
    for string in strings {
        for bytes in with_string(version, string) {
            assert_ends(&broker, version, &bytes, 0x81);
        }
        let connect = RawConnect::bare(version).field(string);
        assert_refused(&broker, version, &connect.encode(), 0x81);
    }
}

fn assert_passes(version: u8, texts: &[&str]) {
    let broker = broker();
    for text in texts {
        let mut client = Client::plain(&broker, version, text);
        client.subscribe(text, 0);
        client.publish(text, text, 0);
        let message = client.message();
        assert_eq!((message.topic.as_str(), message.text()), (*text, *text));
        assert_eq!(client.unsubscribe(&[text]), if version == 5 { vec![0] } else { vec![] });
    }
}

fn only_well_formed_utf8(version: u8) {
    assert_no_string(version, &ILL_FORMED);
    // The neighbours of what is forbidden, and a surrogate pair's character in its one right form.
    assert_passes(version, &["a/\u{D7FF}\u{E000}", "a/\u{10FFFF}", "a/\u{80}", "a/\u{1F600}"]);
}

fn no_nul(version: u8) {
    assert_no_string(version, &[b"\0", b"a/\0", b"\0/b", b"a\0b"]);
    assert_passes(version, &["a/\u{1}", "a0/0"]);
}

fn feff_is_a_character(version: u8) {
    let broker = broker();
    let mut marked = Client::plain(&broker, version, "\u{FEFF}a");
    let mut bare = Client::plain(&broker, version, "a");
    marked.subscribe("\u{FEFF}a", 0);
    bare.subscribe("a", 0);
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish("\u{FEFF}a", "marked", 0);
    publisher.publish("a", "bare", 0);
    let message = marked.message();
    assert_eq!((message.topic.as_str(), message.text()), ("\u{FEFF}a", "marked"));
    let message = bare.message();
    assert_eq!((message.topic.as_str(), message.text()), ("a", "bare"));
    // Inside a string it counts as well. The two identifiers above are two clients: both are there.
    marked.subscribe("b\u{FEFF}/c", 0);
    publisher.publish("b/c", "bare", 0);
    publisher.publish("b\u{FEFF}/c", "marked", 0);
    assert_eq!(marked.message().topic, "b\u{FEFF}/c");
}

/// Payloads on both sides of where a remaining length takes one byte more.
#[test]
fn mqtt_5_1_5_5_1_lengths_take_the_fewest_bytes() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "lengths");
    client.subscribe("t", 0);
    for (remaining, header) in [(127, 2), (128, 3), (16_383, 3), (16_384, 4)] {
        let payload = vec![b'x'; remaining - 4];
        client.send(&Publish::new("t", &payload, 0).encode(5));
        assert_eq!(client.recv_bytes().len(), header + remaining);
    }
    for bytes in [
        // Remaining length and property length with a byte that adds nothing.
        &[0x30, 0x85, 0x00, 0, 1, b't', 0, b'x'][..],
        &[0x30, 0x06, 0, 1, b't', 0x80, 0x00, b'x'],
        &[0xC0, 0x80, 0x00],
    ] {
        assert_ends(&broker, 5, bytes, 0x81);
    }
    // A subscription identifier of 1 in two bytes.
    let subscribe = [0x82, 0x0A, 0, 1, 3, prop::SUBSCRIPTION_ID, 0x81, 0x00, 0, 1, b't', 0];
    assert_ends(&broker, 5, &subscribe, 0x81);
}

#[test]
fn mqtt_5_1_5_7_1_both_halves_of_a_pair_are_strings() {
    let broker = broker();
    for string in [&b"\xED\xA0\x80"[..], b"a\xC3", b"a\0"] {
        for (name, value) in [(string, &b"v"[..]), (b"n", string)] {
            let mut pair = vec![prop::USER_PROPERTY];
            wire::put_binary(&mut pair, name);
            wire::put_binary(&mut pair, value);
            let length = u8::try_from(pair.len()).expect("a short pair");
            let publish = [&[0, 1, b't', length][..], &pair].concat();
            assert_ends(&broker, 5, &packet(0x30, &publish), 0x81);
            let subscribe = [&[0, 1, length][..], &pair, &[0, 1, b't', 0]].concat();
            assert_ends(&broker, 5, &packet(0x82, &subscribe), 0x81);
            let connect = [&[0, 4][..], b"MQTT", &[5, 2, 0, 0, length], &pair, &[0, 0]].concat();
            assert_refused(&broker, 5, &packet(0x10, &connect), 0x81);
        }
    }
    let mut client = Client::plain(&broker, 5, "pairs");
    client.subscribe("t", 0);
    let pair = Prop::user("\u{FEFF}n", "");
    client.publish_as(Publish::new("t", "", 0).with(pair.clone()));
    assert_eq!(client.message().props, [pair]);
}
