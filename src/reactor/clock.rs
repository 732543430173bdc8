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

/// CPU time of the calling thread since its start. A system call, unlike the other clocks.
pub(super) fn cpu_time() -> Duration {
    Duration::from_micros(micros(ClockId::ThreadCPUTime))
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
    pub(super) fn wake(&mut self) {
        self.now.time = monotonic();
        self.is_fresh = true;
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

/// How busy a shard was, second by second: by the CPU time that its thread took, so that a sleep needs
/// no clock read at its start. Time that the machine gave to others does not count.
#[derive(Debug)]
pub(super) struct LoadMeter {
    since: Time,
    /// CPU time at that moment, and what was spent since with watching memory.
    used: Duration,
    watched: Duration,
}

impl LoadMeter {
    const PERIOD: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Time, used: Duration) -> Self {
        Self { since: now, used, watched: Duration::ZERO }
    }

    /// The shard has watched memory for so long, which is CPU time, but nothing was to be done.
    pub(super) fn add_watched(&mut self, watched: Duration) {
        self.watched += watched;
    }

    /// Busy time in thousandths, when a second is over. `used` is asked for only then.
    pub(super) fn read(&mut self, now: Time, used: impl FnOnce() -> Duration) -> Option<u16> {
        let elapsed = now.since(self.since);
        if elapsed < Self::PERIOD {
            return None;
        }
        let used = used();
        let busy = used.saturating_sub(self.used).saturating_sub(self.watched);
        let permille = busy.as_micros().saturating_mul(1_000) / elapsed.as_micros().max(1);
        *self = Self::new(now, used);
        Some(u16::try_from(permille).unwrap_or(1_000).min(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_was_used_and_not_watched() {
        let used = |millis| move || Duration::from_millis(millis);
        let mut meter = LoadMeter::new(Time::from_secs(5), used(300)());
        meter.add_watched(Duration::from_millis(500));
        assert_eq!(meter.read(Time::from_millis(5_900), used(1_000)), None);
        assert_eq!(meter.read(Time::from_secs(7), used(2_300)), Some(750));
        assert_eq!(meter.read(Time::from_secs(8), used(3_400)), Some(1_000));
        assert_eq!(meter.read(Time::from_secs(9), used(3_400)), Some(0));
    }

    #[test]
    fn a_thread_that_works_takes_cpu_time() {
        let before = cpu_time();
        while cpu_time() == before {}
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
        clock.wake();
        let woken = clock.now().time;
        while monotonic() == woken {}
        assert_eq!(clock.tick().time, woken);
        assert!(clock.tick().time > woken, "the time of a sleep's end serves one turn");
    }
}
