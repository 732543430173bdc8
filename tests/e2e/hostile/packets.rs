//! What is announced and never sent; requests whose answers nobody reads.

use super::siege::Siege;
use super::{besieged, measured, sized};
use crate::harness::broker::Options;
use crate::harness::client::Client;
use crate::harness::wire::{self, Packet, Publish};

besieged!(
    what_is_announced_and_never_sent_costs_nothing,
    a_packet_above_the_maximum_ends_at_its_header,
    requests_without_reading_stop_being_read,
);

/// The broker's default.
const PACKET_BYTES_MAX: u32 = 1024 * 1024;

/// Memory that one connection may cost which has announced a packet: the connection, its session, a
/// buffer for the packet's head.
const ANNOUNCED_BYTES: u64 = 4 * 1024;

/// The fixed header of a packet that is `bytes` long as a whole.
fn header(first: u8, bytes: u32) -> Vec<u8> {
    let mut out = vec![first];
    let digits = if bytes > 128 * 128 * 128 + 4 { 4 } else { 3 };
    wire::put_variable(&mut out, bytes - 1 - digits);
    assert_eq!(out.len(), 1 + digits as usize, "the header's length was guessed right");
    out
}

fn what_is_announced_and_never_sent_costs_nothing(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = 1000;
    siege.attack("announced and never sent", |siege| {
        let mut clients: Vec<Client> =
            (0..count).map(|n| Client::plain(&siege.broker, 5, &format!("hostile-{n}"))).collect();
        for client in &mut clients {
            let mut bytes = wire::PINGREQ.to_vec();
            bytes.extend(header(0x30, PACKET_BYTES_MAX));
            wire::put_text(&mut bytes, "announced");
            client.send(&bytes);
        }
        for client in &mut clients {
            client.wait_for(|p| matches!(p, Packet::Pingresp));
        }
        // A first packet of the most that it may be, without the last byte of it.
        let first: Vec<Client> = (0..count)
            .map(|_| {
                let mut client = Client::open(&siege.broker, 5);
                client.send(&header(0x10, 64 * 1024));
                client
            })
            .collect();
        siege.served(500);
        let grown = siege.grown_bytes();
        let bound = siege.buffers_bytes() + 2 * count * ANNOUNCED_BYTES;
        assert!(grown < bound, "grew by {grown} bytes, above {bound}");
        drop(first);
    });
    siege.lift();
}

fn a_packet_above_the_maximum_ends_at_its_header(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(1000, 100);
    siege.attack("above the maximum", |siege| {
        for number in 0..count {
            let id = format!("hostile-{number}");
            let mut client = Client::plain(&siege.broker, 5, &id);
            client.send(&header(0x30, PACKET_BYTES_MAX + 1));
            let end = client.until_end();
            assert!(matches!(end[..], [Packet::Disconnect { code: 0x95, .. }]), "{end:?}");
            // Before CONNACK there is nothing that could say so.
            let mut client = Client::open(&siege.broker, 5);
            client.send(&header(0x10, 64 * 1024 + 1));
            assert_eq!(client.until_end(), []);
        }
    });
    siege.expect(&[("rejected_packet_too_large", 2 * count as u64)]);
    siege.lift();
}

fn requests_without_reading_stop_being_read(shards: u8) {
    let options = Options::new(shards.into()).set("limits.out_bytes_max", 64 * 1024);
    let mut siege = Siege::lay(shards, options);
    let pings = wire::PINGREQ.repeat(32 * 1024);
    let name = "x".repeat(1000);
    let filters: Vec<(&str, u8)> = vec![(&name, 0); 50];
    let subscribe = wire::subscribe(4, 7, &filters, &[]).repeat(4);
    let publish = Publish { id: 9, ..Publish::new("greedy", "x", 2) };
    let publish = publish.encode(4).repeat(4096);
    for (what, bytes) in [("PINGREQ", &pings), ("SUBSCRIBE", &subscribe), ("PUBLISH", &publish)] {
        let name = format!("{what} without reading");
        siege.attack(&name, |siege| {
            for _ in 0..measured(10, 1) {
                flood_without_reading(siege, what, bytes);
            }
        });
    }
    siege.lift();
}

/// Four clients, until the answers that nobody reads stop them.
fn flood_without_reading(siege: &mut Siege, what: &str, bytes: &[u8]) {
    let mut clients: Vec<Client> =
        (0..4).map(|n| Client::plain(&siege.broker, 4, &format!("greedy-{n}"))).collect();
    let mut sent = vec![0; clients.len()];
    let mut send = |rounds| {
        for _ in 0..rounds {
            for (client, sent) in clients.iter_mut().zip(&mut sent) {
                *sent = (*sent + client.send_greedily(&bytes[*sent..])) % bytes.len();
            }
        }
    };
    send(sized(2000, 200));
    // A flood is taken in shares, so it goes on until the answers fill what lies between.
    siege.until_some("paused_output_full", || send(200));
    siege.served(200);
    // Output, backlog and what is on its way between, each twice as large while it grows.
    let bound = siege.buffers_bytes() + 4 * 1024 * 1024;
    let grown = siege.grown_bytes();
    assert!(grown < bound, "{what}: grew by {grown} bytes, above {bound}");
    clients.into_iter().for_each(Client::reset);
}
