//! Every scenario, against the broker and, where they can do it, against the floors.

use crate::harness::{Floor, muring, run};

#[track_caller]
fn check_broker(words: &str) {
    run(words, &format!("muring={}", muring())).expect_whole();
}

/// What is no fault of anybody: every message was delivered as often as it should be.
#[track_caller]
fn check_floors(words: &str, fanout: u64) {
    for floor in ["epoll", "uring"] {
        let relay = Floor::start(&[floor]);
        for io in ["epoll", "uring"] {
            let words = format!("{words} --io {io}");
            let ran = run(&words, &format!("floor-{floor}={}", relay.address));
            ran.expect_whole();
            assert_eq!(ran.number("sent_all") * fanout, ran.number("delivered_all"));
        }
    }
}

#[test]
fn stream() {
    check_broker("stream --publishers 2 --window 10");
    check_broker("stream --publishers 2 --window 10 --io uring --protocol 5.0");
    check_floors("stream --publishers 2 --window 10", 1);
    check_floors("stream --publishers 1 --window 1 --payload 16", 1);
}

#[test]
fn p2p_at_every_qos_and_version() {
    for qos in 0..=2 {
        for protocol in ["3.1.1", "5.0"] {
            let words = format!("p2p --publishers 5 --rate 100 --qos {qos} --protocol {protocol}");
            check_broker(&words);
        }
    }
    check_floors("p2p --publishers 5 --rate 100", 1);
}

#[test]
fn closed_loops_at_qos_1_and_2() {
    check_broker("stream --publishers 3 --window 100 --qos 1");
    check_broker("stream --publishers 3 --window 100 --qos 2 --protocol 5.0");
}

#[test]
fn fanout() {
    check_broker("fanout --publishers 2 --subscribers 10 --rate 50");
    check_broker("fanout --publishers 1 --subscribers 10 --window 5");
    check_broker("fanout --publishers 1 --subscribers 10 --window 5 --protocol 5.0 --aliases 4");
    check_floors("fanout --publishers 2 --subscribers 10 --rate 50", 10);
}

#[test]
fn fanin_gives_each_message_to_one() {
    check_broker("fanin --publishers 10 --subscribers 3 --rate 50");
    check_broker("fanin --publishers 10 --subscribers 3 --window 5 --qos 0");
    check_floors("fanin --publishers 10 --subscribers 3 --rate 50", 1);
}

#[test]
fn connect_counts_connections() {
    for words in [
        "connect --publishers 50 --hold 0.1",
        "connect --publishers 50 --hold 0.1 --subscribe",
        "connect --publishers 50 --hold 0.1 --subscribe --filter-bytes 24",
    ] {
        let ran = run(words, &format!("muring={}", muring()));
        ran.expect_whole();
        assert_eq!(ran.number("connections"), 50);
    }
    check_floors_connect();
}

#[track_caller]
fn check_floors_connect() {
    let relay = Floor::start(&["uring"]);
    let ran = run("connect --publishers 50 --hold 0.1", &format!("floor={}", relay.address));
    assert_eq!((ran.code, ran.number("connections")), (Some(0), 50), "{}", ran.stderr);
}

#[test]
fn wildcards() {
    check_broker("wildcards --publishers 2 --subscribers 3 --filters 1000 --window 10");
    check_floors("wildcards --publishers 2 --subscribers 3 --window 10", 1);
}

#[test]
fn persistent_sessions_get_what_was_sent_while_they_were_away() {
    for protocol in ["3.1.1", "5.0"] {
        check_broker(&format!(
            "persistent --publishers 5 --rate 100 --churn-ms 20 --away-ms 20 --protocol {protocol}"
        ));
        check_broker(&format!(
            "persistent --publishers 2 --rate 2000 --churn-ms 10 --away-ms 10 --qos 2 \
             --protocol {protocol}"
        ));
    }
}

#[test]
fn overload_may_lose_but_says_how_much() {
    let words = "overload --publishers 2 --window 10 --drain-max 0.5";
    let ran = run(words, &format!("muring={}", muring()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let missing = ran.number("sent_all") - ran.number("delivered_all");
    assert_eq!(ran.number("faults/lost"), missing);
}

#[test]
fn publishers_and_subscribers_on_one_shard_or_never() {
    for cross in ["local", "mixed", "all"] {
        check_broker(&format!("stream --publishers 4 --window 10 --cross {cross} --shards 2"));
    }
}

#[test]
fn large_and_smallest_payloads() {
    check_broker("stream --publishers 1 --window 2 --payload 100000");
    check_broker("stream --publishers 1 --window 2 --payload 16");
}

#[test]
fn retained_messages_reach_everybody_who_subscribes() {
    check_broker("retained --subscribers 3 --filters 50");
}

/// The others get everything, whatever becomes of the topic that floods and of the one who stalls.
#[test]
fn a_disturbance_is_there_and_does_not_count() {
    let words = "p2p --publishers 3 --rate 200 --disturb";
    let relay = Floor::start(&["uring"]);
    for broker in [format!("muring={}", muring()), format!("floor-uring={}", relay.address)] {
        for io in ["epoll", "uring"] {
            let ran = run(&format!("{words} --io {io}"), &broker);
            ran.expect_whole();
            assert_eq!(ran.number("sent_all"), ran.number("delivered_all"));
            let measured = &ran.json["result"]["measured"];
            let flood = measured["flood_delivered_per_s"].as_f64();
            assert!(flood.is_some_and(|per_s| per_s > 0.0), "{broker}, {io}: {flood:?}");
            assert_eq!(ran.json["result"]["subscribers"], 3);
        }
    }
}
