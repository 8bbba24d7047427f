//! The control law: what to do with what the kernel tells.
//!
//! Pure: time, samples and what was sent and acknowledged come in as arguments, decisions go out.
//! No clock, no I/O, no allocation. `docs/law.md` in the repository derives the law; each number has its
//! reason in [`constants`].
//!
//! # Sensitivity
//!
//! What half and double of each number do in the simulator, as `cargo run --release -p netlab
//! --example sensitivity -- sending` measures it; governed Cubic, 50 Mbit/s, 150 kB of queue and 20
//! ms unless said. "short" is a queue of 20 kB, "tiny" one of 6 kB at 5 ms, "5 ms" is 100 Mbit/s at
//! 5 ms with five products of queue, "four" and "fifty" are flows, "fall" is when the rate has
//! fallen to a fifth, "bursts" the mean time that 500 kB take, "death burst" how much more is in
//! flight five round trips after the source froze; a processor that is away for a ninth of the time
//! ("busy host"); a rule that takes one batch in a hundred ("policy drops", mean of 20 runs); a
//! fiftieth or a tenth of all updates "missed"; samples "10 ms late", or one in a hundred
//! "contradictory"; "one product" is a queue of one at 5 ms, "limit hidden" the tiny one whose limit
//! is not told, "3 stalled" are processes on a busy host after a TCP flow has gone, "upload" is sent
//! after a download whose acknowledgements were dropped. Numbers that change nothing here guard against what these scenarios do not
//! contain, or are far from where they matter.
//!
#![doc = include_str!("sensitivity.md")]

use std::time::{Duration, Instant};

use batch::batch_window;
use constants::{INITIAL_RTT, PACER_BURST, Tuning};
use local_drop::LocalDrops;
use reductions::Reductions;
use rounds::Rounds;
use standing::{Crowd, Standing, Unseen, is_half_full, least_time, outgrows_bursts};
use still::Still;
use target::{Sender, Target};
use trust::Trust;

use crate::base::BaseKind;
use crate::config::{GovernorConfig, LawConfig};
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

pub(crate) use exchange::{Answer, Base, Decision, Marks, Observed, Occasion, Sent, Verdict};
pub(crate) use reductions::{Heard, Report};
pub(crate) use signals::{Others, QueueSignals, Signals};
pub(crate) use target::match_of;

mod batch;
pub(crate) mod constants;
mod exchange;
mod local_drop;
mod reductions;
mod rounds;
mod signals;
mod standing;
mod still;
mod target;
#[cfg(test)]
mod tests;
mod trust;

/// The law's state for one controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Law {
    config: LawConfig,
    kind: BaseKind,
    mode: Mode,
    mtu: u64,
    in_flight: u64,
    srtt: Span,
    trust: Trust,
    standing: Standing,
    reductions: Reductions,
    rounds: Rounds,
    local_drops: LocalDrops,
    policy_drops_seen: u64,
    /// When a rule last took something before it came to the queue: batches are then left whole.
    ruled_out: Option<Time>,
    /// When the queue last dropped something.
    overflowed: Option<Time>,
    /// No more than the queue's own limit was in it at the last look.
    within_limit: bool,
    still: Still,
    /// The cap at the last look.
    cap: u64,
    /// In flight that is kept up: what the path is known to hold, while the queue has room; and
    /// what it was, while the sample stands still.
    kept_in_flight: u64,
    /// The most that may be in flight besides the queue: a sixteenth more than in the last round
    /// trip, or anything.
    most_besides: u64,
    /// When the cap last held something back, and the queue's `drained` then.
    last_held: Option<(Time, u64)>,
    crowd: Crowd,
    unseen: Unseen,
    last_look: Option<Time>,
    /// Acknowledgements of this flight arrive.
    ack_clock: bool,
    /// The application had no more to send when acknowledgements last came.
    app_limited: bool,
    /// Whether the cap limited sending since the acknowledgements before these.
    capped: bool,
    /// Base was in slow start at the last sample, or was not asked. Acknowledgements can only end it.
    may_be_in_slow_start: bool,
    /// Whether this process's own limit for the queue decided over the cap at the last look.
    own_limit: bool,
}

/// How far the law is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Not: base decides alone.
    #[default]
    Free,
    /// The window is capped by what stands in the queue.
    Engaged,
    /// The cap is being let go, growing by what is acknowledged until it is over base's window.
    Releasing { window: u64, since: Time },
}

