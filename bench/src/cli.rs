//! What was typed. What it means for a run is [`crate::plan`]'s part.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::plan::{Cross, Scenario};
use crate::relay::Fault;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    about = "Load generator for MQTT brokers: open loop, verified delivery, floors, comparisons",
    after_help = "Exit codes: 0 the run is whole and every delivery was right; 1 it is not; \
        2 wrong use of flags."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pairs of one publisher and one subscriber, saturating
    Stream(Run),
    /// Pairs, one topic each, at a fixed rate
    P2p(Run),
    /// Each message to many subscribers
    Fanout(Run),
    /// Many publishers to a few subscribers that share one subscription
    Fanin(Run),
    /// A storm of connections, which then stay idle
    Connect(Run),
    /// Retained messages, delivered to those who subscribe
    Retained(Run),
    /// Messages matched against many filters with wildcards
    Wildcards(Run),
    /// QoS 1 and sessions that are kept, subscribers come and go
    Persistent(Run),
    /// 1.5 times what the broker can do, and a subscriber that does not read
    Overload(Run),
    /// Several brokers, rounds interleaved, with medians, quartiles and ratios
    Compare(Compare),
    /// The table of the project's goals, from a folder that perf/goals has filled
    Goals {
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// A relay that moves the same bytes without any MQTT
    Floor(Floor),
}

/// One run against one broker.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// muring, mosquitto, rumqttd, nats, floor-epoll or floor-uring, which are started for the run;
    /// or NAME=HOST:PORT[,pid=N] for one that runs; without its pid neither its CPU time and memory
    /// are measured, nor what others took meanwhile. A name that begins with "floor" is a relay
    #[arg(long, default_value = "muring", value_name = "BROKER")]
    pub(crate) broker: String,

    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) knobs: Knobs,

    /// Write the result here as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// No progress while it runs
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Which core does what.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Cores of a broker that is started, for example 0 or 0-1
    #[arg(long, default_value = "0", value_name = "LIST")]
    pub(crate) broker_cores: String,

    /// Cores of the load generator; its loop is one thread
    #[arg(long, default_value = "1", value_name = "LIST")]
    pub(crate) load_cores: String,

    /// Pin nothing
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// Program to start for a broker, in place of what is found; may be given more than once
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) program: Vec<String>,
}

/// Readiness interface of the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Io {
    Epoll,
    Uring,
}

/// Parameters of a run; what is not given depends on the scenario.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub(crate) struct Knobs {
    /// Publishers; of pairs, their number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) publishers: Option<u32>,

    /// Subscribers; a multiple of the publishers makes no sense for pairs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: Option<u32>,

    /// Messages a second of each publisher: an open loop, latency counts from the intended time
    #[arg(long, value_name = "PER_S", conflicts_with = "window")]
    pub(crate) rate: Option<f64>,

    /// Outstanding messages of each publisher: a closed loop, as fast as the broker can
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) window: Option<u32>,

    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: Option<u8>,

    /// Payload bytes, at least 16
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=16_000_000))]
    pub(crate) payload: Option<u32>,

    /// 3.1.1 or 5.0
    #[arg(long, value_name = "VERSION", value_parser = ["3.1.1", "5.0"])]
    pub(crate) protocol: Option<String>,

    /// Topic aliases that each client takes from the broker, with MQTT 5.0 [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) aliases: Option<u16>,

    /// Client identifiers such that publisher and subscriber share a shard of muring, or never do
    #[arg(long, value_enum)]
    pub(crate) cross: Option<Cross>,

    /// Shards of the broker; muring is started with as many [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) shards: Option<u8>,

    /// Unacknowledged messages of each publisher at QoS 1 and 2 [default: 1000, or the
    /// window if that is larger]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) inflight: Option<u32>,

    /// Seconds before the measured window [default: 1]
    #[arg(long, value_name = "S")]
    pub(crate) warm_up: Option<f64>,

    /// Seconds of the measured window [default: 4]
    #[arg(long, value_name = "S")]
    pub(crate) duration: Option<f64>,

    /// Seconds for connecting and subscribing [default: 60]
    #[arg(long, value_name = "S")]
    pub(crate) setup_max: Option<f64>,

    /// Seconds without a delivery after which what is missing counts as lost [default: 3]
    #[arg(long, value_name = "S")]
    pub(crate) drain_max: Option<f64>,

    /// Microseconds between two looks at the sockets. The load loop never sleeps in epoll or
    /// io_uring, so that the broker does not pay for waking it; 0 never sleeps [default: 50]
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) tick_us: Option<u32>,

    /// Interface of the load generator's sockets [default: epoll]
    #[arg(long, value_enum)]
    pub(crate) io: Option<Io>,

    /// Source addresses 127.0.0.1, 127.0.0.2, ... of the connections [default: as many as needed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub(crate) sources: Option<u8>,

    /// Connections that are being made at the same time [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connecting: Option<u32>,

    /// connect: each client subscribes to a topic of its own
    #[arg(long)]
    pub(crate) subscribe: bool,

    /// connect: bytes of that topic [default: 9]
    #[arg(long, value_name = "BYTES", requires = "subscribe")]
    #[arg(value_parser = clap::value_parser!(u16).range(9..=60_000))]
    pub(crate) filter_bytes: Option<u16>,

    /// connect: seconds for which the connections are held [default: 4]
    #[arg(long, value_name = "S")]
    pub(crate) hold: Option<f64>,

    /// retained: messages; wildcards: filters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) filters: Option<u32>,

    /// persistent: milliseconds from one cut connection to the next [default: 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) churn_ms: Option<u32>,

    /// persistent: milliseconds until a client comes back [default: 500]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) away_ms: Option<u32>,

    /// overload: what is offered, as a multiple of what the warm-up has shown to be possible
    /// [default: 1.5]
    #[arg(long, value_name = "X")]
    pub(crate) factor: Option<f64>,

    /// stream, p2p, fanout: beside the others, one topic is published to as fast as the broker takes
    /// it, at QoS 0, with one subscriber that reads and one that does not. Latency and deliveries are
    /// those of the others; CPU time and system calls are not
    #[arg(long)]
    pub(crate) disturb: bool,

    /// After the run, a short one under strace, for system calls per delivery
    #[arg(long)]
    pub(crate) syscalls: bool,
}

