//! Did every message arrive, once, in order? One [`Flow`] for each publisher and subscriber.

use std::collections::VecDeque;

/// Gaps remembered for one flow; the oldest beyond that count as lost for good.
const GAPS_MAX: usize = 4096;

/// What a delivery is, compared with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one, or the next but for some that are missing so far.
    New,
    /// One that was missing: it comes too late.
    Late,
    /// One that has come before.
    Duplicate,
}

/// What one subscriber has seen of one publisher. Numbers that were passed over are missing until
/// they come after all.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    next: u64,
    gaps: VecDeque<(u64, u64)>,
    given_up: u64,
}

impl Flow {
    #[inline]
    pub(crate) fn take(&mut self, sequence: u64) -> Verdict {
        if sequence == self.next {
            self.next += 1;
            return Verdict::New;
        }
        if sequence > self.next {
            self.gaps.push_back((self.next, sequence));
            self.next = sequence + 1;
            if self.gaps.len() > GAPS_MAX
                && let Some((from, to)) = self.gaps.pop_front()
            {
                self.given_up += to - from;
            }
            return Verdict::New;
        }
        self.fill(sequence)
    }

    /// Like [`Self::take`] where some of the messages go to others: true if `sequence` is above all
    /// before it.
    pub(crate) fn advance(&mut self, sequence: u64) -> bool {
        let is_above = sequence >= self.next;
        if is_above {
            self.next = sequence + 1;
        }
        is_above
    }

    fn fill(&mut self, sequence: u64) -> Verdict {
        let Some(index) = self.gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence))
        else {
            return Verdict::Duplicate;
        };
        let Some((from, to)) = self.gaps.remove(index) else { return Verdict::Duplicate };
        let mut at = index;
        if from < sequence {
            self.gaps.insert(at, (from, sequence));
            at += 1;
        }
        if sequence + 1 < to {
            self.gaps.insert(at, (sequence + 1, to));
        }
        Verdict::Late
    }

    /// How many of the first `sent` messages have not come.
    pub(crate) fn missing(&self, sent: u64) -> u64 {
        let gaps: u64 = self.gaps.iter().map(|(from, to)| to - from).sum();
        self.given_up + gaps + sent.saturating_sub(self.next)
    }
}

/// Deliveries that break a promise, and those that only look like it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Faults {
    /// Sent, and not delivered to somebody who should have got it.
    pub(crate) lost: u64,
    /// Delivered more often than once, though the broker did not say so (DUP) or may not (QoS 0, 2).
    pub(crate) duplicated: u64,
    /// Delivered after a later message of the same publisher.
    pub(crate) reordered: u64,
    /// Delivered to somebody who had not asked for it, or not one of ours.
    pub(crate) misrouted: u64,
    /// Delivered again at QoS 1, marked as such: at least once allows it.
    pub(crate) redelivered: u64,
}

impl Faults {
    /// True if no promise was broken. `may_lose`: the scenario offers more than can be delivered.
    pub(crate) fn is_clean(&self, may_lose: bool) -> bool {
        (may_lose || self.lost == 0)
            && self.duplicated == 0
            && self.reordered == 0
            && self.misrouted == 0
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} lost, {} duplicated, {} reordered, {} misrouted, {} redelivered",
            self.lost, self.duplicated, self.reordered, self.misrouted, self.redelivered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrivals: &[u64], sent: u64, want: &[Verdict], missing: u64) {
        let mut flow = Flow::default();
        let got: Vec<Verdict> = arrivals.iter().map(|sequence| flow.take(*sequence)).collect();
        assert_eq!(got, want);
        assert_eq!(flow.missing(sent), missing);
    }

    #[test]
    fn losses_duplicates_and_late_ones_are_told_apart() {
        use Verdict::{Duplicate, Late, New};
        check(&[0, 1, 2], 3, &[New, New, New], 0);
        check(&[0, 1], 3, &[New, New], 1);
        check(&[0, 2], 3, &[New, New], 1);
        check(&[0, 2, 1], 3, &[New, New, Late], 0);
        check(&[0, 0], 1, &[New, Duplicate], 0);
        check(&[4, 1, 1, 3, 0], 5, &[New, Late, Duplicate, Late, Late], 1);
    }

    #[test]
    fn gaps_beyond_the_bound_stay_lost() {
        let mut flow = Flow::default();
        for index in 0..10_000 {
            flow.take(2 * index + 1);
        }
        assert_eq!(flow.missing(20_000), 10_000);
        assert_eq!(flow.take(0), Verdict::Duplicate, "too old to be told from one");
    }
}
