//! The core's notes, written to the log at a bounded rate.

use std::time::Duration;

use shards::ids::ShardId;
use shards::shard::Note;
use shards::time::Time;

/// Lines per shard and second; a flood of bad clients must not become a flood of lines.
const LINES_PER_SECOND_MAX: u32 = 20;

/// Allows a number of lines per second and counts what it left out.
#[derive(Debug)]
pub(super) struct RateLimit {
    since: Time,
    lines: u32,
    left_out: u64,
}

impl RateLimit {
    pub(super) fn new(now: Time) -> Self {
        Self { since: now, lines: 0, left_out: 0 }
    }

    /// True if a line may be written.
    fn allows(&mut self) -> bool {
        if self.lines < LINES_PER_SECOND_MAX {
            self.lines += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Starts the next second if it is time; how many lines were left out in the last.
    fn renew(&mut self, now: Time) -> u64 {
        if now.since(self.since) < Duration::from_secs(1) {
            return 0;
        }
        self.since = now;
        self.lines = 0;
        std::mem::take(&mut self.left_out)
    }

    pub(super) fn write(&mut self, shard: ShardId, now: Time, notes: &[Note]) {
        self.report(shard, now);
        for note in notes {
            if self.allows() {
                tracing::info!(
                    shard = shard.0,
                    peer = %note.origin.peer,
                    listener = note.origin.listener,
                    client_id = ?note.client_id,
                    "{}",
                    note.reject
                );
            }
        }
    }

    /// Writes how many lines were left out, when their second is over.
    pub(super) fn report(&mut self, shard: ShardId, now: Time) {
        let left_out = self.renew(now);
        if left_out > 0 {
            tracing::info!(shard = shard.0, left_out, "more notes were left out");
        }
    }

    /// When [`Self::report`] has something to say.
    pub(super) fn next_report(&self) -> Option<Time> {
        (self.left_out > 0).then(|| self.since + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_told_once() {
        let mut limit = RateLimit::new(Time::ZERO);
        let written = (0..50).filter(|_| limit.allows()).count();
        assert_eq!(written, LINES_PER_SECOND_MAX as usize);
        assert_eq!(limit.next_report(), Some(Time::from_secs(1)));
        assert_eq!(limit.renew(Time::from_millis(900)), 0);
        assert_eq!(limit.renew(Time::from_secs(1)), 30);
        assert_eq!(limit.renew(Time::from_secs(3)), 0);
        assert_eq!(limit.next_report(), None);
        assert!(limit.allows());
    }
}