impl Law {
    pub(crate) fn new(config: GovernorConfig, kind: BaseKind, mtu: u16, start: &Signals) -> Self {
        Self {
            config: config.law,
            kind: config.base_kind.unwrap_or(kind),
            mtu: u64::from(mtu),
            srtt: Span::of(INITIAL_RTT),
            local_drops: LocalDrops::from(start),
            policy_drops_seen: start.policy_drops,
            most_besides: u64::MAX,
            ..Self::default()
        }
    }

    /// A copy for a new path, on which nothing is in flight yet.
    pub(crate) fn for_new_path(&self) -> Self {
        Self {
            in_flight: 0,
            ack_clock: false,
            still: Still::default(),
            // What the old path held says nothing of the new one.
            rounds: Rounds::default(),
            kept_in_flight: 0,
            most_besides: u64::MAX,
            ..self.clone()
        }
    }

    /// The connection goes on as another flow of the source: on another socket, or to another
    /// address of the peer. Counters begin elsewhere; what the path and the wrapped controller are
    /// like stays.
    pub(crate) fn on_new_flow(&mut self, now: Time, signals: &Signals) {
        self.trust = Trust::default();
        self.local_drops = LocalDrops::from(signals);
        self.policy_drops_seen = signals.policy_drops;
        self.still = Still::default();
        self.kept_in_flight = 0;
        self.standing = Standing::default();
        self.crowd = Crowd::default();
        self.within_limit = false;
        self.last_held = signals.queue.map(|queue| (now, queue.drained));
    }

    /// Whether the window depends on anything but base.
    pub(crate) fn is_free(&self) -> bool {
        self.mode == Mode::Free
    }

    /// Whether the source was found to see what is sent.
    pub(crate) fn trusts_signals(&self) -> bool {
        self.trust.holds()
    }

    /// Whether the flow waits for others that it does not know to be in front of it.
    pub(crate) fn waits(&self, now: Time) -> bool {
        self.unseen.is_active(now)
    }

    /// Bytes of a full datagram's payload.
    pub(crate) fn mtu(&self) -> u64 {
        self.mtu
    }

    /// The cap at the last look.
    #[cfg(feature = "testing")]
    pub(crate) fn last_cap(&self) -> u64 {
        self.cap
    }

    /// The smoothed round trip.
    pub(crate) fn srtt(&self) -> Span {
        self.srtt
    }

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
    fn is_under(&self, base: u64) -> bool {
        let cap = match self.mode {
            Mode::Free => return false,
            Mode::Releasing { window, .. } => window,
            Mode::Engaged => self.cap,
        };
        cap.max(self.least_window()) < base
    }

    /// After how long a free connection takes a sample even if nothing has changed since the last
    /// one: an eighth of a round trip, or as long as a burst of the pacer takes.
    pub(crate) fn refresh(&self) -> Span {
        Span::of(PACER_BURST).min(self.srtt / 8)
    }

    /// Acknowledgements begin, and nothing has changed since the last sample.
    pub(crate) fn on_same(&mut self, app_limited: bool) {
        self.app_limited = app_limited;
    }

