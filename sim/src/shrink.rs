//! A seed that fails, made small: acts, kinds of faults, clients and shards are left out as long as
//! it still fails in the same place.

use std::fmt::{self, Display, Formatter};

use crate::swarm::{Fault, Options, Skips};

/// Runs that one seed is given: seconds.
const RUNS_MAX: usize = 600;

/// Leaves out what it can. `fails` plays a world and says how it failed; `acts` is how many there
/// are. Answers with what is left out.
pub fn shrink(
    seed: u64,
    acts: u32,
    failure: &str,
    mut fails: impl FnMut(&Options) -> Option<String>,
) -> Skips {
    let mut best = Skips::default();
    let mut runs_left = RUNS_MAX;
    let mut is_smaller = |skips: &Skips| {
        if runs_left == 0 {
            return false;
        }
        runs_left -= 1;
        let failed = fails(&Options::draw(seed).without(skips));
        failed.is_some_and(|other| place(&other) == place(failure))
    };
    let drawn = Options::draw(seed);
    for fault in Fault::ALL.into_iter().filter(|&fault| drawn.rate(fault) > 0) {
        let mut skips = best.clone();
        skips.faults.insert(fault);
        accept(&mut best, skips, &mut is_smaller);
    }
    leave_out_acts(&mut best, acts, &mut is_smaller);
    for shards in 1..drawn.shards {
        let skips = Skips { shards: Some(shards), ..best.clone() };
        if accept(&mut best, skips, &mut is_smaller) {
            break;
        }
    }
    for clients in 2..drawn.versions.len() {
        let skips = Skips { clients: Some(clients), ..best.clone() };
        if accept(&mut best, skips, &mut is_smaller) {
            break;
        }
    }
    // Less of everything else may need fewer acts.
    leave_out_acts(&mut best, acts, &mut is_smaller);
    best
}

fn accept(best: &mut Skips, skips: Skips, is_smaller: &mut impl FnMut(&Skips) -> bool) -> bool {
    let is_accepted = is_smaller(&skips);
    if is_accepted {
        *best = skips;
    }
    is_accepted
}

/// Halves first, then smaller and smaller parts.
fn leave_out_acts(best: &mut Skips, acts: u32, is_smaller: &mut impl FnMut(&Skips) -> bool) {
    let mut left: Vec<u32> = (1..=acts).filter(|act| !best.acts.contains(act)).collect();
    let mut part = left.len().div_ceil(2);
    while part > 0 && !left.is_empty() {
        // From the end: what comes after the failure goes at once.
        let mut end = left.len();
        while end > 0 {
            let begin = end.saturating_sub(part);
            let mut skips = best.clone();
            skips.acts.extend(&left[begin..end]);
            if accept(best, skips, is_smaller) {
                left.drain(begin..end);
            }
            end = begin;
        }
        part /= 2;
    }
}

/// Where a failure was found: its message may hold numbers that differ.
fn place(failure: &str) -> &str {
    failure.rfind('(').map_or(failure, |at| &failure[at..])
}

/// As flags of the command line.
impl Display for Skips {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut acts = self.acts.iter().copied().peekable();
        let mut separator = " --skip ";
        while let Some(first) = acts.next() {
            let mut last = first;
            while let Some(next) = acts.next_if(|&next| next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        let mut separator = " --without ";
        for fault in &self.faults {
            write!(f, "{separator}{}", fault.name())?;
            separator = ",";
        }
        if let Some(shards) = self.shards {
            write!(f, " --shards {shards}")?;
        }
        if let Some(clients) = self.clients {
            write!(f, " --clients {clients}")?;
        }
        Ok(())
    }
}

/// Reads numbers and ranges of numbers: `3,5-9`.
///
/// # Errors
/// What is neither.
pub fn parse_acts(text: &str) -> Result<Vec<u32>, String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("no number: {text:?}"));
    let mut acts = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => acts.extend(number(first)?..=number(last)?),
            None => acts.push(number(part)?),
        }
    }
    Ok(acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_needs_is_left() {
        let needs = [7, 31];
        let fails = |options: &Options| {
            let is_there = |act| !options.skips.acts.contains(act);
            (needs.iter().all(is_there) && !options.skips.faults.contains(&Fault::Stall))
                .then(|| format!("with {} shards (here)", options.shards))
        };
        let seed = (0..)
            .find(|&seed| Options::draw(seed).rate(Fault::Stall) > 0)
            .expect("a third of all seeds stalls");
        let skips = shrink(seed, 100, "with any (here)", fails);
        let left: Vec<_> = (1..=100).filter(|act| !skips.acts.contains(act)).collect();
        assert_eq!(left, needs);
        assert!(!skips.faults.contains(&Fault::Stall));
        let small = Options::draw(seed).without(&skips);
        assert!(Fault::ALL.iter().all(|&fault| fault == Fault::Stall || small.rate(fault) == 0));
    }

    #[test]
    fn another_failure_is_not_taken_for_the_same() {
        let skips = shrink(0, 10, "x (here)", |_| Some("x (there)".to_owned()));
        assert_eq!(skips, Skips::default());
    }

    #[test]
    fn flags_can_be_read_again() {
        let mut skips = Skips { shards: Some(2), ..Skips::default() };
        skips.acts.extend([1, 2, 3, 9]);
        skips.faults.extend([Fault::Cut, Fault::LateBell]);
        assert_eq!(skips.to_string(), " --skip 1-3,9 --without cut,late-bell --shards 2");
        assert_eq!(parse_acts("1-3,9"), Ok(vec![1, 2, 3, 9]));
        assert!(parse_acts("1-").is_err());
    }
}
