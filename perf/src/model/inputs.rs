//! The measured costs that the model stands on, read from a file.
//!
//! A line is `name = number # where it was measured`, which TOML can read too; [`COSTS`] says which
//! there are. A number without its source is refused: the table is worth what its inputs are.

use std::collections::BTreeMap;

/// Every input and what it is. Times are nanoseconds of CPU time, of all threads of the broker.
const COSTS: [(&str, &str); 11] = [
    ("pair_ns", "a delivery of saturated pairs, one shard"),
    ("turn_deliveries", "deliveries of one turn in that run: 1 / its system calls per delivery"),
    ("turn_publishers", "publishers whose messages are in a turn there"),
    ("fanout_ns", "a delivery of a saturated fan-out, one shard"),
    ("fanout_subscribers", "deliveries of one message in that run, at least 2"),
    ("fanout_turn_deliveries", "deliveries of one turn in that run"),
    ("fanout_turn_publishers", "publishers whose messages are in a turn there"),
    ("hop_ns", "what a saturated pair costs more if it crosses than if not, both on two shards"),
    ("flush_ns", "putting a batch of mail into a ring and taking it out, on two cores"),
    ("doorbell_ns", "waking a shard: what a paced pair costs more if it crosses, less hop_ns"),
    ("poll_ns", "a look into the empty mailbox of one other shard"),
];

/// All inputs, each positive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Inputs {
    pub(super) pair_ns: f64,
    pub(super) turn_deliveries: f64,
    pub(super) turn_publishers: f64,
    pub(super) fanout_ns: f64,
    pub(super) fanout_subscribers: f64,
    pub(super) fanout_turn_deliveries: f64,
    pub(super) fanout_turn_publishers: f64,
    pub(super) hop_ns: f64,
    pub(super) flush_ns: f64,
    pub(super) doorbell_ns: f64,
    pub(super) poll_ns: f64,
    pub(super) checks: Vec<Check>,
    /// As they stand in the file, sources included.
    pub(super) lines: Vec<String>,
}

/// What was measured and what the model should therefore predict: the line
/// `check.shards-2.cross-100.fanout-1 = 510 # source`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Check {
    pub(super) shards: u32,
    pub(super) cross_percent: u32,
    pub(super) shape: Shape,
    /// A delivery, saturated.
    pub(super) measured_ns: f64,
}

/// The two loads whose costs are inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Pairs,
    Fanout,
}

