//! The goals: which figure of which file, and what it must and should be.

use super::{Bound, Goal, Metric, Source};
use Bound::{AtMost, Times};

const MURING: &str = "muring";
const MOSQUITTO: &str = "mosquitto";
const FLOOR: &str = "floor-uring";
const LOCAL: &str = "muring/local";

/// In the order in which they are shown. A file is what `perf/goals` writes under this name.
pub(super) const ALL: &[Goal] = &[
    cpu("1", "fan-out 1 to 50, QoS 0, 100 outstanding", "1-fanout-50")
        .must(&[Times(0.06, MOSQUITTO)])
        .aim(&[Times(0.03, MOSQUITTO), Times(1.3, FLOOR)]),
    cpu("2", "20 pairs, QoS 0, 100 outstanding", "2-pairs")
        .must(&[Times(0.12, MOSQUITTO)])
        .aim(&[Times(0.05, MOSQUITTO), Times(2.0, FLOOR)]),
    cpu("3", "20 pairs, QoS 1, 100 outstanding", "3-pairs-qos1")
        .must(&[Times(0.12, MOSQUITTO)])
        .aim(&[Times(0.05, MOSQUITTO)]),
    cpu("4", "20 pairs, 500/s each", "4-paced-20")
        .must(&[Times(0.9, MOSQUITTO)])
        .aim(&[Times(1.1, FLOOR)]),
    cpu("4", "1,000 pairs, 20/s each", "4-paced-1000")
        .must(&[Times(0.9, MOSQUITTO)])
        .aim(&[Times(1.1, FLOOR)]),
    cpu("5", "fan-out 1 to 100, one message a turn (200/s)", "5-fanout-100")
        .must(&[Times(0.8, MOSQUITTO)])
        .aim(&[Times(1.1, FLOOR)]),
    cross("row 1 between 2 shards", "6-1-fanout-50"),
    cross("row 2 between 2 shards", "6-2-pairs"),
    cross("row 3 between 2 shards", "6-3-pairs-qos1"),
    cross("row 4, 20 pairs, between 2 shards", "6-4-paced-20"),
    cross("row 4, 1,000 pairs, between 2 shards", "6-4-paced-1000"),
    cross("row 5 between 2 shards", "6-5-fanout-100"),
    syscalls("system calls per delivery, row 1", "7-1-fanout-50")
        .must(&[AtMost(0.05)])
        .aim(&[AtMost(0.02)]),
    syscalls("system calls per delivery, row 2", "7-2-pairs")
        .must(&[AtMost(0.05)])
        .aim(&[AtMost(0.02)]),
    syscalls("system calls per delivery, row 5", "7-5-fanout-100")
        .must(&[AtMost(0.1)])
        .aim(&[AtMost(0.03)]),
    line("8", "allocations per delivery, QoS 0", "8-allocations", "")
        .must(&[AtMost(0.1)])
        .aim(&[AtMost(0.0)]),
    line("8", "allocations per delivery, QoS 1", "8-allocations", "")
        .must(&[AtMost(0.1)])
        .aim(&[AtMost(0.0)]),
    run("9", "resident memory per idle connection", "9-memory", "muring/idle", Metric::Memory)
        .must(&[AtMost(734.0)])
        .aim(&[AtMost(384.0)]),
    run("9", "the same with a filter of 24 bytes", "9-memory", "muring/filter", Metric::Memory)
        .must(&[AtMost(1792.0)])
        .aim(&[AtMost(700.0)]),
    cpu("10", "CONNECT and CONNACK in a storm of 5,000", "10-connects")
        .must(&[Times(1.0, MOSQUITTO)])
        .aim(&[Times(1.25, FLOOR)]),
    run("11", "p99.9 latency, 20 pairs, 10,000/s, 16 B", "11-latency", MURING, Metric::P999)
        .must(&[Times(1.0, MOSQUITTO)])
        .aim(&[Times(1.25, FLOOR)]),
    run("12", "p99.9 latency beside a flood", "12-others", "muring/disturbed", Metric::P999)
        .must(&[Times(3.0, "muring/alone")])
        .aim(&[Times(1.2, "muring/alone")]),
    run("12", "Mosquitto in its place", "12-others", "mosquitto/disturbed", Metric::P999)
        .beside("mosquitto/alone"),
    run("12", "the floor in its place", "12-others", "floor-uring/disturbed", Metric::P999)
        .beside("floor-uring/alone"),
    bench("13", "match, 1M filters of 4 levels, hot", "13-match", "topic/match-hot-1m")
        .must(&[AtMost(400.0)])
        .aim(&[AtMost(120.0)]),
    bench("13", "match, 1M filters of 4 levels, cold", "13-match", "topic/match-cold-1m")
        .must(&[AtMost(400.0)])
        .aim(&[AtMost(350.0)]),
    bench("14", "PUBLISH, decode", "14-publish", "codec/publish-decode-v311")
        .must(&[AtMost(40.0)])
        .aim(&[AtMost(15.0)]),
    bench("14", "PUBLISH, encode", "14-publish", "codec/publish-encode-v311")
        .must(&[AtMost(40.0)])
        .aim(&[AtMost(10.0)]),
    run("15", "connections that are idle, CPU", "15-idle", MURING, Metric::IdleShare)
        .must(&[Times(1.0, MOSQUITTO)])
        .aim(&[AtMost(0.002)]),
    run("15", "connections that are idle, wake-ups", "15-idle", MURING, Metric::IdleWakeups)
        .must(&[Times(1.0, MOSQUITTO)])
        .aim(&[AtMost(100.0)]),
    line("16", "memory per subscription, 1M filters", "16-index", "B")
        .must(&[AtMost(300.0)])
        .aim(&[AtMost(120.0)]),
];

const fn run(
    row: &'static str,
    what: &'static str,
    file: &'static str,
    entry: &'static str,
    metric: Metric,
) -> Goal {
    Goal { row, what, file, source: Source::Run { entry, metric }, must: &[], aim: &[], beside: "" }
}

const fn cpu(row: &'static str, what: &'static str, file: &'static str) -> Goal {
    run(row, what, file, MURING, Metric::Cpu)
}

const fn cross(what: &'static str, file: &'static str) -> Goal {
    run("6", what, file, "muring/all", Metric::Cpu)
        .must(&[Times(1.5, LOCAL)])
        .aim(&[Times(1.15, LOCAL)])
}

const fn syscalls(what: &'static str, file: &'static str) -> Goal {
    run("7", what, file, MURING, Metric::Syscalls)
}

const fn bench(
    row: &'static str,
    what: &'static str,
    file: &'static str,
    name: &'static str,
) -> Goal {
    Goal { row, what, file, source: Source::Bench { name }, must: &[], aim: &[], beside: "" }
}

/// The line that begins with these words.
const fn line(
    row: &'static str,
    what: &'static str,
    file: &'static str,
    unit: &'static str,
) -> Goal {
    Goal { row, what, file, source: Source::Line { unit }, must: &[], aim: &[], beside: "" }
}

impl Goal {
    const fn must(self, must: &'static [Bound]) -> Self {
        Self { must, ..self }
    }

    const fn aim(self, aim: &'static [Bound]) -> Self {
        Self { aim, ..self }
    }

    /// Shown with its ratio to this entry, and not judged.
    const fn beside(self, beside: &'static str) -> Self {
        Self { beside, ..self }
    }
}
