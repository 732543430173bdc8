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
    knobs: Knobs,
    choices: Vec<Choice>,
    comparison: Comparison,
}

impl<'a> State<'a> {
    fn new(compare: &'a Compare) -> Result<Self, Error> {
        // System calls are counted once, after the rounds.
        let knobs = Knobs { syscalls: false, ..compare.knobs.clone() };
        let mut choices = Vec::new();
        let mut notes = Vec::new();
        for name in compare.brokers.iter().chain(&compare.running) {
            let choice = Choice::parse(name)?;
            if choice.wire() == WireKind::Floor && keeps_something(compare.scenario) {
                notes.push(format!("{} left out: a floor keeps nothing", choice.name()));
                continue;
            }
            runner::check(&choice, compare.scenario, &compare.place, &knobs)?;
            choices.push(choice);
        }
        let entries = choices.iter().map(|choice| Entry::new(choice.name())).collect();
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
        Ok(Self { compare, knobs, choices, comparison })
    }

    fn round(&mut self, round: u32, rounds_max: u32) {
        for (choice, entry) in self.choices.iter().zip(&mut self.comparison.entries) {
            if entry.error.is_some() {
                continue;
            }
            eprint!("round {round} of {rounds_max}  {:<12} ", choice.name());
            let Compare { scenario, place, .. } = self.compare;
            match runner::run(choice, *scenario, place, &self.knobs, false) {
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
        for (choice, entry) in self.choices.iter().zip(&mut self.comparison.entries) {
            if entry.error.is_some() {
                continue;
            }
            eprint!("system calls  {:<12} ", choice.name());
            let Compare { scenario, place, .. } = self.compare;
            match runner::traced(choice, *scenario, place, &self.knobs) {
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
