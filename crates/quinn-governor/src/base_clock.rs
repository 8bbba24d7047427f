//! A clock that stops while the wrapped controller must not grow.

use std::time::{Duration, Instant};

/// The wrapped controller's time.
///
/// Cubic's window is a function of the time since its last reduction. Time in which it must not
/// grow must not count (RFC 9438 section 5.8), or Cubic makes up for it at once afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BaseClock {
    paused: Duration,
    /// When it was stopped.
    stopped: Option<Instant>,
}

/// How much a stopped clock advances at a reduction: controllers ignore a reduction that is not
/// later than the one before.
const TICK: Duration = Duration::from_micros(1);

impl BaseClock {
    /// Acknowledgements have been processed; whether the wrapped controller is not let grow.
    pub(crate) fn on_acks(&mut self, now: Instant, hidden: bool) {
        if let Some(stopped) = self.stopped.take() {
            self.paused += now.saturating_duration_since(stopped);
        }
        self.stopped = hidden.then_some(now);
    }

    /// The time as the wrapped controller is to see it.
    #[inline]
    pub(crate) fn time(&self, now: Instant) -> Instant {
        if self.is_true() {
            now
        } else {
            self.shifted(now)
        }
    }

    #[inline(never)]
    fn shifted(&self, now: Instant) -> Instant {
        let now = self.stopped.map_or(now, |stopped| now.min(stopped));
        now.checked_sub(self.paused).unwrap_or(now)
    }

    /// The same, of a reduction.
    pub(crate) fn reduction(&mut self, now: Instant) -> Instant {
        self.paused = self.paused.saturating_sub(TICK);
        self.time(now)
    }

    /// Whether the wrapped controller's time is everybody's.
    #[inline]
    pub(crate) fn is_true(&self) -> bool {
        self.paused.is_zero() && self.stopped.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nothing_grows_does_not_pass() {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = BaseClock::default();
        clock.on_acks(start + second, true);
        assert_eq!(clock.time(start + 5 * second), start + second);
        clock.on_acks(start + 11 * second, false);
        assert_eq!(clock.time(start + 11 * second), start + second);
        assert_eq!(clock.time(start + 12 * second), start + 2 * second);
    }

    #[test]
    fn a_reduction_is_later_than_the_one_before_though_time_stands_still() {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = BaseClock::default();
        clock.on_acks(start, true);
        clock.on_acks(start + second, true);
        let first = clock.reduction(start + second);
        assert!(clock.reduction(start + second) > first);
        clock.on_acks(start + 2 * second, false);
        assert!(clock.time(start + 2 * second) > first);
    }
}