impl Inputs {
    /// # Errors
    /// Names the line that is no input, or the input that has no line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        let mut lines = Vec::new();
        let mut checks = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |why: String| format!("line {}: {why}", index + 1);
            let (name, number) = read(line).map_err(at)?;
            if found.insert(name, number).is_some() {
                return Err(at(format!("a second number for {name}")));
            }
            if let Some(case) = name.strip_prefix("check.") {
                checks.push((case, number));
            } else if !COSTS.iter().any(|&(known, _)| known == name) {
                return Err(at(format!("the model has no input {name:?}")));
            }
            lines.push(line.to_owned());
        }
        let cost = |(name, meaning): (&str, &str)| {
            found.get(name).copied().ok_or_else(|| format!("{name} has no number: {meaning}"))
        };
        let mut costs = [0.0; COSTS.len()];
        for (slot, known) in costs.iter_mut().zip(COSTS) {
            *slot = cost(known)?;
        }
        // In the order of `COSTS`.
        let [
            pair_ns,
            turn_deliveries,
            turn_publishers,
            fanout_ns,
            fanout_subscribers,
            fanout_turn_deliveries,
            fanout_turn_publishers,
            hop_ns,
            flush_ns,
            doorbell_ns,
            poll_ns,
        ] = costs;
        let inputs = Self {
            pair_ns,
            turn_deliveries,
            turn_publishers,
            fanout_ns,
            fanout_subscribers,
            fanout_turn_deliveries,
            fanout_turn_publishers,
            hop_ns,
            flush_ns,
            doorbell_ns,
            poll_ns,
            checks: Vec::new(),
            lines,
        };
        inputs.fit_together()?;
        let checks = checks.into_iter().map(|(case, number)| inputs.check(case, number));
        Ok(Self { checks: checks.collect::<Result<_, _>>()?, ..inputs })
    }

    /// What the model divides a measured cost into must not be negative.
    fn fit_together(&self) -> Result<(), String> {
        let must = |fits: bool, why: &str| if fits { Ok(()) } else { Err(why.to_owned()) };
        must(self.fanout_subscribers >= 2.0, "fanout_subscribers is below 2")?;
        must(
            self.turn_deliveries >= self.turn_publishers && self.turn_publishers >= 1.0,
            "turn_deliveries is less than a message of each of turn_publishers, or those below 1",
        )?;
        must(
            self.fanout_turn_deliveries >= self.fanout_subscribers * self.fanout_turn_publishers
                && self.fanout_turn_publishers >= 1.0,
            "fanout_turn_deliveries is less than a message of each of fanout_turn_publishers, or \
             those below 1",
        )?;
        must(
            self.message_ns() >= 0.0,
            "fanout_ns is above pair_ns: a message would cost less than nothing",
        )?;
        must(self.fanout_delivery_ns() >= 0.0, "fanout_ns is too small for pair_ns")?;
        must(
            self.crossing_ns() >= 0.0,
            "hop_ns is less than flush_ns / turn_deliveries: crossing would cost less than nothing",
        )
    }

    fn check(&self, case: &str, measured_ns: f64) -> Result<Check, String> {
        let parts: Vec<_> = case.split('.').collect();
        let number = |at: usize, name: &str| {
            let text = parts.get(at).and_then(|part| part.strip_prefix(name));
            text.and_then(|text| text.parse::<u32>().ok())
        };
        let found = (number(0, "shards-"), number(1, "cross-"), number(2, "fanout-"), parts.len());
        let (Some(shards @ 1..), Some(cross_percent @ 0..=100), Some(fanout), 3) = found else {
            return Err(format!(
                "check.{case} is not of the form check.shards-2.cross-50.fanout-1"
            ));
        };
        let shape = match fanout {
            1 => Shape::Pairs,
            _ if f64::from(fanout) == self.fanout_subscribers => Shape::Fanout,
            _ => return Err(format!("check.{case}: fanout-1 and fanout_subscribers are known")),
        };
        if shards == 1 && cross_percent > 0 {
            return Err(format!("check.{case}: nothing crosses with one shard"));
        }
        Ok(Check { shards, cross_percent, shape, measured_ns })
    }

    /// What each further subscriber of a message costs: pairs and fan-out differ in nothing else.
    pub(super) fn fanout_delivery_ns(&self) -> f64 {
        let fanout = self.fanout_subscribers;
        (fanout * self.fanout_ns - self.pair_ns) / (fanout - 1.0)
    }

    /// What a message costs before it is delivered to anybody.
    pub(super) fn message_ns(&self) -> f64 {
        self.pair_ns - self.fanout_delivery_ns()
    }

    /// A message that goes to another shard, without the batch of mail it goes in: in the run of
    /// `hop_ns` all that a turn delivers went into one ring in one batch.
    pub(super) fn crossing_ns(&self) -> f64 {
        self.hop_ns - self.flush_ns / self.turn_deliveries
    }
}