    /// Takes a sample.
    pub(crate) fn look(
        &mut self,
        now: Time,
        signals: &Signals,
        base: Base,
        marks: Marks,
        occasion: Occasion,
    ) -> Decision {
        let mut decision = Decision::default();
        let last_look = self.last_look.replace(now);
        // A free connection's base is not asked.
        self.may_be_in_slow_start = base.slow_start || self.is_free();
        if marks.capped
            && let Some(last) = last_look
        {
            decision.capped_for = now.since(last);
        }

        let tuning = self.tuning();
        let trusted = signals.live && (self.trust.holds() || !self.has(Mechanism::Trust));
        let dropped = self.local_congestion(now, signals);
        if signals.policy_drops > self.policy_drops_seen && self.has(Mechanism::WholeBatches) {
            self.policy_drops_seen = signals.policy_drops;
            self.ruled_out = Some(now);
        } else {
            self.ruled_out = self.ruled_out.filter(|at| self.is_remembered(*at, now));
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.app_limited = app_limited;
        }

        let engaged_before = self.mode == Mode::Engaged;
        let (in_flight, srtt) = (self.in_flight, self.srtt);
        let holds = signals.queue.as_ref().is_none_or(|queue| {
            let rate = || rate(in_flight, srtt);
            self.unseen.allows(now, queue, rate, tuning)
        }) || !self.config.has(Mechanism::LettingGo);
        match &signals.queue {
            Some(queue) if trusted && holds && self.config.backlog_cap => {
                // In slow start a window is up to twice what is in flight; more of it is not
                // used, and paces nothing.
                let used = base.window.min(self.in_flight.saturating_mul(2));
                let outgrown = outgrows_bursts(queue, used, self.mtu, self.srtt, tuning)
                    && self.has(Mechanism::Outgrown);
                let standing = self.standing.look(now, queue, self.srtt, tuning)
                    || outgrown
                    || !self.has(Mechanism::Standing) && queue.total > 0;
                self.crowd.look(now, self.standing.time(now), tuning);
                self.rounds
                    .look(now, self.in_flight, queue.own, self.srtt, tuning);
                self.most_besides = match self.kind {
                    BaseKind::LossBased if !base.slow_start && self.has(Mechanism::Growth) => {
                        self.rounds.growth(tuning)
                    }
                    _ => u64::MAX,
                };
                let fits = self.rounds.refill(
                    queue,
                    self.in_flight,
                    self.mtu,
                    self.app_limited && self.config.has(Mechanism::PauseRefill),
                    outgrown,
                );
                // A queue that overflows holds no burst of the pacer.
                let fits = if self.overflows(now) || !self.has(Mechanism::Refill) {
                    0
                } else {
                    fits
                };
                let kept = self
                    .still
                    .look(now, signals, queue.total, self.in_flight, self.srtt);
                let kept = if self.has(Mechanism::KeptFlight) {
                    kept
                } else {
                    0
                };
                self.kept_in_flight = fits.max(kept);
                if self.mode == Mode::Engaged {
                    decision.ran_dry = self.follow_hold(now, queue, marks, occasion);
                } else if dropped
                    || self.may_hold(queue)
                        && (standing || is_half_full(queue) && self.has(Mechanism::HalfFull))
                {
                    self.mode = Mode::Engaged;
                    self.last_held = Some((now, queue.drained));
                }
            }
            _ => decision.went_blind = self.let_go(now) && holds,
        }
        match self.mode {
            Mode::Engaged => {
                let (cap, target) = self.cap(signals);
                self.cap = cap;
                self.own_limit = target.is_some_and(|target| target.limit_decides);
                decision.limit_decides = self.own_limit;
                decision.limit_holds = decision.limit_decides && marks.held_by_limit.is_some();
                decision.overflowed =
                    dropped && engaged_before && decision.limit_decides && self.within_limit;
                self.within_limit = signals
                    .queue
                    .is_some_and(|queue| queue.total <= queue.limit);
            }
            Mode::Releasing { window, since } => {
                // Twice the time in which it doubles even if it grows by the same bytes each round
                // trip: a sender that pauses does not keep it for ever.
                let longest = self.srtt.times(2 * tuning.release_rounds);
                if window >= base.window || now.since(since) >= longest {
                    self.mode = Mode::Free;
                }
            }
            Mode::Free => {}
        }
        if let Occasion::Acks { app_limited } = occasion {
            self.capped = marks.capped || self.is_under(base.window);
            decision.wants_more = self.mode == Mode::Engaged && !app_limited;
            if decision.wants_more {
                decision.rate = self.rate();
            }
        }

        decision.local_drop = dropped && self.local_drop_reduces_window(now, trusted);
        decision
    }

    /// What quinn's pacer makes of a window, bits a second: 1.25 windows in a round trip.
    pub(crate) fn pacing_rate(&self, window: u64) -> u64 {
        let micros = self.srtt.micros();
        window.saturating_mul(8 * 1_250_000) / micros.max(1)
    }

    /// Base was told to reduce because of [`Decision::local_drop`] or [`Law::end_acks`].
    pub(crate) fn on_local_reduction(&mut self, now: Time) {
        self.reductions.on_local(now);
    }

