//! The shell of muring: everything with side effects. The core crate (`shards`) decides, this
//! carries out.
//!
//! - [`cli`] what was typed, [`config`] what is meant
//! - [`host`] is the machine fit, [`cores`] which core runs which shard, [`listen`] opens sockets,
//!   [`accounts`] knows users' names
//! - [`security`] reads the files that say who may come and do what, at the start and on SIGHUP;
//!   [`checks`] finds out who clients are, without holding up a shard
//! - [`boot`] starts and stops, [`signals`] and [`log`] as their names say
//! - [`passwd`] edits password files, a program of its own
//! - [`reactor`] one core's loop; the only place that calls the core, and (in three files of it) the
//!   only unsafe code

#![deny(unsafe_code)]

pub mod accounts;
pub mod boot;
pub mod checks;
pub mod cli;
pub mod config;
pub mod cores;
pub mod host;
pub mod listen;
pub mod log;
pub mod passwd;
pub mod reactor;
mod reload;
pub mod security;
pub mod signals;

use boot::{Broker, Ending, Reload, StartError};
use config::Config;

/// Runs a broker until SIGTERM or SIGINT, or until it fails.
///
/// # Errors
/// If it cannot start.
pub fn run(config: &Config) -> Result<Ending, StartError> {
    run_with(config, None)
}

/// The same; on SIGHUP, `reload` reads the configuration again.
///
/// # Errors
/// If it cannot start.
pub fn run_with(config: &Config, reload: Option<Reload>) -> Result<Ending, StartError> {
    let broker = Broker::start(config)?.reloading_by(reload);
    let _signals = broker.watch_signals()?;
    broker.announce();
    Ok(broker.wait())
}
