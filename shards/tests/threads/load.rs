//! Threads that post, drain and compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shards::ids::ShardId;
use shards::mailbox::{Mailboxes, mesh};
use shards::rng::Rng;

/// A shard to which nothing comes and from which nothing goes for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records posted to one shard before the next one has its turn.
const BURST_MAX: u64 = 40;

/// Of so many records one has a parcel, and of so many one is large.
const PARCEL_EVERY: u64 = 8;
const LARGE_EVERY: u64 = 2_048;

/// Records in a row that all have one, so that parcels fill their ring before bytes fill theirs; then
/// three times as many of which some do.
const PARCELS_IN_A_ROW: u64 = 4_096;

/// Says that a shard failed, so that those who wait for it need not until their patience ends.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        // Relaxed: it must order nothing between the threads.
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

/// What an exchange moved.
#[derive(Debug)]
pub(crate) struct Balance {
    pub(crate) handled: u64,
    pub(crate) parcels_made: u64,
    pub(crate) parcels_freed: u64,
}

/// Parcels of one shard. Counted by the shard that makes them, and where they are dropped.
#[derive(Debug, Default)]
struct Parcels {
    made: AtomicU64,
    freed: AtomicU64,
}

/// The memory of one parcel; says when it is freed.
struct Parcel {
    bytes: Vec<u8>,
    parcels: Arc<Parcels>,
}

