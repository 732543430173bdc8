//! Which property and which reason code may stand in which packet: all combinations, against the
//! tables of MQTT 5.0 (sections 2.2.2.2 and 2.4).

use shards::ids::Version;
use shards::reject::ReasonCode;

use crate::read;

/// Where properties stand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Connect,
    Will,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Disconnect,
    Auth,
}

use Place as P;

const PLACES: [Place; 14] = [
    P::Connect,
    P::Will,
    P::Connack,
    P::Publish,
    P::Puback,
    P::Pubrec,
    P::Pubrel,
    P::Pubcomp,
    P::Subscribe,
    P::Suback,
    P::Unsubscribe,
    P::Unsuback,
    P::Disconnect,
    P::Auth,
];

const MESSAGE: &[Place] = &[P::Publish, P::Will];
const AUTHENTICATION: &[Place] = &[P::Connect, P::Connack, P::Auth];
const ANSWERS: &[Place] = &[
    P::Connack,
    P::Puback,
    P::Pubrec,
    P::Pubrel,
    P::Pubcomp,
    P::Suback,
    P::Unsuback,
    P::Disconnect,
    P::Auth,
];

/// A property in bytes, and where the standard has it.
const PROPERTIES: [(&[u8], &[Place]); 27] = [
    (&[0x01, 1], MESSAGE),
    (&[0x02, 0, 0, 0, 1], MESSAGE),
    (&[0x03, 0, 1, b'x'], MESSAGE),
    (&[0x08, 0, 1, b'x'], MESSAGE),
    (&[0x09, 0, 1, 0xFF], MESSAGE),
    (&[0x0B, 1], &[P::Publish, P::Subscribe]),
    (&[0x11, 0, 0, 0, 1], &[P::Connect, P::Connack, P::Disconnect]),
    (&[0x12, 0, 1, b'x'], &[P::Connack]),
    (&[0x13, 0, 1], &[P::Connack]),
    (METHOD, AUTHENTICATION),
    (&[0x16, 0, 1, 0xFF], AUTHENTICATION),
    (&[0x17, 1], &[P::Connect]),
    (&[0x18, 0, 0, 0, 1], &[P::Will]),
    (&[0x19, 1], &[P::Connect]),
    (&[0x1A, 0, 1, b'x'], &[P::Connack]),
    (&[0x1C, 0, 1, b'x'], &[P::Connack, P::Disconnect]),
    (&[0x1F, 0, 1, b'x'], ANSWERS),
    (&[0x21, 0, 1], &[P::Connect, P::Connack]),
    (&[0x22, 0, 1], &[P::Connect, P::Connack]),
    (&[0x23, 0, 1], &[P::Publish]),
    (&[0x24, 1], &[P::Connack]),
    (&[0x25, 1], &[P::Connack]),
    (&[0x26, 0, 1, b'k', 0, 1, b'v'], &PLACES),
    (&[0x27, 0, 0, 0, 1], &[P::Connect, P::Connack]),
    (&[0x28, 1], &[P::Connack]),
    (&[0x29, 1], &[P::Connack]),
    (&[0x2A, 1], &[P::Connack]),
];

const METHOD: &[u8] = &[0x15, 0, 1, b'x'];

