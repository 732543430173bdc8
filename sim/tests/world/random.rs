//! Plays of chance, each from its seed.

use sim::play::{Play, Seed};

const SEEDS: u64 = 400;

#[test]
fn every_seed_keeps_the_promises() {
    for seed in 0..SEEDS {
        let _place = Seed(seed);
        Play::new(seed).run();
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..8 {
        assert_eq!(Play::new(seed).run(), Play::new(seed).run(), "seed {seed}");
    }
}

/// A shutdown in the middle of everything comes to an end, and nobody is left connected.
#[test]
fn every_seed_can_be_stopped_anywhere() {
    for seed in 0..SEEDS / 4 {
        let _place = Seed(seed);
        Play::new(seed).stop_anywhere();
    }
}
