//! Wall time per operation, for people: many runs of each benchmark, taken in turn so that a
//! disturbance of some seconds spreads over all of them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::benches::{self, Bench, Loop, Size};
use crate::host::{self, Disturbance};

/// Fewer say little about the spread.
pub(crate) const RUNS_MIN: u32 = 30;

/// How long a run takes at least: long beside a look at the clock, short beside a time slice.
const RUN_TIME: Duration = Duration::from_millis(10);

/// One benchmark and the runs it has had.
#[derive(Debug)]
struct Series {
    bench: &'static Bench,
    operations: Loop,
    /// Operations of one run.
    count: u64,
    /// Nanoseconds per operation, by run.
    runs: Vec<f64>,
}

impl Series {
    /// Makes the world and finds how many operations a run needs; that also warms up.
    fn new(bench: &'static Bench) -> Self {
        let mut operations = (bench.make)(Size::Full);
        let mut count = 1;
        while time(&mut operations, count) < RUN_TIME {
            count *= 2;
        }
        Self { bench, operations, count, runs: Vec::new() }
    }

    fn run(&mut self) {
        let taken = time(&mut self.operations, self.count);
        self.runs.push(taken.as_secs_f64() * 1e9 / self.count as f64);
    }
}

/// Measures the benchmarks whose name contains `part`; `raw` gets every single run.
pub(crate) fn run(part: Option<&str>, runs: u32, raw: Option<&Path>) -> Result<(), String> {
    let mut all: Vec<_> = benches::matching(part)?.into_iter().map(Series::new).collect();
    let description = host::describe();
    print!("{description}");
    let disturbance = Disturbance::watch();
    for _ in 0..runs {
        for series in &mut all {
            series.run();
        }
    }
    let disturbance = disturbance.describe();
    println!("{disturbance}\n");
    println!(
        "{:<28} {:>12} {:>12} {:>12} {:>12}  ns per operation, {runs} runs",
        "", "median", "quartile 1", "quartile 3", "least"
    );
    for series in &all {
        let mut sorted = series.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let [median, low, high] = [(1, 2), (1, 4), (3, 4)].map(|part| quantile(&sorted, part));
        let least = quantile(&sorted, (0, 1));
        let name = series.bench.name;
        println!("{name:<28} {median:>12.1} {low:>12.1} {high:>12.1} {least:>12.1}");
    }
    if let Some(path) = raw {
        let text = print_raw(&description, &disturbance, &all);
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("every run is in {}", path.display());
    }
    Ok(())
}

fn time(operations: &mut Loop, count: u64) -> Duration {
    let start = Instant::now();
    operations.run(count);
    start.elapsed()
}

/// The value with `part` (numerator, denominator) of all others below it.
pub(crate) fn quantile(sorted: &[f64], part: (usize, usize)) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * part.0 / part.1).copied().unwrap_or(f64::NAN)
}

/// The machine as comments, then a line per run: benchmark, operations, nanoseconds per operation.
fn print_raw(description: &str, disturbance: &str, all: &[Series]) -> String {
    let mut text = String::new();
    for line in description.lines().chain(disturbance.lines()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {line}");
    }
    text.push_str("benchmark\toperations\tns_per_operation\n");
    for Series { bench, count, runs, .. } in all {
        for run in runs {
            let _ = writeln!(text, "{}\t{count}\t{run:.3}", bench.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few() {
        let sorted = [1.0, 2.0, 3.0, 4.0, 5.0];
        let quartiles = [(0, 1), (1, 4), (1, 2), (3, 4)].map(|part| quantile(&sorted, part));
        assert_eq!(quartiles, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(quantile(&[7.0], (1, 2)), 7.0);
    }

    #[test]
    fn every_run_is_in_the_raw_data() {
        let bench = benches::named("mailbox/hop").unwrap();
        let operations = (bench.make)(Size::Tiny);
        let mut series = Series { bench, operations, count: 1, runs: Vec::new() };
        series.run();
        series.run();
        let text = print_raw("cpu: x\n", "steal: 0\n", &[series]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["# cpu: x", "# steal: 0"]);
        assert_eq!(lines.iter().filter(|line| line.starts_with("mailbox/hop\t1\t")).count(), 2);
    }
}
