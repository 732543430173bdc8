//! One benchmark in a process of its own, for tools that watch it from outside.

use std::time::{Duration, Instant};

use crate::allocations;
use crate::benches::{Bench, Size};

/// Operations between two looks at the clock.
const SPIN_OPERATIONS: u64 = 100;

/// Warms up, then does the operations of the budget and prints how many heap allocations they took.
/// What runs in [`counted_region`] is what callgrind counts. `plant` percent are done on top.
pub(crate) fn count(bench: &Bench, plant: u8) {
    let mut operations = (bench.make)(Size::Full);
    let count = bench.budget_operations;
    operations.run(count);
    let planted = count * u64::from(plant) / 100;
    let before = allocations::count();
    let achieved = counted_region(&mut operations, count + planted);
    let allocations = allocations::count() - before;
    assert_eq!(achieved, bench.achieves * (count + planted), "{} is broken", bench.name);
    println!("{allocations}");
}

/// Callgrind finds it by its name.
#[inline(never)]
fn counted_region(operations: &mut crate::benches::Loop, count: u64) -> u64 {
    operations.run(count)
}

/// Repeats the operation for so long, to be profiled.
pub(crate) fn spin(bench: &Bench, seconds: u32) {
    let mut operations = (bench.make)(Size::Full);
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    while Instant::now() < end {
        operations.run(SPIN_OPERATIONS);
    }
}
