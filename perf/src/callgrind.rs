//! Counts of one benchmark, taken in a process of its own under valgrind's callgrind.
//!
//! Callgrind simulates the processor: it counts each instruction that our code executes, whatever
//! else the machine does. Only the operations are counted, not the making of their world.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::benches::Bench;

/// The C library copies memory in different ways on different processors; this is the plain one.
/// Names that it does not know it passes over.
const PLAIN_COPIES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX512VL,-ERMS,-FSRM";

/// What one operation costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// Counts all of `benches`, as many at once as there are processors: load changes no count. `done` is
/// told each cost, in the order of `benches`.
pub(crate) fn measure_all(
    benches: &[&'static Bench],
    plant: u8,
    mut done: impl FnMut(&'static Bench, Cost),
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut waiting: Vec<Option<Cost>> = vec![None; benches.len()];
    let mut told = 0;
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(bench) = benches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = measure(bench, plant);
                    // Nobody listens any more after the first error.
                    if sender.send((bench.name, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (name, result) in results {
            let cost = result?;
            for (slot, bench) in waiting.iter_mut().zip(benches) {
                if bench.name == name {
                    *slot = Some(cost);
                }
            }
            while let (Some(&bench), Some(&Some(cost))) = (benches.get(told), waiting.get(told)) {
                done(bench, cost);
                told += 1;
            }
        }
        Ok(())
    })
}

/// Runs the benchmark under callgrind, `plant` percent of its work done on top.
fn measure(bench: &Bench, plant: u8) -> Result<Cost, String> {
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*counted_region*")
        .arg(program)
        .args(["measure", bench.name, "--plant", &plant.to_string()])
        // The environment lies on the stack and moves what is below it.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GLIBC_TUNABLES", PLAIN_COPIES)
        .output()
        .map_err(|error| format!("valgrind: {error}; install it: apt-get install valgrind"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} under valgrind: {}\n{log}", bench.name, output.status));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let allocations = printed.trim().parse::<u32>();
    let allocations = allocations.map_err(|_| format!("{}: printed {printed:?}", bench.name))?;
    let instructions = collected(&log)
        .filter(|&count| count > 0)
        .ok_or_else(|| format!("{}: callgrind counted nothing\n{log}", bench.name))?;
    let per_operation = |count: f64| count / bench.budget_operations as f64;
    Ok(Cost {
        instructions: per_operation(instructions as f64),
        allocations: per_operation(f64::from(allocations)),
    })
}

/// The sum at the end of callgrind's log, `==123== Collected : 4567`.
fn collected(log: &str) -> Option<u64> {
    let (_, count) = log.lines().rev().find_map(|line| line.split_once("Collected :"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_found() {
        let log = "==7== Events    : Ir\n==7== Collected : 4567\n==7== \n";
        assert_eq!(collected(log), Some(4567));
        assert_eq!(collected("valgrind: no such file"), None);
    }
}
