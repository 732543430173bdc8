//! Every packet identifier in flight, in both directions, and nobody who ends an exchange.

use super::besieged;
use super::siege::Siege;
use crate::harness::broker::Options;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, prop};

besieged!(
    a_publisher_that_never_releases_holds_only_identifiers,
    a_subscriber_that_never_acknowledges_holds_the_window,
);

/// All that there are.
const IDENTIFIERS: u32 = 65_535;

/// What is sent before acknowledgements are read.
const BATCH: u32 = 1000;

/// More messages than there are identifiers.
const BEYOND: u32 = 300;

fn unbounded(shards: u8) -> Options {
    let mut options = Options::new(shards.into());
    options.receive_maximum = Some(u16::MAX);
    options.set("session.inflight_max", 65_535)
}

fn identifier(number: u32) -> u16 {
    u16::try_from(number).expect("numbers from 1 to 65,535")
}

/// Publishes at QoS 2 under all identifiers, and takes a PUBREC for each.
fn publish_all(client: &mut Client, version: u8) {
    for first in (1..=IDENTIFIERS).step_by(BATCH as usize) {
        let ids = first..=IDENTIFIERS.min(first + BATCH - 1);
        let mut bytes = Vec::new();
        for number in ids.clone() {
            let publish = Publish { id: identifier(number), ..Publish::new("never", "x", 2) };
            bytes.extend(publish.encode(version));
        }
        client.send(&bytes);
        for number in ids {
            let Packet::Pubrec { id, code } = client.recv() else { panic!("not a PUBREC") };
            assert!(code < 0x80 && u32::from(id) == number, "{number}: {id}, {code:02x}");
        }
    }
}

fn a_publisher_that_never_releases_holds_only_identifiers(shards: u8) {
    let mut siege = Siege::lay(shards, unbounded(shards));
    siege.attack("QoS 2 never released", |siege| {
        let mut modern = Client::plain(&siege.broker, 5, "modern");
        let mut old = Client::plain(&siege.broker, 4, "old");
        publish_all(&mut modern, 5);
        publish_all(&mut old, 4);
        // All again: they are known, and delivered to nobody.
        publish_all(&mut old, 4);
        // One more than there are, at QoS 1.
        modern.send(&Publish { id: 1, ..Publish::new("never", "x", 1) }.encode(5));
        let end = modern.until_end();
        assert!(matches!(end[..], [Packet::Disconnect { code: 0x93, .. }]), "{end:?}");
        old.reset();
    });
    siege.expect(&[
        ("rejected_receive_maximum", 1),
        ("duplicates_suppressed", u64::from(IDENTIFIERS)),
    ]);
    siege.lift();
}

fn a_subscriber_that_never_acknowledges_holds_the_window(shards: u8) {
    let mut siege = Siege::lay(shards, unbounded(shards));
    for qos in [1, 2] {
        let mut held = siege.attack(&format!("QoS {qos} never acknowledged"), |siege| {
            let connect = Connect::new(5, "deaf").with(Prop::two(prop::RECEIVE_MAXIMUM, u16::MAX));
            let mut subscriber = Client::connect(&siege.broker, &connect);
            subscriber.subscribe("window", qos);
            let mut publisher = Client::plain(&siege.broker, 4, "publisher");
            let mut seen = 0;
            while seen < IDENTIFIERS {
                let count = BATCH.min(IDENTIFIERS - seen);
                publisher.publish_window("window", count, 1.max(qos), BATCH);
                for _ in 0..count {
                    let Packet::Publish(got) = subscriber.recv() else { panic!("no PUBLISH") };
                    seen += 1;
                    assert_eq!(u32::from(got.id), seen, "no identifier comes twice");
                }
            }
            publisher.publish_window("window", BEYOND, qos, BATCH);
            subscriber.assert_no_message();
            publisher.disconnect();
            subscriber
        });
        siege.expect_gauge("store/messages/count", u64::from(IDENTIFIERS + BEYOND));
        siege.attack(&format!("QoS {qos} acknowledged in the end"), |_| {
            // The last first: each must be found all the same.
            let ack = if qos == 1 { wire::PUBACK } else { wire::PUBREC };
            for last in (1..=IDENTIFIERS).rev().step_by(BATCH as usize) {
                let ids = (1.max(last.saturating_sub(BATCH - 1))..=last).rev();
                let acks: Vec<u8> = ids.flat_map(|n| wire::ack(ack, identifier(n))).collect();
                held.send(&acks);
                if qos == 2 {
                    let ids = (1.max(last.saturating_sub(BATCH - 1))..=last).rev();
                    for number in ids {
                        held.wait_for(
                            |p| matches!(p, Packet::Pubrel { id, .. } if u32::from(*id) == number),
                        );
                        held.send(&wire::ack(wire::PUBCOMP, identifier(number)));
                    }
                }
            }
            for number in 0..BEYOND {
                assert_eq!(held.message().payload, number.to_be_bytes());
            }
            held.disconnect();
        });
    }
    siege.lift();
}
