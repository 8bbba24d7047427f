//! A hop of the path: a queue, a rate, a delay.

mod config;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use quinn_proto::EcnCodepoint;

use super::codel::CoDel;
use super::loss::LossState;
use super::packet::{Batch, Owner};
use super::random::Random;
use super::time::{SimTime, nanos};

pub use config::{Discipline, LinkConfig, LinkStats};

/// What became of a batch at a link.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It left the queue.
    Dequeued { owner: Owner, wire: u32 },
    /// The queue was empty after that.
    Drained,
    /// The queue dropped it after it had taken it.
    DroppedInside(Batch),
    /// Its last byte left the device.
    Released { owner: Owner, truesize: u32 },
    /// A datagram of it will be at the other end.
    Arrives { at: SimTime, packet: Batch },
    /// A datagram of it was lost on the way.
    Lost { owner: Owner },
    /// The link is to be pumped again at this time.
    Wake(SimTime),
}

/// A link at work.
#[derive(Debug)]
pub(super) struct Link {
    config: LinkConfig,
    rate: Option<u64>,
    queue: VecDeque<Waiting>,
    backlog: u64,
    codel: Option<CoDel>,
    loss: LossState,
    jitter: Random,
    /// No packet arrives before this one.
    last_arrival: SimTime,
    in_service: Option<Service>,
    /// In bits times the nanoseconds of a second, so that what is earned adds up exactly.
    tokens: u128,
    tokens_at: SimTime,
    wake: Option<SimTime>,
    stats: LinkStats,
}

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    since: SimTime,
}

#[derive(Clone, Copy, Debug)]
struct Service {
    until: SimTime,
    owner: Owner,
    truesize: u32,
}

/// Nanoseconds in a second: what a bit costs in the units of [`Link::tokens`].
const SECOND: u128 = 1_000_000_000;

impl Link {
    pub(super) fn new(config: &LinkConfig, seed: u64, index: usize) -> Self {
        let codel = match config.discipline {
            Discipline::TailDrop | Discipline::Marks { .. } => None,
            Discipline::CoDel { target, interval } => Some(CoDel::new(target, interval)),
        };
        Self {
            rate: config.rate,
            queue: VecDeque::new(),
            backlog: 0,
            codel,
            loss: LossState::new(config.loss, Random::new(seed, "loss", index)),
            jitter: Random::new(seed, "jitter", index),
            last_arrival: SimTime::ZERO,
            in_service: None,
            tokens: tokens(config.burst),
            tokens_at: SimTime::ZERO,
            wake: None,
            stats: LinkStats::default(),
            config: config.clone(),
        }
    }

    pub(super) fn backlog(&self) -> u64 {
        self.backlog
    }

    pub(super) fn has_queue(&self) -> bool {
        self.rate.is_some()
    }

    /// Bytes that its queue holds; `None` where it has none.
    pub(super) fn limit(&self) -> Option<u64> {
        self.has_queue().then_some(self.config.limit)
    }

    pub(super) fn rate_changes(&self) -> &[(Duration, u64)] {
        &self.config.rate_changes
    }

    pub(super) fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Whether a batch is too large for the token bucket, which then splits it.
    pub(super) fn splits(&self, batch: &Batch) -> bool {
        self.config.burst > 0 && batch.packets > 1 && u64::from(batch.wire) > self.config.burst
    }

    /// Puts a batch into the queue; gives it back when there is no room.
    pub(super) fn offer(&mut self, now: SimTime, batch: Batch) -> Result<(), Batch> {
        let full = self.queue.len() >= self.config.packets;
        if full || self.backlog.saturating_add(u64::from(batch.wire)) > self.config.limit {
            self.stats.dropped_packets += u64::from(batch.packets);
            return Err(batch);
        }
        self.backlog += u64::from(batch.wire);
        self.stats.backlog_peak = self.stats.backlog_peak.max(self.backlog);
        self.queue.push_back(Waiting { batch, since: now });
        Ok(())
    }

    pub(super) fn set_rate(&mut self, now: SimTime, rate: u64) {
        self.earn(now);
        self.rate = Some(rate);
        // Tokens come sooner or later than was thought.
        self.wake = None;
    }

    /// A wake-up of this time has come; false when a later call replaced it.
    pub(super) fn woken(&mut self, now: SimTime) -> bool {
        if self.wake == Some(now) {
            self.wake = None;
            true
        } else {
            false
        }
    }