    /// A batch of `bytes` is about to be sent. Call after [`Law::look`].
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64, sent: Sent, base_window: u64) {
        self.trust.on_sent(now, sent);
        if self.in_flight < self.mtu {
            self.ack_clock = false;
        }
        if !self.counts_for_congestion(bytes) {
            return;
        }
        self.local_drops.on_sent();
        // Above base's window it makes no difference.
        self.in_flight = self.in_flight.saturating_add(bytes).min(base_window);
        self.still.in_flight = self.still.in_flight.max(self.in_flight);
    }

    /// A datagram was acknowledged.
    #[inline]
    pub(crate) fn on_ack(&mut self, bytes: u64, srtt: Duration) {
        self.srtt = Span::of(srtt);
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let tuning = self.tuning();
        if let Mode::Releasing { window, .. } = &mut self.mode {
            *window = window.saturating_add(bytes / u64::from(tuning.release_rounds));
        }
    }

    /// A datagram that was sent at `sent` was acknowledged: whether to [`Law::answer`].
    #[inline]
    pub(crate) fn asks(&self, sent: Instant) -> bool {
        self.trust.asks(sent)
    }

    /// Takes what the source has observed; whether it had observed what was acknowledged.
    pub(crate) fn answer(&mut self, observed: Observed) -> Option<Answer> {
        self.trust.answer(observed)
    }

    /// Whether base is to be told that the application limited sending, whatever it did: it must
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

    /// A batch of acknowledgements is complete.
    pub(crate) fn end_acks(&mut self, in_flight: u64) {
        self.in_flight = in_flight;
        self.ack_clock = true;
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

    pub(crate) fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
    }

    fn tuning(&self) -> &'static Tuning {
        self.config.tuning()
    }

    fn has(&self, mechanism: Mechanism) -> bool {
        self.config.has(mechanism)
    }

    /// What is sent, bytes a second.
    fn rate(&self) -> u64 {
        rate(self.in_flight, self.srtt)
    }

    /// The least window, if base's is not smaller.
    fn least_window(&self) -> u64 {
        self.tuning().min_window_datagrams * self.mtu
    }

    fn sender(&self, queue: &QueueSignals) -> Sender {
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

    /// As much more than what is in flight as may still be added to the queue.
    fn cap(&self, signals: &Signals) -> (u64, Option<Target>) {
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

    /// Whether a sender that is held back will be woken before the link has nothing to send: by
    /// acknowledgements, which do not come right after a pause. Others in the queue keep it busy.
    fn may_hold(&self, queue: &QueueSignals) -> bool {
        self.ack_clock || queue.total > queue.own || !self.has(Mechanism::AckClock)
    }

    /// Follows whether the cap holds anything back: whether the queue ran empty meanwhile, which
    /// asks for a higher limit; and lets go when the queue ran empty and is not what limits this
    /// sender: nothing was held back for two round trips, which proves nothing of a queue that
    /// overflowed lately; or the application paused until nothing was in flight (a processor that was
    /// away makes no such pause).
    fn follow_hold(
        &mut self,
        now: Time,
        queue: &QueueSignals,
        marks: Marks,
        occasion: Occasion,
    ) -> bool {
        let tuning = self.tuning();
        let wants_more = occasion == Occasion::Acks { app_limited: false };
        if let Some(drained) = marks.held_by_limit
            && wants_more
        {
            self.last_held = Some((now, queue.drained));
            return queue.drained > drained;
        }
        if let Some((held, drained)) = self.last_held
            && queue.drained != drained
        {
            let time = now.since(held);
            let rounds = self.srtt.times(tuning.unused_rounds);
            let unused = time >= rounds.max(least_time(tuning)) && !self.overflows(now);
            let paused = self.in_flight < self.mtu && self.app_limited && queue.others_share == 0;
            let app_limited = occasion == Occasion::Acks { app_limited: true };
            if !self.has(Mechanism::Ending) {
            } else if paused || unused && app_limited {
                self.mode = Mode::Free;
            } else if unused {
                self.let_go(now);
            }
        }
        false
    }

    /// Whether the queue overflowed lately.
    fn overflows(&self, now: Time) -> bool {
        self.has(Mechanism::OverflowMemory)
            && self
                .overflowed
                .is_some_and(|at| self.is_remembered(at, now))
    }

    fn is_remembered(&self, at: Time, now: Time) -> bool {
        now.since(at) < Span::of(self.tuning().overflow_memory)
    }

    /// Lets the cap go, not at once but growing with acknowledgements, from what was in flight
    /// lately. Whether it was in force.
    fn let_go(&mut self, now: Time) -> bool {
        let engaged = self.mode == Mode::Engaged;
        if engaged {
            let window = self.in_flight.max(self.rounds.peak());
            self.mode = Mode::Releasing {
                window: window.max(self.least_window()),
                since: now,
            };
            if !self.has(Mechanism::Release) {
                self.mode = Mode::Free;
            }
        }
        self.kept_in_flight = 0;
        self.standing = Standing::default();
        engaged
    }

    fn leaves_slow_start(&self, base: Base) -> bool {
        self.config.slow_start_exit
            && self.kind == BaseKind::LossBased
            && self.mode == Mode::Engaged
            && base.slow_start
    }

    /// The window from which on base covers the cap even after a reduction.
    fn covered(&self) -> u64 {
        self.cap
            .max(self.least_window())
            .saturating_mul(self.tuning().slow_start_cover)
    }
}

/// What is sent where so much is acknowledged in a round trip, bytes a second.
fn rate(in_flight: u64, srtt: Span) -> u64 {
    in_flight.saturating_mul(1_000_000) / srtt.micros().max(1)
}
