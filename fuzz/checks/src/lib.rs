//! What the fuzz targets do with their input.
//!
//! A check takes arbitrary bytes and panics if the broker breaks a promise over them. It belongs to
//! nobody, keeps nothing between two inputs, and does the same for the same bytes: a found input is
//! replayed by an ordinary test. libFuzzer is not needed here; the programs around it are in
//! `fuzz/fuzz_targets`.

pub mod acl;
pub mod chunks;
pub mod config;
pub mod conn;
pub mod filter;
pub mod frame;
pub mod jwt;
pub mod packet;
pub mod passwd;
pub mod scram;
pub mod seeds;
pub mod session;
pub mod transport;
pub mod trie;
pub mod vectors;

mod reference;

use shards::ids::Version;

/// One fuzz target: the name of its program, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 29] = [
    ("frame", frame::check),
    ("chunks", chunks::check),
    ("filter", filter::check),
    ("trie", trie::check),
    ("conn", conn::check),
    ("session", session::check),
    ("config", config::check),
    ("acl", acl::check),
    ("jwt", jwt::check),
    ("passwd", passwd::check),
    ("scram", scram::check),
    ("proxy", transport::proxy),
    ("websocket", transport::ws),
    ("tls", transport::tls),
    ("packet_connect", packet::connect),
    ("packet_connack", packet::connack),
    ("packet_publish", packet::publish),
    ("packet_puback", packet::puback),
    ("packet_pubrec", packet::pubrec),
    ("packet_pubrel", packet::pubrel),
    ("packet_pubcomp", packet::pubcomp),
    ("packet_subscribe", packet::subscribe),
    ("packet_suback", packet::suback),
    ("packet_unsubscribe", packet::unsubscribe),
    ("packet_unsuback", packet::unsuback),
    ("packet_pingreq", packet::pingreq),
    ("packet_pingresp", packet::pingresp),
    ("packet_disconnect", packet::disconnect),
    ("packet_auth", packet::auth),
];

/// Which version a byte stands for.
#[must_use]
pub fn version_of(byte: u8) -> Version {
    match byte % 3 {
        0 => Version::V31,
        1 => Version::V311,
        _ => Version::V5,
    }
}

/// The byte that stands for a version.
#[must_use]
pub fn version_byte(version: Version) -> u8 {
    match version {
        Version::V31 => 0,
        Version::V311 => 1,
        Version::V5 => 2,
    }
}
