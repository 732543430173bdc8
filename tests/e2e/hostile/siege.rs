//! A broker under attack: bystanders, what `$SYS` says, resident memory before and after.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::broker::{Broker, Options};
use crate::harness::client::{Client, DEADLINE};
use crate::harness::wire::{Packet, Publish};

/// Exchanges of the bystanders after which they are warm.
const WARM: usize = 50;

/// Exchanges that say how long they wait when nothing else happens.
fn quiet() -> usize {
    super::measured(5000, 450)
}

/// Resident memory that may stay behind for each shard: its receive buffers, which become resident as
/// they are used, and its pool of output buffers.
const SHARD_BYTES: u64 = (4 + 8) * 1024 * 1024;

/// The same for the process: what the allocator keeps, and tables at their working size.
const PROCESS_BYTES: u64 = 16 * 1024 * 1024;

/// One broker, its bystanders and its observer, for one or more attacks.
pub(super) struct Siege {
    shards: u8,
    bystanders: Bystanders,
    sys: Sys,
    before: Before,
    /// The bystanders' own, if they are apart.
    peaceful: Option<Broker>,
    // Last, so that nobody is connected any more when it is stopped.
    pub(super) broker: Broker,
}

/// What there was before anybody attacked.
struct Before {
    rss_bytes: u64,
    descriptors: usize,
}

impl Siege {
    pub(super) fn lay(shards: u8, options: Options) -> Self {
        // Raises the limit; where that is not possible, connections will be refused and the scenario fails.
        crate::load::descriptors_suffice(if crate::load::is_slow_run() { 16_000 } else { 4000 });
        let options = Options { sys_interval_s: Some(1), ..options.alone() };
        let broker = Broker::start_with(&options);
        let mut sys = Sys::subscribe(&broker);
        let is_apart = std::env::var_os("MURING_E2E_APART").is_some();
        let peaceful = is_apart.then(|| broker.start_beside(&options));
        let bystanders = Bystanders::begin(peaceful.as_ref().unwrap_or(&broker));
        bystanders.served(WARM + quiet());
        sys.next_update();
        let before = Before { rss_bytes: broker.rss_bytes(), descriptors: broker.descriptors() };
        Self { shards, bystanders, sys, before, broker, peaceful }
    }

    pub(super) fn plain(shards: u8) -> Self {
        Self::lay(shards, Options::new(shards.into()))
    }

    /// Those of the observer and of the bystander who is not the publisher, if they are here.
    pub(super) fn subscriptions(&self) -> u64 {
        if self.peaceful.is_some() { 1 } else { 2 }
    }

    /// Blocks until the bystanders have exchanged `count` more messages.
    pub(super) fn served(&self, count: usize) {
        self.bystanders.served(count);
    }

    /// How much more memory is resident than before the first attack.
    pub(super) fn grown_bytes(&self) -> u64 {
        self.broker.rss_bytes().saturating_sub(self.before.rss_bytes)
    }

    /// Memory that buffers of the shards may have come to occupy.
    pub(super) fn buffers_bytes(&self) -> u64 {
        u64::from(self.shards) * SHARD_BYTES + PROCESS_BYTES
    }

    /// Waits until `$SYS` says so, and no more than that: `counters` are exact.
    #[track_caller]
    pub(super) fn expect(&mut self, counters: &[(&str, u64)]) {
        self.sys.until(|sys| {
            counters.iter().all(|&(name, value)| sys.value(&format!("counters/{name}")) >= value)
        });
        for &(name, value) in counters {
            assert_eq!(self.sys.value(&format!("counters/{name}")), value, "{name}");
        }
    }

    /// Waits until `$SYS` gives this number, a gauge, exactly.
    #[track_caller]
    pub(super) fn expect_gauge(&mut self, name: &str, value: u64) {
        self.sys.until(|sys| sys.value(name) == value);
    }

    /// Waits until a counter is above 0.
    #[track_caller]
    pub(super) fn expect_some(&mut self, counter: &str) -> u64 {
        let name = format!("counters/{counter}");
        self.sys.until(|sys| sys.value(&name) > 0);
        self.sys.value(&name)
    }

