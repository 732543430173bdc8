//! Bytes that a subscription takes, by the counting allocator: as asked for, spare room of tables
//! included, without what an allocator adds.

use std::hint::black_box;

use shards::ids::{QoS, SessionId, ShardId, Version};
use shards::topic::{SubOptions, Subscriber, Trie};

use crate::allocations;
use crate::rig::{Client, Rig};

const SEED: u64 = 7;
const SITES: u32 = 97;
/// Subscriptions of each client of [`shard_bytes`].
const FILTERS_EACH: u32 = 1000;
const FILTERS: u32 = 1_000_000;

/// Prints what a subscription takes of the index alone, and of a whole shard.
pub(crate) fn print() {
    println!("memory per subscription, 1M filters: {:.1} bytes of the index", index_bytes(FILTERS));
    println!(
        "memory per subscription in all, 1M filters: {:.1} bytes of a shard whose clients have \
         {FILTERS_EACH} subscriptions each",
        shard_bytes(FILTERS)
    );
}

/// Of the trie: its nodes, levels and subscribers.
fn index_bytes(count: u32) -> f64 {
    let before = allocations::held();
    let mut trie = Trie::new(SEED);
    let options = SubOptions::new(QoS::AtMostOnce, false, false);
    for n in 0..count {
        let subscriber = Subscriber { session: SessionId(n), id: None, options };
        trie.subscribe(&filter(n), subscriber);
    }
    let held = allocations::held() - before;
    black_box(&trie);
    each(held, count)
}

/// Of the trie, the sessions' own lists and all else that subscribing leaves behind.
fn shard_bytes(count: u32) -> f64 {
    let mut rig = Rig::new(1);
    let version = Version::V311;
    let clients: Vec<Client> =
        (0..count.div_ceil(FILTERS_EACH)).map(|_| rig.client(ShardId(0), version)).collect();
    let before = allocations::held();
    for (n, client) in (0..count).zip(clients.iter().cycle()) {
        rig.subscribe(*client, version, &filter(n), QoS::AtMostOnce);
    }
    let held = allocations::held() - before;
    black_box(&rig);
    each(held, count)
}

/// All different, of four levels; one in ten has a wildcard.
fn filter(n: u32) -> String {
    if n.is_multiple_of(10) {
        format!("site/+/{n}/temperature")
    } else {
        format!("site/{}/{n}/temperature", n % SITES)
    }
}

fn each(bytes: i64, count: u32) -> f64 {
    bytes as f64 / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_takes_what_it_must_and_the_same_each_time() {
        let least = size_of::<Subscriber>() as f64;
        for bytes in [index_bytes, shard_bytes] {
            let found = bytes(2000);
            assert!(found > least, "{found} bytes");
            assert_eq!(bytes(2000), found);
        }
        assert!(shard_bytes(2000) > index_bytes(2000));
    }
}
