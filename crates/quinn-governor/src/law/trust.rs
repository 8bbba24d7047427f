//! Whether what the source says can be true.
//!
//! A source that died keeps saying what it last said. There is no heartbeat in its samples, and
//! none is needed: the law knows what was sent, and what was sent must be observed.

use std::time::{Duration, Instant};

use super::constants::Tuning;
use super::misses::Misses;
use super::signals::{QueueSignals, Signals};

/// Follows one flow's samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    last: Option<Signals>,
    /// When the first datagram was sent since `observed` last moved.
    unobserved_since: Option<Instant>,
    /// Sends were proven to go unobserved.
    blind: bool,
    /// A contradiction was found: nothing is believed until then.
    distrusted_until: Option<Instant>,
    /// A batch that was sent: the count of packets with it, and when.
    probe: Option<(u64, Instant)>,
    /// Probes in a row that were not observed in time.
    late: u32,
    /// How often in a row it had to be distrusted soon after it was believed again.
    relapses: u32,
    /// Since when the flow seems to keep more in the queue than everybody.
    excess_since: Option<Instant>,
    misses: Misses,
}

impl Trust {
    /// Takes note of a sample; whether it is to be believed.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        signals: &Signals,
        srtt: Duration,
        tuning: &Tuning,
    ) -> bool {
        if let Some(last) = self.last
            && is_backwards(&last, signals)
        {
            self.distrust(now, srtt, tuning);
        }
        if self
            .last
            .is_none_or(|last| last.observed != signals.observed)
        {
            self.unobserved_since = None;
            self.blind = false;
        }
        self.last = Some(*signals);
        if self.misses.look(now, signals.observed, tuning) {
            self.distrust(now, srtt, tuning);
        }
        self.follow_probe(now, signals.observed, srtt, tuning);
        match signals.queue.map(|queue| contradiction(&queue, tuning)) {
            Some(Contradiction::Certain) => self.distrust(now, srtt, tuning),
            Some(Contradiction::UnlessBrief) => {
                let since = *self.excess_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= tuning.doubt {
                    self.distrust(now, srtt, tuning);
                }
            }
            Some(Contradiction::None) | None => self.excess_since = None,
        }
        let distrusted = self.distrusted_until.is_some_and(|until| now < until);
        let lags = self.late >= tuning.late_probes;
        signals.live && !self.blind && !lags && !distrusted
    }

    /// Datagrams are being sent; with them the flow has sent `packets`, on the scale of those
    /// observed. Call after [`Trust::judge`].
    pub(crate) fn on_sent(&mut self, now: Instant, packets: u64, srtt: Duration, tuning: &Tuning) {
        self.probe.get_or_insert((packets, now));
        if let Some(last) = self.last {
            self.misses.on_sent(now, last.observed, packets);
        }
        let since = *self.unobserved_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= patience(srtt, tuning) {
            self.blind = true;
        }
    }

    /// A datagram that was sent at `sent` arrived. If nothing was observed since before that, the
    /// source missed it: an acknowledged datagram did leave this host. Call after
    /// [`Trust::judge`].
    pub(crate) fn on_ack(&mut self, now: Instant, sent: Instant, tuning: &Tuning) {
        if let Some(since) = self.unobserved_since
            && sent >= since
            && now.saturating_duration_since(since) >= tuning.doubt
        {
            self.blind = true;
        }
    }

    /// What tells of packets only long after they were sent tells of a queue that was.
    fn follow_probe(&mut self, now: Instant, observed: u64, srtt: Duration, tuning: &Tuning) {
        let Some((packets, sent)) = self.probe else {
            return;
        };
        if observed >= packets {
            self.probe = None;
            self.late = 0;
        } else if now.saturating_duration_since(sent)
            >= (srtt / tuning.lag_divisor).max(tuning.lag_min)
        {
            self.probe = None;
            self.late = self.late.saturating_add(1);
            if self.late >= tuning.late_probes {
                self.distrust(now, srtt, tuning);
            }
        }
    }

    /// Does not believe for a while, each time for twice as long if it has to be again and again.
    fn distrust(&mut self, now: Instant, srtt: Duration, tuning: &Tuning) {
        let patience =
            |relapses: u32| patience(srtt, tuning) * 2u32.pow(relapses.min(tuning.max_relapses));
        match self.distrusted_until {
            Some(until) if now < until => return,
            Some(until) if now < until + patience(self.relapses) * tuning.relapse_factor => {
                self.relapses = self.relapses.saturating_add(1);
            }
            _ => self.relapses = 0,
        }
        self.distrusted_until = Some(now + patience(self.relapses));
    }
}

/// Long enough for a round trip and its acknowledgement.
fn patience(srtt: Duration, tuning: &Tuning) -> Duration {
    let longest = tuning.distrust * 100;
    tuning.distrust.max(srtt.saturating_mul(2)).min(longest)
}

fn is_backwards(last: &Signals, now: &Signals) -> bool {
    let queue = match (last.queue, now.queue) {
        (Some(last), Some(now)) => last.id == now.id && now.drained < last.drained,
        _ => false,
    };
    now.observed < last.observed
        || now.drops < last.drops
        || now.policy_drops < last.policy_drops
        || queue
}

enum Contradiction {
    None,
    /// Can come from gauges that were read while the kernel went on, but not for long.
    UnlessBrief,
    Certain,
}

fn contradiction(queue: &QueueSignals, tuning: &Tuning) -> Contradiction {
    match queue.own_flow.saturating_sub(queue.total) {
        0 => Contradiction::None,
        excess if excess <= tuning.torn_read => Contradiction::UnlessBrief,
        _ => Contradiction::Certain,
    }
}
