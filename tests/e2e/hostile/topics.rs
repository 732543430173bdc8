//! Topic aliases that do not exist, or hold as much as they can; topics and filters as deep and as
//! long as they go.

use super::siege::Siege;
use super::{besieged, sized};
use crate::harness::client::Client;
use crate::harness::wire::{Packet, Prop, Publish, prop};

besieged!(
    aliases_that_are_not_allowed_end_their_connection,
    aliases_hold_a_bounded_number_of_bytes,
    topics_are_as_deep_as_they_may_be_and_no_deeper,
);

/// The broker's defaults.
const ALIASES: u16 = 64;
const ALIAS_BYTES: u64 = 128 * 1024;
const LEVELS: usize = 128;

fn aliased(topic: &str, alias: u16) -> Vec<u8> {
    Publish::new(topic, "x", 0).with(Prop::two(prop::TOPIC_ALIAS, alias)).encode(5)
}

#[track_caller]
fn assert_ends(mut client: Client, want: u8, what: &str) {
    match client.until_end().as_slice() {
        [Packet::Disconnect { code, .. }] if *code == want => {}
        other => panic!("{what}: {other:?}"),
    }
}

fn aliases_that_are_not_allowed_end_their_connection(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(1000, 100);
    siege.attack("aliases not allowed", |siege| {
        for number in 0..count {
            let (bytes, want, what) = match number % 4 {
                0 => (aliased("a", 0), 0x94, "alias 0"),
                1 => (aliased("a", ALIASES + 1), 0x94, "above the maximum"),
                2 => (aliased("", ALIASES), 0x82, "never set"),
                _ => ([aliased("a", 1), aliased("", 2)].concat(), 0x82, "another was set"),
            };
            let mut client = Client::plain(&siege.broker, 5, &format!("hostile-{number}"));
            client.send(&bytes);
            assert_ends(client, want, what);
        }
    });
    let half = count as u64 / 2;
    siege.expect(&[("rejected_topic_alias", half), ("rejected_protocol", half)]);
    siege.lift();
}

fn aliases_hold_a_bounded_number_of_bytes(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(500, 50);
    let long = |number: usize| format!("{number:05}{}", "x".repeat(65_530));
    let longest: Vec<String> = (0..4).map(long).collect();
    let held: Vec<Client> = siege.attack("aliases of longest topics", |siege| {
        let mut clients: Vec<Client> =
            (0..count).map(|n| Client::plain(&siege.broker, 5, &format!("hostile-{n}"))).collect();
        for client in &mut clients {
            for (round, alias) in (0..8).zip([1, 2].into_iter().cycle()) {
                client.send(&aliased(&longest[round % 4], alias));
            }
            client.ping();
        }
        let bound = siege.buffers_bytes() + count as u64 * ALIAS_BYTES * 5 / 4;
        let grown = siege.grown_bytes();
        assert!(grown < bound, "grew by {grown} bytes, above {bound}");
        clients
    });
    siege.expect(&[("rejected_quota", 0)]);
    siege.attack("one alias too many", |_| {
        for mut client in held {
            client.send_lossy(&aliased(&longest[0], ALIASES));
            assert_ends(client, 0x97, "more than the bound");
        }
    });
    siege.expect(&[("rejected_quota", count as u64)]);
    siege.lift();
}

fn topics_are_as_deep_as_they_may_be_and_no_deeper(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(200, 20);
    let deep = |level: &str, count: usize| vec![level; count].join("/");
    let (allowed, beyond) = (deep("d", LEVELS), deep("d", LEVELS + 1));
    let slashes = "/".repeat(65_535);
    let plus = deep("+", LEVELS);
    let long = format!("+/{}", "x".repeat(65_533));
    // Half of the levels at every depth are wildcards, at other places for each filter.
    let mixed: Vec<String> = (0..200_usize)
        .map(|number| {
            let level = |at: usize| if number >> (at % 8) & 1 == 1 { "+" } else { "d" };
            (0..LEVELS).map(level).collect::<Vec<_>>().join("/")
        })
        .collect();
    siege.attack("deep topics", |siege| {
        for number in 0..count {
            let id = format!("hostile-{number}");
            let mut client = Client::plain(&siege.broker, 5, &id);
            let filters = [(&*plus, 0), (&*beyond, 0), (&*slashes, 0), (&*long, 0), ("#/#", 0)];
            assert_eq!(client.subscribe_with(&filters, &[]), [0, 0x8F, 0x8F, 0, 0x8F]);
            let mixed: Vec<(&str, u8)> = mixed.iter().map(|filter| (&**filter, 0)).collect();
            assert_eq!(client.subscribe_with(&mixed, &[]), [0; 200]);
            let mut publisher = Client::plain(&siege.broker, 5, "publisher");
            for _ in 0..20 {
                publisher.publish(&allowed, "deep", 1);
                assert_eq!(client.message().text(), "deep");
            }
            for topic in [&beyond, &slashes] {
                let mut client = Client::plain(&siege.broker, 5, "beyond");
                client.send(&Publish::new(topic, "x", 0).encode(5));
                assert_ends(client, 0x90, "too deep");
            }
            client.reset();
        }
    });
    siege.expect(&[("denied_subscribe", 0)]);
    siege.lift();
}
