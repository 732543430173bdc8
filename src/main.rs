//! The `muring` program: flags to configuration, run, exit code.

#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use heap::Heap;
use muring::boot::{Ending, StartError};
use muring::cli::{Cli, Command, Passwd};
use muring::config::{Config, Loaded};
use muring::security::Security;
use muring::{cores, host, log, passwd, run_with};

#[global_allocator]
static ALLOCATOR: Heap = Heap;

/// `EX_CONFIG` of `sysexits.h`: configuration or machine not fit.
const EXIT_CONFIG: u8 = 78;

/// A signal that ends a process is told as this plus its number.
const EXIT_SIGNAL: u8 = 128;

fn main() -> ExitCode {
    // Before any large memory is asked for: it counts from the first use of a page.
    let huge_pages = heap::pages::allow();
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Passwd(flags)) => return edit_passwords(flags),
        None => {}
    }
    // Variables that are not valid Unicode cannot be ours.
    let environment = || {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
    };
    let loaded = match Config::load(&cli, environment(), &cores::available()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("muring: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if cli.check {
        return check(&loaded);
    }
    if cli.print_config {
        print!("{}", loaded.printed);
        return ExitCode::SUCCESS;
    }
    let _log = log::start(loaded.config.log, loaded.config.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("{huge_pages}");
    let cores = cores::available();
    let reload = Box::new(move || Config::load(&cli, environment(), &cores));
    match run_with(&loaded.config, Some(reload)) {
        Ok(Ending::Stopped) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Ending::TimedOut) => ExitCode::SUCCESS,
        Ok(Ending::Forced(signal)) => ExitCode::from(
            u8::try_from(signal).map_or(1, |signal| EXIT_SIGNAL.saturating_add(signal)),
        ),
        Ok(Ending::Failed) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            exit_code(&error)
        }
    }
}

fn edit_passwords(flags: &Passwd) -> ExitCode {
    match passwd::run(flags) {
        Ok(done) => {
            for note in &done.notes {
                eprintln!("muring: {note}");
            }
            println!("{}", done.what);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("muring: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Checks what can be checked without starting.
fn check(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        eprintln!("muring: {warning}");
    }
    match Security::load(&loaded.config) {
        Ok(security) => {
            for warning in &security.warnings {
                eprintln!("muring: {warning}");
            }
        }
        Err(error) => {
            eprintln!("muring: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    }
    match host::prepare(loaded.config.buffers) {
        Ok(host) => {
            for warning in &host.warnings {
                eprintln!("muring: {warning}");
            }
            println!("configuration and machine are fit");
            ExitCode::SUCCESS
        }
        Err(unfit) => {
            for problem in &unfit.0 {
                eprintln!("muring: {problem}");
            }
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn exit_code(error: &StartError) -> ExitCode {
    match error {
        StartError::Unfit(_)
        | StartError::Listen(_)
        | StartError::Security(_)
        | StartError::Shards { .. }
        | StartError::Shard { .. } => ExitCode::from(EXIT_CONFIG),
        StartError::Io(_) => ExitCode::FAILURE,
    }
}
