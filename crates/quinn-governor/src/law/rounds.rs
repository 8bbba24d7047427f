//! What the path holds besides the queue.

use std::time::{Duration, Instant};

use super::signals::QueueSignals;

/// The most that was in flight and not in the queue, in this round trip and in the last.
///
/// A sender whose processor was taken away finds many acknowledgements at once when it runs again,
/// and the queue empty. A cap that follows what is in flight would let a few datagrams pass then,
/// and hold the rest until they are acknowledged: the hole in the flight would come back each round
/// trip. So once the queue was found empty as much may be in flight as fitted besides it, until the
/// hole is filled, the queue holds more than bursts of the pacer explain, or others are in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    began: Option<Instant>,
    peak: u64,
    last_peak: u64,
    filling: bool,
}

impl Rounds {
    pub(crate) fn look(&mut self, now: Instant, besides: u64, srtt: Duration) {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= srtt {
            self.last_peak = self.peak;
            self.peak = 0;
            self.began = Some(now);
        }
        self.peak = self.peak.max(besides);
    }

    /// The most in both.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.max(self.last_peak)
    }

    /// What may be in flight whatever is in the queue, 0 for nothing.
    pub(crate) fn refill(&mut self, queue: &QueueSignals, in_flight: u64, outgrown: bool) -> u64 {
        let alone = queue.total <= queue.own_flow;
        let begins = queue.total == 0;
        self.filling = alone && !outgrown && (begins || self.filling && in_flight < self.peak());
        if self.filling { self.peak() } else { 0 }
    }
}
