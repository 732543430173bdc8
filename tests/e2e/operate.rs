//! The broker as an operator meets it: start, refusal to start, stop.

use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::broker::{Broker, muring, scratch_file};
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{Connect, Packet, Will};

on_shards!(a_second_broker_on_the_same_port_is_refused);

/// `EX_CONFIG` of `sysexits.h`.
const EXIT_CONFIG: i32 = 78;

/// A stop ends within this: the broker's own bound is 10 s.
const STOP_MAX: Duration = Duration::from_secs(12);

fn run(flags: &[&str]) -> Output {
    muring().args(flags).stdin(Stdio::null()).output().expect("the program is built")
}

#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

/// All shards share one port, so nothing in the kernel keeps a second broker from sharing it too.
fn a_second_broker_on_the_same_port_is_refused(broker: &Broker) {
    if broker.deviates("is another program") {
        return;
    }
    let address = broker.addr.to_string();
    let output = run(&["--listen", &address, "--shards", "2"]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&address), "{message}");
    assert!(message.contains("in use"), "{message}");
    Client::plain(broker, 5, "first").ping();
}

#[test]
fn check_names_what_is_wrong() {
    let output = run(&["--check", "--listen", "127.0.0.1:0", "--shards", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = scratch_file("toml", "[limits]\npacket_bytes_maximum = 5\n");
    let path = file.to_str().expect("cargo's directories are UTF-8");
    assert_refused(&run(&["--check", "--config", path]), &[path, "packet_bytes_maximum"]);
    std::fs::write(&file, "listen = [\n").expect("the file is ours");
    assert_refused(&run(&["--check", "--config", path]), &[path]);
    std::fs::remove_file(&file).expect("the file is ours");
    assert_refused(&run(&["--check", "--config", path]), &[path]);
    for shards in ["0", "65"] {
        assert_refused(&run(&["--check", "--shards", shards]), &["shards", shards]);
    }
    assert_refused(&run(&["--check", "--listen", "nowhere"]), &["nowhere"]);
    assert_refused(&run(&["--shards", "1000"]), &["shards"]);
}

#[test]
fn print_config_prints_what_was_resolved() {
    let file = scratch_file("toml", "[limits]\npacket_bytes_max = 4096\n");
    let path = file.to_str().expect("cargo's directories are UTF-8");
    let output = run(&["--print-config", "--config", path, "--shards", "3"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("TOML is UTF-8");
    let value = |key: &str| {
        let line = text.lines().find(|line| line.split('=').next().map(str::trim) == Some(key));
        line.and_then(|line| line.split('=').nth(1)).map(|v| v.trim().replace('_', ""))
    };
    assert_eq!(value("packet_bytes_max").as_deref(), Some("4096"));
    assert_eq!(value("shards").as_deref(), Some("3"));
    // What is printed is a configuration.
    std::fs::write(&file, &text).expect("the file is ours");
    assert!(run(&["--check", "--config", path]).status.success());
    std::fs::remove_file(&file).expect("the file is ours");
}

/// More sends than a turn makes: what waits for a later one goes out all the same, and in order.
#[test]
fn sigterm_says_goodbye_to_those_whose_messages_wait() {
    for shards in [1, 2] {
        let mut broker = Broker::start(shards);
        if broker.deviates("2.0.11 closes without 0x8B") {
            return;
        }
        let mut clients: Vec<Client> = (0..200)
            .map(|number| {
                let mut client = Client::plain(&broker, 5, &format!("stop-{number}"));
                client.subscribe(if number % 2 == 0 { "#" } else { "stop/messages" }, 0);
                client
            })
            .collect();
        let mut publisher = Client::plain(&broker, 5, "stop-publisher");
        for number in 0..50 {
            publisher.publish("stop/messages", number.to_string(), 1);
        }
        broker.signal(Signal::TERM);
        for client in &mut clients {
            let mut seen = client.until_end();
            let last = seen.pop();
            assert!(matches!(last, Some(Packet::Disconnect { code: 0x8B, .. })), "{last:?}");
            // `#` has no `$SYS` in it.
            let text = |packet| match packet {
                Packet::Publish(publish) => publish.text().to_owned(),
                other => panic!("not a PUBLISH: {other:?}"),
            };
            let seen: Vec<String> = seen.into_iter().map(text).collect();
            let sent: Vec<String> = (0..50).map(|number| number.to_string()).collect();
            assert_eq!(seen, sent);
        }
        assert_eq!(broker.wait(STOP_MAX).expect("the broker ends in time").code(), Some(0));
    }
}

/// Clients are told, wills reach those that are still there, and the process ends by itself.
#[test]
fn sigterm_says_goodbye() {
    for shards in [1, 2, 8] {
        let mut broker = Broker::start(shards);
        if broker.deviates("2.0.11 closes without 0x8B") {
            return;
        }
        let mut watcher = Client::plain(&broker, 5, "stop-watcher");
        watcher.subscribe("stop/will/#", 1);
        let mut clients: Vec<Client> = (0..8)
            .map(|number| {
                let version = if number % 2 == 0 { 5 } else { 4 };
                let will = Will::new(&format!("stop/will/{number}"), "stopped");
                let id = format!("stop-{number}");
                Client::connect(&broker, &Connect::new(version, &id).will(will))
            })
            .collect();
        broker.signal(Signal::TERM);
        for (number, client) in clients.iter_mut().enumerate() {
            match client.until_end().as_slice() {
                [] if number % 2 == 1 => {}
                [Packet::Disconnect { code: 0x8B, .. }] if number % 2 == 0 => {}
                other => panic!("client {number}: {other:?}"),
            }
        }
        let mut seen = watcher.until_end();
        let last = seen.pop();
        assert!(matches!(last, Some(Packet::Disconnect { code: 0x8B, .. })), "{last:?}");
        let mut wills: Vec<String> = seen
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => publish.topic,
                other => panic!("the watcher got {other:?}"),
            })
            .collect();
        wills.sort();
        wills.dedup();
        assert_eq!(wills.len(), 8, "{wills:?}");
        let status = broker.wait(STOP_MAX).expect("the broker ends in time");
        assert_eq!(status.code(), Some(0));
    }
}

/// A client that reads nothing and says nothing cannot hold a stop up.
#[test]
fn sigterm_is_bounded_by_silent_clients() {
    let mut broker = Broker::start(2);
    let silent: Vec<Client> =
        (0..20).map(|n| Client::plain(&broker, 4 + n % 2, &format!("silent-{n}"))).collect();
    let half = Client::open(&broker, 4);
    broker.signal(Signal::TERM);
    let status = broker.wait(STOP_MAX).expect("the broker ends in time");
    assert_eq!(status.code(), Some(0));
    drop((silent, half));
}
