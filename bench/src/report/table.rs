//! Results on the terminal.

use std::fmt::Write as _;

use super::comparison::{Comparison, Run, Spread};
use super::{LOAD_SHARE_MAX, RunResult};
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
    let each = if result.scenario == Scenario::Connect { "connect" } else { "delivery" };
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
        line("broker CPU", format!("{:.3} us/{each}", measured.cpu_us_per_delivery));
        line("broker cores", format!("{:.2}", measured.broker_cpu_share));
    }
    let limit =
        if measured.load_cpu_share > LOAD_SHARE_MAX { " (it may be the limit)" } else { "" };
    line("load generator cores", format!("{:.2}{limit}", measured.load_cpu_share));
    if let Some(calls) = measured.syscalls_per_delivery {
        line("system calls", format!("{} per delivery", count(calls)));
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
        line("idle wake-ups/s", format!("{:.1}", measured.idle_wakeups_per_s));
    } else {
        let all = format!("{} sent, {} delivered", measured.sent_all, measured.delivered_all);
        line("whole run", all);
        line("delivery check", measured.faults.to_string());
        if result.scenario == Scenario::Overload {
            line("offered/s", rate(measured.offered_per_s));
            line("lost by stalled one", measured.lost_stalled.to_string());
        }
    }
    if result.knobs.disturb {
        let (sent, taken) = (measured.flood_sent_per_s, measured.flood_delivered_per_s);
        line("disturbance", format!("{}/s sent, {}/s delivered", rate(sent), rate(taken)));
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

/// One run of a comparison, in one line.
pub(crate) fn progress(run: &Run) -> String {
    let measured = &run.result.measured;
    let noise = (measured.noise.others + measured.noise.steal) * 100.0;
    let mark = match (&run.result.error, run.kept) {
        (Some(error), _) => format!("  NOT WHOLE: {error}"),
        (None, false) => "  too noisy".to_owned(),
        (None, true) => String::new(),
    };
    format!(
        "{:>8}/s  {:>8.3} us CPU  p99 {:>8.0} us  load {:.2}  others {noise:.0} %{mark}",
        rate(measured.delivered_per_s),
        measured.cpu_us_per_delivery,
        measured.latency.p99_us,
        measured.load_cpu_share,
    )
}

/// Medians (and quartiles) of all brokers, and the ratios between them.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    let first = comparison.entries.iter().find_map(|entry| entry.runs.first());
    let scenario =
        first.map_or_else(|| comparison.scenario.name().to_owned(), |run| describe(&run.result));
    let machine = &comparison.machine;
    let _ = writeln!(
        text,
        "\n{scenario}\n{}, {} cores, Linux {}, commit {}\n",
        machine.cpu, machine.cores, machine.kernel, machine.commit
    );
    text.push_str(&grid(&summary_rows(comparison)));
    for entry in &comparison.entries {
        if let Some(error) = &entry.error {
            let _ = writeln!(text, "{}: {error}", entry.broker);
        }
    }
    for note in &comparison.notes {
        let _ = writeln!(text, "{note}");
    }
    if comparison.entries.iter().any(|entry| entry.summary.as_ref().is_some_and(|s| s.is_noisy)) {
        let percent = comparison.noise_max * 100.0;
        let _ = writeln!(
            text,
            "noisy: in nearly every round others or steal took more than {percent:.0} % of the machine \
             during a run"
        );
    }
    for entry in &comparison.entries {
        let load = entry.summary.as_ref().map_or(0.0, |summary| summary.load_cpu_share.median);
        if load > LOAD_SHARE_MAX {
            let _ = writeln!(
                text,
                "{}: the load generator used {load:.2} of its core and may be the limit",
                entry.broker
            );
        }
    }
    let _ = writeln!(text, "\nCPU per delivery, row to column");
    text.push_str(&grid(&ratio_rows(comparison, |summary| summary.cpu_us_per_delivery.median)));
    let _ = writeln!(text, "\nrate, row to column");
    text.push_str(&grid(&ratio_rows(comparison, |summary| summary.delivered_per_s.median)));
    text
}

