//! The log: lines on standard error, written by a thread of its own.
//!
//! A shard that logs copies the line into a bounded queue and goes on; if standard error is slower
//! than that for long, lines are lost, not time.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::config::{LogFormat, LogLevel};

/// Writes what is still in the queue when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Starts the log of this process. A second call has no effect on where lines go.
pub fn start(format: LogFormat, level: LogLevel) -> LogGuard {
    let (writer, worker) =
        NonBlockingBuilder::default().lossy(true).thread_name("muring-log").finish(io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .with_target(false)
        // Else it depends on whether some other crate of the build wants colours.
        .with_ansi(false)
        .with_writer(writer);
    // Fails if a program that runs a broker inside itself has a log of its own, which then counts.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    LogGuard { _worker: worker }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
