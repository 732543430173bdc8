//! Which connections are received from in a turn that have just sent much, one receive each.
//!
//! A receive of a full buffer is more than its copy: it opens the peer's window, and over the loopback
//! interface the kernel then does the peer's sending within the receive. Some of those are as long
//! as a turn. So while others wait that want little, a turn has few of them.

use std::collections::VecDeque;

use shards::ids::ConnId;

/// Receives of a turn while others wait.
const RECEIVES_MAX: u32 = 1;

/// Connections whose next receive waits for its turn, in the order in which they came to.
#[derive(Debug, Default)]
pub(super) struct Receives {
    waiting: VecDeque<ConnId>,
    /// How many there were in this turn.
    done: u32,
    max: u32,
}

impl Receives {
    pub(super) fn begin_turn(&mut self) {
        self.done = 0;
    }

    pub(super) fn push(&mut self, conn: ConnId) {
        self.waiting.push_back(conn);
    }

    /// A round of this turn: how many there may be is known now.
    pub(super) fn go_on(&mut self, is_contended: bool) {
        self.max = if is_contended { RECEIVES_MAX } else { u32::MAX };
    }

    /// Whose turn it is; `None` if nobody waits, or the turn has had its receives.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        if self.done >= self.max {
            return None;
        }
        let conn = self.waiting.pop_front()?;
        self.done += 1;
        Some(conn)
    }

    /// True if somebody waits for the next turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn while_others_wait_a_turn_has_few_and_all_keep_their_place() {
        let mut receives = Receives::default();
        (0..10).for_each(|index| receives.push(conn(index)));
        let mut got = Vec::new();
        for _ in 0..3 {
            receives.begin_turn();
            // Each turn may have several rounds.
            for _ in 0..2 {
                receives.go_on(true);
                got.extend(std::iter::from_fn(|| receives.next()));
            }
        }
        assert_eq!(got, (0..3 * RECEIVES_MAX).map(conn).collect::<Vec<_>>());
        receives.go_on(false);
        got.extend(std::iter::from_fn(|| receives.next()));
        assert_eq!(got, (0..10).map(conn).collect::<Vec<_>>());
        assert!(!receives.is_waiting());
    }
}