    /// Lets leave what can.
    pub(super) fn pump(&mut self, now: SimTime, outcomes: &mut Vec<Outcome>) {
        if let Some(service) = self.in_service {
            if service.until > now {
                self.wake_at(service.until, outcomes);
                return;
            }
            self.in_service = None;
            outcomes.push(Outcome::Released {
                owner: service.owner,
                truesize: service.truesize,
            });
        }
        while let Some(head) = self.queue.front() {
            if let Some(codel) = &mut self.codel
                && codel.drops(now, now.since(head.since), self.backlog)
            {
                if let Some(Waiting { batch, .. }) = self.take_head() {
                    self.stats.dropped_packets += u64::from(batch.packets);
                    outcomes.push(Outcome::DroppedInside(batch));
                }
                self.note_empty(outcomes);
                continue;
            }
            let Some(rate) = self.rate else {
                self.send(now, 0, outcomes);
                continue;
            };
            if self.config.burst > 0 {
                let wire = head.batch.wire;
                if let Some(at) = self.tokens_for(now, wire, rate) {
                    self.wake_at(at, outcomes);
                    return;
                }
                self.tokens = self.tokens.saturating_sub(tokens(u64::from(wire)));
                self.send(now, 0, outcomes);
            } else {
                self.send(now, rate, outcomes);
                return;
            }
        }
    }

    /// The head leaves the queue, its datagrams one after the other at `rate`, or all at once
    /// for 0.
    fn send(&mut self, now: SimTime, rate: u64, outcomes: &mut Vec<Outcome>) {
        let Some(Waiting { mut batch, since }) = self.take_head() else {
            return;
        };
        if let Discipline::Marks { after } = self.config.discipline
            && now.since(since) > after
            && batch.ecn.is_some()
        {
            batch.ecn = Some(EcnCodepoint::Ce);
            self.stats.marked_packets += u64::from(batch.packets);
        }
        let (owner, truesize) = (batch.owner, batch.truesize());
        self.stats.sent_packets += u64::from(batch.packets);
        self.stats.sent_bytes += u64::from(batch.wire);
        let wire = batch.wire;
        outcomes.push(Outcome::Dequeued { owner, wire });
        self.note_empty(outcomes);

        let mut sent = 0;
        let mut rest = Some(batch);
        let mut leaves = now;
        while let Some(batch) = rest {
            let (packet, more) = batch.split_first();
            rest = more;
            sent += u64::from(packet.wire);
            leaves = now + transmission(sent, rate);
            if self.loss.takes() {
                self.stats.lost_packets += 1;
                outcomes.push(Outcome::Lost { owner });
                continue;
            }
            let jitter = self.jitter.below(nanos(self.config.jitter));
            let at = leaves + self.config.delay + Duration::from_nanos(jitter);
            self.last_arrival = self.last_arrival.max(at);
            outcomes.push(Outcome::Arrives {
                at: self.last_arrival,
                packet,
            });
        }
        if rate == 0 {
            outcomes.push(Outcome::Released { owner, truesize });
        } else {
            self.in_service = Some(Service {
                until: leaves,
                owner,
                truesize,
            });
            self.wake_at(leaves, outcomes);
        }
    }

    fn take_head(&mut self) -> Option<Waiting> {
        let head = self.queue.pop_front()?;
        self.backlog -= u64::from(head.batch.wire);
        Some(head)
    }

    fn note_empty(&mut self, outcomes: &mut Vec<Outcome>) {
        if self.queue.is_empty() {
            self.stats.drained += 1;
            if let Some(codel) = &mut self.codel {
                codel.on_empty();
            }
            outcomes.push(Outcome::Drained);
        }
    }

    fn wake_at(&mut self, at: SimTime, outcomes: &mut Vec<Outcome>) {
        if self.wake != Some(at) {
            self.wake = Some(at);
            outcomes.push(Outcome::Wake(at));
        }
    }

    fn earn(&mut self, now: SimTime) {
        let elapsed = u128::from(now.nanos() - self.tokens_at.nanos());
        self.tokens_at = now;
        let earned = elapsed * u128::from(self.rate.unwrap_or(0));
        self.tokens = (self.tokens + earned).min(tokens(self.config.burst));
    }

    /// When there will be tokens for a batch; `None` when there are.
    fn tokens_for(&mut self, now: SimTime, wire: u32, rate: u64) -> Option<SimTime> {
        self.earn(now);
        // A single packet larger than the bucket passes when that is full.
        let needed = tokens(u64::from(wire).min(self.config.burst));
        let missing = needed
            .checked_sub(self.tokens)
            .filter(|missing| *missing > 0)?;
        let wait = missing.div_ceil(u128::from(rate.max(1)));
        Some(now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

fn tokens(bytes: u64) -> u128 {
    u128::from(bytes) * 8 * SECOND
}

/// How long so many bytes take at `rate` bits per second; nothing at 0.
fn transmission(bytes: u64, rate: u64) -> Duration {
    if rate == 0 {
        return Duration::ZERO;
    }
    let nanos = u128::from(bytes) * 8 * SECOND / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
