//! What to do while a sample stands still.

use std::time::{Duration, Instant};

use super::constants::Tuning;
use super::signals::Signals;

/// Notices a sample that stands still although something of ours waits in the queue, or was sent
/// since.
///
/// Either the link has stopped, or the source has, or it missed an update. Until it is known which,
/// in flight is not let fall below what it was: as much is sent as is acknowledged. That adds
/// nothing to a queue that works, and lets a flow go on whose source died until acknowledgements of
/// unobserved datagrams prove it.
///
/// A source that does not know what was sent since it last changed is behind for sure. Else it is
/// doubted after the time in which all that it tells of should have left.
#[derive(Clone, Debug, Default)]
pub(super) struct Freeze {
    frozen: Option<Frozen>,
}

#[derive(Clone, Copy, Debug)]
struct Frozen {
    key: Key,
    since: Instant,
    in_flight: u64,
    /// Something was sent since.
    sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    own_flow: u64,
    total: u64,
    drained: u64,
    observed: u64,
}

/// What a flow has under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) bytes: u64,
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) srtt: Duration,
}

impl Freeze {
    /// Takes note of a sample; the in flight that is to be kept up, 0 for none.
    pub(super) fn look(
        &mut self,
        now: Instant,
        signals: &Signals,
        flight: Flight,
        tuning: &Tuning,
    ) -> u64 {
        let Some(queue) = signals.queue else {
            self.frozen = None;
            return 0;
        };
        let key = Key {
            own_flow: queue.own_flow,
            total: queue.total,
            drained: queue.drained,
            observed: signals.observed,
        };
        match &self.frozen {
            Some(frozen) if frozen.key == key => {
                let still = now.saturating_duration_since(frozen.since);
                let waits = queue.own_flow > 0;
                if frozen.sent || waits && still >= patience(queue.total, flight, tuning) {
                    frozen.in_flight
                } else {
                    0
                }
            }
            _ => {
                self.frozen = Some(Frozen {
                    key,
                    since: now,
                    in_flight: flight.bytes,
                    sent: false,
                });
                0
            }
        }
    }

    /// Something was sent; so much is in flight with it.
    pub(super) fn on_sent(&mut self, in_flight: u64) {
        if let Some(frozen) = &mut self.frozen {
            frozen.sent = true;
            frozen.in_flight = frozen.in_flight.max(in_flight);
        }
    }
}

/// How long a queue of so many bytes may stand still.
fn patience(total: u64, flight: Flight, tuning: &Tuning) -> Duration {
    let longest = tuning.doubt.max(flight.srtt / 4);
    let micros = u128::from(total) * 1_000_000 / u128::from(flight.rate.max(1));
    let needed = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    needed
        .saturating_mul(tuning.stand_still_times)
        .clamp(tuning.standing_min.min(longest), longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::signals::QueueSignals;

    const MS: Duration = Duration::from_millis(1);

    const SIGNALS: Signals = Signals {
        live: true,
        observed: 10,
        drops: 0,
        policy_drops: 0,
        queue: Some(QueueSignals {
            id: 0,
            own: 10_000,
            own_flow: 10_000,
            shared: 10_000,
            total: 10_000,
            drained: 0,
            room: None,
            limit: 20_000,
            others_share: 0,
            mean_rate: 0,
        }),
    };

    fn flight(bytes: u64) -> Flight {
        Flight {
            bytes,
            rate: 5_000_000,
            srtt: 20 * MS,
        }
    }

    fn start() -> (Freeze, Instant) {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        (Freeze::default(), now)
    }

    fn look(freeze: &mut Freeze, now: Instant, signals: &Signals, bytes: u64) -> u64 {
        freeze.look(now, signals, flight(bytes), &Tuning::STANDARD)
    }

    #[test]
    fn a_queue_that_stands_still_is_doubted_after_the_time_it_takes() {
        let (mut freeze, now) = start();
        assert_eq!(look(&mut freeze, now, &SIGNALS, 100_000), 0);
        // 10,000 bytes take 2 ms.
        assert_eq!(look(&mut freeze, now + MS, &SIGNALS, 90_000), 0);
        assert_eq!(look(&mut freeze, now + 2 * MS, &SIGNALS, 80_000), 100_000);
        let moved = Signals {
            observed: 11,
            ..SIGNALS
        };
        assert_eq!(look(&mut freeze, now + 5 * MS, &moved, 80_000), 0);
    }

    #[test]
    fn a_sample_that_does_not_know_of_what_was_sent_is_behind() {
        let (mut freeze, now) = start();
        look(&mut freeze, now, &SIGNALS, 100_000);
        freeze.on_sent(105_000);
        assert_eq!(look(&mut freeze, now + MS / 10, &SIGNALS, 90_000), 105_000);
        let moved = Signals {
            observed: 12,
            ..SIGNALS
        };
        assert_eq!(look(&mut freeze, now + MS / 5, &moved, 90_000), 0);
    }
}
