//! What to do while samples do not change.

use super::signals::Signals;
use crate::time::{Span, Time};

/// The last sample that differed from the one before, and what was in flight then.
///
/// While the source does not know of what was sent, or says the same of a queue for a quarter of a
/// round trip, in flight is not let fall below what it was: as much is sent as is acknowledged.
/// That adds nothing to a queue that works, and lets a flow go on whose source died until an
/// acknowledgement proves it (see `Trust`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Still {
    sample: (u64, u64),
    since: Option<Time>,
    pub(crate) in_flight: u64,
}

impl Still {
    /// Takes note of a sample; the in flight that is to be kept up, 0 for none.
    pub(crate) fn look(
        &mut self,
        now: Time,
        signals: &Signals,
        total: u64,
        in_flight: u64,
        srtt: Span,
    ) -> u64 {
        let sample = (signals.observed, total);
        let since = match self.since {
            Some(since) if self.sample == sample => since,
            _ => {
                *self = Self {
                    sample,
                    since: Some(now),
                    in_flight,
                };
                now
            }
        };
        let long = total > 0 && now.since(since) >= srtt / 4;
        if signals.unobserved > 0 || long {
            self.in_flight
        } else {
            0
        }
    }
}
