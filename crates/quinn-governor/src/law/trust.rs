//! Whether the source observes what is sent.
//!
//! A source that died keeps reporting what it last reported. There is no heartbeat in its samples,
//! and none is needed: what was acknowledged has left this host, so it must have been observed.

use std::time::Instant;

use super::exchange::{Answer, Observed, Sent};

/// Answers one question about once a round trip: when a batch is acknowledged, has the kernel
/// observed everything that the flow sent up to it?
///
/// Some of it may never be observed: the device was down, the send failed, a firewall took it.
/// A source that reports at once has the same number missing before every send of a round trip;
/// these are forgotten, or they would count as on their way to the queue for ever. If anything else
/// is missing, the source is dead or reports later than acknowledgements do, and its samples are
/// not trusted until the next answer, a round trip later. A source that is always as late can look
/// as if it reported at once, but then it reports what was forgotten (`Observed::late`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    probe: Option<Probe>,
    /// As many were missing before every batch that followed it.
    steady: bool,
    doubted: bool,
}

/// A batch that was sent.
#[derive(Clone, Copy, Debug)]
struct Probe {
    at: Instant,
    /// The flow's count of packets before and with it, on the scale of those observed.
    sent: Sent,
}

impl Trust {
    /// Whether the samples are to be trusted.
    pub(crate) fn holds(&self) -> bool {
        !self.doubted
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

    /// A datagram that was sent at `sent` was acknowledged: whether to ask what was observed, about
    /// once a round trip.
    #[inline]
    pub(crate) fn asks(&self, sent: Instant) -> bool {
        self.probe.is_some_and(|probe| sent >= probe.at)
    }

    /// Takes what was observed, where [`Trust::asks`].
    pub(crate) fn answer(&mut self, observed: Observed) -> Option<Answer> {
        let probe = self.probe.take()?;
        let missing = probe.sent.packets.saturating_sub(observed.packets);
        // The socket may have forgotten since what the kernel refused.
        let missing = missing.min(observed.missing);
        let lost = if self.steady && !observed.late {
            probe.sent.missing.min(observed.missing)
        } else {
            0
        };
        self.doubted = missing > lost;
        Some(match (self.doubted, lost) {
            (true, _) => Answer::No,
            (false, 0) => Answer::Yes,
            (false, lost) => Answer::AllBut(lost),
        })
    }
}
