//! Round trips and windows of connections, as quinn tells them.

use std::time::Duration;

use hdrhistogram::Histogram;
use quinn::Connection;
use serde::{Deserialize, Serialize};

use crate::units::micros;

/// Digits that a histogram keeps.
const DIGITS: u8 = 3;

/// Longest round trip that is recorded as it is, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Widest window that is recorded as it is: a terabyte.
const WIDEST: u64 = 1 << 40;

/// Distributions over time, sampled while the upload runs, all connections together.
#[derive(Debug)]
pub struct Distributions {
    rtt_micros: Histogram<u64>,
    least_rtt: Option<Duration>,
    window: Histogram<u64>,
    widest: u64,
}

/// Round trip times in microseconds: the least that any connection ever saw, and quantiles of
/// the estimate that loss recovery works with, which is smoothed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// The least. quinn reads the clock once for a batch of datagrams, so that over loopback it
    /// can be 0.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// What one in a hundred exceeds.
    pub p99: u64,
}

/// Congestion windows in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// The median.
    pub p50: u64,
    /// The widest seen.
    pub max: u64,
}

impl Distributions {
    /// Nothing sampled yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            rtt_micros: Histogram::new_with_max(LONGEST, DIGITS)?,
            least_rtt: None,
            window: Histogram::new_with_max(WIDEST, DIGITS)?,
            widest: 0,
        })
    }

    /// Takes a sample of a connection.
    pub fn sample(&mut self, connection: &Connection) {
        let path = connection.stats().path;
        self.add(path.rtt, path.min_rtt, path.cwnd);
    }

    fn add(&mut self, rtt: Duration, least_rtt: Duration, window: u64) {
        self.rtt_micros.saturating_record(micros(rtt));
        self.least_rtt = Some(
            self.least_rtt
                .map_or(least_rtt, |least| least.min(least_rtt)),
        );
        self.window.saturating_record(window);
        self.widest = self.widest.max(window);
    }

    /// Of the round trip.
    pub fn round_trips(&self) -> RoundTrips {
        RoundTrips {
            min: self.least_rtt.map_or(0, micros),
            p50: self.rtt_micros.value_at_quantile(0.5),
            p99: self.rtt_micros.value_at_quantile(0.99),
        }
    }

    /// Of the window.
    pub fn windows(&self) -> Windows {
        Windows {
            // The histogram's buckets round up.
            p50: self.window.value_at_quantile(0.5).min(self.widest),
            max: self.widest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_samples() {
        let mut seen = Distributions::new().unwrap();
        for millis in 1..=100 {
            let rtt = Duration::from_millis(millis);
            seen.add(rtt, Duration::from_micros(700), millis * 1000);
        }
        let trips = seen.round_trips();
        assert_eq!(trips.min, 700);
        assert!((50_000..50_100).contains(&trips.p50), "{trips:?}");
        assert!((99_000..99_100).contains(&trips.p99), "{trips:?}");
        assert_eq!(seen.windows().max, 100_000);
    }

    #[test]
    fn nothing_sampled_is_zero() {
        let nothing = Distributions::new().unwrap();
        assert_eq!(nothing.round_trips(), RoundTrips::default());
        assert_eq!(nothing.windows(), Windows::default());
    }
}
