//! Packets that clients wrote, against the broker's counters.

use std::collections::BTreeMap;

use shards::counters::Counters;

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE, in this order.
type Counts = [u64; 3];

/// What was written where. What a connection carried that is gone may have arrived or not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    by_wire: BTreeMap<usize, Counts>,
    sure: Counts,
    perhaps: Counts,
    /// PUBLISHes and CONNACKs that came to clients.
    pub(super) received: u64,
    pub(super) welcomed: u64,
}

/// A kind of packet that is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Publish,
    Subscribe,
    Unsubscribe,
}

impl Tally {
    pub(super) fn wrote(&mut self, wire: usize, kind: Kind) {
        self.by_wire.entry(wire).or_default()[kind as usize] += 1;
    }

    /// The probe has subscribed, and so much came to it.
    pub(super) fn probed(&mut self, messages: usize) {
        self.sure[Kind::Subscribe as usize] += 1;
        self.received += messages as u64;
        self.welcomed += 1;
    }

    /// The world rests, and these connections are there.
    pub(super) fn check(&mut self, wires: &[usize], counters: &Counters) {
        for (wire, counts) in std::mem::take(&mut self.by_wire) {
            let sum = if wires.contains(&wire) { &mut self.sure } else { &mut self.perhaps };
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let counted = [counters.messages_received, counters.subscribes, counters.unsubscribes];
        for (at, name) in ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"].into_iter().enumerate() {
            let (sure, perhaps) = (self.sure[at], self.perhaps[at]);
            assert!(
                (sure..=sure + perhaps).contains(&counted[at]),
                "{} {name} packets are counted, {sure} came for sure and {perhaps} perhaps",
                counted[at]
            );
        }
        let (sent, welcomed) = (counters.messages_sent, counters.connects_accepted);
        assert!(self.received <= sent, "{sent} messages were sent, {} came", self.received);
        assert!(self.welcomed <= welcomed, "{welcomed} were welcomed, {} know", self.welcomed);
    }
}
