//! What was typed: one field per flag, `None` where nothing was. Resolving it is `config`'s part.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The command line of `muring`.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "muring",
    version,
    about = "An MQTT broker for Linux: io_uring, one pinned shard per core, no shared locks",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Every setting can be given in a file, in the environment (MURING_LISTEN, \
        MURING_LIMITS_PACKET_BYTES_MAX, ...) and as a flag; the later wins over the earlier.\n\n\
        Exit codes: 0 stopped as asked; 1 failed while running; 2 wrong use of flags; \
        78 configuration or machine not fit; 130 or 143 a second SIGINT or SIGTERM cut the stop short."
)]
pub struct Cli {
    /// Configuration file (TOML) [environment: MURING_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Listen here, for example `127.0.0.1:1883`, `[::]:1883` or a host name with a port; may be given
    /// more than once; port 0 lets the kernel choose [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// Shards, 1 to 64 [default: one per available core]
    #[arg(long, value_name = "N")]
    pub shards: Option<i64>,

    /// Cores to run the shards on, for example 0-3,8; fewer cores than shards are used in turn
    /// [default: all available]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<String>,

    /// What an idle shard does: `park` sleeps at once, a number watches for so many microseconds
    /// first, `spin` never sleeps and uses its core fully [default: park]
    #[arg(long, value_name = "spin|park|MICROSECONDS")]
    pub idle: Option<String>,

    /// Form of the log lines on standard error: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    pub log: Option<String>,

    /// Least severe level logged: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Any other setting by its key in the file, for example limits.packet_bytes_max=65536; may be
    /// given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Check configuration and machine, say what is wrong, and end
    #[arg(long)]
    pub check: bool,

    /// Print the resolved configuration as TOML, and end
    #[arg(long)]
    pub print_config: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does instead of being a broker.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Edit a password file
    ///
    /// Asks for the password twice. New entries are hashed with argon2id unless told otherwise. The file
    /// is replaced as a whole; owner and mode stay, a new one can be read by its owner alone. A running
    /// broker reads it again on SIGHUP.
    #[command(override_usage = "muring passwd [OPTIONS] FILE USER\n       \
        muring passwd --delete FILE USER\n       muring passwd --upgrade FILE")]
    Passwd(Passwd),
}

/// `muring passwd`.
#[derive(Clone, Debug, Args)]
pub struct Passwd {
    /// The password file, of this broker or of Mosquitto
    pub file: PathBuf,

    /// Whose password to set
    #[arg(required_unless_present = "upgrade")]
    pub user: Option<String>,

    /// Make a new file; one that exists is not touched
    #[arg(short, long, conflicts_with_all = ["delete", "upgrade"])]
    pub create: bool,

    /// Take the user out
    #[arg(short = 'D', long, conflicts_with_all = ["upgrade", "stdin", "scram", "pbkdf2"])]
    pub delete: bool,

    /// Put hashes in the place of plain passwords (lines `user:password`)
    #[arg(short = 'U', long, conflicts_with_all = ["user", "stdin"])]
    pub upgrade: bool,

    /// Read the password from standard input, up to its end; one line end behind it is left out
    #[arg(long)]
    pub stdin: bool,

    /// Write an entry for SCRAM-SHA-256; the password itself is accepted as well
    #[arg(long, conflicts_with = "pbkdf2")]
    pub scram: bool,

    /// Write an entry that Mosquitto 2.0 can read as well ($7$)
    #[arg(long)]
    pub pbkdf2: bool,
}
