//! Gives memory back to the kernel after it was freed.
//!
//! The allocator looks after what it may give back only when somebody allocates or frees, and then
//! not at once: what an attack or a burst needed would stay resident for as long as the shard has
//! little to do. So the shard asks, once a second while there is work and a few times after the last.

use std::time::Duration;

use shards::time::Time;

/// Between two times of asking. The allocator keeps what is free for a second, in case it is needed.
const PERIOD: Duration = Duration::from_secs(1);

/// How often it is asked after the last work: what was freed in that second, what then became due,
/// and what it left for later.
const ROUNDS: u8 = 3;

/// When to ask next.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    due: Option<Time>,
    rounds: u8,
}

impl GiveBack {
    /// There was work, which may have freed something.
    pub(super) fn worked(&mut self, now: Time) {
        self.rounds = ROUNDS;
        if self.due.is_none() {
            self.due = Some(now + PERIOD);
        }
    }

    /// When [`Self::is_due`] has something to say.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// True if it is time; counts as done then.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.rounds -= 1;
        self.due = (self.rounds > 0).then(|| now + PERIOD);
        true
    }
}

/// Asks the allocator to give back what this thread has freed, and what others have freed of it.
#[expect(unsafe_code, reason = "a call of the allocator, which Rust's interface has no name for")]
pub(super) fn give_back() {
    // SAFETY: it may be called by any thread at any time outside the allocator; it touches only what
    // is free.
    unsafe { libmimalloc_sys::mi_collect(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_while_there_is_work_and_a_few_times_after() {
        let mut memory = GiveBack::default();
        assert_eq!(memory.due(), None, "nothing was freed yet");
        let mut asked = Vec::new();
        for tenth in 0..100 {
            let now = Time::from_millis(tenth * 100);
            if memory.is_due(now) {
                asked.push(tenth);
            }
            if tenth <= 25 {
                memory.worked(now);
            }
        }
        assert_eq!(asked, [10, 20, 30, 40, 50]);
        assert_eq!(memory.due(), None, "an idle shard is not woken for it");
    }
}