/// Name and number of a line that also says where the number comes from.
fn read(line: &str) -> Result<(&str, f64), String> {
    let (pair, source) = line.split_once('#').unwrap_or((line, ""));
    let (name, number) =
        pair.split_once('=').ok_or_else(|| format!("{line:?} is not of the form name = number"))?;
    let (name, number) = (name.trim(), number.trim());
    let positive = number.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    let positive = positive.ok_or_else(|| format!("{name} = {number:?} is no number above 0"))?;
    if source.trim().is_empty() {
        return Err(format!("{name}: say behind a # where it was measured"));
    }
    Ok((name, positive))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Round numbers, so that what follows can be worked out by hand: a further delivery costs 100, a
    /// message 300, crossing 110.
    pub(crate) const ROUND: &str = "
        # An example.
        pair_ns = 400                # stream.json
        turn_deliveries = 10         # stream.json
        turn_publishers = 4          # stream.json
        fanout_ns = 160              # fanout.json
        fanout_subscribers = 5       # fanout.json
        fanout_turn_deliveries = 50  # fanout.json
        fanout_turn_publishers = 2   # fanout.json
        hop_ns = 120                 # all.json, local.json
        flush_ns = 100               # cargo perf hop
        doorbell_ns = 2e3            # paced-all.json, paced-local.json
        poll_ns = 5                  # cargo perf bench
        check.shards-2.cross-100.fanout-1 = 520 # all.json
        check.shards-2.cross-100.fanout-5 = 300 # fanout-all.json
    ";

    #[test]
    fn costs_are_divided() {
        let inputs = Inputs::parse(ROUND).unwrap();
        let divided = (inputs.fanout_delivery_ns(), inputs.message_ns(), inputs.crossing_ns());
        assert_eq!(divided, (100.0, 300.0, 110.0));
        let shape = Shape::Fanout;
        let fanout = Check { shards: 2, cross_percent: 100, shape, measured_ns: 300.0 };
        assert_eq!(inputs.checks.last(), Some(&fanout));
        assert_eq!(inputs.lines.len(), COSTS.len() + 2);
    }

    #[test]
    fn each_missing_input_is_named() {
        for (name, _) in COSTS {
            let without: Vec<_> = ROUND
                .lines()
                .filter(|line| !line.trim().starts_with(&format!("{name} =")))
                .collect();
            let why = Inputs::parse(&without.join("\n")).unwrap_err();
            assert!(why.starts_with(&format!("{name} has no number: ")), "{why}");
        }
    }

    #[track_caller]
    fn check_refused(from: &str, to: &str, expected: &str) {
        assert!(ROUND.contains(from));
        let why = Inputs::parse(&ROUND.replace(from, to)).unwrap_err();
        assert!(why.contains(expected), "{to:?}: {why}");
    }

    #[test]
    fn wrong_lines_are_refused() {
        check_refused("pair_ns = 400  ", "pair_ns =", "line 3: pair_ns = \"\" is no number");
        check_refused("pair_ns = 400", "pair_ns = fast", "is no number above 0");
        check_refused("pair_ns = 400", "pair_ns = NaN", "is no number above 0");
        check_refused("pair_ns = 400", "pair_ns = -1", "is no number above 0");
        check_refused("pair_ns = 400", "pair_ns 400", "not of the form name = number");
        check_refused("# cargo perf hop", "#", "flush_ns: say behind a # where");
        check_refused("# cargo perf hop", "", "flush_ns: say behind a # where");
        check_refused("poll_ns = 5", "pair_ns = 5", "line 13: a second number for pair_ns");
        check_refused("poll_ns = 5", "pole_ns = 5", "no input \"pole_ns\"");
        check_refused("shards-2.cross-100.fanout-5", "shards-2.cross-101.fanout-5", "of the form");
        check_refused("shards-2.cross-100.fanout-5", "shards-0.cross-100.fanout-5", "of the form");
        check_refused("shards-2.cross-100.fanout-5", "shards-2.cross-100", "of the form");
        check_refused("shards-2.cross-100.fanout-5", "shards-2.cross-100.fanout-7", "are known");
        check_refused("shards-2.cross-100.fanout-5", "shards-1.cross-100.fanout-5", "crosses");
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        check_refused("fanout_ns = 160", "fanout_ns = 401", "fanout_ns is above pair_ns");
        check_refused("fanout_ns = 160", "fanout_ns = 79", "fanout_ns is too small");
        check_refused("fanout_subscribers = 5", "fanout_subscribers = 1", "below 2");
        check_refused("turn_deliveries = 10", "turn_deliveries = 3", "each of turn_publishers");
        check_refused("turn_publishers = 4", "turn_publishers = 0.5", "those below 1");
        check_refused(
            "turn_deliveries = 50",
            "turn_deliveries = 9",
            "each of fanout_turn_publishers",
        );
        check_refused("turn_publishers = 2", "turn_publishers = 0.5", "those below 1");
        check_refused("hop_ns = 120", "hop_ns = 9", "hop_ns is less than flush_ns");
    }
}
