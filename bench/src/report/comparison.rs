//! A comparison: raw values of every round, and medians and quartiles of the rounds that count.

use serde::{Deserialize, Serialize};

use super::RunResult;
use crate::measure::machine::Machine;
use crate::plan::Scenario;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) machine: Machine,
    pub(crate) command: Vec<String>,
    pub(crate) scenario: Scenario,
    /// Share of the machine that others may take in a run that counts.
    pub(crate) noise_max: f64,
    /// False while rounds are still to come.
    pub(crate) is_complete: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}

/// One broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) broker: String,
    pub(crate) runs: Vec<Run>,
    /// Why there are no more runs, or why one does not count.
    pub(crate) error: Option<String>,
    pub(crate) syscalls_per_delivery: Option<f64>,
    pub(crate) summary: Option<Summary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: u32,
    /// Whole, and quiet enough, as were all others of its round.
    pub(crate) kept: bool,
    pub(crate) result: RunResult,
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) q1: f64,
    pub(crate) median: f64,
    pub(crate) q3: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Runs that count; if hardly any is kept, all whole ones do.
    pub(crate) runs: usize,
    pub(crate) dropped: usize,
    /// True if hardly any run is kept: the figures are then those of noisy runs.
    pub(crate) is_noisy: bool,
    pub(crate) delivered_per_s: Spread,
    pub(crate) cpu_us_per_delivery: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p90_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p99_9_us: Spread,
    pub(crate) p99_99_us: Spread,
    pub(crate) max_us: Spread,
    /// Of a disturbance.
    pub(crate) flood_delivered_per_s: Spread,
    pub(crate) memory_per_connection: Spread,
    pub(crate) memory_peak: Spread,
    pub(crate) idle_cpu_share: Spread,
    pub(crate) idle_wakeups_per_s: Spread,
    pub(crate) load_cpu_share: Spread,
}

impl Spread {
    /// Quartiles by linear interpolation between the neighbours.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { q1: at(&values, 1), median: at(&values, 2), q3: at(&values, 3) }
    }
}

/// The value after so many quarters of sorted `values`; 0 if there are none.
#[expect(clippy::cast_precision_loss, reason = "a remainder below 4")]
fn at(values: &[f64], quarters: usize) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let (index, rest) = (last * quarters / 4, last * quarters % 4);
    let (low, high) = (values[index], values[(index + 1).min(last)]);
    low + (high - low) * rest as f64 / 4.0
}

/// Fewer rounds say nothing: rather all of them, and that they were noisy.
const KEPT_MIN: usize = 3;

impl Comparison {
    /// A round counts for all or for none: quiet runs of one broker beside noisy ones of another would
    /// compare two hours of the machine. False if this one does not count.
    pub(crate) fn end_round(&mut self, round: u32) -> bool {
        let of_round = |run: &&mut Run| run.round == round && run.result.error.is_none();
        let runs = self.entries.iter_mut().flat_map(|entry| &mut entry.runs).filter(of_round);
        let mut runs: Vec<_> = runs.collect();
        let is_kept = runs.iter().all(|run| run.kept);
        runs.iter_mut().for_each(|run| run.kept = is_kept);
        is_kept
    }

    pub(crate) fn summarize(&mut self) {
        for entry in &mut self.entries {
            entry.summary = entry.summarize();
        }
    }
}

impl Entry {
    pub(crate) fn new(broker: &str) -> Self {
        Self {
            broker: broker.to_owned(),
            runs: Vec::new(),
            error: None,
            syscalls_per_delivery: None,
            summary: None,
        }
    }

    /// The runs that count.
    pub(crate) fn counted(&self) -> Vec<&Run> {
        let is_noisy = self.is_noisy();
        let counts = |run: &&Run| if is_noisy { run.result.error.is_none() } else { run.kept };
        self.runs.iter().filter(counts).collect()
    }

    fn is_noisy(&self) -> bool {
        let kept = self.runs.iter().filter(|run| run.kept).count();
        kept < KEPT_MIN.min(self.runs.len())
    }

    /// The run in the middle, by rate: what plots over time and percentiles show.
    pub(crate) fn middle(&self) -> Option<&Run> {
        let mut runs = self.counted();
        runs.sort_by(|a, b| {
            a.result.measured.delivered_per_s.total_cmp(&b.result.measured.delivered_per_s)
        });
        runs.get(runs.len() / 2).copied()
    }

