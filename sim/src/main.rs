//! `cargo sim`: plays seeds and says what they led to.
//!
//! Exit codes: 0 every seed kept its promises; 1 one did not; 2 wrong use of flags.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use shards::marks::Mark;
use sim::batch::{self, Plan, Total};
use sim::shrink;
use sim::swarm::{Fault, Options, Skips};

/// Whole shards, model clients and faults on one thread, from one seed.
#[derive(Debug, Parser)]
#[command(name = "sim", max_term_width = 100)]
struct Cli {
    /// Plays so many seeds, on all cores
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,

    /// The first of them. Fresh worlds need fresh numbers: a number names the same world as long as
    /// neither broker nor simulator changes
    #[arg(long, value_name = "S", default_value_t = 0)]
    start: u64,

    /// Plays this one seed only
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,

    /// Leaves out these acts of the one seed, for example 3,5-9
    #[arg(long, value_name = "ACTS", requires = "seed")]
    skip: Option<String>,

    /// Leaves out these kinds of faults, for example cut,stall
    #[arg(long, value_name = "FAULTS", requires = "seed", value_delimiter = ',')]
    without: Vec<String>,

    /// Plays the one seed with so many shards
    #[arg(long, value_name = "N", requires = "seed", value_parser = clap::value_parser!(u8).range(1..=8))]
    shards: Option<u8>,

    /// Plays the one seed with so many clients
    #[arg(long, value_name = "N", requires = "seed", value_parser = clap::value_parser!(u8).range(2..=8))]
    clients: Option<u8>,

    /// Prints every step and packet of the one seed
    #[arg(long, requires = "seed")]
    trace: bool,

    /// Says how often each rare branch of the core was taken, the rarest first
    #[arg(long, conflicts_with = "seed")]
    marks: bool,

    /// Plays every seed twice; both runs must take the same course
    #[arg(long)]
    twice: bool,

    /// Plants one bug after the other in the broker and counts the seeds that find it, at most as
    /// many as --seeds says
    #[cfg(feature = "planted")]
    #[arg(long)]
    planted: bool,
}

/// A batch of so many seeds must come to every mark.
const MARKED_SEEDS_MIN: u64 = 1000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "planted")]
    if cli.planted {
        return planted(cli.seeds);
    }
    let Some(seed) = cli.seed else {
        let plan = Plan { start: cli.start, count: cli.seeds, is_twice: cli.twice };
        return many(&plan, cli.marks);
    };
    match skips(&cli) {
        Ok(skips) => one(&Options::draw(seed).without(&skips), &cli),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Every bug must be found.
#[cfg(feature = "planted")]
fn planted(seeds: u64) -> ExitCode {
    let table = sim::planted::table(seeds);
    print!("{table}");
    if table.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the flags leave out.
fn skips(cli: &Cli) -> Result<Skips, String> {
    let mut skips =
        Skips { shards: cli.shards, clients: cli.clients.map(usize::from), ..Skips::default() };
    if let Some(acts) = &cli.skip {
        skips.acts.extend(shrink::parse_acts(acts)?);
    }
    for name in &cli.without {
        skips
            .faults
            .insert(Fault::named(name).ok_or_else(|| format!("no kind of fault: {name:?}"))?);
    }
    Ok(skips)
}

fn one(options: &Options, cli: &Cli) -> ExitCode {
    if cli.trace {
        println!("{options:#?}");
    }
    let course = batch::play(options, cli.trace);
    let (seed, steps, acts) = (options.seed, course.steps, course.acts);
    println!("seed {seed}: {steps} steps, {acts} acts, hash {:016x}", course.hash);
    if cli.twice && batch::play(options, false) != course {
        println!("the second run took another course");
        return ExitCode::FAILURE;
    }
    match course.failure {
        None => ExitCode::SUCCESS,
        Some(message) => {
            println!("failed at step {steps}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn many(plan: &Plan, wants_marks: bool) -> ExitCode {
    let begin = Instant::now();
    let total = batch::run(*plan);
    report(&total, begin.elapsed());
    if wants_marks {
        print_marks(&total);
    }
    if let Some((seed, step, message)) = &total.failure {
        println!("\nseed {seed} failed at step {step}: {message}");
        println!("to see it again: cargo sim --seed {seed} --trace");
        print_smaller(*seed, message);
        return ExitCode::FAILURE;
    }
    let missed: Vec<_> = total.missed().collect();
    if plan.count < MARKED_SEEDS_MIN || missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nno seed came to these branches: {missed:?}");
    ExitCode::FAILURE
}

/// The failure with as little around it as can be.
fn print_smaller(seed: u64, message: &str) {
    let acts = batch::play(&Options::draw(seed), false).acts;
    let skips = shrink::shrink(seed, acts, message, |options| batch::play(options, false).failure);
    let course = batch::play(&Options::draw(seed).without(&skips), false);
    let left = acts as usize - skips.acts.len();
    println!("{left} of {acts} acts are enough: cargo sim --seed {seed}{skips} --trace");
    println!("which fails at step {}: {}", course.steps, course.failure.unwrap_or_default());
}

fn report(total: &Total, elapsed: Duration) {
    let counters = &total.snapshot.counters;
    println!("seeds       {}", total.seeds);
    println!("steps       {}", total.steps);
    println!("deliveries  {}", counters.messages_sent);
    for fault in Fault::ALL {
        println!("fault       {:<10} {}", fault.name(), total.faults[fault.index()]);
    }
    println!("crashes     {}", total.crashes);
    println!("marks hit   {} of {}", Mark::ALL.len() - total.missed().count(), Mark::ALL.len());
    println!("elapsed     {:.1} s", elapsed.as_secs_f64());
    println!("cpu         {:.1} s", cpu_s());
    println!("hash        {:016x}", total.hash);
}

fn print_marks(total: &Total) {
    let mut marks: Vec<_> = total.marks.iter().zip(Mark::ALL).collect();
    marks.sort_unstable();
    for (count, mark) in marks {
        println!("mark        {mark:<22?} {count}");
    }
}

/// What this process has used of all cores so far.
fn cpu_s() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(used.tv_sec.unsigned_abs());
    let nanos = Duration::from_nanos(used.tv_nsec.unsigned_abs());
    (seconds + nanos).as_secs_f64()
}
