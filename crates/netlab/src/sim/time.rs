//! Virtual time.

use std::ops::Add;
use std::time::{Duration, Instant};

/// A moment of a simulation: nanoseconds since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SimTime(u64);

impl SimTime {
    pub(super) const ZERO: Self = Self(0);

    #[cfg(test)]
    pub(super) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The first multiple of `step` from here on.
    pub(super) fn ceil(self, step: Duration) -> Self {
        let step = nanos(step).max(1);
        Self(self.0.div_ceil(step).saturating_mul(step))
    }
}

impl Add<Duration> for SimTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl From<Duration> for SimTime {
    fn from(duration: Duration) -> Self {
        Self(nanos(duration))
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Translates between virtual time and the instants that quinn-proto takes.
///
/// The wall clock is read once, for an instant to begin with; only differences to it are ever
/// used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
        }
    }

    pub(super) fn instant(self, time: SimTime) -> Instant {
        self.base + time.since_start()
    }

    pub(super) fn time(self, instant: Instant) -> SimTime {
        SimTime::from(instant.saturating_duration_since(self.base))
    }
}