impl AsRef<[u8]> for Parcel {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // Relaxed, like `made`: the count must order nothing between the threads.
        self.parcels.freed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The number that all of one record follows from.
fn key(from: ShardId, to: ShardId, number: u64) -> u64 {
    let pair = (u64::from(from.0) << 8) | u64::from(to.0);
    Rng::new((pair << 48) ^ number).next_u64()
}

/// The bytes of the record (`salt` 0) or the parcel (`salt` 1) of `key`.
fn fill(key: u64, salt: u64, out: &mut Vec<u8>) {
    let mut rng = Rng::new(key ^ salt);
    let bytes = if key % LARGE_EVERY == 1 { 3_000 } else { rng.next_u64() % 49 };
    for _ in 0..bytes.div_ceil(8) {
        out.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    // Lengths that are no multiple of a word as well.
    out.extend((0..bytes % 3).map(|byte| byte.to_le_bytes()[0]));
}

fn has_parcel(key: u64, number: u64) -> bool {
    (number / PARCELS_IN_A_ROW).is_multiple_of(4) || key.is_multiple_of(PARCEL_EVERY)
}

/// One shard as far as it matters here: its mailboxes, and how far each stream is.
struct Poster {
    own: ShardId,
    mail: Mailboxes,
    parcels: Arc<Parcels>,
    /// Varies the bursts.
    rng: Rng,
    expected: Vec<u8>,
    handled: u64,
}

impl Poster {
    fn post(&mut self, to: ShardId) {
        let number = self.mail.posted(to);
        let key = key(self.own, to, number);
        let parcel = has_parcel(key, number).then(|| {
            let mut bytes = Vec::new();
            fill(key, 1, &mut bytes);
            self.parcels.made.fetch_add(1, Ordering::Relaxed);
            Bytes::from_owner(Parcel { bytes, parcels: Arc::clone(&self.parcels) })
        });
        self.mail.post(to, parcel, |out| fill(key, 0, out));
    }

    /// Posts a burst, at most up to `limit` records in all. True if anything went into the ring.
    fn burst(&mut self, to: ShardId, limit: u64) -> bool {
        let burst = 1 + self.rng.next_u64() % BURST_MAX;
        for _ in 0..burst.min(limit - self.mail.posted(to)) {
            if self.mail.is_congested(to) {
                break;
            }
            self.post(to);
        }
        self.mail.flush(to)
    }

    /// Takes one batch and compares it with what must have been posted. True if anything had come.
    fn drain(&mut self, from: ShardId) -> bool {
        let Some(mut batch) = self.mail.drain(from) else { return false };
        let mut number = self.mail.handled(from);
        while let Some(record) = batch.next_record() {
            let key = key(from, self.own, number);
            self.expected.clear();
            fill(key, 0, &mut self.expected);
            assert!(record == self.expected, "record {number} from {from}: {record:02x?}");
            if has_parcel(key, number) {
                let parcel = self.mail.take_parcel(from);
                let parcel =
                    parcel.unwrap_or_else(|| panic!("no parcel with {number} from {from}"));
                self.expected.clear();
                fill(key, 1, &mut self.expected);
                assert!(parcel == self.expected, "parcel {number} from {from}: {parcel:02x?}");
            }
            number += 1;
            self.handled += 1;
        }
        self.mail.finish(batch);
        assert_eq!(self.mail.handled(from), number);
        true
    }

    fn is_done(&self, items_per_pair: u64) -> bool {
        !self.mail.has_staged()
            && self.mail.others().all(|other| {
                self.mail.posted(other) == items_per_pair
                    && self.mail.handled(other) == items_per_pair
            })
    }

    /// Posts and takes `items_per_pair` records to and from each other shard.
    #[expect(clippy::disallowed_methods, reason = "a hang is to be reported, not waited for")]
    fn run(&mut self, items_per_pair: u64, failed: &AtomicBool) {
        let _alarm = Alarm(failed);
        let mut stuck_since = None;
        while !self.is_done(items_per_pair) {
            let mut moved = false;
            for other in self.mail.others() {
                moved |= self.burst(other, items_per_pair);
                moved |= self.drain(other);
            }
            if moved {
                stuck_since = None;
            } else {
                assert!(!failed.load(Ordering::Relaxed), "{} waits for one that failed", self.own);
                let since: Instant = *stuck_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < PATIENCE, "{} hangs: {:?}", self.own, self.mail);
                thread::yield_now();
            }
        }
        let left = self.mail.others().any(|other| self.mail.take_parcel(other).is_some());
        assert!(!left && !self.mail.has_mail(), "more came than was posted");
    }
}

fn posters(shards: u8, ring_bytes: usize, seed: u64) -> Vec<Poster> {
    let mailboxes = (0..shards).map(ShardId).zip(mesh(shards, ring_bytes));
    let poster = |(own, mail): (ShardId, Mailboxes)| Poster {
        own,
        mail,
        parcels: Arc::default(),
        rng: Rng::new(seed ^ u64::from(own.0)),
        expected: Vec::new(),
        handled: 0,
    };
    mailboxes.map(poster).collect()
}

fn sum(parcels: &[Arc<Parcels>], handled: u64) -> Balance {
    let total = |count: fn(&Parcels) -> &AtomicU64| {
        parcels.iter().map(|parcels| count(parcels).load(Ordering::Relaxed)).sum()
    };
    let (parcels_made, parcels_freed) = (total(|p| &p.made), total(|p| &p.freed));
    Balance { handled, parcels_made, parcels_freed }
}

/// All shards exchange `items_per_pair` records with each other; returns when all have arrived.
pub(crate) fn exchange(shards: u8, ring_bytes: usize, items_per_pair: u64) -> Balance {
    let posters = posters(shards, ring_bytes, items_per_pair);
    let parcels: Vec<_> = posters.iter().map(|poster| Arc::clone(&poster.parcels)).collect();
    let failed = AtomicBool::new(false);
    let ended: Vec<Poster> = thread::scope(|scope| {
        let failed = &failed;
        let start = |mut poster: Poster| {
            scope.spawn(move || {
                poster.run(items_per_pair, failed);
                poster
            })
        };
        let threads: Vec<_> = posters.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no shard fails")).collect()
    });
    let handled = ended.iter().map(|poster| poster.handled).sum();
    drop(ended);
    sum(&parcels, handled)
}

/// All shards post and drain for a number of turns that differs, and leave with the rings as they are.
pub(crate) fn leave_early(shards: u8, ring_bytes: usize, seed: u64) -> Balance {
    let posters = posters(shards, ring_bytes, seed);
    let parcels: Vec<_> = posters.iter().map(|poster| Arc::clone(&poster.parcels)).collect();
    let handled = thread::scope(|scope| {
        let start = |mut poster: Poster| {
            scope.spawn(move || {
                for _ in 0..50 + poster.rng.next_u64() % 50 {
                    for other in poster.mail.others() {
                        poster.burst(other, u64::MAX);
                        poster.drain(other);
                    }
                }
                poster.handled
            })
        };
        let threads: Vec<_> = posters.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no shard fails")).sum()
    });
    sum(&parcels, handled)
}
