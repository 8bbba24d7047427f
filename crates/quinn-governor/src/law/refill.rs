//! Filling the path again after a pause that nobody wanted.

use std::time::{Duration, Instant};

use super::constants::Tuning;
use super::signals::QueueSignals;

/// Remembers what the path holds besides the queue, and lets so much be in flight again once the
/// queue was found empty.
///
/// A sender whose processor was taken away finds many acknowledgements at once when it runs again,
/// and the queue empty. A cap that follows what is in flight would let a few datagrams pass then,
/// and hold the rest until they are acknowledged: the hole in the flight would come back each round
/// trip. What was in flight within the last one and did not stand in the queue fits the path, so it
/// may be in flight again, at the pace of such a window and not at that of what the pause left
/// over. It ends when the hole is filled, or the queue holds more than bursts of the pacer explain:
/// the path has become slower. Where others were in the queue lately, a hole is theirs to fill as
/// well, and an empty queue says nothing of one's own part: then nothing is filled.
#[derive(Clone, Debug, Default)]
pub(super) struct Refill {
    began: Option<Instant>,
    /// The most besides the queue in this round trip and in the last.
    peak: u64,
    last_peak: u64,
    filling: bool,
    /// When somebody else's packets were in the queue last.
    company: Option<Instant>,
}

impl Refill {
    /// Takes note of the queue; what may be in flight whatever is in the queue, 0 for nothing.
    pub(super) fn look(
        &mut self,
        now: Instant,
        queue: &QueueSignals,
        in_flight: u64,
        srtt: Duration,
        outgrown: bool,
        tuning: &Tuning,
    ) -> u64 {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= srtt {
            self.last_peak = self.peak;
            self.peak = 0;
            self.began = Some(now);
        }
        self.peak = self.peak.max(in_flight.saturating_sub(queue.own));
        let fits = self.peak.max(self.last_peak);
        if queue.total > queue.own_flow {
            self.company = Some(now);
        }
        let memory = srtt.saturating_mul(tuning.company_rounds);
        let alone = self
            .company
            .is_none_or(|seen| now.saturating_duration_since(seen) > memory);
        if !alone || outgrown {
            self.filling = false;
        } else if queue.total == 0 {
            self.filling = true;
        } else if in_flight >= fits {
            self.filling = false;
        }
        if self.filling { fits } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue(own: u64) -> QueueSignals {
        QueueSignals {
            id: 0,
            own,
            own_flow: own,
            shared: own,
            total: own,
            drained: 0,
            room: None,
            limit: 6_000,
            others_share: 0,
            mean_rate: 0,
        }
    }

    fn start() -> (Refill, Instant) {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        (Refill::default(), now)
    }

    #[test]
    fn an_empty_queue_lets_as_much_be_in_flight_as_was_besides_it() {
        let (mut refill, now) = start();
        let mut look = |at, own, in_flight| {
            refill.look(
                now + at * MS,
                &queue(own),
                in_flight,
                20 * MS,
                false,
                &Tuning::STANDARD,
            )
        };
        assert_eq!(look(0, 6_000, 126_000), 0);
        // The sender was away for 10 ms.
        assert_eq!(look(10, 0, 60_000), 120_000);
        assert_eq!(look(11, 14_000, 74_000), 120_000);
        // Two round trips later it is no longer known to fit.
        assert_eq!(look(21, 14_000, 74_000), 120_000);
        assert_eq!(look(42, 14_000, 74_000), 0);
    }

    #[test]
    fn it_ends_when_the_queue_outgrows_bursts_and_is_left_out_beside_others() {
        let (mut refill, now) = start();
        let mut look = |at, queue: QueueSignals, outgrown| {
            refill.look(
                now + at * MS,
                &queue,
                100_000,
                20 * MS,
                outgrown,
                &Tuning::STANDARD,
            )
        };
        assert_eq!(look(0, queue(0), false), 100_000);
        assert_eq!(look(0, queue(40_000), true), 0);
        assert_eq!(look(0, queue(10_000), false), 0);
        assert_eq!(look(0, queue(0), false), 100_000);
        let others = QueueSignals {
            total: 20_000,
            ..queue(10_000)
        };
        assert_eq!(look(0, others, false), 0);
        assert_eq!(look(160, queue(0), false), 0, "they were there lately");
        assert_eq!(look(161, queue(0), false), 100_000);
    }
}
