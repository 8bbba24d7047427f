//! The window, and the cap that bounds it.

use super::batch::batch_window;
use super::target::{Sender, Target};
use super::{Law, Mode, QueueSignals, Signals, Verdict};
use crate::mechanism::Mechanism;

impl Law {
    /// The window: never above base's, never below a few datagrams unless base's is.
    pub(crate) fn window(&self, base: u64, signals: &Signals) -> Verdict {
        let ((cap, target), batch) = match self.mode {
            Mode::Free => ((u64::MAX, None), u64::MAX),
            Mode::Releasing { window, .. } => ((window, None), u64::MAX),
            Mode::Engaged => {
                let batch = if self.ruled_out.is_some() || !self.has(Mechanism::SmallBatches) {
                    u64::MAX
                } else {
                    batch_window(self.in_flight, self.mtu, self.rate(), self.tuning())
                };
                let (cap, target) = self.cap(signals);
                // A hole is filled at the pace of the window that fills it.
                let follows = target.map_or(u64::MAX, |target| target.allowance);
                let refills = self.kept_in_flight > self.in_flight.saturating_add(follows);
                ((cap, target), if refills { cap } else { batch })
            }
        };
        let capped = base.min(cap.max(self.least_window()));
        // The connection sends while in flight + datagram < window.
        let next = self.in_flight.saturating_add(self.mtu);
        let held = next >= capped && next < base;
        let held_by_limit = match (target, signals.queue) {
            (Some(target), Some(queue)) if held && target.limit_decides => Some(queue.drained),
            _ => None,
        };
        Verdict {
            // What is over a batch follows at once, and is not held back.
            window: capped.min(batch.max(self.least_window())),
            capped: capped < base,
            held_by_limit,
        }
    }

    /// Whether the window is under base's, with the cap of the last sample.
    pub(super) fn is_under(&self, base: u64) -> bool {
        let cap = match self.mode {
            Mode::Free => return false,
            Mode::Releasing { window, .. } => window,
            Mode::Engaged => self.cap,
        };
        cap.max(self.least_window()) < base
    }

    /// What quinn's pacer makes of a window, bits a second: 1.25 windows in a round trip.
    pub(crate) fn pacing_rate(&self, window: u64) -> u64 {
        let micros = self.srtt.micros();
        window.saturating_mul(8 * 1_250_000) / micros.max(1)
    }

    /// As much more than what is in flight as may still be added to the queue.
    pub(super) fn cap(&self, signals: &Signals) -> (u64, Option<Target>) {
        match &signals.queue {
            Some(queue) if signals.live => {
                let target = Target::of(queue, &self.sender(queue), self.tuning());
                let cap = self.in_flight.saturating_add(target.allowance);
                let cap = cap.min(self.most_besides.saturating_add(target.share));
                (cap.max(self.kept_in_flight), Some(target))
            }
            _ => (self.cap, None),
        }
    }

    pub(super) fn sender(&self, queue: &QueueSignals) -> Sender {
        Sender {
            mtu: self.mtu,
            rate: if queue.others_share > 0 {
                self.rate()
            } else {
                0
            },
            crowded: (self.crowd.is_there() || !self.has(Mechanism::Crowd))
                && self.has(Mechanism::Matching),
        }
    }

    /// The least window, if base's is not smaller.
    pub(super) fn least_window(&self) -> u64 {
        self.tuning().min_window_datagrams * self.mtu
    }
}