    /// Goes on with something until a counter is above 0.
    #[track_caller]
    pub(super) fn until_some(&mut self, counter: &str, mut meanwhile: impl FnMut()) {
        let name = format!("counters/{counter}");
        let end = Instant::now() + 2 * DEADLINE;
        while self.sys.value(&name) == 0 {
            assert!(Instant::now() < end, "{counter} stays 0");
            meanwhile();
            self.sys.next_update();
        }
    }

    /// Retained messages beside those of `$SYS`.
    #[track_caller]
    pub(super) fn expect_retained(&mut self, count: u64) {
        self.sys.until(|sys| sys.retained() == Some(count));
    }

    /// Runs an attack and says what the bystanders noticed. That they were served meanwhile is
    /// certain: they must exchange some messages between its beginning and its end.
    pub(super) fn attack<R>(&mut self, name: &str, attack: impl FnOnce(&mut Self) -> R) -> R {
        let begin = self.bystanders.count();
        let rss_before = self.broker.rss_bytes();
        let result = attack(self);
        self.served(WARM);
        let mut during = self.bystanders.waits(begin);
        let mut quiet = self.bystanders.waits_quiet();
        let ratio = |part: usize, quiet: &mut Vec<u32>, during: &mut Vec<u32>| {
            let (quiet, during) = (percentile(quiet, part), percentile(during, part));
            format!("{quiet}/{during} us = {:.2}", f64::from(during) / f64::from(quiet.max(1)))
        };
        let median = ratio(50, &mut quiet, &mut during);
        let p99 = ratio(99, &mut quiet, &mut during);
        let (exchanges, rss) = (during.len(), self.broker.rss_bytes().saturating_sub(rss_before));
        let shards = self.shards;
        eprintln!("| {name} | {shards} | {exchanges} | {median} | {p99} | {} KiB |", rss / 1024);
        result
    }

    /// The attackers are gone: nothing of them is left, and memory is what it was but for the stated
    /// allowance.
    #[track_caller]
    pub(super) fn lift(mut self) {
        self.served(WARM);
        let allowed = self.before.rss_bytes + self.buffers_bytes();
        let (before, broker) = (&self.before, &self.broker);
        // The observer and, if they are here, two bystanders.
        let bystanders = if self.peaceful.is_some() { 0 } else { 2 };
        let left = [
            ("clients/connected", 1 + bystanders),
            ("clients/total", 1 + bystanders),
            ("subscriptions/count", self.subscriptions()),
            ("shared_subscriptions/count", 0),
            ("store/messages/count", 0),
            ("store/messages/bytes", 0),
        ];
        self.sys.until(|sys| {
            left.iter().all(|&(name, value)| sys.value(name) == value)
                && sys.retained() == Some(0)
                && broker.descriptors() <= before.descriptors
                && broker.rss_bytes() <= allowed
        });
        let grown = self.grown_bytes();
        eprintln!("{} shards: {} KiB stayed behind", self.shards, grown / 1024);
        self.bystanders.end();
    }
}

fn percentile(of: &mut [u32], part: usize) -> u32 {
    of.sort_unstable();
    of[(of.len() * part / 100).min(of.len() - 1)]
}

/// Runs the program that `MURING_E2E_BYSTANDERS` names with the number of this thread: it can give it a
/// priority and a core of its own before anything is measured, so that the attackers' work, which is done
/// on the same machine, is not taken for the broker's.
fn prepare_bystanders() {
    let Some(program) = std::env::var_os("MURING_E2E_BYSTANDERS") else { return };
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread has a number");
    let number = thread.file_name().expect("it is the last part");
    let status = Command::new(program).arg(number).status().expect("the program can be run");
    assert!(status.success(), "the bystanders were not prepared: {status}");
}

/// Two clients that exchange messages, one at a time, from the beginning to the end.
struct Bystanders {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    progress: Mutex<Progress>,
    grown: Condvar,
}

#[derive(Default)]
struct Progress {
    /// How long each message took, in microseconds.
    waits: Vec<u32>,
    is_asked_to_end: bool,
    has_ended: bool,
}

