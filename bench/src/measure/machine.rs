//! The machine: what it is, and how much of it went elsewhere.

use std::fs;

use serde::{Deserialize, Serialize};

/// Time of the machine's cores since it started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    all: u64,
    idle: u64,
    steal: u64,
}

/// Shares of all cores' time that somebody else took, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// The hypervisor.
    pub(crate) steal: f64,
    /// Processes that are neither the broker nor the load generator.
    pub(crate) others: f64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Fields of the first line: user nice system idle iowait irq softirq steal (guest times are
    /// within user and nice).
    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let at = |index: usize| fields.get(index).copied().unwrap_or(0);
        Self { all: fields.iter().sum(), idle: at(3) + at(4), steal: at(7) }
    }
}

impl Noise {
    /// Between two readings, in which the processes of the run had `own_ns` of CPU time.
    #[expect(clippy::cast_precision_loss, reason = "a share of some seconds")]
    pub(crate) fn between(before: Ticks, after: Ticks, own_ns: u64) -> Self {
        let all = after.all.saturating_sub(before.all);
        if all == 0 {
            return Self::default();
        }
        let idle = after.idle.saturating_sub(before.idle);
        let steal = after.steal.saturating_sub(before.steal);
        let own = own_ns as f64 / (1e9 / rustix::param::clock_ticks_per_second() as f64);
        let busy = all.saturating_sub(idle + steal) as f64;
        Self { steal: steal as f64 / all as f64, others: (busy - own).max(0.0) / all as f64 }
    }
}

/// What a result was measured on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Of the source tree that the load generator was started in, with `-dirty` behind it if it
    /// differs; empty outside of one.
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            kernel: kernel.trim().to_owned(),
            cpu: cpu.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_bytes: memory.unwrap_or(0) * 1024,
            commit: commit(),
        }
    }
}

fn commit() -> String {
    let git = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_what_is_neither_idle_nor_ours() {
        let before = Ticks::parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1 1 1\n");
        let after = Ticks::parse("cpu  150 0 120 1100 0 0 10 20 0 0\n");
        // 200 ticks: 100 idle, 20 stolen, 80 busy, of which 50 were ours (half a second at 100 Hz).
        let noise = Noise::between(before, after, 500_000_000);
        assert!((noise.steal - 0.1).abs() < 1e-9, "{noise:?}");
        assert!((noise.others - 0.15).abs() < 1e-9, "{noise:?}");
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(!machine.kernel.is_empty() && machine.cores > 0 && machine.memory_bytes > 0);
    }
}
