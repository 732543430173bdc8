//! The `bench` program: a load generator for MQTT brokers, and what to compare them with.

mod cli;
mod error;
mod load;
mod measure;
mod net;
mod plan;
mod relay;
mod report;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command, Floor, Io, Run};
use error::Error;
use net::epoll::Epoll;
use net::uring::Uring;
use plan::Scenario;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
    let (name, address) = run.broker.split_once('=').unwrap();
    let kind = if name.starts_with("floor") { plan::WireKind::Floor } else { plan::WireKind::Mqtt };
    let (address, pid) =
        address.split_once(",pid=").map_or((address, None), |(a, p)| (a, p.parse().ok()));
    let plan = plan::plan(scenario, kind, &run.knobs)?;
    let target = load::Target {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        process: pid.map(measure::process::Process::new),
    };
    let (result, outcome) = load::run(Epoll::new().unwrap(), plan, &target, !run.quiet);
    print!("{}", report::table::run(&result));
    outcome
}
