//! Whether the flight still grows.

use std::time::{Duration, Instant};

use super::constants::Tuning;

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
    pub(crate) fn look(
        &mut self,
        now: Instant,
        in_flight: u64,
        srtt: Duration,
        tuning: &Tuning,
    ) -> bool {
        self.peak = self.peak.max(in_flight);
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= srtt {
            let growth = self.last_peak / tuning.growth_divisor;
            self.stalled = self.last_peak > 0 && self.peak <= self.last_peak.saturating_add(growth);
            self.last_peak = self.peak;
            self.peak = in_flight;
            self.began = Some(now);
        }
        self.stalled
    }

    /// The most that was in flight in this round trip and the last.
    pub(crate) fn recent_peak(&self) -> u64 {
        self.peak.max(self.last_peak)
    }
}
