//! One broker process per scenario: started on a free port, observed through its log, stopped by
//! SIGTERM when the scenario ends.
//!
//! `MURING_E2E_BROKER=mosquitto` runs the scenarios against Debian's mosquitto instead, which shows
//! that a scenario asks for what the standard says and not for what muring happens to do.
//! `MURING_E2E_BIN=target/release/muring` takes that program instead of the one of the profile that
//! the tests were built with: for scenarios that say how long something took.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::client::DEADLINE;

/// Ordinary scenarios share the machine; those that load it or measure run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// How long a broker may take to end after SIGTERM: its own bound is 10 s.
const STOP_MAX: Duration = Duration::from_secs(15);

/// Lines of the broker's log that a failed scenario shows: its last ones.
const LOG_LINES_SHOWN: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Muring,
    Mosquitto,
}

impl Kind {
    fn chosen() -> Self {
        match std::env::var("MURING_E2E_BROKER").as_deref() {
            Ok("mosquitto") => Self::Mosquitto,
            Ok("muring") | Err(_) => Self::Muring,
            Ok(other) => panic!("MURING_E2E_BROKER={other}: muring or mosquitto"),
        }
    }
}

/// How a broker is to be started. `None` is the broker's default.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) shards: usize,
    pub(crate) packet_bytes_max: Option<u32>,
    pub(crate) connect_timeout_ms: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) queue_messages_max: Option<u32>,
    pub(crate) queue_bytes_max: Option<u64>,
    pub(crate) sys_interval_s: Option<u16>,
    /// Any other setting of muring, as `--set` takes it: `share.strategy=random`.
    pub(crate) settings: Vec<String>,
    /// A configuration file that says all of it, the listeners too. Only of muring.
    pub(crate) config: Option<PathBuf>,
    /// Nothing else runs meanwhile.
    pub(crate) alone: bool,
}

impl Options {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards,
            packet_bytes_max: None,
            connect_timeout_ms: None,
            receive_maximum: None,
            queue_messages_max: None,
            queue_bytes_max: None,
            sys_interval_s: None,
            settings: Vec::new(),
            config: None,
            alone: false,
        }
    }

    /// A broker that listens as this file says.
    pub(crate) fn configured(shards: usize, config: PathBuf) -> Self {
        Self { config: Some(config), ..Self::new(shards) }
    }

    pub(crate) fn set(self, key: &str, value: u64) -> Self {
        self.setting(&format!("{key}={value}"))
    }

    pub(crate) fn setting(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    fn muring_toml(&self) -> String {
        let mut limits = String::from("[limits]\n");
        let mut sys = String::from("[sys]\n");
        let mut session = String::from("[session]\n");
        let put = |to: &mut String, key: &str, value: Option<u64>| {
            if let Some(value) = value {
                writeln!(to, "{key} = {value}").expect("writing to a string");
            }
        };
        put(&mut limits, "packet_bytes_max", self.packet_bytes_max.map(u64::from));
        put(&mut limits, "connect_timeout_ms", self.connect_timeout_ms.map(u64::from));
        put(&mut session, "receive_maximum", self.receive_maximum.map(u64::from));
        put(&mut session, "queue_messages_max", self.queue_messages_max.map(u64::from));
        put(&mut session, "queue_bytes_max", self.queue_bytes_max);
        put(&mut sys, "interval_s", self.sys_interval_s.map(u64::from));
        [limits, session, sys].into_iter().filter(|section| section.lines().count() > 1).collect()
    }

    fn mosquitto_conf(&self, port: u16) -> String {
        let sys = self.sys_interval_s.unwrap_or(10);
        let inflight = self.receive_maximum.unwrap_or(0);
        format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_inflight_messages {inflight}\nmax_queued_messages 0\nsys_interval {sys}\n\
             log_dest stderr\nset_tcp_nodelay true\n"
        )
    }
}

/// What the machine is shared under while a broker lives.
#[derive(Debug)]
enum Share {
    Among {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
    /// That of another broker, which lives longer.
    OfAnother,
}

#[derive(Debug)]
pub(crate) struct Broker {
    /// The first listener.
    pub(crate) addr: SocketAddr,
    /// All on TCP, in the order of the configuration.
    pub(crate) listeners: Vec<SocketAddr>,
    kind: Kind,
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    config: Option<PathBuf>,
    ended: bool,
    _share: Share,
}

impl Broker {
    pub(crate) fn start(shards: usize) -> Self {
        Self::start_with(&Options::new(shards))
    }

