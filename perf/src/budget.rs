//! `perf/budgets.txt`: what each operation may cost, and whether it still does.
//!
//! An operation may take [`SLACK_PERCENT`] more instructions than its budget and not one allocation
//! more. Spending less is no fault, but it is said: a budget too wide hides the next regression.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::benches::{self, Bench};
use crate::callgrind::{self, Cost};
use crate::host;

/// A loop that the compiler lays out differently moves by a few percent, a planted regression by 20.
const SLACK_PERCENT: f64 = 5.0;

/// Allocations are written with three digits behind the point.
const ALLOCATIONS_ROUNDING: f64 = 0.0005;

/// What to do with the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Show,
    Check,
    Write,
}

/// How a cost compares with its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Within,
    /// So far below that the budget should be written anew.
    Wide,
    TooManyInstructions,
    TooManyAllocations,
}

/// Counts the benchmarks whose name contains `part`, `plant` percent of their work repeated.
pub(crate) fn run(part: Option<&str>, mode: Mode, plant: u8) -> Result<Outcome, String> {
    if cfg!(debug_assertions) {
        return Err("budgets are for the release build: cargo perf budget".to_owned());
    }
    let benches = benches::matching(part)?;
    let budgets = if mode == Mode::Write { BTreeMap::new() } else { read(&path())? };
    if mode == Mode::Check {
        complete(&budgets)?;
    }
    // Part of every result, though only the compiler of all this changes a count.
    println!("{}", host::describe());
    println!("{:<28} {:>14} {:>12}  per operation", "", "instructions", "allocations");
    let mut costs = Vec::new();
    let mut outcome = Outcome::Well;
    callgrind::measure_all(&benches, plant, |bench, cost| {
        let (line, verdict) = report(bench, cost, budgets.get(bench.name));
        println!("{line}");
        if matches!(verdict, Verdict::TooManyInstructions | Verdict::TooManyAllocations) {
            outcome = Outcome::AboveBudget;
        }
        costs.push((bench.name, cost));
    })?;
    if mode == Mode::Write {
        let path = path();
        std::fs::write(&path, print(&costs)).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("wrote {}", path.display());
    }
    match (mode, outcome) {
        (Mode::Check, Outcome::AboveBudget) => {
            println!(
                "above budget: make it cheaper, or say in the commit why it costs more and run"
            );
            println!("    cargo perf budget --write");
            Ok(Outcome::AboveBudget)
        }
        (Mode::Check | Mode::Show | Mode::Write, _) => Ok(Outcome::Well),
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.txt")
}

fn read(path: &Path) -> Result<BTreeMap<String, Cost>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{}: {error}; cargo perf budget --write makes it", path.display())
    })?;
    parse(&text, ARCH).map_err(|why| format!("{}: {why}", path.display()))
}

/// Lines of a name, instructions and allocations; the first says which architecture was counted.
fn parse(text: &str, arch: &str) -> Result<BTreeMap<String, Cost>, String> {
    let mut budgets = BTreeMap::new();
    let mut counted_arch = None;
    for (index, line) in text.lines().enumerate() {
        let wrong = || format!("line {}: {line:?} is no budget", index + 1);
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [] | ["#", ..] => {}
            ["arch", name] => counted_arch = Some(name),
            [name, instructions, allocations] => {
                let instructions = number(instructions).ok_or_else(wrong)?;
                let allocations = number(allocations).ok_or_else(wrong)?;
                if budgets.insert(name.to_owned(), Cost { instructions, allocations }).is_some() {
                    return Err(format!("line {}: a second budget for {name}", index + 1));
                }
            }
            _ => return Err(wrong()),
        }
    }
    match counted_arch {
        Some(counted) if counted == arch => Ok(budgets),
        _ => Err(format!("the counts are for {}, this is {arch}", counted_arch.unwrap_or("?"))),
    }
}

/// A count; what is none, such as `NaN`, would be above no budget.
fn number(word: &str) -> Option<f64> {
    word.parse().ok().filter(|count: &f64| count.is_finite() && *count >= 0.0)
}

/// Each benchmark has a budget and each budget a benchmark.
fn complete(budgets: &BTreeMap<String, Cost>) -> Result<(), String> {
    for bench in benches::ALL {
        if !budgets.contains_key(bench.name) {
            return Err(format!("{} has no budget; cargo perf budget --write", bench.name));
        }
    }
    for name in budgets.keys() {
        benches::named(name).map_err(|_| format!("there is a budget for {name}, which is gone"))?;
    }
    Ok(())
}

