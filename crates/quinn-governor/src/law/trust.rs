//! Whether the source observes what is sent.
//!
//! A source that has stopped repeats its last sample. Samples need no heartbeat: what was
//! acknowledged has left this host, so a working source has observed it.

use std::time::Instant;

use super::exchange::{Check, Observed, Sent};

/// Checks about once a round trip, when a batch is acknowledged, whether the source has observed
/// everything that the flow sent up to it.
///
/// Some packets are never observed: the device was down, the send failed, a firewall dropped them.
/// With a source that reports at once, the same number is missing before every send of a round trip;
/// these are given up, or they would count as not yet queued for ever. If more is missing, the
/// source has stopped, or reports later than acknowledgements arrive, and its samples are not
/// trusted until the next check, a round trip later. A source with a constant delay can appear to
/// report at once, but then it later reports what was given up (`Observed::late`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    probe: Option<Probe>,
    /// The same number was missing before every batch since.
    steady: bool,
    untrusted: bool,
}

/// A batch whose acknowledgement is awaited.
#[derive(Clone, Copy, Debug)]
struct Probe {
    at: Instant,
    /// The flow's packet counts at it.
    sent: Sent,
}

impl Trust {
    /// Whether the samples are trusted.
    pub(crate) fn is_trusted(&self) -> bool {
        !self.untrusted
    }

    /// A batch is about to be sent.
    pub(crate) fn on_sent(&mut self, now: Instant, sent: Sent) {
        match &self.probe {
            Some(probe) => self.steady &= probe.sent.missing == sent.missing,
            None => {
                self.probe = Some(Probe { at: now, sent });
                self.steady = true;
            }
        }
    }

    /// A datagram that was sent at `sent` was acknowledged: whether a check is due, about once a
    /// round trip.
    #[inline]
    pub(crate) fn is_check_due(&self, sent: Instant) -> bool {
        self.probe.is_some_and(|probe| sent >= probe.at)
    }

    /// Checks what was observed, where [`Trust::is_check_due`].
    pub(crate) fn check(&mut self, observed: Observed) -> Option<Check> {
        let probe = self.probe.take()?;
        let missing = probe.sent.packets.saturating_sub(observed.packets);
        // The socket may have subtracted since what the kernel refused.
        let missing = missing.min(observed.missing);
        let lost = if self.steady && !observed.late {
            probe.sent.missing.min(observed.missing)
        } else {
            0
        };
        self.untrusted = missing > lost;
        Some(match (self.untrusted, lost) {
            (true, _) => Check::NotObserved,
            (false, 0) => Check::Observed,
            (false, lost) => Check::ObservedBut(lost),
        })
    }
}
