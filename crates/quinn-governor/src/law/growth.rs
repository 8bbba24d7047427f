//! When the wrapped controller must not grow, and when it reduces.

use super::{Base, Heard, Law, Mode, Report};
use crate::base::BaseKind;
use crate::mechanism::Mechanism;
use crate::time::Time;

impl Law {
    /// Whether base is called as if the application limited sending, whatever it did: it must
    /// not grow behind the cap. In slow start it may, until its window covers the cap even when
    /// halved.
    #[inline]
    pub(crate) fn hides_growth(&self, base: impl FnOnce() -> Base) -> bool {
        if self.kind == BaseKind::ModelBased || !self.capped || !self.has(Mechanism::HiddenGrowth) {
            return false;
        }
        let grows_on = self.may_be_in_slow_start && {
            let base = base();
            self.leaves_slow_start(base) && base.window < self.covered()
        };
        !grows_on
    }

    /// Whether no time passes for base while its growth is hidden: where others fill the queue it is
    /// held back as by any congestion.
    pub(crate) fn stops_clock(&self) -> bool {
        self.own_limit && self.has(Mechanism::Clock)
    }

    /// Whether base is to leave slow start.
    #[inline]
    pub(crate) fn ends_slow_start(
        &self,
        now: impl FnOnce() -> Time,
        base: impl FnOnce() -> Base,
    ) -> bool {
        self.capped && self.may_be_in_slow_start && {
            let (now, base) = (now(), base());
            self.leaves_slow_start(base)
                && self.standing.time(now) >= self.srtt
                && base.window >= self.covered()
                && self.reductions.is_due(now, self.srtt)
        }
    }

    /// Of a loss beyond this host: three quarters of what was in flight lately, which base is to come
    /// under (RFC 5681 section 3.1 reduces from there). Its own window was not in force, and may be
    /// more than the path holds.
    pub(crate) fn reduces_under(&self, now: Time, lost_bytes: u64) -> u64 {
        let elsewhere = !self.is_free() && self.standing.idle(now) >= self.srtt;
        let counts = self.kind == BaseKind::LossBased && lost_bytes > 0;
        match self.rounds.peak() {
            peak if elsewhere && counts && self.has(Mechanism::FlightReduction) => peak - peak / 4,
            _ => u64::MAX,
        }
    }

    /// The connection reports a congestion event; whether base is to hear of it.
    pub(crate) fn on_report(&mut self, now: Time, report: &Report) -> Heard {
        self.in_flight = self.in_flight.saturating_sub(report.lost_bytes);
        match self.reductions.on_report(now, report) {
            Heard::Not if self.kind == BaseKind::ModelBased => Heard::Known,
            heard => heard,
        }
    }

    /// Base has reduced because of [`Decision::local_drop`](super::Decision::local_drop) or
    /// [`Law::ends_slow_start`].
    pub(crate) fn on_local_reduction(&mut self, now: Time) {
        self.reductions.on_local(now);
    }

    pub(super) fn leaves_slow_start(&self, base: Base) -> bool {
        self.config.slow_start_exit
            && self.kind == BaseKind::LossBased
            && self.mode == Mode::Engaged
            && base.slow_start
    }

    /// The window from which on base covers the cap even after a reduction.
    pub(super) fn covered(&self) -> u64 {
        self.cap
            .max(self.least_window())
            .saturating_mul(self.tuning().slow_start_cover)
    }
}
