//! How much the broker should do on more cores than anybody here has: a table from measured costs.
//!
//! The model adds up what a delivery costs all shards together; as clients are spread evenly, each
//! shard then does its share. It predicts nothing that it does not name: what it leaves out is
//! printed with the table. Measurements of few shards, given with the inputs, are compared with what
//! it says of them.

mod inputs;

use std::fmt::Write as _;
use std::path::Path;

use self::inputs::{Check, Inputs, Shape};
use crate::Outcome;

/// Numbers of shards in the table.
const SHARDS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Deliveries in a hundred whose publisher lives on another shard.
const CROSS_PERCENT: [u32; 3] = [0, 50, 100];

/// A prediction further off than this is no use for planning.
const TOLERANCE_PERCENT: f64 = 15.0;

const NS_PER_S: f64 = 1e9;

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Case {
    shards: u32,
    cross_percent: u32,
    shape: Shape,
    doorbells: Doorbells,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doorbells {
    /// Nobody sleeps.
    None,
    /// Every batch of mail finds its target asleep.
    EveryBatch,
}

/// Reads the inputs in `path` and prints what follows from them.
pub(crate) fn run(path: &Path) -> Result<Outcome, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let inputs = Inputs::parse(&text).map_err(wrong)?;
    println!("Scaling of muring, from {}\n", path.display());
    for line in &inputs.lines {
        println!("    {line}");
    }
    let (checks, outcome) = print_checks(&inputs);
    print!("\n{}\n{checks}\n{}", print_tables(&inputs), print_assumptions(&inputs));
    Ok(outcome)
}

/// CPU time of all shards together for one delivery.
fn delivery_ns(inputs: &Inputs, case: Case) -> f64 {
    let others = f64::from(case.shards.saturating_sub(1));
    let (fanout, turn_deliveries, publishers) = match case.shape {
        Shape::Pairs => (1.0, inputs.turn_deliveries, inputs.turn_publishers),
        Shape::Fanout => (
            inputs.fanout_subscribers,
            inputs.fanout_turn_deliveries,
            inputs.fanout_turn_publishers,
        ),
    };
    let turn_messages = turn_deliveries / fanout;
    // Subscribers on the same other shard share what crosses.
    let crossings = (fanout * f64::from(case.cross_percent) / 100.0).min(others);
    // All that one publisher sends goes to the same shards.
    let batches = (publishers * crossings).min(others) / turn_messages;
    let batch_ns = match case.doorbells {
        Doorbells::None => inputs.flush_ns,
        Doorbells::EveryBatch => inputs.flush_ns + inputs.doorbell_ns,
    };
    let message_ns = inputs.message_ns()
        + fanout * inputs.fanout_delivery_ns()
        + crossings * inputs.crossing_ns()
        + batches * batch_ns
        + others * inputs.poll_ns / turn_messages;
    message_ns / fanout
}

/// Deliveries a second of the whole machine, and what is left of each shard beside one alone.
fn throughput(inputs: &Inputs, case: Case) -> (f64, f64) {
    let alone = Case { shards: 1, cross_percent: 0, ..case };
    let cost_ns = delivery_ns(inputs, case);
    (f64::from(case.shards) * NS_PER_S / cost_ns, delivery_ns(inputs, alone) / cost_ns)
}

