//! Which cached answers a change of the index makes stale.
//!
//! A filter can only match topics that begin with the levels it has before its first wildcard. So a
//! change is counted under (at most three of) those levels, and a topic looks at its own first one,
//! two and three levels: clients that come and go under `device/<own number>/` do not disturb each
//! other's cached answers. Different levels may share a counter; that costs a walk, never an
//! answer.

use super::hash::Seeded;
use super::text::LevelDigest;

const COUNTERS: usize = 1024;
const DEPTH_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Epochs {
    keys: Seeded,
    /// Changes of filters that begin with a wildcard.
    any: u64,
    by_prefix: Box<[u64]>,
    all: u64,
}

/// What the counters of one topic were when its answer was computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    counters: [u16; DEPTH_MAX],
    sum: u64,
}

impl Epochs {
    pub(super) fn new(seed: u64) -> Self {
        let by_prefix = vec![0; COUNTERS].into_boxed_slice();
        Self { keys: Seeded::new(seed), any: 0, by_prefix, all: 0 }
    }

    /// Something about the filter with these levels changed.
    pub(super) fn on_change(&mut self, filter: impl Iterator<Item = LevelDigest>) {
        self.all += 1;
        let literals = filter.take(DEPTH_MAX).take_while(|level| !level.is_wildcard());
        let counter = literals.fold(None, |above, level| Some(self.counter(above, level)));
        match counter {
            None => self.any += 1,
            Some(counter) => self.by_prefix[usize::from(low_bits(counter))] += 1,
        }
    }

    /// Every change so far.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    pub(super) fn stamp(&self, topic: impl Iterator<Item = LevelDigest>) -> Stamp {
        let mut counters = [0; DEPTH_MAX];
        let mut above = None;
        for (place, level) in counters.iter_mut().zip(topic) {
            let hash = self.counter(above, level);
            *place = low_bits(hash);
            above = Some(hash);
        }
        Stamp { counters, sum: self.sum(counters) }
    }

    /// Whether nothing that matters to the stamped topic changed since. The counters only grow, so
    /// equal sums mean equal counters.
    pub(super) fn is_fresh(&self, stamp: Stamp) -> bool {
        stamp.sum == self.sum(stamp.counters)
    }

    fn sum(&self, counters: [u16; DEPTH_MAX]) -> u64 {
        counters.iter().fold(self.any, |sum, &at| sum.wrapping_add(self.by_prefix[usize::from(at)]))
    }

    fn counter(&self, above: Option<u64>, level: LevelDigest) -> u64 {
        self.keys.pair(above.unwrap_or(0), level.hash)
    }
}

fn low_bits(hash: u64) -> u16 {
    let [low, high, ..] = hash.to_le_bytes();
    u16::from_le_bytes([low, high]) % 1024
}

const _: () = assert!(COUNTERS == 1024);
