//! What a delivery costs in system calls: shard threads speak to the kernel through their ring only, but
//! for the doorbell of another shard.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::broker::{Broker, Options, scratch_file};
use crate::harness::client::Client;
use crate::harness::tools::Tool;
use crate::harness::wire::Publish;

const SUBSCRIBERS: u32 = 50;
const PER_SECOND: u32 = 1000;
const SECONDS: u32 = 3;

/// Calls of `io_uring_enter` for each message delivered: one for each shard that a publish comes to, and
/// as many again for what else happens.
const ENTERS_MAX: f64 = 0.08;

/// What moves bytes or waits for them, and must not be called for each message.
const FORBIDDEN: [&str; 16] = [
    "read",
    "readv",
    "pread64",
    "write",
    "writev",
    "pwrite64",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "poll",
];

/// `strace`, attached to all threads of the broker.
struct Trace {
    child: Child,
    path: std::path::PathBuf,
}

impl Trace {
    fn attach(broker: &Broker) -> Self {
        let path = scratch_file("strace", "");
        let calls = format!("trace={},io_uring_enter", FORBIDDEN.join(","));
        let mut command = Command::new("strace");
        command.args(["-f", "-s", "0", "-e", &calls, "-e", "signal=none", "-o"]).arg(&path);
        command.args(["-p", &broker.pid().to_string()]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("strace is there");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut lines = BufReader::new(stderr).lines();
        let attached = lines.by_ref().map_while(Result::ok).any(|line| line.contains(" attached"));
        assert!(attached, "strace may not attach to the broker");
        // The pipe stays open: strace ends when it cannot write to it.
        thread::spawn(move || lines.for_each(drop));
        Self { child, path }
    }

    /// Detaches; how often each thread called what.
    fn end(mut self) -> HashMap<(i32, String), u32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("strace runs");
        self.child.wait().expect("the child is ours");
        let text = fs::read_to_string(&self.path).expect("strace wrote its file");
        fs::remove_file(&self.path).expect("the file is ours");
        let mut counts = HashMap::new();
        for line in text.lines() {
            // A call that another thread interrupts has a second line, `<... name resumed>`.
            let mut words = line.split_whitespace();
            let (Some(thread), Some(call)) = (words.next(), words.next()) else { continue };
            let (Ok(thread), Some((name, _))) = (thread.parse(), call.split_once('(')) else {
                continue;
            };
            *counts.entry((thread, name.to_owned())).or_default() += 1;
        }
        counts
    }
}

/// Threads of the broker that are shards, by their name.
fn shard_threads(broker: &Broker) -> Vec<i32> {
    let tasks = format!("/proc/{}/task", broker.pid());
    let tasks = fs::read_dir(tasks).expect("the broker runs");
    tasks
        .filter_map(|task| {
            let task = task.expect("the broker runs");
            let name = fs::read_to_string(task.path().join("comm")).expect("the thread runs");
            let id = task.file_name().to_string_lossy().parse().expect("a thread's number");
            name.starts_with("shard").then_some(id)
        })
        .collect()
}

/// One publisher at a steady rate, fifty subscribers that read all of it.
fn fan_out(broker: &Broker) {
    let count = PER_SECOND * SECONDS;
    let subscribers: Vec<Client> = (0..SUBSCRIBERS)
        .map(|number| {
            let mut client = Client::plain(broker, 4, &format!("fan-{number}"));
            client.subscribe("fan", 0);
            client
        })
        .collect();
    let mut publisher = Client::plain(broker, 4, "fan-from");
    thread::scope(|scope| {
        for mut client in subscribers {
            scope.spawn(move || {
                for want in 0..count {
                    assert_eq!(client.message().payload[..4], want.to_be_bytes());
                }
            });
        }
        let begin = Instant::now();
        for number in 0..count {
            // The rate is the load, nothing waits for this.
            let due = begin + Duration::from_secs(1) * number / PER_SECOND;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut payload = [0; 64];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            publisher.send(&Publish::new("fan", payload, 0).encode(4));
        }
    });
}

#[test]
fn a_delivery_costs_a_fraction_of_a_system_call() {
    if !Tool::Strace.is_present() {
        return;
    }
    for shards in [1, 2] {
        let broker = Broker::start_with(&Options::new(shards).alone());
        let trace = Trace::attach(&broker);
        fan_out(&broker);
        let ours = shard_threads(&broker);
        let counts = trace.end();
        if broker.deviates("reads and writes") {
            return;
        }
        // Threads that a shard starts inherit its name, and its rules.
        assert!(ours.len() >= shards, "each shard has a thread of that name");
        let of_shards = |name: &str| -> u32 {
            ours.iter().filter_map(|thread| counts.get(&(*thread, name.to_owned()))).sum()
        };
        let enters = of_shards("io_uring_enter");
        let delivered = SUBSCRIBERS * PER_SECOND * SECONDS;
        let each = f64::from(enters) / f64::from(delivered);
        eprintln!("{shards} shards: {each:.4} io_uring_enter per message, {counts:?}");
        assert!(each <= ENTERS_MAX, "{each} calls of io_uring_enter per message");
        // A message rings each other shard once, if that sleeps. So does a client that moves, and what is
        // said between shards about its SUBSCRIBE.
        let others = u32::try_from(shards - 1).unwrap();
        let doorbells_max = others * (PER_SECOND * SECONDS + 4 * SUBSCRIBERS);
        for name in FORBIDDEN {
            // Housekeeping may, once in a while; the path of a message may not.
            let calls = of_shards(name);
            let calls_max = 20 * SECONDS + if name == "write" { doorbells_max } else { 0 };
            assert!(calls <= calls_max, "{calls} calls of {name} on shard threads");
        }
    }
}
