//! The table of goals: what the project wants to reach, and where it is by a folder of results that
//! `perf/goals` has made. Nothing is measured here, and nothing that is missing is passed over.

mod list;
mod read;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use read::Value;

use crate::error::Error;
use crate::report::comparison::Spread;

/// Fewer runs are said to be so few.
const RUNS_MIN: usize = 9;

/// One line of the table.
#[derive(Debug)]
struct Goal {
    row: &'static str,
    what: &'static str,
    /// Name of the results, without what says their form.
    file: &'static str,
    source: Source,
    /// All of them hold, or the goal is missed.
    must: &'static [Bound],
    aim: &'static [Bound],
    /// An entry that is shown beside it; empty if there is none.
    beside: &'static str,
}

/// Where a figure is found.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// An entry of a comparison.
    Run { entry: &'static str, metric: Metric },
    /// A micro benchmark.
    Bench { name: &'static str },
    /// A line that a program has printed, which begins with the goal's own words.
    Line { unit: &'static str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Cpu,
    P999,
    Memory,
    IdleShare,
    IdleWakeups,
    Syscalls,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost(f64),
    /// At most so many times the figure of another entry of the same comparison.
    Times(f64, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    AimMet,
    MustMet,
    Missed,
    /// Shown for comparison.
    None,
}

/// Prints the table of the results in `folder`.
///
/// # Errors
/// If there is no result for one of the goals (after all were shown).
pub(crate) fn run(folder: &Path) -> Result<(), Error> {
    let mut text = String::new();
    let mut missing = BTreeSet::new();
    let mut origins = BTreeSet::new();
    text.push_str("| Row | Goal | Measured | Must | Aim | Verdict |\n|---|---|---|---|---|---|\n");
    for goal in list::ALL {
        let written = read_file(folder, goal);
        if let (Ok(written), Source::Run { .. }) = (&written, goal.source) {
            origins.extend(read::origin(written));
        }
        let line = written.and_then(|written| line(goal, |source| value(goal, source, &written)));
        let (measured, verdict) = line.unwrap_or_else(|why| {
            missing.insert(goal.file);
            (why.replace('|', "/").replace('\n', " "), "no result".to_owned())
        });
        let (must, aim) = (bounds(goal.must, goal.source), bounds(goal.aim, goal.source));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {measured} | {must} | {aim} | {verdict} |",
            goal.row, goal.what
        );
    }
    for origin in origins {
        println!("{origin}");
    }
    println!("\n{text}");
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_iter().collect();
    Err(Error::Broker(format!("no result: {}", names.join(", "))))
}

/// What the tools have written for this goal.
fn read_file(folder: &Path, goal: &Goal) -> Result<String, String> {
    let form = match goal.source {
        Source::Run { .. } => "json",
        Source::Bench { .. } => "tsv",
        Source::Line { .. } => "log",
    };
    let name = format!("{}.{form}", goal.file);
    fs::read_to_string(folder.join(&name)).map_err(|error| format!("{name}: {error}"))
}

fn value(goal: &Goal, source: Source, written: &str) -> Result<Value, String> {
    match source {
        Source::Run { entry, metric } => read::of_comparison(written, entry, metric),
        Source::Bench { name } => read::of_bench(written, name),
        Source::Line { .. } => read::of_line(written, goal.what),
    }
}

/// What was measured, in words, and the verdict. `find` has the figures of the goal's file.
fn line(
    goal: &Goal,
    find: impl Fn(Source) -> Result<Value, String>,
) -> Result<(String, String), String> {
    let own = find(goal.source)?;
    let unit = goal.source.unit();
    let mut measured = format!("{}{unit}", spread(&own.spread));
    let mut others = Vec::new();
    for name in goal.others() {
        let other = find(goal.source.of(name))?;
        let factor = own.spread.median / other.spread.median;
        let ratio = if factor.is_finite() { digits(factor) } else { "?".to_owned() };
        // Writing to a string does not fail.
        let _ = write!(measured, "; {ratio} x {name} ({})", spread(&other.spread));
        others.push(other);
    }
    if !own.with.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(measured, "; {}", own.with);
    }
    let median = |name| find(goal.source.of(name)).map(|other| other.spread.median);
    let verdict = goal.judge(own.spread.median, median)?;
    others.push(own);
    Ok((measured, format!("{}{}", verdict.words(), reservations(&others))))
}

/// What speaks against the figures.
fn reservations(values: &[Value]) -> String {
    let mut text = String::new();
    if values.iter().any(|value| value.is_noisy) {
        text.push_str(", noisy");
    }
    if let Some(runs) = values.iter().filter_map(|value| value.runs).min().filter(|&n| n < RUNS_MIN)
    {
        // Writing to a string does not fail.
        let _ = write!(text, ", {runs} of {RUNS_MIN} rounds");
    }
    text
}

impl Goal {
    /// The entries that it is compared with, each once.
    fn others(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for bound in self.must.iter().chain(self.aim) {
            if let Bound::Times(_, name) = bound
                && !names.contains(name)
            {
                names.push(*name);
            }
        }
        if !self.beside.is_empty() {
            names.push(self.beside);
        }
        names
    }

    /// `other` knows the medians of other entries.
    fn judge(
        &self,
        own: f64,
        other: impl Fn(&'static str) -> Result<f64, String>,
    ) -> Result<Verdict, String> {
        let all_hold = |bounds: &[Bound]| {
            bounds.iter().try_fold(true, |holds, bound| {
                let most = match bound {
                    Bound::AtMost(most) => *most,
                    Bound::Times(factor, name) => factor * other(name)?,
                };
                Ok::<bool, String>(holds && own <= most)
            })
        };
        let (must, aim) = (all_hold(self.must)?, all_hold(self.aim)?);
        Ok(match (must, aim) {
            _ if self.must.is_empty() => Verdict::None,
            (true, true) => Verdict::AimMet,
            (true, false) => Verdict::MustMet,
            (false, _) => Verdict::Missed,
        })
    }
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::AimMet => "aim met",
            Self::MustMet => "must met",
            Self::Missed => "missed",
            Self::None => "for comparison",
        }
    }
}

