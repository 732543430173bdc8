//! The configuration: read from file, environment and flags, checked, typed.
//!
//! Precedence from weak to strong: built-in default, file, environment, flags.

mod admission;
mod auth;
mod document;
mod keys;
mod layers;
mod listeners;
mod references;
mod resolve;
mod tables;
mod warnings;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use shards::limits::Settings;

pub use self::admission::{AdmissionConfig, AdmissionLimits};
pub use self::auth::{AuthConfig, HttpConfig, JwtConfig};
pub use self::document::{LogFormat, LogLevel};
use self::layers::Layers;
pub use self::listeners::{
    CertificateConfig, ListenerConfig, Place, TlsConfig, UnixPlace, WebSocketConfig,
};
pub use self::references::Secret;
pub use self::tables::{CertificateIdentity, ClientCertificates, Kind, Method, TlsVersion};
use crate::cli::Cli;
use crate::reactor::{BufferSizes, Idle};

/// Everything a broker needs to know to start. Made by [`Config::load`], or by hand in a program that
/// runs a broker inside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen and who may come in there, by the position that the core knows a listener by.
    pub listeners: Vec<ListenerConfig>,
    pub auth: AuthConfig,
    /// Who may publish and subscribe to what; without it, everybody to everything.
    pub acl: Option<PathBuf>,
    pub admission: AdmissionConfig,
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
    /// Reads and checks everything; may be called again, to find out what has changed. Files that the
    /// configuration names are not read, but their modes are looked at. `available` are the cores this process may use.
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
