//! Results for programs.

use serde::{Deserialize, Serialize};

use super::RunResult;
use crate::cli;
use crate::measure::machine::Machine;

/// A result and what it was measured on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Single {
    pub(crate) machine: Machine,
    pub(crate) command: Vec<String>,
    pub(crate) result: RunResult,
}

impl Single {
    pub(crate) fn new(result: RunResult) -> Self {
        Self { machine: Machine::this(), command: command(), result }
    }
}

/// As it was typed, without the program's path.
pub(crate) fn command() -> Vec<String> {
    cli::words().map(|word| word.to_string_lossy().into_owned()).collect()
}

pub(crate) fn text(value: &impl Serialize) -> String {
    // Our own types have no maps with odd keys, the only thing that JSON cannot take.
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
}