impl Source {
    /// The same figure of another entry.
    fn of(self, entry: &'static str) -> Self {
        match self {
            Self::Run { metric, .. } => Self::Run { entry, metric },
            Self::Bench { .. } | Self::Line { .. } => self,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Run { metric: Metric::Cpu | Metric::P999, .. } => " us",
            Self::Run { metric: Metric::Memory, .. } => " B",
            Self::Run { metric: Metric::IdleShare, .. } => " cores",
            Self::Run { metric: Metric::IdleWakeups, .. } => " /s",
            Self::Run { metric: Metric::Syscalls, .. } => "",
            Self::Bench { .. } => " ns",
            Self::Line { unit: "B" } => " B",
            Self::Line { .. } => "",
        }
    }
}

fn bounds(bounds: &[Bound], source: Source) -> String {
    let words: Vec<String> = bounds
        .iter()
        .map(|bound| match bound {
            Bound::AtMost(most) => format!("{most}{}", source.unit()),
            Bound::Times(factor, name) => format!("{factor} x {name}"),
        })
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" and ") }
}

/// The median, and the quartiles if there is more than one value.
fn spread(spread: &Spread) -> String {
    let Spread { q1, median, q3 } = *spread;
    if q1 < q3 {
        format!("{} [{}..{}]", digits(median), digits(q1), digits(q3))
    } else {
        digits(median)
    }
}

/// Three digits, or all that are in front of the point.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        x if x >= 100.0 || x == 0.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        x if x >= 0.1 => 3,
        x if x >= 0.01 => 4,
        _ => 5,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal {
        row: "1",
        what: "something",
        file: "1-something",
        source: Source::Run { entry: "muring", metric: Metric::Cpu },
        must: &[Bound::Times(0.5, "peer")],
        aim: &[Bound::Times(0.2, "peer"), Bound::AtMost(15.0)],
        beside: "",
    };

    fn value(median: f64, runs: usize, is_noisy: bool) -> Value {
        let spread = Spread { q1: median - 1.0, median, q3: median + 1.0 };
        Value { spread, runs: Some(runs), is_noisy, with: String::new() }
    }

    #[track_caller]
    fn check(own: f64, want: &str) {
        let find = |source| match source {
            Source::Run { entry: "muring", .. } => Ok(value(own, 9, false)),
            Source::Run { entry: "peer", .. } => Ok(value(100.0, 9, false)),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(line(&GOAL, find).map(|(_, verdict)| verdict), Ok(want.to_owned()));
    }

    #[test]
    fn verdicts() {
        check(15.0, "aim met");
        check(15.5, "must met");
        check(20.5, "must met");
        check(50.0, "must met");
        check(50.5, "missed");
    }

    #[test]
    fn an_aim_does_not_count_without_the_must() {
        let goal = Goal { must: &[Bound::AtMost(1.0)], aim: &[Bound::AtMost(9.0)], ..GOAL };
        let found = line(&goal, |_| Ok(value(5.0, 9, false)));
        assert_eq!(found.map(|(_, verdict)| verdict), Ok("missed".to_owned()));
    }

    #[test]
    fn what_was_measured_is_shown_with_ratios_and_reservations() {
        let find = |source| match source {
            Source::Run { entry: "muring", .. } => Ok(value(10.0, 3, false)),
            _ => Ok(value(40.0, 9, true)),
        };
        let want = "10.0 [9.00..11.0] us; 0.250 x peer (40.0 [39.0..41.0])";
        let verdict = "must met, noisy, 3 of 9 rounds";
        assert_eq!(line(&GOAL, find), Ok((want.to_owned(), verdict.to_owned())));
    }

    #[test]
    fn a_peer_without_a_figure_leaves_no_verdict() {
        let find = |source| match source {
            Source::Run { entry: "muring", .. } => Ok(value(10.0, 9, false)),
            _ => Err("gone".to_owned()),
        };
        assert_eq!(line(&GOAL, find), Err("gone".to_owned()));
    }

    #[test]
    fn every_row_is_there_and_the_script_makes_its_file() {
        let rows: BTreeSet<String> = list::ALL.iter().map(|goal| goal.row.to_owned()).collect();
        assert_eq!(rows, (1..=16).map(|row| row.to_string()).collect());
        let script = include_str!("../../../perf/goals");
        for goal in list::ALL {
            assert!(script.contains(&format!(" {} ", goal.file)), "{}", goal.file);
            assert!(!goal.must.is_empty() || !goal.beside.is_empty(), "{}", goal.what);
        }
    }
}