/// Says that the thread has ended, however it did.
struct Ended(Arc<State>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.grown.notify_all();
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bystanders {
    fn begin(broker: &Broker) -> Self {
        let mut to = Client::plain(broker, 4, "bystander-to");
        to.subscribe("bystanders", 0);
        let mut from = Client::plain(broker, 4, "bystander-from");
        let state = Arc::new(State::default());
        let ended = Ended(Arc::clone(&state));
        let thread = thread::Builder::new().name("bystanders".to_owned());
        let exchange = move || {
            prepare_bystanders();
            let state = &ended.0;
            for number in 0_u64.. {
                let begin = Instant::now();
                from.send(&Publish::new("bystanders", number.to_be_bytes(), 0).encode(4));
                let Packet::Publish(got) = to.recv() else { panic!("not a PUBLISH") };
                assert_eq!(got.payload, number.to_be_bytes(), "a bystander's message is missing");
                let wait = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
                let mut progress = state.lock();
                progress.waits.push(wait);
                state.grown.notify_all();
                if progress.is_asked_to_end {
                    return;
                }
            }
        };
        let thread = thread.spawn(exchange).expect("a thread can be started");
        Self { state, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.state.lock().waits.len()
    }

    fn waits(&self, from: usize) -> Vec<u32> {
        self.state.lock().waits[from..].to_vec()
    }

    /// Those before the first attack, without the very first, which warm the broker up.
    fn waits_quiet(&self) -> Vec<u32> {
        self.state.lock().waits[WARM..WARM + quiet()].to_vec()
    }

    #[track_caller]
    fn served(&self, count: usize) {
        let end = Instant::now() + 2 * DEADLINE;
        let mut progress = self.state.lock();
        let want = progress.waits.len() + count;
        while progress.waits.len() < want {
            assert!(!progress.has_ended, "the bystanders are not served");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the bystanders wait for their messages");
            let (next, _) = self
                .state
                .grown
                .wait_timeout(progress, left.min(Duration::from_secs(1)))
                .unwrap_or_else(PoisonError::into_inner);
            progress = next;
        }
    }

    fn end(&mut self) {
        self.state.lock().is_asked_to_end = true;
        let thread = self.thread.take().expect("it ends once");
        assert!(thread.join().is_ok(), "the bystanders were not served to the end");
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.state.lock().is_asked_to_end = true;
        if let Some(thread) = self.thread.take() {
            // The scenario has failed already.
            let _ = thread.join();
        }
    }
}

/// The latest numbers under `$SYS/broker/`.
struct Sys {
    client: Client,
    values: HashMap<String, u64>,
    /// All topics of `$SYS`, those that are not numbers too.
    names: HashSet<String>,
}

impl Sys {
    fn subscribe(broker: &Broker) -> Self {
        let mut client = Client::plain(broker, 4, "observer");
        client.subscribe("$SYS/broker/#", 0);
        Self { client, values: HashMap::new(), names: HashSet::new() }
    }

    fn value(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Retained messages beside those of `$SYS`, whose topics are all known after one update.
    fn retained(&self) -> Option<u64> {
        self.value("retained messages/count").checked_sub(self.names.len() as u64)
    }

    /// Takes one number; answers its name.
    fn take(&mut self) -> String {
        let message = self.client.message();
        let name = message.topic.trim_start_matches("$SYS/broker/").to_owned();
        if let Ok(value) = message.text().parse() {
            self.values.insert(name.clone(), value);
        }
        self.names.insert(name.clone());
        name
    }

    /// To the end of an update: the uptime is told in each, before the counters.
    fn next_update(&mut self) {
        while self.take() != "uptime" {}
        while self.take() != "counters/slow_subscribers_disconnected" {}
    }

    #[track_caller]
    fn until(&mut self, is_reached: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.next_update();
            if is_reached(self) {
                return;
            }
            if Instant::now() > end {
                let mut values: Vec<_> =
                    self.values.iter().filter(|(_, value)| **value > 0).collect();
                values.sort();
                panic!("$SYS ({} topics) does not come to that: {values:?}", self.names.len());
            }
        }
    }
}
