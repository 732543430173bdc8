//! The configuration: read from file, environment and flags, checked, typed.
//!
//! Precedence from weak to strong: built-in default, file, environment, flags.

mod document;
mod layers;
mod resolve;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shards::limits::Settings;

pub use self::document::{LogFormat, LogLevel};
use self::layers::Layers;
use crate::cli::Cli;
use crate::reactor::{BufferSizes, Idle};

/// Everything a broker needs to know to start. Made by [`Config::load`], or by hand in a program that
/// runs a broker inside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen, each with its position in the configuration (a host name may mean several
    /// addresses).
    pub listen: Vec<(u16, SocketAddr)>,
    /// One core per shard, in the order of the shards; a core may serve several.
    pub cores: Vec<usize>,
    pub idle: Idle,
    pub buffers: BufferSizes,
    pub settings: Settings,
    pub log: LogFormat,
    pub log_level: LogLevel,
    /// How long a stop may take before it is cut short.
    pub stop_timeout: Duration,
}

/// A configuration with what an operator wants to see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// The resolved configuration as TOML.
    pub printed: String,
    /// What looks like a mistake, but need not be one.
    pub warnings: Vec<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    Variable(String),
    Flag(String),
    /// All of them together.
    Merged,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}, line {line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Merged => f.write_str("configuration"),
        }
    }
}

/// The operator's mistake: where it stands, what is wrong and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {error}", path.display())]
    NoFile { path: PathBuf, error: io::Error },
    #[error("{place}: {problem}")]
    Unreadable { place: Source, problem: String },
    #[error("{place}: {key}: {problem}")]
    Value { place: Source, key: String, problem: String },
}

impl Config {
    /// Reads and checks everything. `available` are the cores this process may use.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn load(
        cli: &Cli,
        environment: impl Iterator<Item = (String, String)>,
        available: &[usize],
    ) -> Result<Loaded, ConfigError> {
        let layers = Layers::gather(cli, environment)?;
        resolve::resolve(&layers, available)
    }
}
