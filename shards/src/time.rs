//! Time as a value. The core never reads a clock: the shell (or the simulator) says what time it is.

use std::ops::Add;
use std::time::Duration;

/// Microseconds on a clock that never goes back, from an origin that the shell chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    #[must_use]
    pub fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    #[must_use]
    pub fn as_micros(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// What time it is, as told with every input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: deadlines and waiting times.
    pub time: Time,
    /// Wall clock, seconds since 1970; only for what people read.
    pub unix_secs: u64,
}
