//! Sending while samples do not change.

use super::signals::Signals;
use crate::time::{Span, Time};

/// The last sample that differed from the one before, and what was in flight then.
///
/// While something is not yet observed, or a queue's backlog is reported unchanged for a quarter of a
/// round trip, as much is sent as is acknowledged: in flight does not fall below what it was. This
/// adds nothing to a queue that drains, and keeps a flow sending whose source has stopped, until an
/// acknowledgement shows that (see `Trust`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnchangedSample {
    sample: (u64, u64),
    since: Option<Time>,
    pub(crate) in_flight: u64,
}

impl UnchangedSample {
    /// Updates with a sample. Returns the least that may be in flight, 0 for none.
    pub(crate) fn update(
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
