//! A comparison as one page that needs no network.

use std::fmt::Write as _;

use super::comparison::{Comparison, Entry, Spread, Summary};
use super::svg::{self, Bar, Line, Scale, escape};
use super::table;
use crate::load::stats::BUCKET_NS;
use crate::plan::Scenario;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;\
    padding:0 1rem;color:#222}h2{margin-top:2.2rem}table{border-collapse:collapse;font-size:13px}\
    td,th{padding:.2rem .55rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
    td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto;font-size:12px}\
    .scroll{overflow-x:auto}.warn{background:#fff3cd;padding:.5rem .8rem}code{font-size:13px}";

pub(crate) fn page(comparison: &Comparison) -> String {
    let mut html = String::new();
    let first = comparison.entries.iter().find_map(|entry| entry.runs.first());
    let title = first
        .map_or_else(|| comparison.scenario.name().to_owned(), |run| table::describe(&run.result));
    let title = escape(&title);
    let _ = writeln!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>"
    );
    head(&mut html, comparison);
    html.push_str("<h2>Medians [quartiles]</h2>");
    rows(&mut html, &table::summary_rows(comparison));
    section(
        &mut html,
        "CPU time of the broker per delivery, us",
        &bars(comparison, |summary| summary.cpu_us_per_delivery, |us| format!("{us:.3}")),
    );
    let unit = if comparison.scenario == Scenario::Connect { "Connects/s" } else { "Delivered/s" };
    section(&mut html, unit, &bars(comparison, |summary| summary.delivered_per_s, table::rate));
    section(&mut html, "Latency by percentile (the round in the middle)", &latency(comparison));
    if comparison.scenario != Scenario::Connect {
        section(&mut html, "Throughput over time (the round in the middle)", &series(comparison));
    }
    html.push_str("<h2>Ratios, row to column</h2><h3>CPU per delivery</h3>");
    rows(&mut html, &table::ratio_rows(comparison, |summary| summary.cpu_us_per_delivery.median));
    html.push_str("<h3>Rate</h3>");
    rows(&mut html, &table::ratio_rows(comparison, |summary| summary.delivered_per_s.median));
    html.push_str("<h2>Every round</h2>");
    rows(&mut html, &rounds(comparison));
    html.push_str("</html>\n");
    html
}

fn head(html: &mut String, comparison: &Comparison) {
    let machine = &comparison.machine;
    let _ = writeln!(
        html,
        "<p>{}, {} cores, {:.1} GiB, Linux {}, commit {}</p><p><code>bench {}</code></p>",
        escape(&machine.cpu),
        machine.cores,
        super::bytes(machine.memory_bytes) / f64::from(1 << 30),
        escape(&machine.kernel),
        escape(&machine.commit),
        escape(&comparison.command.join(" "))
    );
    for note in &comparison.notes {
        let _ = writeln!(html, "<p>{}</p>", escape(note));
    }
    for entry in &comparison.entries {
        let name = escape(&entry.broker);
        if let Some(error) = &entry.error {
            let _ = writeln!(html, "<p class=\"warn\">{name}: {}</p>", escape(error));
        }
        if entry.summary.as_ref().is_some_and(|summary| summary.is_noisy) {
            let _ = writeln!(
                html,
                "<p class=\"warn\">{name}: nearly every round was noisy, more than {:.0} % went to \
                 others or steal.</p>",
                comparison.noise_max * 100.0
            );
        }
    }
}

fn section(html: &mut String, title: &str, plot: &str) {
    let _ = writeln!(html, "<h2>{}</h2>{plot}", escape(title));
}

fn rows(html: &mut String, rows: &[Vec<String>]) {
    html.push_str("<div class=\"scroll\"><table>");
    for (index, row) in rows.iter().enumerate() {
        let cell = if index == 0 { "th" } else { "td" };
        html.push_str("<tr>");
        for text in row {
            let _ = write!(html, "<{cell}>{}</{cell}>", escape(text));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n");
}

fn bars(
    comparison: &Comparison,
    value: fn(&Summary) -> Spread,
    show: impl Fn(f64) -> String,
) -> String {
    let bars: Vec<Bar> = comparison
        .entries
        .iter()
        .map(|entry| {
            let spread = entry.summary.as_ref().map(value).unwrap_or_default();
            let label = entry.summary.as_ref().map_or_else(
                || "no result".to_owned(),
                |_| format!("{} [{}..{}]", show(spread.median), show(spread.q1), show(spread.q3)),
            );
            let name = entry.broker.clone();
            Bar { name, low: spread.q1, value: spread.median, high: spread.q3, label }
        })
        .collect();
    svg::bars(&bars)
}

/// Where a percentile is drawn: each further nine is one step to the right.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile.min(99.999) / 100.0).log10()
}

fn latency(comparison: &Comparison) -> String {
    let ticks: Vec<(f64, String)> = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
        .into_iter()
        .map(|percentile| (nines(percentile), format!("{percentile} %")))
        .collect();
    let of = |entry: &Entry| {
        let curve = entry.middle().map(|run| run.result.measured.latency.curve.as_slice());
        let curve = curve.unwrap_or_default().iter().filter(|(percentile, _)| *percentile < 100.0);
        curve.map(|(percentile, us)| (nines(*percentile), us.max(0.1))).collect()
    };
    svg::lines(&all(comparison, of), &ticks, Scale::Log, "percentile", "us")
}

fn series(comparison: &Comparison) -> String {
    let seconds = crate::load::seconds(BUCKET_NS);
    let of = |entry: &Entry| {
        let series = entry.middle().map(|run| run.result.measured.series.as_slice());
        (0_u32..)
            .zip(series.unwrap_or_default())
            .map(|(index, count)| (f64::from(index) * seconds, super::bytes(*count) / seconds))
            .collect()
    };
    let lines = all(comparison, of);
    let end = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(0.0, f64::max);
    // About ten labels, on whole seconds.
    let step = (end / 10.0).ceil().max(1.0);
    let ticks: Vec<(f64, String)> = (0..=10_u32)
        .map(|index| f64::from(index) * step)
        .map(|second| (second, format!("{second} s")))
        .collect();
    svg::lines(&lines, &ticks, Scale::Linear, "time", "deliveries/s")
}

fn all(comparison: &Comparison, of: impl Fn(&Entry) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |entry: &Entry| Line { name: entry.broker.clone(), points: of(entry) };
    comparison.entries.iter().map(line).collect()
}

fn rounds(comparison: &Comparison) -> Vec<Vec<String>> {
    let headings = [
        "broker",
        "round",
        "counts",
        "rate",
        "CPU us each",
        "p99 us",
        "load cores",
        "others",
        "steal",
    ];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for entry in &comparison.entries {
        for run in &entry.runs {
            let measured = &run.result.measured;
            rows.push(vec![
                entry.broker.clone(),
                run.round.to_string(),
                if run.kept { "yes".to_owned() } else { "no".to_owned() },
                table::rate(measured.delivered_per_s),
                format!("{:.3}", measured.cpu_us_per_delivery),
                format!("{:.0}", measured.latency.p99_us),
                format!("{:.2}", measured.load_cpu_share),
                format!("{:.1} %", measured.noise.others * 100.0),
                format!("{:.1} %", measured.noise.steal * 100.0),
            ]);
        }
    }
    rows
}