/// Flags of a run on their own.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Flags {
    #[command(flatten)]
    knobs: Knobs,
}

/// Knobs by name, so that one added later is not forgotten.
struct Fields(serde_json::Map<String, Value>);

impl Fields {
    fn of(knobs: &Knobs) -> serde_json::Result<Self> {
        serde_json::from_str(&serde_json::to_string(knobs)?).map(Self)
    }
}

impl Knobs {
    /// These, with `flags` (separated by spaces) in place of what they say or on top of it.
    ///
    /// # Errors
    /// If one of them is no flag of a run, or does not fit to the others.
    pub(crate) fn with(&self, flags: &str) -> Result<Self, Error> {
        let refused = |why: &dyn std::fmt::Display| Error::Usage(format!("{flags:?}: {why}"));
        let given =
            Flags::try_parse_from(flags.split_whitespace()).map_err(|error| refused(&error))?.knobs;
        let mut fields = Fields::of(self).map_err(|error| refused(&error))?;
        let given = Fields::of(&given).map_err(|error| refused(&error))?.0.into_iter();
        // A switch can only be set.
        let is_given = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        fields.0.extend(given.filter(|(_, value)| is_given(value)));
        let knobs: Self =
            serde_json::from_value(Value::Object(fields.0)).map_err(|error| refused(&error))?;
        if knobs.rate.is_some() && knobs.window.is_some() {
            return Err(refused(&"--rate and --window exclude each other"));
        }
        Ok(knobs)
    }
}

/// Several brokers side by side.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    #[arg(long, value_enum)]
    pub(crate) scenario: Scenario,

    /// Brokers that are started for each round; muring{KEY=VALUE+KEY=VALUE} is muring with settings of
    /// its own (those of its --set; a key in capitals is an environment variable)
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "muring,mosquitto,rumqttd,nats,floor-uring,floor-epoll"
    )]
    pub(crate) brokers: Vec<String>,

    /// Another broker, one that runs: NAME=HOST:PORT[,pid=N]; may be given more than once
    #[arg(long = "broker", value_name = "BROKER")]
    pub(crate) running: Vec<String>,

    /// A variant of every broker's run, with flags of a run that are its own, for example
    /// "all=--cross all"; may be given more than once, and all variants run in every round
    #[arg(long = "variant", value_name = "NAME=FLAGS")]
    pub(crate) variants: Vec<String>,

    /// Rounds; each runs every broker once
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Rounds at most, if some were dropped as too noisy [default: no more than --rounds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds_max: Option<u32>,

    /// A run in which others or steal took more of the machine than this many percent is dropped
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    pub(crate) noise_max: f64,

    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) knobs: Knobs,

    /// Write everything here as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a report here that a browser shows without a network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// A relay floor.
#[derive(Debug, Args)]
pub(crate) struct Floor {
    #[arg(value_enum)]
    pub(crate) io: Io,

    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,

    /// Make a mistake on purpose, for tests of the delivery check
    #[arg(long, value_enum, requires = "every")]
    pub(crate) fault: Option<Fault>,

    /// The mistake comes with every so many messages of a publisher
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) every: Option<u64>,
}

/// What was typed, without the program. The alias `cargo load` ends with `--`, so that flags come here
/// and not to cargo; a second one, typed by habit, means nothing more.
pub(crate) fn words() -> impl Iterator<Item = OsString> {
    let mut words = std::env::args_os().skip(1).peekable();
    words.next_if(|word| word == "--");
    words
}

impl Command {
    /// The scenario and its flags; `None` for what is no run.
    pub(crate) fn run(&self) -> Option<(Scenario, &Run)> {
        Some(match self {
            Self::Stream(run) => (Scenario::Stream, run),
            Self::P2p(run) => (Scenario::P2p, run),
            Self::Fanout(run) => (Scenario::Fanout, run),
            Self::Fanin(run) => (Scenario::Fanin, run),
            Self::Connect(run) => (Scenario::Connect, run),
            Self::Retained(run) => (Scenario::Retained, run),
            Self::Wildcards(run) => (Scenario::Wildcards, run),
            Self::Persistent(run) => (Scenario::Persistent, run),
            Self::Overload(run) => (Scenario::Overload, run),
            Self::Floor(_) | Self::Compare(_) | Self::Goals { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_what_it_says_and_the_rest_of_the_others() {
        let common = Knobs { rate: Some(5.0), qos: Some(1), subscribe: true, ..Knobs::default() };
        let with = |flags| common.with(flags).map(|knobs| (knobs.rate, knobs.qos, knobs.subscribe));
        assert_eq!(with("").ok(), Some((Some(5.0), Some(1), true)));
        assert_eq!(with("--qos 2 --rate 7").ok(), Some((Some(7.0), Some(2), true)));
        for flags in ["--rounds 9", "--window 9", "--qos 7", "qos"] {
            assert!(with(flags).is_err(), "{flags}");
        }
    }
}
