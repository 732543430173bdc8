//! A relay that makes mistakes on purpose: each of the three checks must see its own.

use crate::harness::{Floor, run};

#[track_caller]
fn check(fault: &str, counter: &str) {
    let relay = Floor::start(&["epoll", "--fault", fault, "--every", "50"]);
    // An open loop: a closed one would stop at the first loss.
    let ran =
        run("p2p --publishers 2 --rate 1000 --drain-max 0.3", &format!("floor={}", relay.address));
    ran.expect_failure(&["delivery check failed", counter]);
    for other in ["lost", "duplicated", "reordered", "misrouted"] {
        let count = ran.number(&format!("faults/{other}"));
        if other == counter {
            // 250 messages of each publisher.
            assert!((5..=10).contains(&count), "{count} {other}");
        } else if (fault, other) == ("reorder", "lost") {
            // The last one may still wait for the one behind it.
            assert!(count <= 2, "{count} {other}");
        } else {
            assert_eq!(count, 0, "{other}");
        }
    }
}

#[test]
fn a_dropped_message_is_lost() {
    check("drop", "lost");
}

#[test]
fn a_message_sent_twice_is_duplicated() {
    check("duplicate", "duplicated");
}

#[test]
fn a_message_sent_late_is_reordered() {
    check("reorder", "reordered");
}

#[test]
fn a_closed_loop_that_loses_a_message_ends_too() {
    let relay = Floor::start(&["uring", "--fault", "drop", "--every", "50"]);
    let words = "stream --publishers 1 --window 10 --drain-max 0.2";
    let ran = run(words, &format!("floor={}", relay.address));
    ran.expect_failure(&["1 lost"]);
}