fn print_tables(inputs: &Inputs) -> String {
    let fanout = inputs.fanout_subscribers;
    let mut text = String::new();
    for (title, shape, doorbells) in [
        ("Pairs, saturated".to_owned(), Shape::Pairs, Doorbells::None),
        (
            "Pairs, every batch of mail rings a sleeper".to_owned(),
            Shape::Pairs,
            Doorbells::EveryBatch,
        ),
        (format!("Fan-out 1 to {fanout}, saturated"), Shape::Fanout, Doorbells::None),
    ] {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{title}: million deliveries a second (efficiency of a shard)\n");
        text.push_str("| shards |");
        for percent in CROSS_PERCENT {
            let _ = write!(text, " {percent} % cross |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(CROSS_PERCENT.len()));
        for shards in SHARDS {
            let _ = write!(text, "| {shards} |");
            for cross_percent in CROSS_PERCENT {
                let case = Case { shards, cross_percent, shape, doorbells };
                let _ = write!(text, " {} |", print_cell(inputs, case));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn print_cell(inputs: &Inputs, case: Case) -> String {
    if case.shards == 1 && case.cross_percent > 0 {
        return "-".to_owned();
    }
    let (per_s, efficiency) = throughput(inputs, case);
    format!("{:.2} ({:.0} %)", per_s / 1e6, efficiency * 100.0)
}

/// What was measured beside what is predicted.
fn print_checks(inputs: &Inputs) -> (String, Outcome) {
    if inputs.checks.is_empty() {
        let text = "Not checked: the inputs hold no line check.shards-2.cross-50.fanout-1 = ...\n";
        return (text.to_owned(), Outcome::Well);
    }
    let mut text = "CPU of a delivery in ns, predicted and measured\n\n\
        | case | predicted | measured | off |\n|---|---|---|---|\n"
        .to_owned();
    let mut outcome = Outcome::Well;
    for &Check { shards, cross_percent, shape, measured_ns } in &inputs.checks {
        let case = Case { shards, cross_percent, shape, doorbells: Doorbells::None };
        let predicted_ns = delivery_ns(inputs, case);
        let off_percent = (predicted_ns / measured_ns - 1.0) * 100.0;
        let mark = if off_percent.abs() > TOLERANCE_PERCENT {
            outcome = Outcome::Mispredicted;
            " TOO FAR"
        } else {
            ""
        };
        let shape = match shape {
            Shape::Pairs => "pairs",
            Shape::Fanout => "fan-out",
        };
        let _ = writeln!(
            text,
            "| {shape}, {shards} shards, {cross_percent} % cross | {predicted_ns:.1} | \
             {measured_ns:.1} | {off_percent:+.1} %{mark} |"
        );
    }
    (text, outcome)
}

/// What the tables take for granted.
fn print_assumptions(inputs: &Inputs) -> String {
    let Inputs { turn_deliveries, turn_publishers, .. } = inputs;
    let Inputs { fanout_turn_deliveries, fanout_turn_publishers, .. } = inputs;
    format!(
        "Assumptions

- Publishers and subscribers are spread evenly over the shards and, where they cross, over all other
  shards. Clients placed by chance cross in (shards - 1) of shards cases.
- The load does not limit: each shard has as much input as the one that was measured, in turns of
  {turn_deliveries:.0} deliveries ({fanout_turn_deliveries:.0} with fan-out), however many shards there are. Turns that
  were counted by a tracer are longer than others: what a turn costs then counts for too little.
- A message goes once to each other shard that has subscribers of it. Mail leaves at the end of the
  turn, one batch for each target. What a publisher sends goes to the same shards, and a turn has
  messages of {turn_publishers} publishers ({fanout_turn_publishers} with fan-out), all to different ones if there are as many:
  the more shards, the fewer messages share a batch.
- Each turn looks into the mailboxes of all other shards, so polling grows with the shards.
- A doorbell is rung only if the target sleeps. Saturated, nobody does; where every batch rings, each
  batch finds its target asleep, which is as bad as it can be.
- Rings never fill. QoS 0, the payloads and topics of the measured runs.
- Each shard has a core of its own that is as fast as the measured one, and no two cores are further
  apart than the measured two.
- Not modelled: memory bandwidth, caches that become too small, locks and softirqs in the kernel, the
  network, the clients.
"
    )
}

#[cfg(test)]
mod tests {
    use super::inputs::tests::ROUND;
    use super::*;

    const SATURATED: (Shape, Doorbells) = (Shape::Pairs, Doorbells::None);
    const RINGING: (Shape, Doorbells) = (Shape::Pairs, Doorbells::EveryBatch);
    const FANOUT: (Shape, Doorbells) = (Shape::Fanout, Doorbells::None);

    #[track_caller]
    fn check(
        (shape, doorbells): (Shape, Doorbells),
        shards: u32,
        cross_percent: u32,
        expected_ns: f64,
    ) {
        let inputs = Inputs::parse(ROUND).unwrap();
        let found = delivery_ns(&inputs, Case { shards, cross_percent, shape, doorbells });
        assert!((found - expected_ns).abs() < 1e-6, "{found} instead of {expected_ns}");
    }

    #[test]
    fn one_shard_costs_what_was_measured() {
        check(SATURATED, 1, 0, 400.0);
        check(RINGING, 1, 0, 400.0);
        check(FANOUT, 1, 0, 160.0);
    }

    #[test]
    fn pairs_by_hand() {
        // Only the poll of 1 and 63 others, shared by the 10 deliveries of a turn.
        check(SATURATED, 2, 0, 400.0 + 0.5);
        check(SATURATED, 64, 0, 400.0 + 31.5);
        // All 10 of a turn share a batch, as when the hop was measured.
        check(SATURATED, 2, 100, 400.0 + 110.0 + 10.0 + 0.5);
        check(SATURATED, 2, 50, 400.0 + 55.0 + 10.0 + 0.5);
        // A turn's 4 publishers make 3 batches for 3 others, and 4 for 63; if half cross, 2.
        check(SATURATED, 4, 100, 400.0 + 110.0 + 30.0 + 1.5);
        check(SATURATED, 64, 100, 400.0 + 110.0 + 40.0 + 31.5);
        check(SATURATED, 64, 50, 400.0 + 55.0 + 20.0 + 31.5);
        check(RINGING, 2, 100, 400.0 + 110.0 + 210.0 + 0.5);
        check(RINGING, 64, 100, 400.0 + 110.0 + 840.0 + 31.5);
        check(RINGING, 64, 0, 400.0 + 31.5);
    }

    #[test]
    fn fan_out_by_hand() {
        // A message costs 300 and 5 deliveries of 100; for 5 subscribers on one other shard it
        // crosses once, and 10 messages share a batch.
        check(FANOUT, 2, 100, (800.0 + 110.0 + 10.0 + 0.5) / 5.0);
        // On 63 others each has one of its own: 2 publishers make 10 batches of 10 messages; if half of
        // the subscribers are there, 5.
        check(FANOUT, 64, 100, (800.0 + 550.0 + 100.0 + 31.5) / 5.0);
        check(FANOUT, 64, 50, (800.0 + 275.0 + 50.0 + 31.5) / 5.0);
    }

    #[test]
    fn tables_show_rate_and_efficiency() {
        let text = print_tables(&Inputs::parse(ROUND).unwrap());
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| 2 |")).collect();
        assert_eq!(rows[0], "| 2 | 4.99 (100 %) | 4.30 (86 %) | 3.84 (77 %) |");
        // One other shard: half of the subscribers there need as much as all of them.
        assert_eq!(rows[2], "| 2 | 12.49 (100 %) | 10.86 (87 %) | 10.86 (87 %) |");
        let last: Vec<_> = text.lines().filter(|line| line.starts_with("| 64 |")).collect();
        assert_eq!(last[0], "| 64 | 148.32 (93 %) | 126.36 (79 %) | 110.06 (69 %) |");
        assert!(text.contains("| 1 | 2.50 (100 %) | - | - |"), "{text}");
    }

    #[test]
    fn a_prediction_that_is_far_off_is_marked() {
        let (text, outcome) = print_checks(&Inputs::parse(ROUND).unwrap());
        assert!(
            text.contains("| pairs, 2 shards, 100 % cross | 520.5 | 520.0 | +0.1 % |"),
            "{text}"
        );
        let far = "| fan-out, 2 shards, 100 % cross | 184.1 | 300.0 | -38.6 % TOO FAR |";
        assert!(text.contains(far), "{text}");
        assert_eq!(outcome, Outcome::Mispredicted);
        let near = ROUND.replace("fanout-5 = 300", "fanout-5 = 190");
        assert_eq!(print_checks(&Inputs::parse(&near).unwrap()).1, Outcome::Well);
        let without = ROUND.replace("check.", "# check.");
        let (text, outcome) = print_checks(&Inputs::parse(&without).unwrap());
        assert!(text.starts_with("Not checked") && outcome == Outcome::Well, "{text}");
    }

    #[test]
    fn an_error_names_the_file() {
        let why = run(Path::new("no/model.toml")).unwrap_err();
        assert!(why.starts_with("no/model.toml: "), "{why}");
    }
}
