//! Who decides to sleep, who decides to ring: why no mail waits for a shard that sleeps.
//!
//! One shard's own, shared with all others. Guarantees that a poster which has put mail into a ring
//! and then knocks, and a shard which lies down and then looks at its rings, never both see nothing.
//! `tests/park.rs` compiles this file once more, upon atomics of which it tries every
//! order.

use super::sync::{AtomicBool, Ordering, fence};

/// One shard as those see it who post to it.
#[derive(Debug)]
pub(super) struct Sleeper {
    /// True from before the last look at the mail until after the sleep.
    asleep: AtomicBool,
}

impl Sleeper {
    pub(super) fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// Says that the shard is about to sleep, then looks at its mail once more: true if it may sleep.
    /// Whatever the answer, [`Self::get_up`] comes next.
    ///
    /// Either the poster sees `asleep`, or the sleeper sees the mail: the sleeper writes `asleep` and
    /// then reads the rings, the poster writes the ring and then reads `asleep`, and each has a
    /// sequentially consistent fence between its write and its read. Without both fences each side
    /// could read the old value, and mail would wait for an unrelated wake-up.
    pub(super) fn lie_down(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !has_mail()
    }

    pub(super) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// True if the shard must be rung after mail was posted; false if it is awake or somebody else
    /// rings already. See [`Self::lie_down`].
    pub(super) fn knock(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }
}
