//! The performance workshop: what an operation of the core costs, and whether that has changed.
//!
//! `cargo perf bench` measures wall time, for people on a quiet machine. `cargo perf budget` counts
//! instructions under callgrind and heap allocations, which repeat on any machine and are what CI
//! checks against `perf/budgets.txt`. `cargo perf memory` counts the bytes of a subscription. `cargo
//! perf flame` shows where the time goes, `cargo perf host` whether this machine can be trusted; every
//! result is printed below that. `cargo perf model` predicts from measured costs what more cores would
//! do. The same benchmarks run as tests with tiny sizes. The script `perf/goals` measures all goals of
//! the project, with this and with the load generator.
//!
//! Exit status: 0 is well, 1 is above budget or predicted wrongly, 2 means that nothing could be
//! measured.

mod allocations;
mod benches;
mod budget;
mod callgrind;
mod flame;
mod hop;
mod host;
mod measure;
mod memory;
mod model;
mod rig;
mod wall;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo perf", about = "Micro benchmarks, budgets and profiles of muring's core")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Names the benchmarks and says what one operation of each is
    List,
    /// Measures wall time per operation: median and quartiles of many runs
    Bench {
        /// Only benchmarks whose name contains this
        name: Option<String>,
        /// Runs of each benchmark, at least 30
        #[arg(long, default_value_t = wall::RUNS_MIN, value_parser = clap::value_parser!(u32).range(i64::from(wall::RUNS_MIN)..))]
        runs: u32,
        /// Also writes every single run there, below the machine's description
        #[arg(long, value_name = "FILE")]
        raw: Option<PathBuf>,
    },
    /// Counts instructions and heap allocations per operation
    Budget(BudgetArgs),
    /// Shows the hottest functions of a benchmark, or of a running program
    Flame {
        /// The benchmark's whole name
        name: Option<String>,
        /// A running program instead, for example a broker under load
        #[arg(long, conflicts_with = "name")]
        pid: Option<u32>,
        /// How long to watch
        #[arg(long, default_value_t = 5)]
        seconds: u32,
    },
    /// Counts the bytes that a subscription takes among a million
    Memory,
    /// Measures mail between two cores, for `model`
    Hop,
    /// Predicts the throughput of 1 to 64 shards from measured costs
    Model {
        /// The costs, for example perf/results/FOLDER/model.toml; perf/results/README.md has the format
        costs: PathBuf,
    },
    /// Says what this machine is and what disturbs measurements on it
    Host,
    /// What `budget` runs under callgrind
    #[command(hide = true)]
    Measure {
        name: String,
        #[arg(long, default_value_t = 0)]
        plant: u8,
    },
    /// What `flame` watches
    #[command(hide = true)]
    Spin { name: String, seconds: u32 },
}

#[derive(Args, Debug)]
struct BudgetArgs {
    /// Only benchmarks whose name contains this
    name: Option<String>,
    /// Compares with perf/budgets.txt
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Writes perf/budgets.txt
    #[arg(long, conflicts_with = "name")]
    write: bool,
    /// Repeats this share of the work, in percent: shows that a check notices it
    #[arg(long, value_name = "PERCENT", default_value_t = 0, conflicts_with = "write")]
    plant: u8,
}

/// How a command ended that could measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Well,
    AboveBudget,
    /// The scaling model does not predict what was measured.
    Mispredicted,
}

fn main() -> ExitCode {
    // As the broker does. `Command::Host` and each result say what the kernel's mode is.
    let _ = heap::pages::allow();
    match run(Cli::parse().command) {
        Ok(Outcome::Well) => ExitCode::SUCCESS,
        Ok(Outcome::AboveBudget | Outcome::Mispredicted) => ExitCode::from(1),
        Err(why) => {
            eprintln!("perf: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<Outcome, String> {
    match command {
        Command::List => {
            for bench in benches::ALL {
                println!("{:<28} {}", bench.name, bench.operation);
            }
        }
        Command::Bench { name, runs, raw } => wall::run(name.as_deref(), runs, raw.as_deref())?,
        Command::Budget(args) => {
            let mode = match (args.check, args.write) {
                (true, _) => budget::Mode::Check,
                (false, true) => budget::Mode::Write,
                (false, false) => budget::Mode::Show,
            };
            return budget::run(args.name.as_deref(), mode, args.plant);
        }
        Command::Flame { name, pid, seconds } => match (name, pid) {
            (_, Some(pid)) => flame::watch_program(pid, seconds)?,
            (Some(name), None) => flame::watch_bench(&name, seconds)?,
            (None, None) => return Err("say what to watch: a benchmark or --pid".to_owned()),
        },
        Command::Memory => memory::print(),
        Command::Hop => hop::run()?,
        Command::Model { costs } => return model::run(&costs),
        Command::Host => print!("{}", host::describe()),
        Command::Measure { name, plant } => measure::count(benches::named(&name)?, plant),
        Command::Spin { name, seconds } => measure::spin(benches::named(&name)?, seconds),
    }
    Ok(Outcome::Well)
}
