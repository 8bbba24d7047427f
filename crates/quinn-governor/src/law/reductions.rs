//! At most one reduction in a round trip, and one for a loss.

use crate::time::{Span, Time};

/// When the wrapped controller last reduced, and when the law caused it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reductions {
    last: Option<Time>,
    last_local: Option<Time>,
}

impl Reductions {
    /// Whether a round trip has passed since the last reduction.
    pub(crate) fn is_due(&self, now: Time, srtt: Span) -> bool {
        self.last.is_none_or(|last| now.since(last) >= srtt)
    }

    /// The law has reduced the wrapped controller.
    pub(crate) fn on_local(&mut self, now: Time) {
        self.last = Some(now);
        self.last_local = Some(now);
    }

    /// The connection reports a congestion event: whether to pass it on.
    ///
    /// A loss of what was sent before the law's own reduction is the same congestion. ECN marks (no lost
    /// bytes) come from the path, not from this host's drops, and persistent congestion is more than
    /// one loss: both are passed on.
    pub(crate) fn on_report(&mut self, now: Time, report: &Report) -> Delivery {
        let known = self.last_local.is_some_and(|local| report.sent <= local);
        if known && !report.persistent && report.lost_bytes > 0 {
            return Delivery::Withheld;
        }
        if report.persistent || self.last.is_none_or(|last| report.sent > last) {
            self.last = Some(now);
            return Delivery::New;
        }
        Delivery::SameRoundTrip
    }
}

/// Whether a congestion event is passed on to the wrapped controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// No: the wrapped controller has reduced for the same loss.
    Withheld,
    /// Yes, but it is of the same round trip as the last one.
    SameRoundTrip,
    /// Yes: the first of its round trip.
    New,
}

/// A congestion event as the connection reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) sent: Time,
    pub(crate) persistent: bool,
    pub(crate) lost_bytes: u64,
}
