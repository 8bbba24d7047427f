//! When the sending program runs: a processor has others to serve too.

use std::time::Duration;

use super::random::Random;
use super::time::{SimTime, nanos};

/// How often the sending program's processor is taken away, and for how long. The kernel goes on
/// meanwhile: its queue empties, packets arrive and wait, and signals are right all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stalls {
    /// Between two, on average; evenly spread from nothing to twice this.
    pub every: Duration,
    /// The shortest.
    pub shortest: Duration,
    /// The longest; evenly spread between both.
    pub longest: Duration,
}

impl Stalls {
    /// Once in `every` on average, for `shortest` to `longest`.
    pub const fn new(every: Duration, shortest: Duration, longest: Duration) -> Self {
        Self {
            every,
            shortest,
            longest,
        }
    }

    /// A scheduler that lets others run for 5 to 20 ms, once in 100 ms: a few of its time slices
    /// (`base_slice_ns` of Linux is about 3 ms) on a processor that several processes compete for.
    pub const BUSY_HOST: Self = Self {
        every: Duration::from_millis(100),
        shortest: Duration::from_millis(5),
        longest: Duration::from_millis(20),
    };
}

/// The sending program's processor.
#[derive(Debug)]
pub(super) struct Processor {
    stalls: Option<Stalls>,
    random: Random,
    /// The current or next time that it is away.
    from: SimTime,
    to: SimTime,
}

impl Processor {
    pub(super) fn new(stalls: Option<Stalls>, seed: u64) -> Self {
        let mut processor = Self {
            stalls,
            random: Random::new(seed, "processor", 0),
            from: SimTime::ZERO,
            to: SimTime::ZERO,
        };
        processor.draw();
        processor
    }

    /// When the program runs again, if it does not run now. Times of calls never decrease.
    pub(super) fn away_until(&mut self, now: SimTime) -> Option<SimTime> {
        self.stalls?;
        while self.to <= now {
            self.draw();
        }
        (self.from <= now).then_some(self.to)
    }

    /// The next time that it is away.
    fn draw(&mut self) {
        let Some(stalls) = self.stalls else { return };
        let between = self.random.below(2 * nanos(stalls.every));
        let range = stalls.longest.saturating_sub(stalls.shortest);
        let length = stalls.shortest + Duration::from_nanos(self.random.below(nanos(range) + 1));
        self.from = self.to + Duration::from_nanos(between);
        self.to = self.from + length.max(Duration::from_nanos(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_away_as_often_and_as_long_as_was_said() {
        let mut processor = Processor::new(Some(Stalls::BUSY_HOST), 1);
        let mut away = 0;
        for ms in 0..100_000 {
            let now = SimTime::from(Duration::from_millis(ms));
            if let Some(until) = processor.away_until(now) {
                assert!(until.since(now) <= Stalls::BUSY_HOST.longest);
                away += 1;
            }
        }
        // 12.5 ms of each 112.5.
        assert!((10_000..12_500).contains(&away), "{away}");
    }

    #[test]
    fn without_stalls_it_is_never_away() {
        let mut processor = Processor::new(None, 1);
        for ms in 0..1_000 {
            let now = SimTime::from(Duration::from_millis(ms));
            assert_eq!(processor.away_until(now), None);
        }
    }
}
