//! The benchmarks: each makes its world once and then repeats one operation.
//!
//! An operation returns what it achieved (bytes, hits, deliveries), and each benchmark says how much
//! that must be: one that measures something else than it says fails its test.

mod codec;
mod mailbox;
mod shard;
mod topic;

use std::fmt;
use std::hint::black_box;

/// How large a world to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// What the name of the benchmark says.
    Full,
    /// Small enough for a test of a debug build.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests make tiny worlds"))]
    Tiny,
}

/// One operation worth knowing the cost of.
#[derive(Debug)]
pub(crate) struct Bench {
    /// `area/operation`.
    pub(crate) name: &'static str,
    /// What one operation is.
    pub(crate) operation: &'static str,
    /// Operations that a budget is counted over: enough to make rare work visible.
    pub(crate) budget_operations: u64,
    /// What one operation achieves.
    pub(crate) achieves: u64,
    pub(crate) make: fn(Size) -> Loop,
}

/// A world and the operation to repeat in it.
pub(crate) struct Loop(Box<dyn FnMut(u64) -> u64>);

impl Loop {
    /// The loop is compiled together with the operation, so that calls cost nothing.
    fn new(mut operation: impl FnMut() -> u64 + 'static) -> Self {
        Self(Box::new(move |count| {
            let mut achieved = 0;
            for _ in 0..count {
                achieved += black_box(operation());
            }
            achieved
        }))
    }

    /// Does `count` operations; the sum of what they achieved.
    pub(crate) fn run(&mut self, count: u64) -> u64 {
        (self.0)(count)
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loop")
    }
}

/// All benchmarks, in the order of the layers of the core.
pub(crate) static ALL: &[Bench] = &[
    codec::PUBLISH_DECODE_V311,
    codec::PUBLISH_DECODE_V5,
    codec::PUBLISH_ENCODE_V311,
    codec::PUBLISH_ENCODE_V5,
    codec::PUBACK_DECODE,
    codec::PUBACK_ENCODE,
    codec::PUBREL_DECODE_V5,
    codec::CONNECT_DECODE,
    topic::MATCH_HOT_1K,
    topic::MATCH_COLD_1K,
    topic::MATCH_HOT_1M,
    topic::MATCH_COLD_1M,
    topic::SUBSCRIBE,
    mailbox::HOP,
    mailbox::HOP_BATCH,
    shard::FANOUT_1,
    shard::FANOUT_50,
    shard::FANOUT_500,
    shard::FANOUT_CROSS,
    shard::RUN,
    shard::RUN_CROSS,
    shard::POLL_1,
    shard::POLL_63,
    shard::QOS_1_ROUND,
    shard::QOS_2_ROUND,
    shard::CONNECT,
];

/// The benchmarks whose name contains `part`.
pub(crate) fn matching(part: Option<&str>) -> Result<Vec<&'static Bench>, String> {
    let part = part.unwrap_or_default();
    let found: Vec<_> = ALL.iter().filter(|bench| bench.name.contains(part)).collect();
    if found.is_empty() {
        return Err(format!("no benchmark is named like {part:?}; `cargo perf list` names them"));
    }
    Ok(found)
}

/// The benchmark with exactly this name.
pub(crate) fn named(name: &str) -> Result<&'static Bench, String> {
    let found = ALL.iter().find(|bench| bench.name == name);
    found.ok_or_else(|| format!("no benchmark is named {name:?}; `cargo perf list` names them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_achieves_what_it_says() {
        for bench in ALL {
            let mut operations = (bench.make)(Size::Tiny);
            for round in 0..3 {
                assert_eq!(operations.run(1), bench.achieves, "{}, round {round}", bench.name);
            }
            assert_eq!(operations.run(100), 100 * bench.achieves, "{}", bench.name);
        }
    }

    #[test]
    fn names_are_different() {
        for bench in ALL {
            assert!(std::ptr::eq(named(bench.name).unwrap(), bench), "{}", bench.name);
        }
        assert!(matching(Some("nothing")).is_err());
    }
}
