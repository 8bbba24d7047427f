//! For how long the link had nothing to send.

use std::time::{Duration, Instant};

use crate::law::constants::Tuning;

/// Follows a queue from look to look, to tell how long ago it ran empty.
///
/// Looks come with acknowledgements and sends, the queue runs empty between them. How long what was
/// in it kept the link busy follows from the link's rate, which shows in stretches in which the
/// queue did not run empty. Short ones do not count: of those, the ones in which little departed
/// are more often without an empty queue, and the rate would seem lower than it is.
#[derive(Debug, Default)]
pub(crate) struct IdleTime {
    last: Option<Last>,
    stretch: Option<Stretch>,
    /// Bytes that departed in how much time, older ones counting less.
    departed: u64,
    busy: Duration,
    measured: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Instant,
    /// What was in the queue, and what was added since.
    level: u64,
    drained: u64,
}

/// A time without an empty queue.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    began: Instant,
    departed: u64,
}

/// What passed since the look before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) time: Duration,
    /// For how long of it the link had nothing to send; `None` when the queue did not run empty.
    pub(crate) idle: Option<Duration>,
}

impl IdleTime {
    /// Looks at the queue: what is in it, and how often it ran empty.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        total: u64,
        drained: u64,
        datagram: u64,
        tuning: &Tuning,
    ) -> Passed {
        let last = self.last.replace(Last {
            at: now,
            level: total,
            drained,
        });
        let fresh = (total > 0).then_some(Stretch {
            began: now,
            departed: 0,
        });
        let Some(last) = last else {
            self.stretch = fresh;
            return Passed::default();
        };
        let time = now.saturating_duration_since(last.at);
        if drained != last.drained {
            self.stretch = fresh;
            // The first datagram may have been nearly sent at the last look.
            let rest = last.level.saturating_sub(datagram);
            let idle = Some(time.saturating_sub(self.time_for(now, rest, tuning)));
            return Passed { time, idle };
        }
        if let Some(stretch) = &mut self.stretch {
            stretch.departed += last.level.saturating_sub(total);
            if stretch.departed >= tuning.stretch_datagrams * datagram {
                let (departed, began) = (stretch.departed, stretch.began);
                self.stretch = fresh;
                let busy = now.saturating_duration_since(began);
                self.measure(now, departed, busy, tuning);
            }
        } else {
            self.stretch = fresh;
        }
        Passed { time, idle: None }
    }

    /// Bytes enter the queue.
    pub(crate) fn add(&mut self, bytes: u64) {
        if let Some(last) = &mut self.last {
            last.level = last.level.saturating_add(bytes);
        }
    }

    fn measure(&mut self, now: Instant, departed: u64, time: Duration, tuning: &Tuning) {
        if self.busy >= tuning.rate_averaging {
            (self.departed, self.busy) = (self.departed / 2, self.busy / 2);
        }
        self.departed = self.departed.saturating_add(departed);
        self.busy += time;
        self.measured = Some(now);
    }

    /// How long the link takes for so many bytes; zero while the rate is not known.
    fn time_for(&self, now: Instant, bytes: u64, tuning: &Tuning) -> Duration {
        let measured = self.measured;
        if measured.is_none_or(|at| now.saturating_duration_since(at) >= tuning.rate_validity) {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * self.busy.as_nanos();
        let nanos = nanos.checked_div(u128::from(self.departed)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const STANDARD: &Tuning = &Tuning::STANDARD;

    fn start() -> (IdleTime, Instant) {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        (IdleTime::default(), now)
    }

    #[test]
    fn it_is_what_remains_after_the_time_that_the_link_needed() {
        let (mut idle, start) = start();
        idle.look(start, 10_000, 0, 1_000, STANDARD);
        // 1,000 bytes a millisecond.
        idle.look(start + 2 * MS, 8_000, 0, 1_000, STANDARD);
        let passed = idle.look(start + 4 * MS, 6_000, 0, 1_000, STANDARD);
        assert_eq!((passed.time, passed.idle), (2 * MS, None));
        idle.add(2_000);
        let passed = idle.look(start + 14 * MS, 0, 1, 1_000, STANDARD);
        assert_eq!((passed.time, passed.idle), (10 * MS, Some(3 * MS)));
        // Looked at too early to have been idle at all.
        idle.add(5_000);
        let passed = idle.look(start + 16 * MS, 0, 2, 1_000, STANDARD);
        assert_eq!(passed.idle, Some(Duration::ZERO));
    }

    #[test]
    fn short_stretches_do_not_tell_the_rate() {
        let (mut idle, start) = start();
        idle.look(start, 3_000, 0, 1_000, STANDARD);
        // Nothing departed, and then all at once: not a stretch of any rate.
        idle.look(start + MS, 3_000, 0, 1_000, STANDARD);
        assert_eq!(
            idle.look(start + 2 * MS, 0, 1, 1_000, STANDARD).idle,
            Some(MS)
        );
    }

    #[test]
    fn an_old_rate_is_not_used() {
        let (mut idle, start) = start();
        idle.look(start, 10_000, 0, 1_000, STANDARD);
        idle.look(start + 4 * MS, 6_000, 0, 1_000, STANDARD);
        let now = start + 4 * MS + STANDARD.rate_validity;
        idle.look(now - MS, 6_000, 0, 1_000_000, STANDARD);
        assert_eq!(idle.look(now, 0, 1, 1_000, STANDARD).idle, Some(MS));
    }
}
