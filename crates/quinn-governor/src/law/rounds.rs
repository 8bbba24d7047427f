//! What the path holds besides the queue.

use std::time::{Duration, Instant};

use super::constants::Tuning;
use super::signals::QueueSignals;

/// The most that was in flight and not in the queue: in this round trip, and before. What was before
/// counts a sixteenth less with each round trip.
///
/// A sender whose processor was taken away finds many acknowledgements at once when it runs again,
/// and the queue empty. A cap that follows what is in flight would let a few datagrams pass then,
/// and hold the rest until they are acknowledged: the hole in the flight would come back each round
/// trip. So once the queue was found empty as much may be in flight as fitted besides it, until the
/// hole is filled, the queue holds more than bursts of the pacer explain, or others are in it. A
/// sender that begins again after a pause of its application gets its part back from others as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    began: Option<Instant>,
    peak: u64,
    last_peak: u64,
    filling: bool,
    /// What is being filled is what a pause of the application left.
    paused: bool,
}

impl Rounds {
    pub(crate) fn look(&mut self, now: Instant, besides: u64, srtt: Duration, tuning: &Tuning) {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= srtt {
            let before = self.last_peak - self.last_peak / u64::from(tuning.release_rounds).max(1);
            self.last_peak = self.peak.max(before);
            self.peak = 0;
            self.began = Some(now);
        }
        self.peak = self.peak.max(besides);
    }

    /// The most that there may be in this round trip: a sixteenth more than before. A queue that is
    /// empty, because it is no longer what limits this sender, would let it double within one.
    pub(crate) fn growth(&self, tuning: &Tuning) -> u64 {
        match self.last_peak {
            0 => u64::MAX,
            last => last.saturating_add(last / u64::from(tuning.release_rounds).max(1)),
        }
    }

    /// The most in both.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.max(self.last_peak)
    }

    /// What may be in flight whatever is in the queue, 0 for nothing.
    pub(crate) fn refill(&mut self, queue: &QueueSignals, in_flight: u64, outgrown: bool) -> u64 {
        let paused = in_flight == 0;
        self.paused = paused || self.paused && self.filling;
        let mine = queue.total <= queue.own_flow || self.paused;
        let begins = queue.total == 0 || paused;
        self.filling = mine && !outgrown && (begins || self.filling && in_flight < self.peak());
        if self.filling { self.peak() } else { 0 }
    }
}
