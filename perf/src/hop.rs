//! What mail costs between two cores: there and back between two threads that do nothing else.
//!
//! One thread waits while the other works, so the time that the caches take to hand lines over is in
//! it, as it is for a shard. Not a benchmark of `benches`: there is nothing to count in instructions,
//! and two threads that wait for each other say nothing on a busy machine.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use shards::ids::ShardId;
use shards::limits::MAILBOX_BYTES;
use shards::mailbox::{Mailboxes, mesh};

use crate::host::{self, Disturbance};
use crate::wall::quantile;

/// Mails of the larger batch.
const BATCH: u32 = 16;

/// As in `mailbox/hop`.
const RECORD: [u8; 100] = [b'm'; 100];

/// Runs of each batch. Many short ones: one that loses its core for a time slice is none of the middle.
const RUNS: u32 = 300;

/// Round trips of one run: less than a millisecond.
const ROUND_TRIPS: u32 = 500;

/// Looks at an empty mailbox before the core is offered to others: a thread that shares its core with
/// the one it waits for must not wait in vain.
const SPINS_MAX: u32 = 1_000;

/// Measures a hop with one mail and with a batch of them, runs taken in turn.
pub(crate) fn run() -> Result<(), String> {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("a hop needs two cores, this process may use one".to_owned());
    }
    print!("{}", host::describe());
    let disturbance = Disturbance::watch();
    let (mut single, mut batched) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        single.push(hop_ns(1, ROUND_TRIPS)?);
        batched.push(hop_ns(BATCH, ROUND_TRIPS)?);
    }
    println!("{}\n", disturbance.describe());
    println!("{:<28} {:>12} {:>12} {:>12}  ns, {RUNS} runs", "", "median", "quartile 1", "3");
    let single_ns = report("a batch of 1 mail", single);
    let batched_ns = report(&format!("a batch of {BATCH} mails"), batched);
    let mail_ns = (batched_ns - single_ns) / f64::from(BATCH - 1);
    if mail_ns <= 0.0 {
        return Err("other work was in the way: more mail took less time".to_owned());
    }
    println!("{:<28} {mail_ns:>12.1}", "each further mail");
    println!("{:<28} {:>12.1}", "the batch: flush_ns", single_ns - mail_ns);
    Ok(())
}

/// Prints the spread; the median.
fn report(what: &str, mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    let [median, low, high] = [(1, 2), (1, 4), (3, 4)].map(|part| quantile(&runs, part));
    println!("{what:<28} {median:>12.1} {low:>12.1} {high:>12.1}");
    median
}

/// Half a round trip of `batch` mails.
fn hop_ns(batch: u32, round_trips: u32) -> Result<f64, String> {
    let (here, there) = (ShardId(0), ShardId(1));
    let mut ends = mesh(2, MAILBOX_BYTES);
    let [own, other] = ends.as_mut_slice() else { return Err("two ends are wanted".to_owned()) };
    let taken = thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..=round_trips {
                receive(other, here, batch);
                send(other, here, batch);
            }
        });
        round_trips_of(own, there, (batch, round_trips))
    });
    Ok(taken.as_secs_f64() * 1e9 / f64::from(round_trips) / 2.0)
}

/// How long `count` round trips take after a first one, which waits for the other thread to start.
fn round_trips_of(own: &mut Mailboxes, there: ShardId, (batch, count): (u32, u32)) -> Duration {
    let mut start = Instant::now();
    for trip in 0..=count {
        if trip == 1 {
            start = Instant::now();
        }
        send(own, there, batch);
        receive(own, there, batch);
    }
    start.elapsed()
}

fn send(own: &mut Mailboxes, to: ShardId, batch: u32) {
    for _ in 0..batch {
        own.post(to, None, |out| out.extend_from_slice(black_box(&RECORD)));
    }
    own.flush(to);
}

/// Waits until `batch` mails have come.
fn receive(own: &mut Mailboxes, from: ShardId, batch: u32) {
    let (mut received, mut spins) = (0, 0);
    while received < batch {
        let Some(mut mails) = own.drain(from) else {
            spins += 1;
            if spins % SPINS_MAX == 0 {
                thread::yield_now();
            }
            spin_loop();
            continue;
        };
        while let Some(record) = mails.next_record() {
            black_box(record);
            received += 1;
        }
        own.finish(mails);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mails_come_back() {
        let mut ends = mesh(2, MAILBOX_BYTES);
        let [own, other] = ends.as_mut_slice() else { panic!("two ends") };
        let (here, there) = (ShardId(0), ShardId(1));
        send(own, there, BATCH);
        receive(other, here, BATCH);
        assert_eq!((own.posted(there), other.handled(here)), (16, 16));
        assert!(!other.has_mail());
        // A thread on the other side: ends only if every batch comes whole.
        assert!(hop_ns(BATCH, 10).unwrap() > 0.0);
    }
}
