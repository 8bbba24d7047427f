//! Whether the flight still grows.

use std::time::{Duration, Instant};

use super::constants::{GROWTH_DENOMINATOR, GROWTH_NUMERATOR};

/// Compares the most that was in flight in each round trip with the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    began: Option<Instant>,
    peak: u64,
    last_peak: u64,
    stalled: bool,
}

impl Rounds {
    /// Takes note of what is in flight; whether it did not grow in the last full round trip.
    pub(crate) fn look(&mut self, now: Instant, in_flight: u64, srtt: Duration) -> bool {
        self.peak = self.peak.max(in_flight);
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= srtt {
            let grown = u128::from(self.last_peak) * GROWTH_NUMERATOR / GROWTH_DENOMINATOR;
            self.stalled = self.last_peak > 0 && u128::from(self.peak) <= grown;
            self.last_peak = self.peak;
            self.peak = in_flight;
            self.began = Some(now);
        }
        self.stalled
    }
}
