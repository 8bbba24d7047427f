//! A clock for the wrapped controller that is paused while its window must not grow.

use std::time::{Duration, Instant};

/// The wrapped controller's time.
///
/// Cubic's window is a function of the time since its last reduction. Time in which the cap limits
/// sending must not count (RFC 9438 section 5.8), or Cubic catches up in one step afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BaseClock {
    /// The sum of all pauses.
    paused: Duration,
    /// Since when it is paused; `None` while it runs.
    paused_at: Option<Instant>,
}

/// How much a paused clock advances at a reduction: controllers ignore a reduction that is not
/// later than the one before.
const TICK: Duration = Duration::from_micros(1);

impl BaseClock {
    /// Acknowledgements have been processed. With `pause` the clock is paused until the next ones.
    pub(crate) fn on_acks(&mut self, now: Instant, pause: bool) {
        if let Some(paused_at) = self.paused_at.take() {
            self.paused += now.saturating_duration_since(paused_at);
        }
        self.paused_at = pause.then_some(now);
    }

    /// The time that the wrapped controller is given.
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
        let now = self.paused_at.map_or(now, |paused_at| now.min(paused_at));
        now.checked_sub(self.paused).unwrap_or(now)
    }

    /// The time of a reduction.
    pub(crate) fn reduction(&mut self, now: Instant) -> Instant {
        self.paused = self.paused.saturating_sub(TICK);
        self.time(now)
    }

    /// Whether the wrapped controller's time is the true one.
    #[inline]
    pub(crate) fn is_true(&self) -> bool {
        self.paused.is_zero() && self.paused_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_does_not_count() {
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
    fn each_reduction_is_later_than_the_one_before_while_paused() {
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
