//! A storm of strangers who guess passwords, while clients exchange messages at a steady rate.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::broker::Options;
use crate::harness::client::{Client, DEADLINE};
use crate::harness::wire::Connect;
use crate::load::is_slow_run;

use super::site::{At, Site};

/// Clients that exchange messages, in pairs.
const PAIRS: usize = 50;

/// How often each pair exchanges one.
const EVERY: Duration = Duration::from_millis(50);

/// Addresses that the strangers come from.
const SOURCES: u8 = 20;

/// Resident memory that a storm may leave behind: tables at their working size, buffers that came
/// into use.
const LEFT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Lines of the log that a storm may cost, per second of it and kind of event.
const LINES_PER_S_MAX: u64 = 100;

/// Pairs of clients that exchange messages one at a time, and how long each took.
struct Steady {
    stop: Arc<AtomicBool>,
    /// A word for each round.
    rounds: Receiver<()>,
    thread: JoinHandle<Vec<(Instant, Duration)>>,
}

impl Steady {
    fn begin(site: &Site) -> Self {
        let login = |id: String| {
            let connect = Connect::new(5, &id).login("alice", "wonderland");
            let (client, code) = Client::open_at(site.address(At::Plain), 5).introduce(&connect);
            assert_eq!(code, 0);
            client
        };
        let mut pairs: Vec<_> = (0..PAIRS)
            .map(|n| {
                let mut to = login(format!("to-{n}"));
                assert_eq!(to.subscribe(&format!("pair/{n}"), 0), 0);
                (login(format!("from-{n}")), to, format!("pair/{n}"))
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (round, rounds) = channel();
        let thread = thread::Builder::new().name("bystanders".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut waits = Vec::new();
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    for (from, to, topic) in &mut pairs {
                        let start = Instant::now();
                        from.publish(topic, "x", 0);
                        to.message();
                        waits.push((start, start.elapsed()));
                    }
                    // Nobody listens between two measurements.
                    let _ = round.send(());
                    next += EVERY;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                waits
            }
        });
        Self { stop, rounds, thread: thread.expect("a thread") }
    }

    /// Blocks for as many rounds from now on.
    fn goes_on(&self, rounds: usize) {
        while self.rounds.try_recv().is_ok() {}
        for _ in 0..rounds {
            self.rounds.recv_timeout(DEADLINE).expect("everybody is served");
        }
    }

    fn end(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("everybody was served")
    }
}

/// A connection from an address of our choice.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Attempts of one stranger; how many got a CONNACK that refuses, the others were not let that far.
fn guess(source: Ipv4Addr, to: SocketAddr, attempts: usize) -> usize {
    let mut refused = 0;
    for n in 0..attempts {
        let Ok(mut stream) = connect_from(source, to) else { continue };
        let connect = Connect::new(5, "guess").login("alice", format!("guess-{n}"));
        // The broker may end it before it has read anything.
        if stream.write_all(&connect.encode()).is_err() {
            continue;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        if let [0x20, _, 0, code, ..] = answer[..] {
            assert!(code >= 0x80, "a guess was right");
            refused += 1;
        }
    }
    refused
}

fn p99(waits: impl Iterator<Item = Duration>) -> Duration {
    let mut waits: Vec<_> = waits.collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

#[test]
fn strangers_who_guess_disturb_nobody() {
    let attempts = if is_slow_run() { 1000 } else { 100 };
    for shards in [1, 2] {
        let limits = |options: Options| {
            options.alone().set("admission.failures_max", 10).set("admission.penalty_max_s", 60)
        };
        let site = Site::start_with(shards, "", limits);
        let steady = Steady::begin(&site);
        steady.goes_on(40);
        let rss_before = site.broker.rss_bytes();
        let descriptors = site.broker.descriptors();
        let lines_before = site.broker.log_lines("").len();
        let to = site.address(At::Plain);
        let begin = Instant::now();
        let strangers: Vec<_> = (1..=SOURCES)
            .map(|n| thread::spawn(move || guess(Ipv4Addr::new(127, 0, 7, n), to, attempts)))
            .collect();
        let refused: usize = strangers.into_iter().map(|s| s.join().expect("a stranger")).sum();
        let storm = begin.elapsed();
        let end = Instant::now();
        steady.goes_on(40);
        let lines = site.broker.log_lines("").len() - lines_before;
        let left = site.broker.rss_bytes().saturating_sub(rss_before);
        let waits = steady.end();
        let quiet = p99(waits.iter().filter(|(at, _)| *at < begin).map(|(_, wait)| *wait));
        let during =
            p99(waits.iter().filter(|(at, _)| (begin..end).contains(at)).map(|(_, wait)| *wait));
        let all = usize::from(SOURCES) * attempts;
        eprintln!(
            "| {shards} | {all} attempts in {storm:?}, {refused} came as far as CONNACK | p99 {quiet:?} \
             alone, {during:?} meanwhile | {lines} lines | {} KiB left |",
            left / 1024
        );
        assert!(refused < all, "nobody was refused early");
        assert!(left < LEFT_BYTES_MAX, "{left} bytes were left behind");
        let bound = LINES_PER_S_MAX * (storm.as_secs() + 2);
        assert!(lines as u64 <= bound, "{lines} lines in {storm:?}");
        assert!(site.broker.descriptors() <= descriptors + 64, "descriptors were left behind");
        // Whoever knows the password comes in, from elsewhere.
        let connect = Connect::new(5, "late").login("alice", "wonderland");
        let (_, code) = Client::open_at(to, 5).introduce(&connect);
        assert_eq!(code, 0);
    }
}
