//! The control law of the receiving side: how much all peers of a socket together may have in
//! flight.

use std::time::{Duration, Instant};

use ebpf_congestion_signals::{Direction, DropClass, FlowSample, KernelTime};

use super::constants::{ANNOUNCED, HEADERS, ReceiveTuning};
use super::rate::Rate;

/// Signals of a receiving socket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReceiveSignals {
    /// Whether the source still observes the socket.
    pub live: bool,
    /// When the kernel last observed a packet of it.
    pub updated: Option<KernelTime>,
    /// Datagrams that its full receive buffer dropped. Counter.
    pub drops: u64,
    /// Bytes that the receive buffer holds, as the kernel charges for them; `None`: not known.
    pub buffer: Option<u32>,
    /// The payload's share of what the kernel charges for, 0.0 to 1.0; `None`: not known.
    pub payload_share: Option<f64>,
}

impl ReceiveSignals {
    /// The signals in a sample of a socket (not of a single peer).
    pub fn of(sample: &FlowSample) -> Self {
        let drops = sample.drops.unwrap_or_default();
        let arriving = |class| drops.get(Direction::Ingress, class).packets;
        let buffers = sample.buffers.as_ref();
        Self {
            live: sample.congestion.live,
            updated: sample.updated,
            drops: arriving(DropClass::ReceiveBuffer),
            buffer: buffers.map(|b| b.rcvbuf).filter(|bytes| *bytes > 0),
            payload_share: buffers
                .filter(|b| b.rmem > 0)
                .and_then(|b| Some(f64::from(b.rmem_payload?) / f64::from(b.rmem))),
        }
    }
}

/// What the connections of a socket know themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveProgress {
    /// Bytes that all of them together received. Counter.
    pub received: u64,
    /// The longest round trip of those that receive, where that of each is its minimum: without
    /// time spent in buffers.
    pub round_trip: Duration,
    /// The least that all of them together must be able to have in flight, bytes.
    pub least: u64,
}

/// How much all peers of a socket together may have in flight, so that they do not send what the
/// socket's buffer cannot hold. No clock and no I/O.
#[derive(Clone, Debug)]
pub struct ReceiveControl {
    tuning: &'static ReceiveTuning,
    most: u64,
    /// `None`: no limit is in force.
    limit: Option<u64>,
    /// The drop counter up to which the limit was reduced; `None` before the first update.
    answered: Option<u64>,
    /// What overflowed last, and when.
    overflow: Option<(u64, Instant)>,
    /// When the last reduction will have taken effect: at this time, and these bytes received.
    round: Option<(Instant, u64)>,
    /// Whether there was no limit before the last reduction.
    first: bool,
    /// When the limit grew or was set.
    stepped: Option<Instant>,
    rate: Rate,
    seen: Option<Seen>,
}

/// When the source last observed the socket.
#[derive(Clone, Copy, Debug)]
struct Seen {
    updated: Option<KernelTime>,
    at: Instant,
    received: u64,
}

impl ReceiveControl {
    /// A control without a limit yet. `most` is each connection's configured window, bytes.
    pub fn new(most: u64) -> Self {
        Self::with(most, &ReceiveTuning::STANDARD)
    }

    /// The same, with these numbers in it.
    pub(super) fn with(most: u64, tuning: &'static ReceiveTuning) -> Self {
        Self {
            tuning,
            most,
            limit: None,
            answered: None,
            overflow: None,
            round: None,
            first: false,
            stepped: None,
            rate: Rate::default(),
            seen: None,
        }
    }

    /// The bytes that all peers together may have in flight; `None`: no limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Updates the limit from what is known `now`, and returns it as [`limit`](Self::limit) does.
    /// Call it at every drop, and several times a second.
    pub fn update(
        &mut self,
        now: Instant,
        signals: &ReceiveSignals,
        progress: &ReceiveProgress,
    ) -> Option<u64> {
        self.rate
            .on_received(now, progress.received, self.tuning.rate_span);
        let buffer = signals
            .buffer
            .filter(|_| self.is_trusted(now, signals, progress));
        let answered = self.answered.replace(signals.drops);
        let Some(buffer) = buffer else {
            self.limit = None;
            self.overflow = None;
            self.round = None;
            return None;
        };
        // Drops before the first update are of the time before this connection.
        let dropped = answered.is_some_and(|answered| signals.drops > answered);
        let capacity = payload(buffer, signals.payload_share, self.tuning);
        if self.in_round(now, progress) {
            // Drops of what was sent under the limit before the last reduction do not count again.
            self.correct(capacity, progress);
        } else if dropped {
            self.on_overflow(now, capacity, progress);
        } else {
            self.grow(now);
        }
        self.limit
    }

