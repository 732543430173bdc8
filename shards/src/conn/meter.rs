//! How much a client may publish: one bucket of tokens for its packets, one for their bytes. Each holds
//! what may come in a second, and that much may come at once. Time comes in; nothing is ever lost to
//! rounding.

use std::time::Duration;

use crate::limits::ListenerSettings;
use crate::time::Time;
use crate::timers::TimerId;

/// Parts of a token: a rate of one in a second gives one part in a microsecond.
const PARTS: i64 = 1_000_000;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// 0 is no limit.
    per_s: u32,
    /// In parts. Below zero only by what one packet took that is larger than the bucket.
    level: i64,
}

impl Bucket {
    fn new(per_s: u32) -> Self {
        Self { per_s, level: i64::from(per_s) * PARTS }
    }

    fn is_full(self) -> bool {
        self.level >= i64::from(self.per_s) * PARTS
    }

    fn refill(&mut self, elapsed: Duration) {
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let most = i64::from(self.per_s) * PARTS;
        let more = micros.saturating_mul(self.per_s.into());
        self.level = self.level.saturating_add(more).min(most);
    }

    /// What must be there for `count` tokens to be taken: a full bucket is enough for anything.
    fn missing(self, count: usize) -> i64 {
        let count = i64::try_from(count).unwrap_or(i64::MAX).min(self.per_s.into());
        (count * PARTS).saturating_sub(self.level).max(0)
    }

    fn take(&mut self, count: usize) {
        if self.per_s > 0 {
            let parts = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(PARTS);
            self.level = self.level.saturating_sub(parts);
        }
    }

    fn put_back(&mut self, count: usize) {
        let parts = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(PARTS);
        let most = i64::from(self.per_s) * PARTS;
        self.level = self.level.saturating_add(parts).min(most);
    }

    /// After so many microseconds as much is there.
    fn wait(self, missing: i64) -> u64 {
        u64::try_from(missing).unwrap_or(0).div_ceil(u64::from(self.per_s.max(1)))
    }
}

/// Both buckets of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    publishes: Bucket,
    bytes: Bucket,
    refilled: Time,
    /// Ends the pause, if there is one.
    pub timer: Option<TimerId>,
    /// The log knows that the client publishes too fast. Ends when it has not for a second's worth.
    pub is_noted: bool,
}

impl Meter {
    /// What a listener's clients get, if it has limits.
    #[must_use]
    pub fn new(listener: &ListenerSettings, now: Time) -> Option<Self> {
        let bucket = |per_s: Option<u32>| Bucket::new(per_s.unwrap_or(0));
        let (publishes, bytes) = (bucket(listener.publishes_per_s), bucket(listener.bytes_per_s));
        let has_limits = publishes.per_s > 0 || bytes.per_s > 0;
        has_limits.then_some(Self { publishes, bytes, refilled: now, timer: None, is_noted: false })
    }

    pub fn refill(&mut self, now: Time) {
        let elapsed = now.since(self.refilled);
        self.refilled = self.refilled.max(now);
        self.publishes.refill(elapsed);
        self.bytes.refill(elapsed);
        self.is_noted &= !(self.publishes.is_full() && self.bytes.is_full());
    }

    /// Pays for a PUBLISH of so many bytes; false, with nothing taken, if it must wait.
    pub fn takes(&mut self, packet_bytes: usize) -> bool {
        if self.publishes.missing(1) > 0 || self.bytes.missing(packet_bytes) > 0 {
            return false;
        }
        self.publishes.take(1);
        self.bytes.take(packet_bytes);
        true
    }

    /// A PUBLISH that was paid for comes again, and pays then.
    pub fn put_back(&mut self, packet_bytes: usize) {
        self.publishes.put_back(1);
        self.bytes.put_back(packet_bytes);
    }

    /// How long a PUBLISH of so many bytes must wait.
    #[must_use]
    pub fn wait(&self, packet_bytes: usize) -> Duration {
        let publishes = self.publishes.wait(self.publishes.missing(1));
        let bytes = self.bytes.wait(self.bytes.missing(packet_bytes));
        Duration::from_micros(publishes.max(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(publishes: u32, bytes: u32) -> Meter {
        let listener = ListenerSettings {
            publishes_per_s: Some(publishes),
            bytes_per_s: Some(bytes),
            ..ListenerSettings::default()
        };
        Meter::new(&listener, Time::ZERO).expect("a limit")
    }

    #[test]
    fn no_limit_needs_no_meter() {
        assert!(Meter::new(&ListenerSettings::default(), Time::ZERO).is_none());
    }

    #[test]
    fn what_is_put_back_can_be_taken_again() {
        let mut meter = meter(2, 100);
        for _ in 0..50 {
            assert!(meter.takes(60));
            meter.put_back(60);
        }
        assert!(meter.takes(60) && !meter.takes(60) && meter.takes(40) && !meter.takes(0));
        meter.put_back(1000);
        assert!(meter.takes(100) && !meter.takes(1), "no more than a full bucket");
    }

    #[test]
    fn a_second_is_a_burst_and_then_the_rate_holds_exactly() {
        for per_s in [1, 3, 7, 999, 1_000_003, u32::MAX] {
            let mut meter = meter(per_s, 0);
            let mut now = Time::ZERO;
            for _ in 0..per_s.min(1000) {
                assert!(meter.takes(10_000_000));
            }
            if per_s > 1000 {
                meter.publishes.level = 0;
            }
            for count in 1..=20u64 {
                assert!(!meter.takes(1));
                let wait = meter.wait(1);
                let before = Time::from_micros((now + wait).as_micros() - 1);
                meter.refill(before);
                assert!(!meter.takes(1), "a microsecond early");
                now = now + wait;
                meter.refill(now);
                assert!(meter.takes(1));
                // Waits are whole microseconds, and what is over counts for the next one.
                let exact = (count * 1_000_000).div_ceil(per_s.into());
                if per_s < 1_000_000 {
                    assert_eq!(now.as_micros(), exact, "{per_s}");
                }
                if per_s > 1_000_000 {
                    meter.publishes.level = 0;
                }
            }
        }
    }

    #[test]
    fn a_packet_larger_than_a_second_goes_when_it_is_full_and_is_paid_for() {
        let mut meter = meter(0, 100);
        assert!(meter.takes(1000));
        assert_eq!(meter.wait(1), Duration::from_micros(9_010_000));
        meter.refill(Time::from_secs(9));
        assert!(!meter.takes(1));
        meter.refill(Time::from_secs(10));
        assert!(meter.takes(100) && !meter.takes(1));
        assert_eq!(meter.wait(1000), Duration::from_secs(1));
    }

    #[test]
    fn both_must_suffice_and_nothing_is_kept_beyond_a_second() {
        let mut meter = meter(2, 100);
        meter.refill(Time::from_secs(1_000_000));
        assert!(meter.takes(60) && !meter.takes(60) && meter.takes(40));
        assert_eq!(meter.wait(10), Duration::from_millis(500));
        assert_eq!(meter.wait(60), Duration::from_millis(600));
    }

    #[test]
    fn what_was_noted_is_news_again_after_a_pause() {
        let mut meter = meter(2, 0);
        assert!(meter.takes(1) && meter.takes(1));
        meter.is_noted = true;
        meter.refill(Time::from_micros(999_999));
        assert!(meter.is_noted);
        meter.refill(Time::from_secs(1));
        assert!(!meter.is_noted);
    }
}
