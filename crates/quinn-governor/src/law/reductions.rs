//! One reduction a round trip, and none twice for the same loss.

use crate::time::{Span, Time};

/// Remembers when the base controller was last told to reduce, and by whom.
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

    /// The law told base to reduce.
    pub(crate) fn on_local(&mut self, now: Time) {
        self.last = Some(now);
        self.last_local = Some(now);
    }

    /// The connection reports a congestion event; whether base should hear of it.
    ///
    /// A loss of what was sent before the law made base reduce is the same congestion. Marks (no
    /// lost bytes) come from the path, not from this host's drops, and persistent congestion is
    /// more than one loss: both pass.
    pub(crate) fn on_report(&mut self, now: Time, report: &Report) -> Heard {
        let known = self.last_local.is_some_and(|local| report.sent <= local);
        if known && !report.persistent && report.lost_bytes > 0 {
            return Heard::Not;
        }
        if report.persistent || self.last.is_none_or(|last| report.sent > last) {
            self.last = Some(now);
            return Heard::New;
        }
        Heard::Known
    }
}

/// Whether the wrapped controller hears of a congestion event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// No: it has reduced for the same loss.
    Not,
    /// Yes, though it is of the same round trip as the last one.
    Known,
    /// Yes, for the first time.
    New,
}

/// A congestion event as the connection reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) sent: Time,
    pub(crate) persistent: bool,
    pub(crate) lost_bytes: u64,
}
