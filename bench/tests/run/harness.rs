//! The program under test, a broker for it, and relays.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use clap::Parser as _;
use muring::boot::Broker;
use muring::cli::Cli;
use muring::config::Config;
use serde_json::Value;

/// A broker with two shards in this process, for a test that leaves something behind or uses client
/// identifiers and topics that another one uses too. It ends with the process.
pub(crate) fn muring() -> SocketAddr {
    muring_with("2")
}

pub(crate) fn muring_with(shards: &str) -> SocketAddr {
    let flags = ["muring", "--listen", "127.0.0.1:0", "--shards", shards, "--log-level", "error"];
    let cores = muring::cores::available();
    let loaded = Config::load(&Cli::parse_from(flags), std::iter::empty(), &cores).unwrap();
    // Dropping it does not stop it.
    Broker::start(&loaded.config).unwrap().addresses()[0]
}

/// A relay, ended when it is dropped.
pub(crate) struct Floor {
    child: Child,
    /// Open as long as the relay may write to it.
    _log: BufReader<ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Floor {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .arg("floor")
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let (_, address) = line.trim().split_once("addr=").unwrap();
        let address = address.parse().unwrap();
        Self { child, _log: log, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It has ended already if the test failed in an odd way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Flags of a run that is as small as it can be.
const SMALL: [&str; 6] = ["--no-pin", "--quiet", "--warm-up", "0.05", "--duration", "0.2"];

/// What a run printed.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    /// `Null` if there is no JSON.
    pub(crate) json: Value,
}

/// Runs `words` (separated by spaces) against `broker`.
pub(crate) fn run(words: &str, broker: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(words.split_whitespace()).args(["--broker", broker]).args(SMALL);
    command.args(["--json", "-"]);
    ran(&command.output().unwrap())
}

pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
    }
}

impl Ran {
    /// A number of the measured figures.
    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let value = self.json.pointer(&format!("/result/measured/{pointer}"));
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}: {}", self.stderr))
    }

    /// The run is whole, something was delivered and every delivery was right.
    #[track_caller]
    pub(crate) fn expect_whole(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert!(self.number("delivered_all") > 0, "{}", self.stderr);
        for fault in ["lost", "duplicated", "reordered", "misrouted"] {
            assert_eq!(self.number(&format!("faults/{fault}")), 0, "{fault}");
        }
    }

    /// The run failed, and said so.
    #[track_caller]
    pub(crate) fn expect_failure(&self, parts: &[&str]) {
        assert!(matches!(self.code, Some(1 | 2)), "{:?}: {}", self.code, self.stderr);
        let line = self.stderr.lines().rfind(|line| line.starts_with("bench: "));
        let line = line.unwrap_or_else(|| panic!("no line that says why: {}", self.stderr));
        for part in parts {
            assert!(line.contains(part), "{line:?} does not say {part:?}");
        }
    }
}
