//! The mailboxes under real threads: one thread per shard, all posting to all others at once.
//!
//! Every record and every parcel is a function of its pair of shards and its number, so that the
//! reader can tell any loss, doubling, exchange or damage. Nothing but the rings passes between the
//! threads meanwhile: no lock, no channel and no atomic that would hide an order they lack. Run with
//! a thread sanitizer by `.ci/run`.

mod load;
mod planted;

use shards::limits::MAILBOX_BYTES;

use load::{Balance, exchange, leave_early};

/// How many records all tests together exchange, if not the few of an ordinary test run.
const ITEMS_VARIABLE: &str = "MURING_MAIL_ITEMS";

/// Records of an ordinary test run: a second or so.
const ITEMS: u64 = 400_000;

/// Tests that share the records, each with a part of the same size.
const TESTS: u64 = 5;

fn items() -> u64 {
    let items = std::env::var(ITEMS_VARIABLE).ok();
    let items = items.map_or(ITEMS, |text| text.parse().expect("a number of records"));
    items.div_ceil(TESTS)
}

/// Exchanges a test's part of the records, evenly over the pairs of shards.
fn check(shards: u8, ring_bytes: usize) {
    let pairs = u64::from(shards) * u64::from(shards - 1);
    let items_per_pair = items().div_ceil(pairs);
    let balance = exchange(shards, ring_bytes, items_per_pair);
    assert_eq!(balance.handled, items_per_pair * pairs);
    assert!(balance.parcels_made > 0);
    assert_eq!(balance.parcels_freed, balance.parcels_made);
}

#[test]
fn three_shards_exchange_through_rings_smaller_than_any_record() {
    check(3, 8);
}

#[test]
fn three_shards_exchange_through_rings_that_hold_a_record_or_two() {
    check(3, 64);
}

#[test]
fn eight_shards_exchange_through_small_rings() {
    check(8, 1024);
}

#[test]
fn two_shards_exchange_through_rings_of_the_usual_size() {
    check(2, MAILBOX_BYTES);
}

#[test]
fn four_shards_exchange_through_rings_of_the_usual_size() {
    check(4, MAILBOX_BYTES);
}

/// A shard may end while others still post to it: what it never took must be freed all the same,
/// by whichever side is last.
#[test]
fn parcels_that_nobody_takes_are_freed() {
    for round in 0..50 {
        let balance: Balance = leave_early(3, 64 << (round % 8), round);
        assert!(balance.parcels_made > 0);
        assert_eq!(balance.parcels_freed, balance.parcels_made, "round {round}");
    }
}
