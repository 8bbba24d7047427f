//! Whether the source misses updates.

use std::time::{Duration, Instant};

use super::constants::Tuning;

/// Counts the batches of which the source did not know when it should have.
///
/// A source may tell late, if always as late: the law counts what was sent meanwhile. One that
/// knows of some batches at once and of others not has missed an update. What it says of the queue
/// is then right at one look and old at the next, and nothing shows which: a limit that is held by
/// such samples is too small.
#[derive(Clone, Debug, Default)]
pub(super) struct Misses {
    /// The first batch that was sent since the last one was judged.
    batch: Option<Batch>,
    /// The shortest time after which the source knew of a batch.
    lag: Option<Duration>,
    /// The part of all batches that were missed, of [`WHOLE`].
    part: u64,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    at: Instant,
    /// What the source had observed before.
    before: u64,
    /// What it will have observed with it.
    with: u64,
}

const WHOLE: u64 = 1 << 32;

impl Misses {
    /// Takes note of what the source has observed; whether it misses too much.
    pub(super) fn look(&mut self, now: Instant, observed: u64, tuning: &Tuning) -> bool {
        if let Some(batch) = self.batch
            && now > batch.at
        {
            let lag = now.saturating_duration_since(batch.at);
            if observed >= batch.with {
                self.lag = Some(self.lag.map_or(lag, |known| known.min(lag)));
                self.part -= self.part / tuning.missed_memory;
                self.batch = None;
            } else if observed != batch.before {
                // It told of something else: whether it is only late, another batch will show.
                self.batch = None;
            } else if self.lag.is_some_and(|known| lag > known) {
                self.part += (WHOLE - self.part) / tuning.missed_memory;
                self.batch = None;
            }
        }
        self.part > WHOLE / tuning.missed_divisor
    }

    /// A batch is being sent, before which the source had observed `before` packets; with it the
    /// flow has sent `with`.
    pub(super) fn on_sent(&mut self, now: Instant, before: u64, with: u64) {
        self.batch.get_or_insert(Batch {
            at: now,
            before,
            with,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends a batch each millisecond and looks each quarter; which of four looks knows of it is
    /// up to `knows`, given the number of the batch.
    fn misses(knows: impl Fn(u64) -> u32) -> bool {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let mut now = Instant::now();
        let mut misses = Misses::default();
        let mut told = false;
        for batch in 0..1_000 {
            misses.on_sent(now, batch, batch + 1);
            for quarter in 1..=4 {
                now += MS / 4;
                let observed = batch + u64::from(quarter >= knows(batch));
                told = misses.look(now, observed, &Tuning::STANDARD);
            }
        }
        told
    }

    #[test]
    fn a_source_that_is_always_as_late_misses_nothing() {
        for quarter in 1..=4 {
            assert!(!misses(|_| quarter), "{quarter}");
        }
    }

    #[test]
    fn a_source_that_knows_of_some_at_once_and_not_of_others_misses_them() {
        assert!(misses(|batch| if batch % 2 == 0 { 1 } else { 3 }));
        assert!(misses(|batch| if batch % 10 == 0 { 4 } else { 1 }));
    }

    #[test]
    fn one_in_fifty_is_tolerated() {
        assert!(!misses(|batch| if batch % 50 == 0 { 4 } else { 1 }));
    }
}
