//! What the tests of several sections say again and again.

use crate::harness::broker::{Broker, Options};
use crate::harness::client::Client;
use crate::harness::wire::Packet;

/// Declares tests that share a body `fn(version: u8)`, each with the protocol level that it is for:
/// `fn mqtt_311_1_5_3_2_no_nul(4), fn mqtt_5_1_5_4_2_no_nul(5) => no_nul;`. `complete.rs` reads this form.
macro_rules! on_versions {
    ($($($(#[$attr:meta])* fn $name:ident($version:literal)),+ $(,)? => $body:ident;)+) => {$($(
        $(#[$attr])*
        #[test]
        fn $name() {
            $body($version);
        }
    )+)+};
}

pub(crate) use on_versions;

/// Two shards, so that what crosses cores is seen too.
pub(crate) fn broker() -> Broker {
    Broker::start(2)
}

/// As [`broker`], with settings as `--set` takes them.
pub(crate) fn broker_set(settings: &[&str]) -> Broker {
    let options = settings.iter().fold(Options::new(2), |options, setting| options.set(setting));
    Broker::start_with(&options)
}

/// The broker ends this connection: 5.0 is told why, 3.1.1 is told nothing.
#[track_caller]
pub(crate) fn assert_ended(client: &mut Client, version: u8, reason: u8) {
    let packets = client.until_end();
    match packets.as_slice() {
        [] if version < 5 => {}
        [Packet::Disconnect { code, .. }] if version == 5 && *code == reason => {}
        other => panic!("wanted the end with 0x{reason:02x}, got {other:02x?}"),
    }
}

/// Sends `bytes` on a new connection of an ordinary client, which the broker then ends with `reason`.
/// Another client is served meanwhile and afterwards.
#[track_caller]
pub(crate) fn assert_ends(broker: &Broker, version: u8, bytes: &[u8], reason: u8) {
    let mut bystander = Client::plain(broker, version, "bystander");
    let mut client = Client::plain(broker, version, "offender");
    client.send_lossy(bytes);
    assert_ended(&mut client, version, reason);
    bystander.ping();
}

/// Sends `bytes` as the first of a connection. In 5.0 a CONNACK with `reason` comes, in 3.1.1 nothing;
/// then the broker closes.
#[track_caller]
pub(crate) fn assert_refused(broker: &Broker, version: u8, bytes: &[u8], reason: u8) {
    let mut client = Client::open(broker, version);
    client.send_lossy(bytes);
    let packets = client.until_end();
    match packets.as_slice() {
        [] if version < 5 => {}
        [Packet::Connack { present: false, code, .. }] if version == 5 && *code == reason => {}
        other => panic!("wanted a refusal with 0x{reason:02x}, got {other:02x?}"),
    }
}
