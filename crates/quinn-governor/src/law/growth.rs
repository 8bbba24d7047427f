//! When the wrapped controller must not grow, and when it reduces.

use super::{Base, Delivery, Law, Mode, Report};
use crate::base::BaseKind;
use crate::mechanism::Mechanism;
use crate::time::Time;

impl Law {
    /// Whether the wrapped controller is called as if the application limited sending, so that it does
    /// not grow behind the cap. In slow start it may, until its window covers the cap even when halved.
    #[inline]
    pub(crate) fn suppresses_growth(&self, base: impl FnOnce() -> Base) -> bool {
        if self.kind == BaseKind::ModelBased || !self.capped || !self.has(Mechanism::HiddenGrowth) {
            return false;
        }
        let may_grow = self.may_be_in_slow_start && {
            let base = base();
            self.may_end_slow_start(base) && base.window < self.covered()
        };
        !may_grow
    }

    /// Whether the wrapped controller's clock is paused while its growth is suppressed. Not where
    /// competing traffic fills the queue: that limits it as any congestion does.
    pub(crate) fn pauses_clock(&self) -> bool {
        self.limit_decided && self.has(Mechanism::Clock)
    }

    /// Whether the wrapped controller is to leave slow start.
    #[inline]
    pub(crate) fn ends_slow_start(
        &self,
        now: impl FnOnce() -> Time,
        base: impl FnOnce() -> Base,
    ) -> bool {
        self.capped && self.may_be_in_slow_start && {
            let (now, base) = (now(), base());
            self.may_end_slow_start(base)
                && self.standing.time(now) >= self.srtt
                && base.window >= self.covered()
                && self.reductions.is_due(now, self.srtt)
        }
    }

    /// After a loss beyond this host: three quarters of what was recently in flight, below which the
    /// wrapped controller's window is reduced (RFC 5681 section 3.1 reduces from what is in flight). Its
    /// own window was not in force, and may be more than the path holds.
    pub(crate) fn reduce_below(&self, now: Time, lost_bytes: u64) -> u64 {
        let elsewhere = !self.is_free() && self.standing.idle(now) >= self.srtt;
        let counts = self.kind == BaseKind::LossBased && lost_bytes > 0;
        match self.rounds.peak() {
            peak if elsewhere && counts && self.has(Mechanism::FlightReduction) => peak - peak / 4,
            _ => u64::MAX,
        }
    }

    /// The connection reports a congestion event: whether to pass it on.
    pub(crate) fn on_report(&mut self, now: Time, report: &Report) -> Delivery {
        self.in_flight = self.in_flight.saturating_sub(report.lost_bytes);
        match self.reductions.on_report(now, report) {
            Delivery::Withheld if self.kind == BaseKind::ModelBased => Delivery::SameRoundTrip,
            delivery => delivery,
        }
    }

    /// The wrapped controller was reduced for [`Decision::local_drop`](super::Decision::local_drop) or
    /// [`Law::ends_slow_start`].
    pub(crate) fn on_local_reduction(&mut self, now: Time) {
        self.reductions.on_local(now);
    }

    pub(super) fn may_end_slow_start(&self, base: Base) -> bool {
        self.config.slow_start_exit
            && self.kind == BaseKind::LossBased
            && self.mode == Mode::Engaged
            && base.slow_start
    }

    /// The window that covers the cap even after a reduction.
    pub(super) fn covered(&self) -> u64 {
        self.cap
            .max(self.least_window())
            .saturating_mul(self.tuning().slow_start_cover)
    }
}
