//! Who decides to sleep, who decides to ring: why no mail waits for a shard that sleeps.
//!
//! One shard's own, shared with all others. Guarantees that a poster which has put mail into a ring
//! and then knocks, and a shard which lies down and then looks at its rings, never both see nothing.
//! `tests/park.rs` compiles this file once more, upon atomics of which it tries every
//! order.

use super::sync::{AtomicBool, OnceLock, Ordering, fence};

/// One shard as those see it who post to it. `D` is what they ring when it sleeps.
#[derive(Debug)]
pub(super) struct Sleeper<D> {
    /// True from before the last look at the mail until after the sleep.
    asleep: AtomicBool,
    /// Where it sleeps, once it can.
    doorbell: OnceLock<D>,
}

impl<D> Sleeper<D> {
    pub(super) fn new() -> Self {
        Self { asleep: AtomicBool::new(false), doorbell: OnceLock::new() }
    }

    /// Publishes where the shard sleeps; false if that was known. Before this, its doorbell is silent;
    /// it looks at its mail once more after it.
    pub(super) fn announce(&self, doorbell: D) -> bool {
        self.doorbell.set(doorbell).is_ok()
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

    /// What to ring after mail was posted; `None` if the shard is awake or somebody else rings
    /// already. See [`Self::lie_down`].
    pub(super) fn knock(&self) -> Option<&D> {
        fence(Ordering::SeqCst);
        let doorbell = self.doorbell.get()?;
        if !self.asleep.load(Ordering::Relaxed) {
            return None;
        }
        self.asleep.swap(false, Ordering::AcqRel).then_some(doorbell)
    }
}
