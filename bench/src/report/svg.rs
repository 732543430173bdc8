//! Plots as inline SVG: no scripts, nothing to load.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// Told apart by eyes that do not see all colours.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#000000"];

pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// How a value becomes a place on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// One line of a plot.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A bar with whiskers at the quartiles.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
    pub(super) label: String,
}

/// Lines over labelled places of the horizontal axis.
pub(super) fn lines(
    lines: &[Line],
    ticks: &[(f64, String)],
    vertical: Scale,
    horizontal_label: &str,
    vertical_label: &str,
) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let ys = || points().map(|(_, y)| *y).filter(|y| vertical == Scale::Linear || *y > 0.0);
    let top = ys().fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let bottom = if vertical == Scale::Log { ys().fold(top, f64::min) * 0.9 } else { 0.0 };
    let x_of = |x: f64| LEFT + x / right * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| {
        let share = match vertical {
            Scale::Linear => y / top,
            Scale::Log => {
                (y.max(bottom) / bottom).ln() / (top / bottom).ln().max(f64::MIN_POSITIVE)
            }
        };
        TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = open();
    for y in vertical_ticks(bottom, top, vertical) {
        rule(&mut svg, y_of(y), &short(y));
    }
    for (x, label) in ticks.iter().filter(|(x, _)| *x <= right) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x_of(*x),
            HEIGHT - BOTTOM + 16.0,
            escape(label)
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let path: Vec<String> =
            line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
            colour(index),
            path.join(" ")
        );
        legend(&mut svg, index, &line.name);
    }
    axes(&mut svg, horizontal_label, vertical_label);
    svg.push_str("</svg>\n");
    svg
}

/// Horizontal bars, one for each broker.
#[expect(clippy::cast_precision_loss, reason = "some bars")]
pub(super) fn bars(bars: &[Bar]) -> String {
    const STEP: f64 = 30.0;
    let top = bars.iter().map(|bar| bar.high.max(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
    let x_of = |value: f64| 120.0 + value / top * (WIDTH - 330.0);
    let height = STEP * bars.len() as f64 + 8.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n");
    for (index, bar) in bars.iter().enumerate() {
        let y = STEP * index as f64 + 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"112\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"120\" y=\"{y:.1}\" width=\"{:.1}\" height=\"20\" fill=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#000\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 15.0,
            escape(&bar.name),
            x_of(bar.value) - 120.0,
            colour(index),
            x_of(bar.low),
            x_of(bar.high),
            y + 10.0,
            y + 10.0,
            x_of(bar.high.max(bar.value)) + 8.0,
            y + 15.0,
            escape(&bar.label)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn open() -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n")
}

fn rule(svg: &mut String, y: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
        WIDTH - RIGHT,
        LEFT - 6.0,
        y + 4.0
    );
}

#[expect(clippy::cast_precision_loss, reason = "some lines")]
fn legend(svg: &mut String, index: usize, name: &str) {
    let y = TOP + 18.0 * index as f64 + 10.0;
    let x = WIDTH - RIGHT + 12.0;
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        y - 10.0,
        colour(index),
        x + 18.0,
        y + 1.0,
        escape(name)
    );
}

fn axes(svg: &mut String, horizontal: &str, vertical: &str) {
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 6.0,
        escape(horizontal),
        HEIGHT / 2.0,
        escape(vertical)
    );
}

/// Values for rules across the plot: powers of ten, or five equal steps.
fn vertical_ticks(bottom: f64, top: f64, scale: Scale) -> Vec<f64> {
    match scale {
        Scale::Linear => (0..=5).map(|step| top * f64::from(step) / 5.0).collect(),
        Scale::Log => (-3..=12)
            .map(|power| 10_f64.powi(power))
            .filter(|value| (bottom..=top).contains(value))
            .collect(),
    }
}

fn short(value: f64) -> String {
    match value {
        x if x >= 1e6 => format!("{:.1}M", x / 1e6),
        x if x >= 1e3 => format!("{:.0}k", x / 1e3),
        x if x >= 10.0 || x == 0.0 => format!("{x:.0}"),
        x => format!("{x:.2}"),
    }
}

/// Text that a browser shows as it is.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
