//! One timing wheel for all deadlines of a shard: keep alive, session expiry, will delay and the rest.
//!
//! Hierarchical (Varghese and Lauck, 1987): seven levels of 64 slots, a tick of 2^14 µs. Setting and
//! cancelling are O(1) and leave nothing behind; a timer fires at its deadline or up to one tick later,
//! never before. The shell sees one deadline.

use std::num::NonZeroU32;

use crate::arena::Arena;
use crate::time::Time;

/// A tick is 2^14 µs, about 16 ms: deadlines of MQTT are whole seconds.
const TICK_SHIFT: u32 = 14;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^7 ticks are about 2,300 years: no deadline lies beyond.
const LEVELS: usize = 7;
const LEVEL_LAST: u32 = 6;
const _: () = assert!(LEVEL_LAST as usize == LEVELS - 1);

/// What a timer is for, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// CONNECT has not come, or the peer of a finished connection has not closed, or the client is silent.
    Conn {
        index: u32,
    },
    /// What a connection was granted is over.
    GrantEnd {
        index: u32,
    },
    /// A client that publishes too fast may go on.
    RateEnd {
        index: u32,
    },
    SessionExpiry {
        session: u32,
    },
    WillDelay {
        session: u32,
    },
    Sys,
    RetainedExpiry,
    Housekeeping,
}

/// A timer that is set. Belongs to whoever set it, who forgets it when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId(NonZeroU32);

const _: () = assert!(size_of::<Option<TimerId>>() == 4, "sessions have two, mostly unset");

#[derive(Debug)]
struct Node {
    timer: Timer,
    /// In ticks.
    deadline: u64,
    level: u8,
    slot: u8,
    previous: Option<u32>,
    next: Option<u32>,
}

/// The wheel. Lives on its shard.
#[derive(Debug)]
pub struct Timers {
    nodes: Arena<Node>,
    /// For each level, a bit per slot that has timers. Apart from the slots: each turn asks for the next
    /// deadline, which then takes two lines of memory.
    occupied: [u64; LEVELS],
    /// Ticks up to here have been worked on.
    elapsed: u64,
    /// Timers whose tick has come, not yet handed out: head of a list.
    due: Option<u32>,
    heads: [[Option<u32>; SLOTS]; LEVELS],
}

/// `level` of nodes on the due list.
const DUE: u8 = u8::MAX;

impl Default for Timers {
    fn default() -> Self {
        Self {
            nodes: Arena::default(),
            occupied: [0; LEVELS],
            elapsed: 0,
            due: None,
            heads: [[None; SLOTS]; LEVELS],
        }
    }
}

impl Timers {
    /// Sets a timer for `deadline`, or for the next tick if that has passed.
    pub fn set(&mut self, timer: Timer, deadline: Time) -> TimerId {
        let tick = (deadline.as_micros().saturating_add((1 << TICK_SHIFT) - 1)) >> TICK_SHIFT;
        let deadline = tick.max(self.elapsed + 1);
        let node = Node { timer, deadline, level: 0, slot: 0, previous: None, next: None };
        let index = self.nodes.insert(node);
        self.link(index);
        // No memory holds 2^32 timers, so the last index is never given out.
        TimerId(NonZeroU32::MIN.saturating_add(index))
    }

    /// Forgets a timer that has not fired.
    pub fn cancel(&mut self, id: TimerId) {
        let index = id.0.get() - 1;
        self.unlink(index);
        self.nodes.remove(index);
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.count()
    }