    pub(crate) fn start_with(options: &Options) -> Self {
        // A failed scenario poisons nothing that others need.
        let share = if options.alone {
            Share::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) }
        } else {
            Share::Among { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }
        };
        Self::start_under(options, share)
    }

    /// A second one, for the scenario that this one is alone with.
    pub(crate) fn start_beside(&self, options: &Options) -> Self {
        Self::start_under(options, Share::OfAnother)
    }

    fn start_under(options: &Options, share: Share) -> Self {
        let kind = Kind::chosen();
        let (mut command, addr, config) = match kind {
            Kind::Muring => {
                let toml = options.muring_toml();
                let mut command = muring();
                command.args(["--shards", &options.shards.to_string()]);
                let config = (!toml.is_empty()).then(|| scratch_file("toml", &toml));
                if let Some(path) = options.config.as_ref().or(config.as_ref()) {
                    command.arg("--config").arg(path);
                }
                if options.config.is_none() {
                    command.args(["--listen", "127.0.0.1:0"]);
                }
                command.args(options.settings.iter().flat_map(|setting| ["--set", setting]));
                (command, None, config)
            }
            Kind::Mosquitto => {
                let port = free_port();
                let path = scratch_file("conf", &options.mosquitto_conf(port));
                let mut command = Command::new("mosquitto");
                command.arg("-c").arg(&path);
                (command, Some(SocketAddr::from(([127, 0, 0, 1], port))), Some(path))
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Log::default());
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || log.fill(BufReader::new(stderr))
        });
        let known = addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let reader = Some(reader);
        // From here on the process is ended whatever happens, also if it says not what is waited for.
        let mut broker = Self {
            addr: known,
            listeners: Vec::new(),
            kind,
            child,
            log,
            reader,
            config,
            ended: false,
            _share: share,
        };
        if addr.is_none() {
            broker.addr = address(&broker.log.wait_for("listening"));
        }
        broker.log.wait_for(if kind == Kind::Muring { "ready" } else { " running" });
        if addr.is_none() {
            broker.listeners =
                broker.log.all("listening addr=").iter().map(|l| address(l)).collect();
        }
        broker
    }

    /// True if the broker under test is known to deviate here, which is then said.
    /// Never true for muring.
    pub(crate) fn deviates(&self, how: &str) -> bool {
        let deviates = self.kind != Kind::Muring;
        if deviates {
            eprintln!("not run: {:?} {how}", self.kind);
        }
        deviates
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a line of the log that contains all these words; the first.
    #[track_caller]
    pub(crate) fn logged(&self, words: &[&str]) -> String {
        self.log.wait_for_all(words)
    }

    /// Waits until there are more than `before` lines that contain `word`; the last of them.
    #[track_caller]
    pub(crate) fn logged_again(&self, word: &str, before: usize) -> String {
        self.log.wait(|lines| {
            let found: Vec<_> = lines.iter().filter(|line| line.contains(word)).collect();
            (found.len() > before).then(|| found.last().map(|line| (*line).clone())).flatten()
        })
    }

    /// All lines of the log so far that contain `word`.
    pub(crate) fn log_lines(&self, word: &str) -> Vec<String> {
        self.log.all(word)
    }

    /// Resident memory in bytes, from `/proc`.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the broker runs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS is always there");
        let kib = line.split_whitespace().nth(1).expect("VmRSS has a value");
        kib.parse::<u64>().expect("VmRSS is a number") * 1024
    }

    /// How many file descriptors the broker has open.
    pub(crate) fn descriptors(&self) -> usize {
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        list.expect("the broker runs").count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the broker can be signalled");
    }

    /// Waits for the process to end by itself; `None` after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("pidfd of our own child");
        let timeout = Timespec::try_from(limit).expect("a short time");
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).expect("poll a pidfd") == 0 {
            return None;
        }
        self.ended = true;
        Some(self.child.wait().expect("the child is ours"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended at this moment; the wait says so.
            let _ = kill_process(self.pid(), Signal::TERM);
            if self.wait(STOP_MAX).is_none() {
                eprintln!("the broker did not end within {STOP_MAX:?} after SIGTERM: killed");
                // As above.
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if let Some(reader) = self.reader.take() {
            // Its panic would be one of the harness; the scenario's own is the better message.
            let _ = reader.join();
        }
        if let Some(path) = &self.config {
            let _ = std::fs::remove_file(path);
        }
        if thread::panicking() {
            eprintln!("---- log of the broker\n{}----", self.log.text());
        }
    }
}

/// The program under test, without the settings of the surrounding environment.
pub(crate) fn muring() -> Command {
    let built = || env!("CARGO_BIN_EXE_muring").into();
    let program = std::env::var_os("MURING_E2E_BIN").unwrap_or_else(built);
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MURING_") {
            command.env_remove(name);
        }
    }
    command
}

/// A new file in cargo's scratch directory for tests.
pub(crate) fn scratch_file(extension: &str, text: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("e2e-{}-{number}.{extension}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("cargo's scratch directory is writable");
    path
}

/// mosquitto cannot choose a port itself; somebody may take this one in between.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn address(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("addr=").unwrap_or_else(|| panic!("no addr= in {line:?}"));
    let text = rest.split(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default();
    text.trim_matches('"').parse().unwrap_or_else(|e| panic!("address in {line:?}: {e}"))
}

/// The lines a process has written to its standard error so far.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn fill(&self, from: impl BufRead) {
        // An unreadable line ends the log; the scenario then misses what it waits for.
        for line in from.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line);
            self.grown.notify_all();
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.grown.notify_all();
    }

    /// The first line that contains `word`.
    #[track_caller]
    fn wait_for(&self, word: &str) -> String {
        self.wait_for_all(&[word])
    }

    /// The lines so far that contain `word`.
    fn all(&self, word: &str) -> Vec<String> {
        let log = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        log.lines.iter().filter(|line| line.contains(word)).cloned().collect()
    }

    #[track_caller]
    fn wait_for_all(&self, words: &[&str]) -> String {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        self.wait(|lines| lines.iter().find(has_all).cloned())
    }

    /// Waits until `find` finds something in the lines.
    #[track_caller]
    fn wait(&self, find: impl Fn(&[String]) -> Option<String>) -> String {
        let end = Instant::now() + DEADLINE;
        let mut log = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = find(&log.lines) {
                return line;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!log.ended && !left.is_zero(), "not in the log: {:#?}", log.lines);
            let (next, _) =
                self.grown.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner);
            log = next;
        }
    }

    fn text(&self) -> String {
        let log = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = log.lines.len().saturating_sub(LOG_LINES_SHOWN);
        let mut text = format!("({skipped} lines before)\n");
        for line in &log.lines[skipped..] {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
