//! AUTH, section 3.15, and enhanced authentication, section 4.12, where no method is configured: the broker
//! offers none, and says so. What holds when one is offered is tested on the core, which does all of it but
//! the method itself (`sim/tests/world/auth.rs`).

use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, find, packet};
use crate::support::{assert_ends, broker};

const METHOD: u8 = 0x15;
const DATA: u8 = 0x16;
const REASON_STRING: u8 = 0x1F;

/// Success, continue, re-authenticate: all that an AUTH can say.
const LISTED: [u8; 3] = [0x00, 0x18, 0x19];

/// An AUTH with this reason code and these properties.
fn auth(code: u8, props: &[Prop]) -> Vec<u8> {
    let mut body = vec![code];
    wire::put_props(&mut body, 5, props);
    packet(0xF0, &body)
}

fn method(name: &str) -> Prop {
    Prop::text(METHOD, name)
}

/// A CONNECT that names a method gets 0x8C and the end of the connection; no AUTH comes before.
#[track_caller]
fn assert_method_refused(props: &[Prop]) {
    let broker = broker();
    for name in ["SCRAM-SHA-256", "x", ""] {
        let mut connect = Connect::new(5, "authentic").with(method(name));
        connect.props.extend_from_slice(props);
        let mut client = Client::open(&broker, 5);
        client.send(&connect.encode());
        match client.until_end().as_slice() {
            [Packet::Connack { present: false, code: 0x8C, props }] => {
                assert!(props.iter().all(|p| p.id != METHOD && p.id != DATA), "{props:?}");
            }
            other => panic!("method {name:?}: {other:?}"),
        }
    }
}

/// An AUTH on a connection whose CONNECT named no method is a protocol error.
#[track_caller]
fn assert_auth_ends(code: u8, props: &[Prop]) {
    assert_ends(&broker(), 5, &auth(code, props), 0x82);
}

#[test]
fn mqtt_5_3_15_1_1_auth_has_no_flags() {
    let broker = broker();
    for flags in 1..=15 {
        assert_ends(&broker, 5, &packet(0xF0 | flags, &[]), 0x81);
        let mut bytes = auth(0x18, &[method("x")]);
        bytes[0] |= flags;
        assert_ends(&broker, 5, &bytes, 0x81);
    }
}

/// Not offered: enhanced authentication. No AUTH is taken, whatever its code.
#[test]
fn mqtt_5_3_15_2_1_listed_codes_in_auth() {
    let broker = broker();
    for code in 0..=255 {
        assert_ends(&broker, 5, &auth(code, &[method("x")]), 0x82);
    }
}

/// Not offered: the broker sends no AUTH. It reads the Reason String of one before it refuses.
#[test]
fn mqtt_5_3_15_2_2_no_auth_and_so_no_reason_string() {
    assert_auth_ends(0x18, &[method("x"), Prop::text(REASON_STRING, "why")]);
    let twice = [method("x"), Prop::text(REASON_STRING, "a"), Prop::text(REASON_STRING, "b")];
    assert_auth_ends(0x18, &twice);
}

/// Not offered: the broker sends no AUTH. It reads the User Properties of one before it refuses.
#[test]
fn mqtt_5_3_15_2_3_no_auth_and_so_no_user_properties() {
    assert_auth_ends(0x18, &[method("x"), Prop::user("a", "b"), Prop::user("a", "b")]);
}

#[test]
fn mqtt_5_4_12_0_1_an_unknown_method_is_refused() {
    assert_method_refused(&[]);
}

/// Not offered: no AUTH asks for more, whatever data the CONNECT begins with.
#[test]
fn mqtt_5_4_12_0_2_no_auth_asks_for_more() {
    assert_method_refused(&[Prop::binary(DATA, b"n,,n=user,r=nonce")]);
}

/// Not offered: what is rejected is the method, not what was said in it.
#[test]
fn mqtt_5_4_12_0_4_a_rejected_authentication_ends_the_connection() {
    assert_method_refused(&[Prop::binary(DATA, b"wrong")]);
}

/// Not offered: no CONNECT with a method succeeds, so none has to be named again.
#[test]
fn mqtt_5_4_12_0_5_no_method_comes_back() {
    assert_method_refused(&[]);
}

#[test]
fn mqtt_5_4_12_0_6_without_a_method_neither_auth_nor_method() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "client");
    assert!(find(&client.props, METHOD).is_none(), "{:?}", client.props);
    assert!(find(&client.props, DATA).is_none(), "{:?}", client.props);
    // Any packet but these would not be the next one; the decoder takes no AUTH at all.
    client.send(&wire::PINGREQ);
    assert_eq!(client.recv(), Packet::Pingresp);
    // Data without a method makes no sense.
    let alone = Connect::new(5, "alone").with(Prop::binary(DATA, b"data"));
    let (mut client, code) = Client::offer(&broker, &alone);
    assert_eq!((code, client.until_end()), (0x82, vec![]));
}

#[test]
fn mqtt_5_4_12_0_7_no_auth_without_a_method_in_connect() {
    for code in LISTED {
        assert_auth_ends(code, &[method("x"), Prop::binary(DATA, b"data")]);
    }
    assert_ends(&broker(), 5, &packet(0xF0, &[]), 0x82);
}

/// Not offered: there is no authentication that could be repeated, so any method is another one.
#[test]
fn mqtt_5_4_12_1_1_no_authentication_again() {
    for name in ["x", "y"] {
        assert_auth_ends(0x19, &[method(name)]);
    }
}

/// Not offered: authentication again fails whatever is said; the connection ends as the statement asks.
#[test]
fn mqtt_5_4_12_1_2_failed_authentication_again_ends_the_connection() {
    assert_auth_ends(0x19, &[method("x"), Prop::binary(DATA, b"data")]);
}