/// A packet with these properties at this place, else as plain as can be.
fn packet(place: Place, properties: &[u8]) -> Vec<u8> {
    let (first, before, after): (u8, &[u8], &[u8]) = match place {
        P::Connect => (0x10, b"\x00\x04MQTT\x05\x02\x00\x00", b"\x00\x01c"),
        P::Will => (0x10, b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c", b"\x00\x01t\x00\x00"),
        P::Connack => (0x20, &[0, 0], &[]),
        P::Publish => (0x30, b"\x00\x01t", b"payload"),
        P::Puback => (0x40, &[0, 1, 0], &[]),
        P::Pubrec => (0x50, &[0, 1, 0], &[]),
        P::Pubrel => (0x62, &[0, 1, 0], &[]),
        P::Pubcomp => (0x70, &[0, 1, 0], &[]),
        P::Subscribe => (0x82, &[0, 1], b"\x00\x01f\x00"),
        P::Suback => (0x90, &[0, 1], &[0]),
        P::Unsubscribe => (0xA2, &[0, 1], b"\x00\x01f"),
        P::Unsuback => (0xB0, &[0, 1], &[0]),
        P::Disconnect => (0xE0, &[0], &[]),
        P::Auth => (0xF0, &[0x18], &[]),
    };
    let count = u8::try_from(properties.len()).expect("few properties");
    let body = [before, &[count], properties, after].concat();
    let remaining = u8::try_from(body.len()).expect("a short packet");
    assert!(remaining < 0x80);
    [&[first, remaining], &body[..]].concat()
}

/// What `properties` lead to at `place`, given what the place needs besides them.
fn outcome(place: Place, properties: &[u8]) -> ReasonCode {
    let needs_method = place == P::Auth || (place == P::Connect && properties[0] == 0x16);
    let has_method = properties[0] == METHOD[0];
    let method = if needs_method && !has_method { METHOD } else { &[] };
    let bytes = packet(place, &[method, properties].concat());
    read(&bytes, Version::V5).map_or_else(|reject| reject.reason, |_| ReasonCode::Success)
}

#[test]
fn each_property_only_where_the_standard_has_it() {
    for (property, places) in PROPERTIES {
        for place in PLACES {
            let want = if places.contains(&place) {
                ReasonCode::Success
            } else {
                ReasonCode::MalformedPacket
            };
            assert_eq!(outcome(place, property), want, "{:#04x} in {place:?}", property[0]);
        }
    }
}

#[test]
fn each_property_once_unless_the_standard_says_otherwise() {
    for (property, places) in PROPERTIES {
        for &place in places {
            let is_repeatable = property[0] == 0x26 || (property[0] == 0x0B && place == P::Publish);
            let want = if is_repeatable { ReasonCode::Success } else { ReasonCode::ProtocolError };
            let twice = property.repeat(2);
            assert_eq!(outcome(place, &twice), want, "{:#04x} in {place:?}", property[0]);
        }
    }
}

#[test]
fn unknown_properties_are_malformed() {
    for id in 0..=u8::MAX {
        if PROPERTIES.iter().any(|(property, _)| property[0] == id) {
            continue;
        }
        for place in PLACES {
            let got = outcome(place, &[id, 0, 0, 0, 0]);
            assert_eq!(got, ReasonCode::MalformedPacket, "{id:#04x} in {place:?}");
        }
    }
}

#[test]
fn each_property_cut_short_is_malformed() {
    for (property, places) in PROPERTIES {
        for &place in places {
            for cut in 1..property.len() {
                let got = outcome(place, &property[..cut]);
                assert_eq!(got, ReasonCode::MalformedPacket, "{property:02x?} in {place:?}");
            }
        }
    }
}

#[track_caller]
fn check_reasons(what: &str, allowed: &[u8], packet: impl Fn(u8) -> Vec<u8>) {
    for byte in 0..=u8::MAX {
        let got = read(&packet(byte), Version::V5).map_err(|reject| reject.reason).map(drop);
        let want = if allowed.contains(&byte) { Ok(()) } else { Err(ReasonCode::ProtocolError) };
        assert_eq!(got, want, "{byte:#04x} in {what}");
    }
}

#[test]
fn mqtt_5_3_2_2_8_reason_codes_of_connack() {
    let allowed = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    check_reasons("CONNACK", &allowed, |byte| vec![0x20, 3, 0, byte, 0]);
}

#[test]
fn mqtt_5_3_4_2_1_reason_codes_of_puback_and_pubrec() {
    let allowed = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    check_reasons("PUBACK", &allowed, |byte| vec![0x40, 3, 0, 1, byte]);
    check_reasons("PUBREC", &allowed, |byte| vec![0x50, 3, 0, 1, byte]);
}

#[test]
fn mqtt_5_3_6_2_1_reason_codes_of_pubrel_and_pubcomp() {
    check_reasons("PUBREL", &[0x00, 0x92], |byte| vec![0x62, 3, 0, 1, byte]);
    check_reasons("PUBCOMP", &[0x00, 0x92], |byte| vec![0x70, 3, 0, 1, byte]);
}

#[test]
fn mqtt_5_3_9_3_2_reason_codes_of_suback() {
    let allowed = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    check_reasons("SUBACK", &allowed, |byte| vec![0x90, 5, 0, 1, 0, 0, byte]);
}

#[test]
fn mqtt_5_3_11_3_2_reason_codes_of_unsuback() {
    let allowed = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    check_reasons("UNSUBACK", &allowed, |byte| vec![0xB0, 5, 0, 1, 0, 0, byte]);
}

#[test]
fn mqtt_5_3_14_2_1_reason_codes_of_disconnect() {
    let allowed = [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
        0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    check_reasons("DISCONNECT", &allowed, |byte| vec![0xE0, 1, byte]);
}

#[test]
fn mqtt_5_3_15_2_1_reason_codes_of_auth() {
    let packet = |byte| [&[0xF0, 6, byte, 4], METHOD].concat();
    check_reasons("AUTH", &[0x00, 0x18, 0x19], packet);
}
