//! The window, and the cap that bounds it.

use super::batch::batch_window;
use super::constants::PACED_WINDOW_TO_DOUBLE;
use super::standing::Competing;
use super::target::{Sender, Target};
use super::{CappedWindow, Law, Mode, QueueSignals, Signals};
use crate::mechanism::Mechanism;

impl Law {
    /// The window: never above the wrapped controller's, never below a few datagrams unless that is.
    pub(crate) fn window(&self, base: u64, signals: &Signals) -> CappedWindow {
        let ((cap, target), batch) = match self.mode {
            Mode::Free => ((u64::MAX, None), u64::MAX),
            Mode::Releasing { window, .. } => ((window, None), u64::MAX),
            Mode::Engaged => {
                let batch = if self.firewall_dropped.is_some() || !self.has(Mechanism::SmallBatches)
                {
                    u64::MAX
                } else {
                    batch_window(self.in_flight, self.mtu, self.rate(), self.tuning())
                };
                let (cap, target) = self.cap(signals);
                // An ACK gap is refilled at the pacing rate of the window that refills it.
                let follows = target.map_or(u64::MAX, |target| target.allowance);
                let refills = self.min_in_flight > self.in_flight.saturating_add(follows);
                let batch = match target {
                    Some(target) if self.doubles(signals, &target) => batch.max(
                        self.in_flight.saturating_mul(PACED_WINDOW_TO_DOUBLE.0)
                            / PACED_WINDOW_TO_DOUBLE.1,
                    ),
                    _ => batch,
                };
                ((cap, target), if refills { cap } else { batch })
            }
        };
        let capped = base.min(cap.max(self.least_window()));
        // The connection sends while in flight + datagram < window.
        let next = self.in_flight.saturating_add(self.mtu);
        let held = next >= capped && next < base;
        let limited_at = match (target, signals.queue) {
            (Some(target), Some(queue)) if held && target.limit_decides => Some(queue.drained),
            _ => None,
        };
        CappedWindow {
            // The rest of a batch follows at once: this is not limited sending.
            window: capped.min(batch.max(self.least_window())),
            capped: capped < base,
            limited_at,
        }
    }

    /// Whether the cap of the last sample is below the wrapped controller's window.
    pub(super) fn is_under(&self, base: u64) -> bool {
        let cap = match self.mode {
            Mode::Free => return false,
            Mode::Releasing { window, .. } => window,
            Mode::Engaged => self.cap,
        };
        cap.max(self.least_window()) < base
    }

    /// The rate of quinn's pacer for a window, bits a second: 1.25 windows in a round trip.
    pub(crate) fn pacing_rate(&self, window: u64) -> u64 {
        let micros = self.srtt.micros();
        window.saturating_mul(8 * 1_250_000) / micros.max(1)
    }

    /// The cap: in flight, and what may still be added to the queue.
    pub(super) fn cap(&self, signals: &Signals) -> (u64, Option<Target>) {
        match &signals.queue {
            Some(queue) if signals.live => {
                let target = Target::of(queue, &self.sender(queue), self.tuning());
                let cap = self.in_flight.saturating_add(target.allowance);
                let cap = cap.min(self.max_on_path.saturating_add(target.share));
                (cap.max(self.min_in_flight), Some(target))
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
            competing: match self.competing.state() {
                _ if !self.has(Mechanism::Matching) => Competing::No,
                _ if !self.has(Mechanism::Persistence) => Competing::Yes,
                Competing::Unknown if !self.has(Mechanism::FirstMatch) => Competing::No,
                state => state,
            },
        }
    }

    /// Whether slow start goes on beside competing traffic, in a queue that is known not to overflow.
    fn doubles(&self, signals: &Signals, target: &Target) -> bool {
        self.may_be_in_slow_start
            && !target.limit_decides
            && signals.queue.is_some_and(|queue| queue.room.is_some())
            && self.has(Mechanism::PacedDoubling)
    }

    /// The least window, unless the wrapped controller's is smaller.
    pub(super) fn least_window(&self) -> u64 {
        self.tuning().min_window_datagrams * self.mtu
    }
}
