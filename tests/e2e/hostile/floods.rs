//! More messages than anybody takes: to a subscriber that has stopped reading, and into the retained
//! messages.

use super::siege::Siege;
use super::{besieged, sized};
use crate::harness::broker::Options;
use crate::harness::client::Client;
use crate::harness::wire::Publish;

besieged!(a_stalled_subscriber_costs_its_bounds, retained_messages_stop_at_their_limit,);

/// Bytes for one session and for one connection.
const QUEUE_BYTES: u64 = 2 * 1024 * 1024;
const OUT_BYTES: u64 = 256 * 1024;

const PAYLOAD_BYTES: usize = 4000;

fn a_stalled_subscriber_costs_its_bounds(shards: u8) {
    let options = Options::new(shards.into())
        .set("limits.out_bytes_max", OUT_BYTES)
        .set("session.queue_bytes_max", QUEUE_BYTES);
    let mut siege = Siege::lay(shards, options);
    let count = u32::try_from(sized(50_000, 5000)).expect("few");
    let cases =
        [(0, "dropped_output_full"), (1, "dropped_queue_newest"), (2, "dropped_queue_newest")];
    for (qos, dropped) in cases {
        let name = format!("QoS {qos} to a stalled subscriber");
        let stalled = siege.attack(&name, |siege| {
            let mut stalled = Client::plain(&siege.broker, 4, "stalled");
            stalled.subscribe("flood", qos);
            let mut publisher = Client::plain(&siege.broker, 4, "publisher");
            publish(&mut publisher, count, qos);
            publisher.disconnect();
            siege.served(100);
            let bound = siege.buffers_bytes() + 2 * (QUEUE_BYTES + OUT_BYTES);
            let grown = siege.grown_bytes();
            assert!(grown < bound, "QoS {qos}: grew by {grown} bytes, above {bound}");
            stalled
        });
        siege.expect_some(dropped);
        stalled.reset();
    }
    siege.lift();
}

/// At full speed: a hundred messages at a time.
fn publish(publisher: &mut Client, count: u32, qos: u8) {
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for _ in 0..count / 100 {
        let mut bytes = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..100 {
            let id = if qos == 0 { 0 } else { publisher.next_id() };
            bytes.extend(Publish { id, ..Publish::new("flood", &payload, qos) }.encode(4));
            ids.push(id);
        }
        publisher.send(&bytes);
        publisher.complete(&ids, qos);
    }
    publisher.ping();
}

fn retained_messages_stop_at_their_limit(shards: u8) {
    // `$SYS` is among the retained messages.
    let limit = 1000;
    let options = Options::new(shards.into()).set("retained.messages_max", limit);
    let mut siege = Siege::lay(shards, options);
    let all = u64::from(shards) * limit;
    let count = sized(100_000, 12_000).max(usize::try_from(all).expect("few") * 2);
    let topic = |number: usize| format!("retained/{number}");
    siege.attack("retained flood", |siege| {
        let mut publisher = Client::plain(&siege.broker, 4, "publisher");
        for number in 0..count {
            publisher.send(&Publish::new(&topic(number), "kept", 0).retained().encode(4));
        }
        publisher.ping();
        publisher.disconnect();
    });
    siege.expect_gauge("retained messages/count", all);
    siege.attack("retained flood cleared", |siege| {
        let mut publisher = Client::plain(&siege.broker, 4, "publisher");
        for number in 0..count {
            publisher.send(&Publish::new(&topic(number), "", 0).retained().encode(4));
        }
        publisher.ping();
        publisher.disconnect();
    });
    siege.lift();
}
