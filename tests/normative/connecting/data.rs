//! Section 1: strings and variable byte integers.

use crate::harness::client::Client;
use crate::harness::wire::{self, Publish, packet};
use crate::support::{assert_ends, assert_refused, broker, on_versions};

on_versions! {
    fn mqtt_311_1_5_3_1_only_well_formed_utf8(4),
    fn mqtt_5_1_5_4_1_only_well_formed_utf8(5) => only_well_formed_utf8;
    fn mqtt_311_1_5_3_2_no_nul_in_a_string(4),
    fn mqtt_5_1_5_4_2_no_nul_in_a_string(5) => no_nul;
    fn mqtt_311_1_5_3_3_feff_is_a_character(4),
    fn mqtt_5_1_5_4_3_feff_is_a_character(5) => feff_is_a_character;
}

/// A cut sequence, a lone continuation, surrogates alone and in a pair, an overlong form, beyond the last.
const ILL_FORMED: [&[u8]; 7] = [
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

/// CONNECT with these bytes as client identifier.
fn connect_as(version: u8, client_id: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    wire::put_text(&mut body, "MQTT");
    body.extend([version, 0x02, 0, 0]);
    wire::put_props(&mut body, version, &[]);
    wire::put_binary(&mut body, client_id);
    packet(0x10, &body)
}

fn only_well_formed_utf8(version: u8) {
    let broker = broker();
    for string in ILL_FORMED {
        for bytes in with_string(version, string) {
            assert_ends(&broker, version, &bytes, 0x81);
        }
        assert_refused(&broker, version, &connect_as(version, string), 0x81);
    }
    // The neighbours of what is forbidden are taken.
    let mut client = Client::plain(&broker, version, "utf8");
    for text in ["a/\u{D7FF}\u{E000}", "a/\u{10FFFF}", "a/\u{80}"] {
        client.subscribe(text, 0);
        client.publish(text, text, 0);
        let message = client.message();
        assert_eq!((message.topic.as_str(), message.text()), (text, text));
    }
}

fn no_nul(version: u8) {
    let broker = broker();
    for string in [&b"\0"[..], b"a/\0", b"\0/b", b"a\0b"] {
        for bytes in with_string(version, string) {
            assert_ends(&broker, version, &bytes, 0x81);
        }
        assert_refused(&broker, version, &connect_as(version, string), 0x81);
    }
    // One character on.
    let mut client = Client::plain(&broker, version, "nul");
    client.subscribe("a/\u{1}", 0);
    client.publish("a/\u{1}", "", 0);
    assert_eq!(client.message().topic, "a/\u{1}");
}

fn feff_is_a_character(version: u8) {
    let broker = broker();
    let mut marked = Client::plain(&broker, version, "marked");
    let mut bare = Client::plain(&broker, version, "bare");
    marked.subscribe("\u{FEFF}a", 0);
    bare.subscribe("a", 0);
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.send(&Publish::new("\u{FEFF}a", "marked", 0).encode(version));
    publisher.send(&Publish::new("a", "bare", 0).encode(version));
    let message = marked.message();
    assert_eq!((message.topic.as_str(), message.text()), ("\u{FEFF}a", "marked"));
    let message = bare.message();
    assert_eq!((message.topic.as_str(), message.text()), ("a", "bare"));
    // And not stripped at the end or inside either.
    marked.subscribe("b\u{FEFF}/c", 0);
    publisher.publish("b/c", "bare", 0);
    publisher.publish("b\u{FEFF}/c", "marked", 0);
    assert_eq!(marked.message().topic, "b\u{FEFF}/c");
}