fn print(costs: &[(&str, Cost)]) -> String {
    let mut text = format!(
        "# What one operation of each benchmark may cost: instructions (callgrind, release build) and\n\
         # heap allocations. `cargo perf budget --check` allows {SLACK_PERCENT} % more instructions and no\n\
         # allocation more; `cargo perf budget --write` writes this file, `cargo perf list` says what\n\
         # an operation is. Instruction counts belong to the compiler of rust-toolchain.toml.\n\
         arch {ARCH}\n"
    );
    for (name, Cost { instructions, allocations }) in costs {
        let line = format!("{name:<28} {instructions:>12.1} {allocations:>8.3}\n");
        text.push_str(&line);
    }
    text
}

fn report(bench: &Bench, cost: Cost, budget: Option<&Cost>) -> (String, Verdict) {
    let Cost { instructions, allocations } = cost;
    let mut line = format!("{:<28} {instructions:>14.1} {allocations:>12.3}", bench.name);
    let Some(&budget) = budget else { return (line, Verdict::Within) };
    let change = percent(instructions, budget.instructions);
    let verdict = compare(cost, budget);
    let words = match verdict {
        Verdict::Within => "",
        Verdict::Wide => "  below budget: write it anew",
        Verdict::TooManyInstructions => "  TOO MANY INSTRUCTIONS",
        Verdict::TooManyAllocations => "  TOO MANY ALLOCATIONS",
    };
    // Writing to a String cannot fail.
    let _ = write!(line, "  {change:+.1} %{words}");
    if verdict == Verdict::TooManyAllocations {
        let _ = write!(line, " (budget {:.3})", budget.allocations);
    }
    (line, verdict)
}

fn compare(cost: Cost, budget: Cost) -> Verdict {
    let change = percent(cost.instructions, budget.instructions);
    if cost.allocations > budget.allocations + ALLOCATIONS_ROUNDING {
        Verdict::TooManyAllocations
    } else if change > SLACK_PERCENT {
        Verdict::TooManyInstructions
    } else if change < -SLACK_PERCENT
        || cost.allocations < budget.allocations - ALLOCATIONS_ROUNDING
    {
        Verdict::Wide
    } else {
        Verdict::Within
    }
}

fn percent(cost: f64, budget: f64) -> f64 {
    (cost - budget) / budget * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, allocations: f64) -> Cost {
        Cost { instructions, allocations }
    }

    #[track_caller]
    fn check(instructions: f64, allocations: f64, expected: Verdict) {
        assert_eq!(compare(cost(instructions, allocations), cost(200.0, 1.0)), expected);
    }

    #[test]
    fn a_fifth_more_is_too_much_and_a_hair_is_not() {
        check(200.0, 1.0, Verdict::Within);
        check(209.9, 1.0, Verdict::Within);
        check(210.1, 1.0, Verdict::TooManyInstructions);
        check(240.0, 1.0, Verdict::TooManyInstructions);
        check(180.0, 1.0, Verdict::Wide);
        check(200.0, 0.5, Verdict::Wide);
    }

    #[test]
    fn no_allocation_is_free() {
        check(200.0, 1.001, Verdict::TooManyAllocations);
        check(100.0, 2.0, Verdict::TooManyAllocations);
        assert_eq!(compare(cost(9.0, 0.001), cost(9.0, 0.0)), Verdict::TooManyAllocations);
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let budgets = parse(&print(&[("a/b", cost(12.25, 0.0)), ("c", cost(3.0, 1.5))]), ARCH);
        let budgets = budgets.unwrap();
        assert_eq!(budgets["a/b"], cost(12.2, 0.0));
        assert_eq!(budgets["c"], cost(3.0, 1.5));
    }

    #[test]
    fn a_broken_file_is_refused() {
        for (text, expected) in [
            ("arch here\na/b 1", "line 2"),
            ("arch here\na/b x 0", "line 2"),
            ("arch here\na/b NaN 0", "line 2"),
            ("arch here\na 1 0\na 1 0", "second budget"),
            ("arch there\na 1 0", "for there"),
            ("a 1 0", "for ?"),
        ] {
            let why = parse(text, "here").unwrap_err();
            assert!(why.contains(expected), "{text:?}: {why}");
        }
    }

    #[test]
    fn every_benchmark_has_a_budget() {
        let text = std::fs::read_to_string(path()).unwrap();
        let arch = text.lines().find_map(|line| line.strip_prefix("arch ")).unwrap();
        complete(&parse(&text, arch).unwrap()).unwrap();
    }
}