    fn summarize(&self) -> Option<Summary> {
        let counted = self.counted();
        if counted.is_empty() {
            return None;
        }
        let is_noisy = self.is_noisy();
        let dropped = if is_noisy { 0 } else { self.runs.len() - counted.len() };
        let measured: Vec<_> = counted.iter().map(|run| &run.result.measured).collect();
        let spread = |of: fn(&super::Measured) -> f64| {
            Spread::of(measured.iter().map(|measured| of(measured)).collect())
        };
        Some(Summary {
            runs: counted.len(),
            dropped,
            is_noisy,
            delivered_per_s: spread(|measured| measured.delivered_per_s),
            cpu_us_per_delivery: spread(|measured| measured.cpu_us_per_delivery),
            p50_us: spread(|measured| measured.latency.p50_us),
            p90_us: spread(|measured| measured.latency.p90_us),
            p99_us: spread(|measured| measured.latency.p99_us),
            p99_9_us: spread(|measured| measured.latency.p99_9_us),
            p99_99_us: spread(|measured| measured.latency.p99_99_us),
            max_us: spread(|measured| measured.latency.max_us),
            flood_delivered_per_s: spread(|measured| measured.flood_delivered_per_s),
            memory_per_connection: spread(|measured| measured.memory_per_connection),
            memory_peak: spread(|measured| super::bytes(measured.memory_peak)),
            idle_cpu_share: spread(|measured| measured.idle_cpu_share),
            idle_wakeups_per_s: spread(|measured| measured.idle_wakeups_per_s),
            load_cpu_share: spread(|measured| measured.load_cpu_share),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;
    use crate::cli::Knobs;

    #[track_caller]
    fn check(values: &[f64], want: [f64; 3]) {
        let Spread { q1, median, q3 } = Spread::of(values.to_vec());
        assert_eq!([q1, median, q3], want);
    }

    #[test]
    fn quartiles() {
        check(&[], [0.0, 0.0, 0.0]);
        check(&[7.0], [7.0, 7.0, 7.0]);
        check(&[2.0, 1.0], [1.25, 1.5, 1.75]);
        check(&[5.0, 1.0, 2.0, 4.0, 3.0], [2.0, 3.0, 4.0]);
    }

    /// Entries with these runs, quiet or not, round by round.
    fn comparison(quiet: &[&[bool]]) -> Comparison {
        let entries = quiet.iter().map(|quiet| {
            let runs = (1..).zip(*quiet).map(|(round, &kept)| {
                let result = RunResult {
                    scenario: Scenario::Stream,
                    broker: String::new(),
                    publishers: 1,
                    subscribers: 1,
                    fanout: 1,
                    qos: 0,
                    payload_bytes: 0,
                    protocol: String::new(),
                    window: None,
                    rate: None,
                    knobs: Knobs::default(),
                    measured: Measured::default(),
                    error: None,
                };
                Run { round, kept, result }
            });
            Entry { runs: runs.collect(), ..Entry::new("one") }
        });
        Comparison {
            machine: Machine::this(),
            command: Vec::new(),
            scenario: Scenario::Stream,
            noise_max: 0.1,
            is_complete: true,
            notes: Vec::new(),
            entries: entries.collect(),
        }
    }

    /// How many runs of each entry count, and whether they are noisy ones.
    fn counted(quiet: &[&[bool]]) -> Vec<(usize, usize, bool)> {
        let mut comparison = comparison(quiet);
        for round in 1..=5 {
            comparison.end_round(round);
        }
        comparison.summarize();
        let summaries = comparison.entries.iter().filter_map(|entry| entry.summary.as_ref());
        summaries.map(|found| (found.runs, found.dropped, found.is_noisy)).collect()
    }

    #[test]
    fn a_round_counts_for_all_or_for_none() {
        let quiet = [true; 5];
        assert_eq!(counted(&[&quiet, &quiet]), [(5, 0, false), (5, 0, false)]);
        let once = [true, true, false, true, true];
        let twice = [false, true, true, true, true];
        assert_eq!(counted(&[&quiet, &once]), [(4, 1, false), (4, 1, false)]);
        assert_eq!(counted(&[&once, &twice]), [(3, 2, false), (3, 2, false)]);
        // Each has been quiet somewhen, but never both.
        let first = [true, true, true, false, false];
        let last = [false, false, true, true, true];
        assert_eq!(counted(&[&first, &last]), [(5, 0, true), (5, 0, true)]);
        // One that has ended early says nothing about later rounds.
        assert_eq!(counted(&[&quiet, &once[..2]]), [(5, 0, false), (2, 0, false)]);
        assert_eq!(counted(&[&[true]]), [(1, 0, false)]);
        assert_eq!(counted(&[&[false]]), [(1, 0, true)]);
    }
}