    /// The kernel has processed what was received: if the source did not observe it, its signals
    /// are stale.
    fn is_trusted(
        &mut self,
        now: Instant,
        signals: &ReceiveSignals,
        progress: &ReceiveProgress,
    ) -> bool {
        let moved =
            |seen: &Seen| seen.updated != signals.updated || seen.received >= progress.received;
        let seen = match self.seen {
            Some(seen) if !moved(&seen) => seen,
            _ => *self.seen.insert(Seen {
                updated: signals.updated,
                at: now,
                received: progress.received,
            }),
        };
        signals.live && now.saturating_duration_since(seen.at) < self.tuning.silence
    }

    fn in_round(&self, now: Instant, progress: &ReceiveProgress) -> bool {
        self.round
            .is_some_and(|(at, end)| now < at || progress.received < end)
    }

    /// While credit from before the reduction lasts, senders are not limited, so the rate of arrival
    /// still improves the estimate of what the path holds: a sender in slow start had not filled it.
    fn correct(&mut self, capacity: u64, progress: &ReceiveProgress) {
        let path = self.rate.bytes_in(progress.round_trip);
        let fits = path.unwrap_or_default().saturating_add(capacity);
        if self.first && self.limit.is_some_and(|limit| limit < fits) {
            self.limit = Some(fits).filter(|limit| *limit < self.most);
            if let Some((level, _)) = &mut self.overflow {
                *level = (*level).max(fits.saturating_mul(self.tuning.unknown_level));
            }
        }
    }

    fn on_overflow(&mut self, now: Instant, capacity: u64, progress: &ReceiveProgress) {
        let received = progress.received;
        let granted = self.limit.unwrap_or(self.most);
        let Some(path) = self.rate.bytes_in(progress.round_trip) else {
            return;
        };
        // What the path (by Little's law) and the buffer hold together. If that was granted and
        // still overflows, it is too much for the buffer: what the path holds is needed,
        // also while the last part of it is not yet announced.
        let fits = path.saturating_add(capacity);
        let needed = path.saturating_add(path / (ANNOUNCED - 1));
        let limit = if granted > fits {
            fits
        } else {
            let kept = 1.0 - self.tuning.reduction;
            granted.min(path.saturating_add(scale(granted.saturating_sub(path), kept)))
        };
        let limit = limit.max(needed).min(granted);
        let limit = limit.max(progress.least).min(self.most);
        // Granted credit cannot be withdrawn: it must be used up first. Headers are received without
        // using credit.
        let credit = granted.saturating_add(granted / HEADERS);
        let end = received.saturating_add(credit);
        self.round = Some((now + progress.round_trip, end));
        // At first it is unknown how much of what was granted was used.
        let level = granted.min(limit.saturating_mul(self.tuning.unknown_level));
        self.overflow = Some((level, now));
        self.stepped = Some(now);
        self.first = self.limit.is_none();
        self.limit = Some(limit).filter(|limit| *limit < self.most);
    }

    fn grow(&mut self, now: Instant) {
        let tuning = self.tuning;
        let (Some(limit), Some(stepped)) = (self.limit, self.stepped) else {
            return;
        };
        if now.saturating_duration_since(stepped) < tuning.step {
            return;
        }
        self.stepped = Some(now);
        let mut grown = limit.saturating_add((limit / tuning.growth_divisor).max(1));
        if let Some((level, at)) = self.overflow
            && now.saturating_duration_since(at) < tuning.hold
        {
            grown = grown.min((level - level / tuning.overflow_divisor).max(limit));
        }
        self.limit = Some(grown).filter(|grown| *grown < self.most);
    }
}

/// Payload in a receive buffer of so many bytes, as the kernel charges them.
fn payload(buffer: u32, share: Option<f64>, tuning: &ReceiveTuning) -> u64 {
    let share = share
        .filter(|share| share.is_finite())
        .map_or(tuning.unknown_share, |share| {
            share.clamp(tuning.least_share, tuning.most_share)
        });
    scale(u64::from(buffer), share)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number is a smaller number"
)]
fn scale(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64
}
