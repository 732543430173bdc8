//! The `bench` program: a load generator for MQTT brokers, and what to compare them with.

mod brokers;
mod cli;
mod compare;
mod error;
mod goals;
mod load;
mod measure;
mod net;
mod pin;
mod plan;
mod relay;
mod report;
mod runner;
mod settings;

use std::process::ExitCode;

use brokers::Choice;
use clap::Parser as _;
use cli::{Cli, Command, Floor, Io, Run};
use error::Error;
use net::epoll::Epoll;
use net::uring::Uring;
use plan::Scenario;

fn main() -> ExitCode {
    let cli = Cli::parse_from(std::env::args_os().take(1).chain(cli::words()));
    match execute(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(command: &Command) -> Result<(), Error> {
    match (command, command.run()) {
        (_, Some((scenario, run))) => single(scenario, run),
        (Command::Floor(floor), _) => relay(floor),
        (Command::Compare(compare), _) => compare::run(compare),
        (Command::Goals { folder }, _) => goals::run(folder),
        (_, None) => Ok(()),
    }
}

fn relay(floor: &Floor) -> Result<(), Error> {
    let faults = floor.fault.zip(floor.every).map(|(fault, every)| relay::Faults { fault, every });
    let listener = std::net::TcpListener::bind(floor.listen).map_err(Error::system("listen"))?;
    let ended = match floor.io {
        Io::Epoll => Epoll::new().and_then(|net| relay::run(net, listener, faults)),
        Io::Uring => Uring::new().and_then(|net| relay::run(net, listener, faults)),
    };
    ended.map_err(Error::system("relay"))
}

fn single(scenario: Scenario, run: &Run) -> Result<(), Error> {
    let choice = Choice::parse(&run.broker)?;
    runner::check(&choice, scenario, &run.place, &run.knobs)?;
    let (result, outcome) = runner::run(&choice, scenario, &run.place, &run.knobs, !run.quiet)?;
    let text = report::table::run(&result);
    match &run.json {
        Some(path) if path.as_os_str() == "-" => {
            eprint!("{text}");
            println!("{}", report::json::text(&report::json::Single::new(result)));
        }
        Some(path) => {
            print!("{text}");
            report::write(path, &report::json::text(&report::json::Single::new(result)))?;
        }
        None => print!("{text}"),
    }
    outcome
}
