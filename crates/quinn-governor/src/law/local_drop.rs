//! Whether a drop in this host's queue reduces the window.

use super::signals::Signals;
use super::{Law, QueueSignals};
use crate::base::BaseKind;
use crate::mechanism::Mechanism;
use crate::time::Time;

/// The state of the counter of the flow's packets that the local queue dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LocalDrops {
    seen: u64,
    /// A batch that QUIC counts for congestion was sent, and the counter does not include it yet.
    sent: bool,
}

impl LocalDrops {
    pub(super) fn from(signals: &Signals) -> Self {
        Self {
            seen: signals.drops,
            sent: false,
        }
    }

    /// A batch that QUIC counts for congestion is about to be sent.
    pub(super) fn on_sent(&mut self) {
        self.sent = true;
    }

    /// Updates with a sample. Returns whether packets that QUIC counts for congestion may be among those
    /// dropped since the last one. It does not count packets with acknowledgements alone.
    ///
    /// A queue with a limit in bytes drops what arrives (bfifo, tbf): only what was sent since the last
    /// sample. Others drop queued packets as well (fq_codel, cake, `pfifo_head_drop`): anything in
    /// flight.
    fn counts(&mut self, signals: &Signals, in_flight: bool) -> bool {
        let dropped = signals.drops > self.seen;
        self.seen = self.seen.max(signals.drops);
        let tail_drops = |queue: &QueueSignals| queue.room.is_some();
        let any = self.sent || in_flight && !signals.queue.as_ref().is_some_and(tail_drops);
        if signals.unobserved == 0 {
            self.sent = false;
        }
        dropped && any
    }
}

impl Law {
    /// Updates with a sample's drops. Returns whether they are congestion.
    pub(super) fn local_congestion(&mut self, now: Time, signals: &Signals) -> bool {
        let in_flight = self.in_flight > 0;
        let dropped = self.local_drops.counts(signals, in_flight);
        if dropped {
            self.overflowed = Some(now);
        }
        dropped
    }

    /// Whether a drop that is congestion reduces the window now: of a loss-based wrapped controller,
    /// once a round trip (RFC 9002 section 7.3.2), while the samples are trusted.
    pub(super) fn local_drop_reduces_window(&self, now: Time, trusted: bool) -> bool {
        trusted
            && self.config.local_drops
            && self.kind == BaseKind::LossBased
            && self.reductions.is_due(now, self.srtt)
    }

    /// Whether a batch of so many bytes is more than an acknowledgement alone, which QUIC does not
    /// count as in flight (RFC 9002 section 2) and which has a few dozen bytes.
    pub(super) fn counts_for_congestion(&self, bytes: u64) -> bool {
        bytes.saturating_mul(2) >= self.mtu || !self.config.has(Mechanism::AckDrops)
    }
}
