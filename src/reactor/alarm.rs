//! The timer that wakes a shard which sleeps in its net ring.
//!
//! One operation in the ring for many sleeps: a timeout given to each of them is a timer that the
//! kernel starts and cancels each time, though the next deadline seldom changes. The timer is moved
//! only forward. If the deadline that it was set for is gone when it fires, the shard wakes once for
//! nothing and sets it anew.

use io_uring::opcode::{Timeout, TimeoutUpdate};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{TimeoutFlags, Timespec};
use shards::time::Time;

use super::op::Op;

/// One ring's timer. The kernel reads its time when it takes the entry, so an alarm must not be
/// dropped before that.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// Boxed: its address is in the entry.
    time: Box<Timespec>,
    /// When the timer in the ring fires.
    set: Option<Time>,
}

impl Alarm {
    /// The entry that makes the ring wake at `deadline`, if it would not wake before.
    pub(super) fn set(&mut self, deadline: Time) -> Option<Entry> {
        if self.set.is_some_and(|set| set <= deadline) {
            return None;
        }
        *self.time = Timespec::from(deadline.since(Time::ZERO));
        let time = &raw const *self.time;
        let entry = match self.set.replace(deadline) {
            None => Timeout::new(time).flags(TimeoutFlags::ABS).build().user_data(Op::Alarm.pack()),
            // Fails if it fires at this moment: then the shard wakes, and sets it anew.
            Some(_) => TimeoutUpdate::new(Op::Alarm.pack(), time)
                .flags(TimeoutFlags::ABS)
                .build()
                .user_data(Op::Forget.pack())
                .flags(Flags::SKIP_SUCCESS),
        };
        Some(entry)
    }

    /// The timer has fired.
    pub(super) fn fired(&mut self) {
        self.set = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_forward_until_it_has_fired() {
        let mut alarm = Alarm::default();
        assert!(alarm.set(Time::from_secs(5)).is_some());
        assert!(alarm.set(Time::from_secs(5)).is_none());
        assert!(alarm.set(Time::from_secs(9)).is_none());
        assert!(alarm.set(Time::from_secs(3)).is_some());
        assert!(alarm.set(Time::from_secs(5)).is_none());
        alarm.fired();
        assert!(alarm.set(Time::from_secs(5)).is_some());
    }
}
