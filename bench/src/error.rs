//! What can go wrong, each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The flags do not fit together.
    #[error("{0}")]
    Usage(String),

    #[error(
        "no broker at {address}: {source}. Is it running, and is this its address? \
         (--broker NAME=HOST:PORT, or a name that this program can start itself)"
    )]
    Unreachable { address: SocketAddr, source: io::Error },

    #[error("the broker refused client {client}: {why}")]
    Refused { client: String, why: String },

    #[error("the broker answered client {client} with something that is not an answer: {why}")]
    Answer { client: String, why: String },

    #[error(
        "the broker's connection to client {client} ended {after_ms} ms after the start: {why}. \
         See the broker's log"
    )]
    Lost { client: String, after_ms: u64, why: String },

    #[error(
        "{connected} of {wanted} clients were ready after {seconds} s; --setup-max gives more time"
    )]
    SetupTime { connected: usize, wanted: usize, seconds: u64 },

    #[error(
        "{wanted} connections need {needed} file descriptors and the limit is {limit}: \
         raise it with `ulimit -n {needed}` (hard limit: `ulimit -Hn`, LimitNOFILE= of systemd)"
    )]
    Descriptors { wanted: usize, needed: u64, limit: u64 },

    #[error(
        "{wanted} connections need {needed} source addresses of {ports} ports each and --sources \
         is {sources}: give --sources {needed}, or widen net.ipv4.ip_local_port_range"
    )]
    Ports { wanted: usize, needed: usize, ports: usize, sources: usize },

    #[error("delivery check failed: {0}")]
    Delivery(String),

    #[error("{0}")]
    Broker(String),

    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },

    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Error {
    /// Wrong use of flags ends with 2, everything else with 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
