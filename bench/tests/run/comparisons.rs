//! Several targets side by side.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{muring, ran};

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

fn compare(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("compare").args(words.split_whitespace());
    command.args(["--no-pin", "--warm-up", "0.05", "--duration", "0.2"]);
    command
}

#[test]
fn rounds_table_json_and_page() {
    let (json, html) = (scratch("c.json"), scratch("c.html"));
    let output = compare("--scenario stream --publishers 1 --window 10 --rounds 2 --noise-max 100")
        .args(["--brokers", "floor-epoll,floor-uring"])
        .args(["--broker", &format!("muring={}", muring())])
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let written: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(written["is_complete"], true);
    for (index, broker) in ["floor-epoll", "floor-uring", "muring"].into_iter().enumerate() {
        assert!(table.contains(broker), "{table}");
        let entry = &written["entries"][index];
        assert_eq!(entry["broker"], broker);
        assert_eq!(entry["summary"]["runs"], 2);
        assert_eq!(entry["runs"].as_array().map(Vec::len), Some(2));
    }
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("floor-uring") && !page.contains("http"));
    // Scratch files of a test that has passed.
    let _ = (fs::remove_file(json), fs::remove_file(html));
}

#[test]
fn variants_take_turns_and_have_their_own_flags() {
    let json = scratch("v.json");
    let output = compare("--scenario stream --publishers 1 --window 10 --rounds 2 --noise-max 100")
        .args(["--brokers", "floor-epoll", "--variant", "one="])
        .args(["--variant", "three=--publishers 3 --payload 100", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let ran = ran(&output);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let written: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    for (index, (label, publishers)) in
        [("floor-epoll/one", 1), ("floor-epoll/three", 3)].into_iter().enumerate()
    {
        let entry = &written["entries"][index];
        assert_eq!(entry["broker"], label);
        assert_eq!(entry["runs"][1]["result"]["publishers"], publishers);
    }
    let order: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("round")).collect();
    let first = order.iter().map(|line| line.contains("/one")).collect::<Vec<_>>();
    assert_eq!(first, [true, false, true, false], "{}", ran.stderr);
    // A scratch file of a test that has passed.
    let _ = fs::remove_file(json);
}

#[test]
fn a_variant_with_flags_of_something_else_is_refused() {
    for variant in ["x=--rounds 3", "x", "x=--syscalls", "x=--qos 9"] {
        let output = compare("--scenario stream --brokers floor-epoll --variant")
            .arg(variant)
            .output()
            .unwrap();
        let ran = ran(&output);
        assert_eq!(ran.code, Some(2), "{variant}: {}", ran.stderr);
        assert!(!ran.stderr.contains("round 1"), "{}", ran.stderr);
    }
}

/// One result of all that the table wants: it is judged, and the others are named as missing.
#[test]
fn the_table_of_goals_judges_what_there_is_and_names_what_is_not() {
    let folder = scratch("goals");
    fs::create_dir_all(&folder).unwrap();
    let (address, pid) = (muring(), std::process::id());
    let output = compare("--scenario fanout --publishers 1 --subscribers 5 --window 10 --rounds 1")
        .args(["--noise-max", "100", "--brokers", "floor-uring"])
        .args(["--broker", &format!("muring={address},pid={pid}")])
        .args(["--broker", &format!("mosquitto={address},pid={pid}"), "--json"])
        .arg(folder.join("1-fanout-50.json"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).arg("goals").arg(&folder).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |number: &str| table.lines().find(|line| line.starts_with(number)).unwrap();
    let first = row("| 1 |");
    assert!(first.contains("x mosquitto") && first.contains("x floor-uring"), "{first}");
    // Which verdict depends on what else runs in this process.
    assert!(["aim met", "must met", "missed"].iter().any(|word| first.contains(word)), "{first}");
    assert!(first.contains(", 1 of 9 rounds |"), "{first}");
    assert!(row("| 16 |").contains("16-index.log") && row("| 16 |").contains("no result"));
    ran(&output).expect_failure(&["no result", "2-pairs", "16-index"]);
    // A scratch folder of a test that has passed.
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn a_noisy_round_is_dropped_and_said_to_be() {
    let output = compare("--scenario stream --publishers 1 --window 10 --rounds 1 --noise-max=-1")
        .args(["--brokers", "floor-epoll"])
        .output()
        .unwrap();
    let ran = ran(&output);
    assert!(ran.stderr.contains("too noisy"), "{}", ran.stderr);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 noisy"));
}

#[test]
fn a_missing_broker_ends_it_before_anything_runs() {
    let output =
        compare("--scenario stream --brokers floor-epoll,nats --program nats=/nowhere/nats")
            .output()
            .unwrap();
    let ran = ran(&output);
    ran.expect_failure(&["/nowhere/nats", "apt-get install nats-server"]);
    assert!(!ran.stderr.contains("round 1"), "{}", ran.stderr);
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let output = compare("--scenario stream --publishers 1 --window 10 --rounds 2 --noise-max 100")
        .args(["--brokers", "floor-epoll", "--broker", "gone=127.0.0.1:1"])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    ran(&output).expect_failure(&["gone", "no broker at 127.0.0.1:1"]);
    assert!(table.contains("floor-epoll") && table.contains("no result"), "{table}");
}

/// A broker with settings of its own gets them; its echo in place of the program shows what it got.
#[test]
fn settings_reach_the_broker() {
    let output = compare("--scenario stream --publishers 1 --rounds 1 --shards 2")
        .args(["--brokers", "muring,muring{idle=spin+shards=1}", "--program", "muring=/bin/echo"])
        .output()
        .unwrap();
    let ran = ran(&output);
    ran.expect_failure(&["muring: muring ended at once"]);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("--config")).collect();
    // Each round says it, and the end says it once more.
    assert_eq!(lines.len(), 4, "{}", ran.stderr);
    assert!(lines[0].ends_with("--set shards=2"), "{}", lines[0]);
    assert!(lines[1].ends_with("--set shards=2 --set idle=spin --set shards=1"), "{}", lines[1]);
    let tuned = "muring{idle=spin+shards=1}: muring{idle=spin+shards=1} ended at once";
    assert!(ran.stderr.contains(tuned), "{}", ran.stderr);
}
