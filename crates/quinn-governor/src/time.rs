//! Times and lengths of time as one number each, for the control law.
//!
//! An `Instant` is two numbers, and the difference of two is a call of 27 instructions. The law takes a dozen
//! of differences at each sample. So a callback's time becomes a number once, when the law needs it.

use std::num::NonZeroU64;
use std::ops::{Add, Div};
use std::time::{Duration, Instant};

/// A time: nanoseconds since an [`Origin`], and one more, so that an `Option` of it is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(NonZeroU64);

/// A length of time, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

/// What times are counted from. All controllers of a source have the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    pub(crate) fn new(at: Instant) -> Self {
        Self(at)
    }

    /// What is earlier than the origin counts as at the origin.
    #[inline]
    pub(crate) fn time(&self, at: Instant) -> Time {
        let since = Span::of(at.saturating_duration_since(self.0));
        Time(NonZeroU64::MIN.saturating_add(since.0))
    }
}

impl Time {
    /// The origin itself.
    #[cfg(test)]
    pub(crate) const ORIGIN: Self = Self(NonZeroU64::MIN);

    /// The time that has passed since an earlier time; none since a later one.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Span {
        Span(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    #[inline]
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Span::of(time).0))
    }
}

impl Span {
    #[inline]
    pub(crate) const fn of(time: Duration) -> Self {
        let seconds = time.as_secs().saturating_mul(1_000_000_000);
        Self(seconds.saturating_add(time.subsec_nanos() as u64))
    }

    #[inline]
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// In whole microseconds.
    #[inline]
    pub(crate) const fn micros(self) -> u64 {
        self.0 / 1000
    }

    #[inline]
    pub(crate) const fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor as u64))
    }

    #[inline]
    pub(crate) const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl Div<u64> for Span {
    type Output = Self;

    #[inline]
    fn div(self, parts: u64) -> Self {
        Self(self.0 / parts)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_nanos(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_differ_as_their_instants_do() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let origin = Origin::new(start);
        let later = |nanos| origin.time(start + Duration::from_nanos(nanos));
        assert_eq!(later(0), Time::ORIGIN);
        assert_eq!(later(5_000_000_007).since(later(7)).nanos(), 5_000_000_000);
        assert_eq!(later(7).since(later(8)), Span::default());
        assert_eq!(later(3) + Duration::from_nanos(4), later(7));
        let before = origin.time(start.checked_sub(Duration::from_nanos(1)).unwrap_or(start));
        assert_eq!(before, Time::ORIGIN);
    }

    #[test]
    fn an_option_of_a_time_is_no_larger() {
        assert_eq!(size_of::<Option<Time>>(), 8);
    }
}
