//! Figures out of what the tools have written.

use super::Metric;
use crate::report::comparison::{Comparison, Spread};
use crate::report::table;

/// A figure and what a reader must know of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) spread: Spread,
    /// Runs behind it; `None` if it is a count that repeats.
    pub(super) runs: Option<usize>,
    pub(super) is_noisy: bool,
    /// What it was measured with, if that depends on the machine; else empty.
    pub(super) with: String,
}

impl Value {
    fn count(spread: Spread) -> Self {
        Self { spread, runs: None, is_noisy: false, with: String::new() }
    }
}

/// An entry of a comparison.
pub(super) fn of_comparison(text: &str, entry: &str, metric: Metric) -> Result<Value, String> {
    let comparison: Comparison = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !comparison.is_complete {
        return Err("the comparison was cut short".to_owned());
    }
    let found = comparison.entries.iter().find(|own| own.broker == entry);
    let found = found.ok_or_else(|| format!("no {entry} in it"))?;
    if let Some(error) = &found.error {
        return Err(format!("{entry}: {error}"));
    }
    let summary = found.summary.as_ref().ok_or_else(|| format!("{entry}: no run"))?;
    let spread = match metric {
        Metric::Cpu => summary.cpu_us_per_delivery,
        Metric::P999 => summary.p99_9_us,
        Metric::Memory => summary.memory_per_connection,
        Metric::IdleShare => summary.idle_cpu_share,
        Metric::IdleWakeups => summary.idle_wakeups_per_s,
        Metric::Syscalls => {
            let calls = found.syscalls_per_delivery;
            let calls = calls.ok_or_else(|| format!("{entry}: system calls were not counted"))?;
            // Counted in one run, which the noise of the machine hardly changes.
            return Ok(Value::count(Spread::of(vec![calls])));
        }
    };
    // An idle broker may well do nothing; a delivery that costs nothing was not looked at.
    let may_be_nothing = matches!(metric, Metric::IdleShare | Metric::IdleWakeups);
    if spread.median <= 0.0 && !may_be_nothing {
        return Err(format!("{entry}: not measured"));
    }
    let measured = found.counted().first().map(|run| &run.result.measured);
    let with = match metric {
        Metric::Memory | Metric::IdleShare | Metric::IdleWakeups => measured
            .map_or_else(String::new, |measured| format!("{} connections", measured.connections)),
        Metric::P999 if summary.flood_delivered_per_s.median > 0.0 => {
            format!("{}/s of the flood", table::rate(summary.flood_delivered_per_s.median))
        }
        Metric::P999 | Metric::Cpu | Metric::Syscalls => String::new(),
    };
    Ok(Value { spread, runs: Some(summary.runs), is_noisy: summary.is_noisy, with })
}

/// Where a comparison was made: machine and commit.
pub(super) fn origin(text: &str) -> Option<String> {
    let machine = serde_json::from_str::<Comparison>(text).ok()?.machine;
    Some(format!(
        "{}, {} cores, Linux {}, commit {}",
        machine.cpu, machine.cores, machine.kernel, machine.commit
    ))
}

/// A micro benchmark, from its raw data.
pub(super) fn of_bench(text: &str, name: &str) -> Result<Value, String> {
    let runs: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let is_own = fields.next() == Some(name);
            fields.nth(1).filter(|_| is_own)?.parse().ok()
        })
        .collect();
    if runs.is_empty() {
        return Err(format!("no {name} in it"));
    }
    let count = Some(runs.len());
    let is_noisy = text.contains("NOT QUIET");
    Ok(Value { runs: count, is_noisy, ..Value::count(Spread::of(runs)) })
}

/// The numbers behind `name: ` at the start of a line.
pub(super) fn of_line(text: &str, name: &str) -> Result<Value, String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let rest = rest.ok_or_else(|| format!("no line {name:?} in it"))?;
    let numbers: Vec<f64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
    if numbers.is_empty() {
        return Err(format!("no number behind {name:?}"));
    }
    Ok(Value::count(Spread::of(numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::machine::Machine;
    use crate::plan::Scenario;
    use crate::report::comparison::Entry;
    use crate::report::json;

    fn comparison(is_complete: bool) -> Comparison {
        let entry = |broker| Entry { syscalls_per_delivery: Some(0.25), ..Entry::new(broker) };
        let mut gone = Entry::new("gone");
        gone.error = Some("ended".to_owned());
        Comparison {
            machine: Machine::this(),
            command: Vec::new(),
            scenario: Scenario::Stream,
            noise_max: 0.1,
            is_complete,
            notes: Vec::new(),
            entries: vec![entry("muring"), gone],
        }
    }

    #[track_caller]
    fn check_refused(comparison: &Comparison, entry: &str, why: &str) {
        let got = of_comparison(&json::text(comparison), entry, Metric::Cpu);
        let error = got.expect_err("it has no such figure");
        assert!(error.contains(why), "{error:?} does not say {why:?}");
    }

    #[test]
    fn a_comparison_without_the_figure_says_why() {
        check_refused(&comparison(false), "muring", "cut short");
        check_refused(&comparison(true), "nats", "no nats");
        check_refused(&comparison(true), "gone", "ended");
        check_refused(&comparison(true), "muring", "no run");
        assert!(of_comparison("{", "muring", Metric::Cpu).is_err());
    }

    #[test]
    fn raw_runs_have_quartiles_and_say_if_they_were_disturbed() {
        let text = "# steal: 0.0 %\nbenchmark\toperations\tns_per_operation\n\
                    a/b\t10\t1.5\na/b-c\t10\t9\na/b\t10\t2.5\n";
        let value = of_bench(text, "a/b").unwrap();
        assert_eq!((value.spread.median, value.runs, value.is_noisy), (2.0, Some(2), false));
        let disturbed = format!("# others: 7.0 %  NOT QUIET\n{text}");
        assert!(of_bench(&disturbed, "a/b").unwrap().is_noisy);
        assert!(of_bench(text, "a").is_err());
    }

    #[test]
    fn numbers_behind_a_name() {
        let text = "running\nbytes each: 3 1 2 of 7\nbytes: none\n";
        assert_eq!(of_line(text, "bytes each").map(|value| value.spread.median), Ok(2.0));
        assert!(of_line(text, "bytes").is_err());
        assert!(of_line(text, "allocations").is_err());
    }
}
