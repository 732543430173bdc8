//! Threads for checks that take long, or wait for others.
//!
//! Shards put jobs into a bounded queue and never wait: a full queue gives the job back, and the client is
//! told so. The answer goes to the shard that asked, which drops it if nobody waits for it any more.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use shards::auth::Verdict;
use shards::ids::{ConnId, ShardId};
use shards::reject::ReasonCode;

use crate::reactor::{Order, Stations};

/// A check that was put off.
pub(super) struct Job {
    pub(super) shard: ShardId,
    pub(super) conn: ConnId,
    /// Nobody waits for the answer any more.
    pub(super) is_void: Arc<AtomicBool>,
    pub(super) work: Box<dyn FnOnce() -> Verdict + Send>,
}

/// Some threads and the queue that they work on. The threads end when the last copy is dropped.
#[derive(Clone)]
pub(super) struct Pool(SyncSender<Job>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        name: &str,
        threads: usize,
        queue_max: usize,
        stations: &Arc<Stations>,
    ) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(queue_max.max(1));
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.max(1) {
            let (jobs, stations) = (Arc::clone(&jobs), Arc::clone(stations));
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&jobs, &stations))?;
        }
        Ok(Self(sender))
    }

    /// Puts a job into the queue; false if it is full.
    pub(super) fn offer(&self, job: Job) -> bool {
        self.0.try_send(job).is_ok()
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, stations: &Stations) {
    loop {
        // The lock is this pool's own: threads take turns at waiting.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { shard, conn, is_void, work }) = job else { return };
        if is_void.load(Ordering::Relaxed) {
            continue;
        }
        let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let verdict = verdict.unwrap_or(Verdict::Deny(ReasonCode::UnspecifiedError));
        stations.order(shard, Order::Verdict { conn, verdict, is_void });
    }
}
