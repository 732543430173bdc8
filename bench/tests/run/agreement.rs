//! A client that is not ours sees as many messages as the load generator says it has sent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::harness::{muring_with, run};

/// The message after which nothing is counted.
const END: &str = "b/end";

/// True if Debian's `mosquitto-clients` and `stdbuf` are there, which is said if not.
fn is_installed() -> bool {
    let is_there =
        |name: &str| Command::new(name).arg("--help").stdout(Stdio::null()).status().is_ok();
    let all = is_there("mosquitto_sub") && is_there("mosquitto_pub") && is_there("stdbuf");
    assert!(all || std::env::var_os("CI").is_none(), "mosquitto-clients are not installed");
    if !all {
        // Not `eprintln!`: the output of a test that passes is not shown, and this must be.
        let line =
            "not run: mosquitto_sub missing: install with: apt-get install mosquitto-clients";
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    all
}

/// Subscribes to everything and counts messages up to [`END`].
struct Witness {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Witness {
    /// Returns when the subscription is in place.
    fn start(address: SocketAddr, qos: u8) -> Self {
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1", "-t", "b/#", "-F", "%t"])
            .args(["-p", &address.port().to_string(), "-q", &qos.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let subscribed = lines.by_ref().map_while(Result::ok);
        assert!(subscribed.into_iter().any(|line| line.contains("Subscribed")));
        Self { child, lines }
    }

    fn count(&mut self, address: SocketAddr, qos: u8) -> u64 {
        let port = address.port().to_string();
        let published = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-t", END, "-m", "x", "-q", &qos.to_string()])
            .status()
            .unwrap();
        assert!(published.success());
        let topics =
            self.lines.by_ref().map_while(Result::ok).filter(|line| line.starts_with("b/"));
        topics.into_iter().take_while(|topic| topic != END).map(|_| 1).sum()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn check(words: &str, qos: u8) {
    if !is_installed() {
        return;
    }
    // One shard: between publishers on several of them nothing promises an order, and so not that
    // the last message comes last.
    let address = muring_with("1");
    let mut witness = Witness::start(address, qos);
    let ran = run(&format!("{words} --qos {qos}"), &format!("muring={address}"));
    ran.expect_whole();
    // All was delivered to our own subscribers, so it was routed before the last message came.
    assert_eq!(witness.count(address, qos), ran.number("sent_all"));
}

#[test]
fn mosquitto_sub_counts_the_same_pairs() {
    check("p2p --publishers 5 --rate 200", 0);
    check("p2p --publishers 5 --rate 200", 2);
}

#[test]
fn mosquitto_sub_counts_the_same_fan_out() {
    check("fanout --publishers 2 --subscribers 5 --rate 200", 1);
}
