//! A data race on purpose, for a sanitizer to find: one that reports nothing here proves nothing by
//! reporting nothing elsewhere.

use std::cell::UnsafeCell;
use std::thread;

/// Set by whoever wants the race.
const RACE_VARIABLE: &str = "MURING_PLANTED_RACE";

#[derive(Debug, Default)]
struct Unguarded(UnsafeCell<u64>);

// SAFETY: it is not, if two threads add at once; see the module docs.
unsafe impl Sync for Unguarded {}

impl Unguarded {
    fn add(&self) {
        // SAFETY: the pointer is valid; that it is not the only one in use is the planted fault.
        unsafe { *self.0.get() += 1 };
    }
}

/// Without a sanitizer two threads must not add at once, so they take turns.
#[test]
fn a_race_if_one_is_asked_for() {
    let count = Unguarded::default();
    let is_wanted = std::env::var_os(RACE_VARIABLE).is_some();
    thread::scope(|scope| {
        let mut first = Some(scope.spawn(|| count.add()));
        if let Some(first) = first.take_if(|_| !is_wanted) {
            first.join().expect("adding does not fail");
        }
        scope.spawn(|| count.add()).join().expect("adding does not fail");
        if let Some(first) = first {
            first.join().expect("adding does not fail");
        }
    });
    let total = count.0.into_inner();
    assert!((1..=2).contains(&total), "{total}");
}