    /// When [`Timers::expired`] should be asked next; not later than the earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.due.is_some() {
            return Some(Time::from_micros(self.elapsed << TICK_SHIFT));
        }
        self.next_stop().map(|(_, _, tick)| Time::from_micros(tick << TICK_SHIFT))
    }

    /// The next timer whose deadline has come; it is no longer set.
    pub fn expired(&mut self, now: Time) -> Option<Timer> {
        let now = now.as_micros() >> TICK_SHIFT;
        loop {
            if let Some(index) = self.due {
                self.unlink(index);
                return self.nodes.remove(index).map(|node| node.timer);
            }
            let Some((level, slot, tick)) = self.next_stop().filter(|&(_, _, tick)| tick <= now)
            else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            self.elapsed = tick;
            self.cascade(level, slot);
        }
    }

    /// Moves the timers of one slot to where they belong now: the due list, or a finer level.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut next = self.heads[level][slot].take();
        self.occupied[level] &= !(1 << slot);
        while let Some(index) = next {
            let Some(node) = self.nodes.get_mut(index) else { break };
            next = node.next.take();
            node.previous = None;
            self.link(index);
        }
    }

    /// The first slot that must be looked at: its level, its place, and the tick at which it begins.
    fn next_stop(&self) -> Option<(usize, usize, u64)> {
        self.occupied.iter().enumerate().find_map(|(level, &occupied)| {
            if occupied == 0 {
                return None;
            }
            let shift = SLOT_BITS * u32::try_from(level).unwrap_or(0);
            let position = (self.elapsed >> shift) & (SLOTS as u64 - 1);
            let turned = occupied.rotate_right(u32::try_from(position).unwrap_or(0));
            let slot = (u64::from(turned.trailing_zeros()) + position) & (SLOTS as u64 - 1);
            let span = 1u64 << (shift + SLOT_BITS);
            let start = (self.elapsed & !(span - 1)) + (slot << shift);
            let tick = if start < self.elapsed { start + span } else { start };
            Some((level, usize::try_from(slot).unwrap_or(0), tick))
        })
    }

    fn link(&mut self, index: u32) {
        let elapsed = self.elapsed;
        let Some(node) = self.nodes.get_mut(index) else { return };
        let head = if node.deadline <= elapsed {
            node.level = DUE;
            &mut self.due
        } else {
            // The highest bit in which deadline and present differ says how coarse a slot may be.
            let differ = (node.deadline ^ elapsed) | (SLOTS as u64 - 1);
            let level = ((63 - differ.leading_zeros()) / SLOT_BITS).min(LEVEL_LAST);
            let slot = (node.deadline >> (level * SLOT_BITS)) & (SLOTS as u64 - 1);
            node.level = u8::try_from(level).unwrap_or(0);
            node.slot = u8::try_from(slot).unwrap_or(0);
            self.occupied[level as usize] |= 1 << slot;
            &mut self.heads[level as usize][usize::from(node.slot)]
        };
        let old = head.replace(index);
        node.next = old;
        node.previous = None;
        if let Some(old) = old.and_then(|old| self.nodes.get_mut(old)) {
            old.previous = Some(index);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        let (previous, next, level, slot) =
            (node.previous.take(), node.next.take(), node.level, usize::from(node.slot));
        if let Some(next) = next.and_then(|next| self.nodes.get_mut(next)) {
            next.previous = previous;
        }
        if let Some(previous) = previous {
            if let Some(previous) = self.nodes.get_mut(previous) {
                previous.next = next;
            }
        } else if level == DUE {
            self.due = next;
        } else {
            let level = usize::from(level);
            self.heads[level][slot] = next;
            if next.is_none() {
                self.occupied[level] &= !(1 << slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets and cancels at random and compares with a list; time advances in steps of any size.
    #[test]
    fn fires_like_a_list_never_early_and_at_most_a_tick_late() {
        let mut timers = Timers::default();
        let mut list: Vec<(TimerId, u64, u32)> = Vec::new();
        let mut now = 0u64;
        let mut state = 3u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 20) % bound
        };
        for n in 0..60_000u32 {
            match random(4) {
                0 | 1 => {
                    let span = 1u64 << random(48);
                    let deadline = now + random(span);
                    let id = timers.set(Timer::Conn { index: n }, Time::from_micros(deadline));
                    list.push((id, deadline, n));
                }
                2 if !list.is_empty() => {
                    let at = usize::try_from(random(list.len() as u64)).expect("small");
                    timers.cancel(list.swap_remove(at).0);
                }
                _ => {
                    let span = 1u64 << random(40);
                    now += random(span);
                    let mut fired = Vec::new();
                    while let Some(timer) = timers.expired(Time::from_micros(now)) {
                        let Timer::Conn { index } = timer else {
                            panic!("{timer:?} was never set")
                        };
                        fired.push(index);
                    }
                    for index in fired {
                        let at = list.iter().position(|entry| entry.2 == index).expect("set once");
                        let (_, deadline, _) = list.swap_remove(at);
                        assert!(deadline <= now, "fired early");
                    }
                    let late = list.iter().filter(|entry| entry.1 + (2 << TICK_SHIFT) <= now);
                    assert_eq!(late.count(), 0, "did not fire");
                }
            }
            let earliest = list.iter().map(|entry| entry.1).min();
            if let (Some(deadline), Some(earliest)) = (timers.next_deadline(), earliest) {
                assert!(deadline.as_micros() < earliest + (2 << TICK_SHIFT), "wakes too late");
            }
            assert_eq!(timers.count(), list.len());
        }
    }
}
