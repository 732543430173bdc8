//! The clocks of a shard: read once per turn, handed to the core as a value.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shards::time::{Now, Time};

/// How often the wall clock is read anew; it only matters to people.
const WALL_CLOCK_READ_EVERY: Duration = Duration::from_millis(200);

/// Time since the machine's start, the same on all shards.
pub(crate) fn monotonic() -> Time {
    Time::from_micros(micros(ClockId::Monotonic))
}

fn micros(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// One shard's idea of now.
#[derive(Debug)]
pub(super) struct Clock {
    now: Now,
    wall_read: Time,
    /// The time was read at the end of a sleep, and nothing has happened since.
    is_fresh: bool,
}

impl Clock {
    pub(super) fn new() -> Self {
        let time = monotonic();
        let unix_secs = micros(ClockId::Realtime) / 1_000_000;
        Self { now: Now { time, unix_secs }, wall_read: time, is_fresh: false }
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// Reads the clock at the end of a sleep. The turn that follows begins at that time.
    pub(super) fn wake(&mut self) -> Time {
        self.now.time = monotonic();
        self.is_fresh = true;
        self.now.time
    }

    /// Reads the clock, unless a sleep has ended just now.
    pub(super) fn tick(&mut self) -> Now {
        if !std::mem::take(&mut self.is_fresh) {
            self.now.time = monotonic();
        }
        if self.now.time.since(self.wall_read) >= WALL_CLOCK_READ_EVERY {
            self.wall_read = self.now.time;
            self.now.unix_secs = micros(ClockId::Realtime) / 1_000_000;
        }
        self.now
    }
}

/// How busy a shard was, second by second.
#[derive(Debug)]
pub(super) struct LoadMeter {
    since: Time,
    idle: Duration,
}

impl LoadMeter {
    const PERIOD: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Time) -> Self {
        Self { since: now, idle: Duration::ZERO }
    }

    pub(super) fn add_idle(&mut self, idle: Duration) {
        self.idle += idle;
    }

    /// Busy time in thousandths, when a second is over.
    pub(super) fn read(&mut self, now: Time) -> Option<u16> {
        let elapsed = now.since(self.since);
        if elapsed < Self::PERIOD {
            return None;
        }
        let busy = elapsed.saturating_sub(self.idle);
        let permille = busy.as_micros().saturating_mul(1_000) / elapsed.as_micros().max(1);
        *self = Self::new(now);
        Some(u16::try_from(permille).unwrap_or(1_000).min(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_was_not_idle() {
        let mut meter = LoadMeter::new(Time::from_secs(5));
        meter.add_idle(Duration::from_millis(500));
        assert_eq!(meter.read(Time::from_millis(5_900)), None);
        assert_eq!(meter.read(Time::from_secs(7)), Some(750));
        assert_eq!(meter.read(Time::from_secs(8)), Some(1_000));
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let mut clock = Clock::new();
        let before = clock.now().time;
        assert!(clock.tick().time >= before);
        assert!(clock.now().unix_secs > 1_600_000_000);
    }

    #[test]
    fn a_turn_begins_when_the_sleep_before_it_ends() {
        let mut clock = Clock::new();
        let woken = clock.wake();
        while monotonic() == woken {}
        assert_eq!(clock.tick().time, woken);
        assert!(clock.tick().time > woken, "the time of a sleep's end serves one turn");
    }
}
