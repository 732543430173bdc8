//! Results on the terminal.

use std::fmt::Write as _;

use super::RunResult;
use crate::plan::Scenario;

/// One run, a line for each figure.
pub(crate) fn run(result: &RunResult) -> String {
    let measured = &result.measured;
    let latency = &measured.latency;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<24}{value}");
    };
    line("broker", result.broker.clone());
    line("scenario", describe(result));
    let unit = if result.scenario == Scenario::Connect { "connects/s" } else { "delivered/s" };
    line(unit, rate(measured.delivered_per_s));
    line(
        "latency us",
        format!(
            "p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}",
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p99_9_us,
            latency.p99_99_us,
            latency.max_us
        ),
    );
    if measured.broker_cpu_ns > 0 {
        line("broker CPU", format!("{:.3} us/delivery", measured.cpu_us_per_delivery));
        line("broker cores", format!("{:.2}", measured.broker_cpu_share));
    }
    line("load generator cores", format!("{:.2}", measured.load_cpu_share));
    if let Some(calls) = measured.syscalls_per_delivery {
        line("system calls", format!("{calls:.3} per delivery"));
    }
    if measured.memory_peak > 0 {
        line(
            "memory",
            format!(
                "{} before, {} connected ({:.0} B/connection), {} peak",
                mebibytes(measured.memory_before),
                mebibytes(measured.memory_connected),
                measured.memory_per_connection,
                mebibytes(measured.memory_peak)
            ),
        );
    }
    if result.scenario == Scenario::Connect {
        line("idle cores", format!("{:.4}", measured.idle_cpu_share));
    } else {
        let all = format!("{} sent, {} delivered", measured.sent_all, measured.delivered_all);
        line("whole run", all);
        line("delivery check", measured.faults.to_string());
    }
    line(
        "others, steal",
        format!("{:.1} %, {:.1} %", measured.noise.others * 100.0, measured.noise.steal * 100.0),
    );
    if let Some(error) = &result.error {
        line("NOT WHOLE", error.clone());
    }
    text
}

/// The scenario and what shapes it.
pub(crate) fn describe(result: &RunResult) -> String {
    let pace = match (result.window, result.rate) {
        _ if result.scenario == Scenario::Connect => String::new(),
        (Some(window), _) => format!(", window {window}"),
        (None, Some(per_s)) => format!(", {} msg/s offered", rate(per_s)),
        (None, None) => String::new(),
    };
    format!(
        "{}: {} publishers, {} subscribers, QoS {}, {} B{pace}, MQTT {}",
        result.scenario.name(),
        result.publishers,
        result.subscribers,
        result.qos,
        result.payload_bytes,
        result.protocol
    )
}

/// A rate with three or four digits.
pub(crate) fn rate(per_s: f64) -> String {
    match per_s {
        x if x >= 1e6 => format!("{:.2}M", x / 1e6),
        x if x >= 1e4 => format!("{:.1}k", x / 1e3),
        x => format!("{x:.0}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to one place")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