/// Headings and one row for each broker.
pub(crate) fn summary_rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let is_connect = comparison.scenario == Scenario::Connect;
    let unit = if is_connect { "connects/s" } else { "delivered/s" };
    let headings = [
        "broker",
        unit,
        "CPU us each",
        "p50 us",
        "p90 us",
        "p99 us",
        "p99.9 us",
        "p99.99 us",
        "max us",
        "B/conn",
        "peak MiB",
        "idle cores",
        "wake-ups/s",
        "calls each",
        "load cores",
        "rounds",
    ];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for entry in &comparison.entries {
        let Some(summary) = &entry.summary else {
            rows.push(vec![entry.broker.clone(), "no result".to_owned()]);
            continue;
        };
        let whole = |spread: &Spread| format!("{:.0}", spread.median);
        let noisy = if summary.is_noisy { " noisy" } else { "" };
        let dropped = match summary.dropped {
            0 => String::new(),
            count => format!(" ({count} dropped)"),
        };
        rows.push(vec![
            entry.broker.clone(),
            spread(&summary.delivered_per_s, rate),
            spread(&summary.cpu_us_per_delivery, |us| format!("{us:.3}")),
            whole(&summary.p50_us),
            whole(&summary.p90_us),
            spread(&summary.p99_us, |us| format!("{us:.0}")),
            whole(&summary.p99_9_us),
            whole(&summary.p99_99_us),
            whole(&summary.max_us),
            whole(&summary.memory_per_connection),
            format!("{:.1}", summary.memory_peak.median / f64::from(1 << 20)),
            if is_connect { format!("{:.4}", summary.idle_cpu_share.median) } else { dash() },
            if is_connect { whole(&summary.idle_wakeups_per_s) } else { dash() },
            entry.syscalls_per_delivery.map_or_else(dash, count),
            format!("{:.2}", summary.load_cpu_share.median),
            format!("{}{dropped}{noisy}", summary.runs),
        ]);
    }
    rows
}

/// Each broker's value divided by each other's.
pub(crate) fn ratio_rows(
    comparison: &Comparison,
    value: fn(&super::comparison::Summary) -> f64,
) -> Vec<Vec<String>> {
    let values: Vec<(&str, f64)> = comparison
        .entries
        .iter()
        .filter_map(|entry| Some((entry.broker.as_str(), value(entry.summary.as_ref()?))))
        .collect();
    let names = values.iter().map(|(name, _)| (*name).to_owned());
    let mut rows = vec![std::iter::once(String::new()).chain(names).collect::<Vec<String>>()];
    for (name, own) in &values {
        let ratios = values.iter().map(|(_, other)| {
            if *own > 0.0 && *other > 0.0 { format!("{:.2}", own / other) } else { dash() }
        });
        rows.push(std::iter::once((*name).to_owned()).chain(ratios).collect());
    }
    rows
}

/// A count for each delivery: a batching broker makes far fewer calls than deliveries.
pub(crate) fn count(each: f64) -> String {
    if each < 0.1 { format!("{each:.5}") } else { format!("{each:.2}") }
}

fn dash() -> String {
    "-".to_owned()
}

fn spread(spread: &Spread, show: impl Fn(f64) -> String) -> String {
    format!("{} [{}..{}]", show(spread.median), show(spread.q1), show(spread.q3))
}

/// Columns as wide as their widest cell; the first to the left, numbers to the right.
fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if index == 0 {
                let _ = write!(text, "{cell:<width$}");
            } else {
                let _ = write!(text, "  {cell:>width$}");
            }
        }
        text.push('\n');
    }
    text
}

/// The scenario and what shapes it.
pub(crate) fn describe(result: &RunResult) -> String {
    let pace = match (result.window, result.rate) {
        _ if result.scenario == Scenario::Connect => String::new(),
        (Some(window), _) => match result.measured.window_granted {
            Some(granted) => format!(", window {window} (receive maximum {granted})"),
            None => format!(", window {window}"),
        },
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
