//! Plays of chance, each from its seed: a small part of what `cargo sim` plays.

use sim::batch::{self, Plan};
use sim::play::{Play, Seed};
use sim::swarm::{Fault, Options};

const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_the_promises() {
    let total = batch::run(Plan { start: 0, count: SEEDS, is_twice: false });
    assert_eq!(total.failure, None);
    assert_eq!(total.seeds, SEEDS);
    assert!(total.crashes > 0);
    for fault in Fault::ALL {
        assert!(total.faults[fault.index()] > 0, "no {}", fault.name());
    }
}

#[test]
fn the_same_seed_takes_the_same_course_and_others_do_not() {
    let mut hashes = Vec::new();
    for seed in 0..8 {
        let course = batch::play(&Options::draw(seed), false);
        assert_eq!(batch::play(&Options::draw(seed), false), course, "seed {seed}");
        assert!(!hashes.contains(&course.hash), "seed {seed} is like another one");
        hashes.push(course.hash);
    }
}

#[test]
fn acts_and_faults_can_be_left_out() {
    let mut options = Options::draw(1);
    let whole = batch::play(&options, false);
    options.skips.acts.extend(1..=whole.acts);
    options.skips.faults.extend(Fault::ALL);
    let least = batch::play(&options, false);
    assert_eq!(least.failure, None);
    assert_eq!(least.acts, whole.acts, "what is left out is counted all the same");
    assert_eq!(least.snapshot.counters.messages_received, 0);
    assert_eq!(least.faults.iter().sum::<u64>(), 0);
}

/// A shutdown in the middle of everything comes to an end, and nobody is left connected.
#[test]
fn every_seed_can_be_stopped_anywhere() {
    for seed in 0..SEEDS / 4 {
        let _place = Seed(seed);
        Play::new(seed).stop_anywhere();
    }
}
