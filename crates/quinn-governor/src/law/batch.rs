//! How much may be sent in one GSO batch.

use super::constants::Tuning;
use crate::time::Span;

/// The window that admits a batch of about a millisecond of the flow's own rate (`rate`, bytes a
/// second), at least two datagrams.
///
/// quinn reads the window before each datagram of a batch and calls `on_sent` after the last one. So
/// what is in flight does not change meanwhile, and this bounds each batch, not what is sent at a
/// time: the next batch follows at once, as far as the cap allows, without a wake-up.
///
/// Not used after a firewall dropped packets: more batches would be more losses.
pub(super) fn batch_window(in_flight: u64, mtu: u64, rate: u64, tuning: &Tuning) -> u64 {
    let micros = Span::of(tuning.batch_time).micros();
    let timed = rate.saturating_mul(micros) / 1_000_000;
    let batch = timed.max(tuning.batch_datagrams * mtu);
    // The connection sends while in flight + datagram < window.
    in_flight.saturating_add(batch).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1_000;

    /// Datagrams that a connection sends in one batch.
    fn batch(rate: u64) -> u64 {
        let window = batch_window(50_000, MTU, rate, &Tuning::STANDARD);
        let mut sent = 0;
        while 50_000 + (sent + 1) * MTU < window {
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_batch_is_a_millisecond_of_the_rate_and_two_datagrams_at_least() {
        assert_eq!(batch(0), 2);
        assert_eq!(batch(1_000_000), 2);
        assert_eq!(batch(5_500_000), 5);
        assert_eq!(batch(125_000_000), 125);
    }
}
