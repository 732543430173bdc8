//! Which connections are sent to in a turn, and which in a later one.
//!
//! A send costs a few microseconds, and what comes in meanwhile waits for the turn's end: a message to
//! thousands of subscribers must not be one turn. So a turn has a bounded number of sends, and the
//! others keep their place. What waits grows together with what is published meanwhile, and goes out in
//! one send. Who has subscribed to everything ([`shards::shard::Outbox::bulk_sends`]) has a share of its
//! own: nobody who wants little waits behind those.

use std::collections::VecDeque;

use shards::ids::ConnId;

/// Sends of a turn to those who did not subscribe to everything.
const SENDS_MAX: u32 = 64;

/// Sends of a turn to the others.
const BULK_SENDS_MAX: u32 = 4;

/// The same while there are sends of the first kind.
const BULK_SENDS_BESIDE_MAX: u32 = 1;

/// Turns without one after which it is taken that there are none: who waits for one may be about to ask.
const BESIDE_TURNS: u32 = 64;

/// Bytes of those after which a turn has no more of them. A send over the loopback interface contains the
/// peer's receiving.
const BULK_BYTES_MAX: usize = 16 * 1024;

/// Connections that have something to send, in the order in which they came to.
#[derive(Debug, Default)]
pub(super) struct Sends {
    plain: Share,
    bulk: Share,
    /// Turns for which there is taken to be somebody of the first kind.
    beside_turns: u32,
    /// The turn has come to the second kind.
    is_bulk: bool,
    /// Bytes that it has sent in this turn.
    bulk_bytes: usize,
}

#[derive(Debug, Default)]
struct Share {
    waiting: VecDeque<ConnId>,
    /// How many of them may go in this turn.
    left: u32,
}

impl Sends {
    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.plain.left = SENDS_MAX;
        self.bulk.left = if self.beside_turns > 0 { BULK_SENDS_BESIDE_MAX } else { BULK_SENDS_MAX };
        self.beside_turns = self.beside_turns.saturating_sub(1);
        self.is_bulk = false;
        self.bulk_bytes = 0;
    }

    pub(super) fn push(&mut self, conn: ConnId) {
        self.plain.waiting.push_back(conn);
    }

    pub(super) fn push_bulk(&mut self, conn: ConnId) {
        self.bulk.waiting.push_back(conn);
    }

    /// Whose turn it is; `None` if nobody waits, or the turn has had its sends.
    pub(super) fn next(&mut self) -> Option<ConnId> {
        if let Some(conn) = self.plain.next() {
            self.bulk.left = self.bulk.left.min(BULK_SENDS_BESIDE_MAX);
            self.beside_turns = BESIDE_TURNS;
            return Some(conn);
        }
        if self.bulk_bytes >= BULK_BYTES_MAX {
            return None;
        }
        self.is_bulk = true;
        self.bulk.next()
    }

    /// How much the one had to send whose turn it was last.
    pub(super) fn sent(&mut self, bytes: usize) {
        if self.is_bulk {
            self.bulk_bytes += bytes;
        }
    }

    /// True if somebody waits for the next turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.plain.waiting.is_empty() || !self.bulk.waiting.is_empty()
    }
}

impl Share {
    fn next(&mut self) -> Option<ConnId> {
        if self.left == 0 {
            return None;
        }
        let conn = self.waiting.pop_front()?;
        self.left -= 1;
        Some(conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn a_turn_has_its_sends_and_the_others_keep_their_place() {
        let mut sends = Sends::default();
        assert_eq!(sends.next(), None);
        (0..1000).for_each(|index| sends.push_bulk(conn(index)));
        let mut bulk = 0..1000;
        for turn in 0.. {
            sends.begin_turn();
            sends.push(conn(5000 + turn));
            assert_eq!(sends.next(), Some(conn(5000 + turn)), "before all that wait");
            let mut count = 0;
            while let Some(next) = sends.next() {
                assert_eq!(next, conn(bulk.next().unwrap()));
                count += 1;
            }
            assert!(count <= BULK_SENDS_BESIDE_MAX);
            if !sends.is_waiting() {
                break;
            }
        }
        assert_eq!(bulk.next(), None);
    }

    #[test]
    fn those_who_want_everything_have_more_of_a_turn_for_themselves() {
        let mut sends = Sends::default();
        (0..1000).for_each(|index| sends.push_bulk(conn(index)));
        sends.begin_turn();
        assert_eq!(std::iter::from_fn(|| sends.next()).count(), BULK_SENDS_MAX as usize);
    }

    #[test]
    fn who_wants_little_may_ask_again_soon() {
        let mut sends = Sends::default();
        (0..1000).for_each(|index| sends.push_bulk(conn(index)));
        sends.begin_turn();
        sends.push(conn(5000));
        let mut counts = Vec::new();
        for _ in 0..=BESIDE_TURNS + 1 {
            counts.push(std::iter::from_fn(|| sends.next()).count());
            sends.begin_turn();
        }
        let [first, beside @ .., last] = &*counts else { panic!("{counts:?}") };
        assert_eq!(*first, 1 + BULK_SENDS_BESIDE_MAX as usize);
        assert!(beside.iter().all(|&count| count == BULK_SENDS_BESIDE_MAX as usize), "{counts:?}");
        assert_eq!((beside.len(), *last), (BESIDE_TURNS as usize, BULK_SENDS_MAX as usize));
    }

    #[test]
    fn a_turn_has_few_large_sends() {
        let mut sends = Sends::default();
        (0..1000).for_each(|index| sends.push_bulk(conn(index)));
        for (bytes, want) in [(BULK_BYTES_MAX, 1), (BULK_BYTES_MAX - 1, 2), (1, BULK_SENDS_MAX)] {
            sends.begin_turn();
            let mut count = 0;
            while sends.next().is_some() {
                sends.sent(bytes);
                count += 1;
            }
            assert_eq!(count, want, "{bytes} bytes each");
        }
    }

    #[test]
    fn many_that_want_little_do_not_keep_the_others_from_going() {
        let mut sends = Sends::default();
        (0..1000).for_each(|index| sends.push(conn(index)));
        sends.push_bulk(conn(9999));
        sends.begin_turn();
        let sent: Vec<_> = std::iter::from_fn(|| sends.next()).collect();
        assert_eq!(sent.len(), (SENDS_MAX + BULK_SENDS_BESIDE_MAX) as usize);
        assert_eq!(sent.last(), Some(&conn(9999)));
    }
}
