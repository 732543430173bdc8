//! The program as an operator meets it: exit codes, messages, start and stop.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const EXIT_CONFIG: i32 = 78;

fn muring(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muring"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn refused(flags: &[&str], parts: &[&str]) {
    let Output { status, stderr, .. } = muring(flags).output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(EXIT_CONFIG), "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

/// A running broker; killed if the test fails.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    addresses: Vec<SocketAddr>,
}

impl Running {
    /// Starts it and reads the log up to `ready`.
    fn start(flags: &[&str]) -> Self {
        let mut child = muring(flags).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self { child, log, addresses: Vec::new() };
        loop {
            let mut line = String::new();
            assert!(running.log.read_line(&mut line).unwrap() > 0, "ended before it was ready");
            if line.contains("listening") {
                let (_, address) = line.split_once("addr=").unwrap();
                running.addresses.push(address.trim().parse().unwrap());
            }
            if line.trim_end().ends_with("ready") {
                return running;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Exit code and the rest of the log.
    fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_listens_where_it_says_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let flags = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--shards", "2"];
        let running = Running::start(&[&flags[..], &["--set", "stop_timeout_s=2"]].concat());
        assert_eq!(running.addresses.len(), 2);
        for address in &running.addresses {
            TcpStream::connect(address).unwrap();
        }
        running.signal(signal);
        let (code, log) = running.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopping"));
    }
}

#[test]
fn a_second_broker_on_the_same_address_is_refused() {
    let running = Running::start(&["--listen", "127.0.0.1:0", "--shards", "1"]);
    let address = running.addresses[0].to_string();
    refused(&["--listen", &address], &[&address, "in use"]);
}

#[test]
fn mistakes_are_told_in_one_line() {
    refused(&["--shards", "65"], &["flag --shards", "range 1 to 64"]);
    refused(&["--config", "/does/not/exist"], &["/does/not/exist"]);
    refused(&["--cores", "1000"], &["core 1000 is not available"]);
    // An address of nobody (TEST-NET-1).
    refused(&["--listen", "192.0.2.1:1883"], &["192.0.2.1:1883", "no network interface"]);
}

#[test]
fn check_and_print_config_start_nothing() {
    let flags = ["--listen", "127.0.0.1:0", "--shards", "1", "--set", "sys.interval_s=3"];
    let checked = muring(&[&flags[..], &["--check"]].concat()).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let printed = muring(&[&flags[..], &["--print-config"]].concat()).output().unwrap();
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    for line in ["shards = 1", "interval_s = 3", "listen = [\"127.0.0.1:0\"]"] {
        assert!(text.contains(line), "{text}");
    }
}
