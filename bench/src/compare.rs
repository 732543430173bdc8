//! Brokers side by side: every round runs each of them once, so that a noisy minute hits all alike.

use crate::brokers::Choice;
use crate::cli::{Compare, Knobs};
use crate::error::Error;
use crate::measure::machine::Machine;
use crate::plan::{Scenario, WireKind};
use crate::report::comparison::{Comparison, Entry, Run};
use crate::report::{html, json, table, write};
use crate::runner;

/// Runs the comparison, prints it and writes its files.
///
/// # Errors
/// If a broker is missing (before anything is run), or if a run was not whole (after all are done).
pub(crate) fn run(compare: &Compare) -> Result<(), Error> {
    let mut state = State::new(compare)?;
    let rounds_max = compare.rounds_max.unwrap_or(compare.rounds).max(compare.rounds);
    for round in 1..=rounds_max {
        if round > compare.rounds && state.is_enough(compare.rounds) {
            break;
        }
        state.round(round, rounds_max);
        // What there is so far outlives whatever comes.
        state.save(false)?;
    }
    if compare.knobs.syscalls {
        state.count_syscalls();
    }
    state.comparison.summarize();
    print!("{}", table::comparison(&state.comparison));
    state.save(true)?;
    if let Some(path) = &compare.html {
        write(path, &html::page(&state.comparison))?;
    }
    state.verdict()
}

struct State<'a> {
    compare: &'a Compare,
    contenders: Vec<Contender>,
    comparison: Comparison,
}

/// A broker, or one variant of its run. Its position is that of its entry.
#[derive(Debug)]
struct Contender {
    label: String,
    choice: Choice,
    knobs: Knobs,
}

impl<'a> State<'a> {
    fn new(compare: &'a Compare) -> Result<Self, Error> {
        // System calls are counted once, after the rounds.
        let knobs = Knobs { syscalls: false, ..compare.knobs.clone() };
        let variants = variants(&compare.variants, &knobs)?;
        let mut contenders = Vec::new();
        let mut notes = Vec::new();
        for name in compare.brokers.iter().chain(&compare.running) {
            let choice = Choice::parse(name)?;
            if choice.wire() == WireKind::Floor && keeps_something(compare.scenario) {
                notes.push(format!("{} left out: a floor keeps nothing", choice.name()));
                continue;
            }
            for (suffix, knobs) in &variants {
                runner::check(&choice, compare.scenario, &compare.place, knobs)?;
                let label = format!("{}{suffix}", choice.name());
                let choice = choice.clone();
                contenders.push(Contender { label, choice, knobs: knobs.clone() });
            }
        }
        let entries = contenders.iter().map(|contender| Entry::new(&contender.label)).collect();
        let comparison = Comparison {
            machine: Machine::this(),
            command: json::command(),
            scenario: compare.scenario,
            noise_max: compare.noise_max / 100.0,
            is_complete: false,
            notes,
            entries,
        };
        for note in &comparison.notes {
            eprintln!("{note}");
        }
        Ok(Self { compare, contenders, comparison })
    }

    fn round(&mut self, round: u32, rounds_max: u32) {
        for (contender, entry) in self.contenders.iter().zip(&mut self.comparison.entries) {
            if entry.error.is_some() {
                continue;
            }
            let Contender { label, choice, knobs } = contender;
            eprint!("round {round} of {rounds_max}  {label:<12} ");
            let Compare { scenario, place, .. } = self.compare;
            match runner::run(choice, *scenario, place, knobs, false) {
                Ok((result, outcome)) => {
                    let noise = result.measured.noise;
                    let is_quiet = noise.steal + noise.others <= self.comparison.noise_max;
                    let run = Run { round, kept: outcome.is_ok() && is_quiet, result };
                    eprintln!("{}", table::progress(&run));
                    entry.runs.push(run);
                    entry.error = outcome.err().map(|error| error.to_string());
                }
                Err(error) => {
                    eprintln!("{error}");
                    entry.error = Some(error.to_string());
                }
            }
        }
        if !self.comparison.end_round(round) {
            eprintln!("round {round} of {rounds_max}  dropped");
        }
    }

    /// True if every broker that still runs has so many quiet rounds.
    fn is_enough(&self, rounds: u32) -> bool {
        self.comparison
            .entries
            .iter()
            .filter(|entry| entry.error.is_none())
            .all(|entry| entry.runs.iter().filter(|run| run.kept).count() >= rounds as usize)
    }

    fn count_syscalls(&mut self) {
        for (contender, entry) in self.contenders.iter().zip(&mut self.comparison.entries) {
            if entry.error.is_some() {
                continue;
            }
            let Contender { label, choice, knobs } = contender;
            eprint!("system calls  {label:<12} ");
            let Compare { scenario, place, .. } = self.compare;
            match runner::traced(choice, *scenario, place, knobs) {
                Ok(calls) => {
                    entry.syscalls_per_delivery = calls;
                    eprintln!("{} per delivery", table::count(calls.unwrap_or(0.0)));
                }
                // It says nothing against the figures there are.
                Err(error) => eprintln!("{error}"),
            }
        }
    }

    fn save(&mut self, is_complete: bool) -> Result<(), Error> {
        self.comparison.is_complete = is_complete;
        match &self.compare.json {
            Some(path) => write(path, &json::text(&self.comparison)),
            None => Ok(()),
        }
    }

    fn verdict(&self) -> Result<(), Error> {
        let failed: Vec<String> = self
            .comparison
            .entries
            .iter()
            .filter_map(|entry| Some(format!("{}: {}", entry.broker, entry.error.as_ref()?)))
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(Error::Broker(failed.join("\n       "))) }
    }
}

/// What is behind a broker's name, and the flags that belong to it.
fn variants(given: &[String], common: &Knobs) -> Result<Vec<(String, Knobs)>, Error> {
    if given.is_empty() {
        return Ok(vec![(String::new(), common.clone())]);
    }
    let variant = |text: &String| {
        let Some((name, flags)) = text.split_once('=') else {
            return Err(Error::Usage(format!("--variant {text}: NAME=FLAGS is wanted")));
        };
        // As for all others, system calls are counted once, after the rounds.
        if flags.contains("--syscalls") {
            return Err(Error::Usage(format!("--variant {text}: --syscalls is for all or none")));
        }
        Ok((format!("/{name}"), common.with(flags)?))
    };
    given.iter().map(variant).collect()
}

fn keeps_something(scenario: Scenario) -> bool {
    match scenario {
        Scenario::Retained | Scenario::Persistent => true,
        Scenario::Stream
        | Scenario::P2p
        | Scenario::Fanout
        | Scenario::Fanin
        | Scenario::Connect
        | Scenario::Wildcards
        | Scenario::Overload => false,
    }
}
