//! The control law: from the kernel's signals to a cap for the window.
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
//! flight five round trips after the source stopped; a processor that is unavailable for a ninth of
//! the time ("busy host"); a firewall that drops one GSO batch in a hundred ("policy drops", mean of 20 runs); a
//! fiftieth or a tenth of all updates "missed"; samples "10 ms late", or one in a hundred
//! "contradictory"; "one product" is a queue of one at 5 ms, "limit hidden" the tiny one whose limit
//! is not reported, "3 stalled" are processes on a busy host after a TCP flow has gone, "upload" is sent
//! after a download whose acknowledgements were dropped. Numbers that change nothing here guard against what these scenarios do not
//! contain, or are far from where they matter.
//!
#![doc = include_str!("sensitivity.md")]

use std::time::{Duration, Instant};

use constants::{INITIAL_RTT, Tuning};
use local_drop::LocalDrops;
use reductions::Reductions;
use rounds::Rounds;
use standing::{CompetingTraffic, Standing, UnobservedOthers};
use trust::Trust;
use unchanged::UnchangedSample;

use crate::base::BaseKind;
use crate::config::{GovernorConfig, LawConfig};
use crate::mechanism::Mechanism;
use crate::time::{Span, Time};

pub(crate) use exchange::{
    Base, CapEffects, CappedWindow, Check, Decision, Observed, Occasion, Sent,
};
pub(crate) use reductions::{Delivery, Report};
pub(crate) use signals::{Others, QueueSignals, Signals};
pub(crate) use target::match_of;

mod batch;
pub(crate) mod constants;
mod exchange;
mod growth;
mod local_drop;
mod reductions;
mod release;
mod rounds;
mod sample;
mod signals;
mod standing;
mod target;
#[cfg(test)]
mod tests;
mod trust;
mod unchanged;
mod window;

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
    /// When a firewall last dropped a packet of the flow: GSO batches are then not split.
    firewall_dropped: Option<Time>,
    /// When the queue last dropped something.
    overflowed: Option<Time>,
    /// No more than the queue's own limit was in it at the last sample.
    within_limit: bool,
    unchanged: UnchangedSample,
    /// The cap at the last sample.
    cap: u64,
    /// The cap is at least this: what the path is known to hold, while the queue has room; and what
    /// was in flight, while the samples do not change.
    min_in_flight: u64,
    /// The most that may be in flight on the path, without the queue's part: a sixteenth more than in
    /// the last round trip; `u64::MAX` for no bound.
    max_on_path: u64,
    /// When the cap last limited sending, and the queue's `drained` then.
    last_limited: Option<(Time, u64)>,
    competing: CompetingTraffic,
    unobserved_others: UnobservedOthers,
    last_sample: Option<Time>,
    /// Acknowledgements of what is in flight arrive: they wake a sender that the cap limits.
    ack_clock: bool,
    /// The application had no more to send at the last acknowledgements.
    app_limited: bool,
    /// Whether the window was capped since the acknowledgements before the last ones.
    capped: bool,
    /// The wrapped controller was in slow start at the last sample, or this was not read.
    /// Acknowledgements can only end it.
    may_be_in_slow_start: bool,
    /// Whether this process's own limit for the queue determined the cap at the last sample.
    limit_decided: bool,
}

/// The law's state: see `docs/law.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// The wrapped controller's window, uncapped.
    #[default]
    Free,
    /// The window is capped by the queue's backlog.
    Engaged,
    /// The cap grows with what is acknowledged, until it is above the wrapped controller's window.
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
            max_on_path: u64::MAX,
            ..Self::default()
        }
    }

    /// A copy for a new path, on which nothing is in flight yet.
    pub(crate) fn for_new_path(&self) -> Self {
        Self {
            in_flight: 0,
            ack_clock: false,
            unchanged: UnchangedSample::default(),
            // Measured on the old path.
            rounds: Rounds::default(),
            min_in_flight: 0,
            max_on_path: u64::MAX,
            ..self.clone()
        }
    }

    /// The connection uses another flow of the source: on another socket, or to another address of
    /// the peer. Its counters are others; the path and the wrapped controller are the same.
    pub(crate) fn on_new_flow(&mut self, now: Time, signals: &Signals) {
        self.trust = Trust::default();
        self.local_drops = LocalDrops::from(signals);
        self.policy_drops_seen = signals.policy_drops;
        self.unchanged = UnchangedSample::default();
        self.min_in_flight = 0;
        self.standing = Standing::default();
        self.competing = CompetingTraffic::default();
        self.within_limit = false;
        self.last_limited = signals.queue.map(|queue| (now, queue.drained));
    }

    /// Whether the window is the wrapped controller's.
    pub(crate) fn is_free(&self) -> bool {
        self.mode == Mode::Free
    }

    /// Whether the source observes what is sent.
    pub(crate) fn trusts_signals(&self) -> bool {
        self.trust.is_trusted()
    }

    /// Whether the flow was found to wait behind others that the source does not count.
    pub(crate) fn waits(&self, now: Time) -> bool {
        self.unobserved_others.is_active(now)
    }

    /// Bytes of a full datagram's payload.
    pub(crate) fn mtu(&self) -> u64 {
        self.mtu
    }

    /// The cap at the last sample.
    #[cfg(feature = "testing")]
    pub(crate) fn last_cap(&self) -> u64 {
        self.cap
    }

    /// The smoothed round trip.
    pub(crate) fn srtt(&self) -> Span {
        self.srtt
    }

    /// A GSO batch of `bytes` is about to be sent. Call after [`Law::on_sample`].
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64, sent: Sent, base_window: u64) {
        self.trust.on_sent(now, sent);
        if self.in_flight < self.mtu {
            self.ack_clock = false;
        }
        if !self.counts_for_congestion(bytes) {
            return;
        }
        self.local_drops.on_sent();
        // Above the wrapped controller's window it makes no difference.
        self.in_flight = self.in_flight.saturating_add(bytes).min(base_window);
        self.unchanged.in_flight = self.unchanged.in_flight.max(self.in_flight);
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

    /// A datagram that was sent at `sent` was acknowledged: whether to [`Law::check`].
    #[inline]
    pub(crate) fn is_check_due(&self, sent: Instant) -> bool {
        self.trust.is_check_due(sent)
    }

    /// Checks whether the source had observed what was acknowledged.
    pub(crate) fn check(&mut self, observed: Observed) -> Option<Check> {
        self.trust.check(observed)
    }

    /// All acknowledgements of a received packet are processed.
    pub(crate) fn end_acks(&mut self, in_flight: u64) {
        self.in_flight = in_flight;
        self.ack_clock = true;
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

    /// The sending rate, bytes a second.
    fn rate(&self) -> u64 {
        rate(self.in_flight, self.srtt)
    }
}

/// The rate of `in_flight` bytes in a round trip, bytes a second.
fn rate(in_flight: u64, srtt: Span) -> u64 {
    in_flight.saturating_mul(1_000_000) / srtt.micros().max(1)
}
