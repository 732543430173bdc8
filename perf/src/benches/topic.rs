//! The subscription index: from a topic name to its subscribers.
//!
//! Of the filters, one in ten has a `+`, and 97 end in `#`; each topic matches two of them.

use std::hint::black_box;

use shards::ids::{QoS, SessionId};
use shards::topic::{Hits, SubOptions, Subscriber, TargetCache, Trie};

use super::{Bench, Loop, Size};

const SEED: u64 = 7;
/// As many as a shard has.
const CACHE_ENTRIES: usize = 4096;
/// Topics that a hot publisher uses in turn.
const HOT_TOPICS: u32 = 64;
/// So many that neither cache nor predictor remembers them.
const COLD_TOPICS: u32 = 1 << 14;
const SITES: u32 = 97;

pub(super) const MATCH_HOT_1K: Bench = Bench {
    name: "topic/match-hot-1k",
    operation: "targets of a topic that the cache knows; 1,000 filters",
    budget_operations: 10_000,
    achieves: 2,
    make: |_: Size| hot(1_000),
};

pub(super) const MATCH_COLD_1K: Bench = Bench {
    name: "topic/match-cold-1k",
    operation: "walk of the trie for a topic, always another; 1,000 filters",
    budget_operations: 10_000,
    achieves: 2,
    make: |_: Size| cold(1_000),
};

pub(super) const MATCH_HOT_1M: Bench = Bench {
    name: "topic/match-hot-1m",
    operation: "targets of a topic that the cache knows; 1,000,000 filters",
    budget_operations: 10_000,
    achieves: 2,
    make: |size| hot(million(size)),
};

pub(super) const MATCH_COLD_1M: Bench = Bench {
    name: "topic/match-cold-1m",
    operation: "walk of the trie for a topic, always another; 1,000,000 filters",
    budget_operations: 10_000,
    achieves: 2,
    make: |size| cold(million(size)),
};

pub(super) const SUBSCRIBE: Bench = Bench {
    name: "topic/subscribe",
    operation: "add a subscription with a filter of its own and take it out; 1,000 filters",
    budget_operations: 10_000,
    achieves: 1,
    make: |_: Size| {
        let mut trie = trie(1_000);
        let session = SessionId(1_000);
        Loop::new(move || {
            let filter = black_box("site/12/gateway/34/+/status");
            let installed = trie.subscribe(filter, subscriber(session));
            u64::from(trie.unsubscribe(installed.node, session).is_some())
        })
    },
};

fn million(size: Size) -> u32 {
    match size {
        Size::Full => 1_000_000,
        Size::Tiny => 2_000,
    }
}

fn hot(filters: u32) -> Loop {
    let trie = trie(filters);
    let mut cache = TargetCache::new(SEED, CACHE_ENTRIES);
    let topics = topics(filters, HOT_TOPICS);
    let mut next = 0;
    Loop::new(move || {
        let topic = turn(&topics, &mut next);
        black_box(cache.targets(&trie, topic)).targets.len() as u64
    })
}

fn cold(filters: u32) -> Loop {
    let trie = trie(filters);
    let topics = topics(filters, COLD_TOPICS);
    let mut hits = Hits::new();
    let mut next = 0;
    Loop::new(move || {
        hits.clear();
        trie.match_into(turn(&topics, &mut next), &mut hits);
        black_box(&hits).subscribers.len() as u64
    })
}

fn trie(filters: u32) -> Trie {
    let mut trie = Trie::new(SEED);
    for site in 0..SITES {
        trie.subscribe(&format!("site/{site}/#"), subscriber(SessionId(site)));
    }
    for n in SITES..filters {
        let (site, device) = (n % SITES, n);
        let filter = if n % 10 == 0 {
            format!("site/+/{device}/temperature")
        } else {
            format!("site/{site}/{device}/temperature")
        };
        trie.subscribe(&filter, subscriber(SessionId(n)));
    }
    trie
}

/// `count` topics that have subscribers, spread over all filters and in no order of theirs.
fn topics(filters: u32, count: u32) -> Vec<String> {
    let devices = u64::from(filters - SITES);
    let spread = |n: u32| u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let topic = |n| {
        let device = u64::from(SITES) + spread(n) % devices;
        format!("site/{}/{device}/temperature", device % u64::from(SITES))
    };
    (0..count).map(topic).collect()
}

/// One topic after the other, from the start again after the last.
fn turn<'a>(topics: &'a [String], next: &mut usize) -> &'a str {
    let topic = &topics[*next];
    *next = if *next + 1 == topics.len() { 0 } else { *next + 1 };
    topic
}

fn subscriber(session: SessionId) -> Subscriber {
    Subscriber { session, id: None, options: SubOptions::new(QoS::AtMostOnce, false, false) }
}
