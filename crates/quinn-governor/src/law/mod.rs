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

use constants::{INITIAL_RTT, Tuning};
use local_drop::LocalDrops;
use reductions::Reductions;
use rounds::Rounds;
use standing::{Crowd, Standing, Unseen};
use still::Still;
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
mod growth;
mod hold;
mod local_drop;
mod reductions;
mod rounds;
mod sample;
mod signals;
mod standing;
mod still;
mod target;
#[cfg(test)]
mod tests;
mod trust;
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

    /// A batch of acknowledgements is complete.
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

    /// What is sent, bytes a second.
    fn rate(&self) -> u64 {
        rate(self.in_flight, self.srtt)
    }
}

/// What is sent where so much is acknowledged in a round trip, bytes a second.
fn rate(in_flight: u64, srtt: Span) -> u64 {
    in_flight.saturating_mul(1_000_000) / srtt.micros().max(1)
}
