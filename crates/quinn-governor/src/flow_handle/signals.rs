//! Turns a sample of the source into the signals that the law takes.

use ebpf_congestion_signals::{LocalCongestion, QueueSample, QueueState};

use super::FlowHandle;
use crate::flow::observed_packets;
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{Others, QueueSignals, Signals};
use crate::mechanism::Mechanism;

impl FlowHandle {
    /// A sample, as the law takes it; `None` without a flow.
    pub(crate) fn signals(&self, mtu: u64) -> Option<Signals> {
        let sample = self.flow.as_deref()?.watch.congestion();
        self.signals_of(&sample, mtu)
    }

    /// The same, of a sample that was taken before.
    pub(crate) fn signals_of(&self, sample: &LocalCongestion, mtu: u64) -> Option<Signals> {
        let flow = self.flow.as_deref()?;
        let observed = observed_packets(sample);
        let unobserved = flow.totals.unobserved(observed);
        let queue = sample.queue.and_then(|queue| {
            let own = queue.own?;
            let shared = queue.shared.unwrap_or(own).max(own);
            let whole = queue.total.zip(queue.drained);
            let whole = whole.filter(|_| match self.others {
                Others::Classes => self.behind_others || !self.has(Mechanism::Classes),
                others => others == Others::Counted,
            });
            let others = match (whole, self.others) {
                (Some(_), _) => Others::Counted,
                (None, Others::Counted) => Others::Unknown,
                (None, others) => others,
            };
            let dry = self.queue(queue.id.index()).times_empty(shared);
            let (total, drained) = whole.unwrap_or((shared, dry));
            let datagram = mtu + WIRE_OVERHEAD;
            let id = queue.id.index();
            let not_yet_observed = unobserved.saturating_mul(datagram);
            // The gauges are not read at one instant.
            let own_flow = own.min(total);
            let backlog = own_flow.saturating_add(not_yet_observed);
            // A FIFO dequeues in the order of arrival. The source does not report which of a flow's
            // connections a packet is of: each counts an equal part.
            let own = match flow.totals.controllers() {
                0 | 1 => backlog,
                controllers => backlog / controllers,
            };
            let limit = self.queue(id);
            let others_share = limit
                .sharers()
                .saturating_sub(u32::from(self.sharing.is_at(id)));
            Some(QueueSignals {
                id,
                own,
                own_flow,
                shared,
                total,
                others,
                drained,
                room: whole
                    .filter(|_| self.has(Mechanism::Room))
                    .and_then(|_| room(&queue, not_yet_observed)),
                limit: limit.limit(&self.shared.config, datagram),
                boost: if self.has(Mechanism::Balance) {
                    limit.boost()
                } else {
                    0
                },
                others_share,
                mean_rate: if others_share > 0 && self.has(Mechanism::Weights) {
                    limit.mean_rate()
                } else {
                    0
                },
            })
        });
        Some(Signals {
            live: sample.live && self.shared.is_enabled(),
            observed,
            unobserved,
            policy_drops: sample.policy_drops.unwrap_or_default(),
            drops: self.drops,
            queue,
        })
    }
}

/// What a queue's kind says of others' packets in it. A queue of an unknown kind is taken for a
/// FIFO, as most are.
pub(super) fn others_in(queue: Option<&QueueState>) -> Others {
    let Some(queue) = queue else {
        return Others::Counted;
    };
    match queue.kind.as_str() {
        "fq" | "fq_codel" | "fq_pie" | "cake" | "sfq" => Others::Apart,
        "drr" | "ets" | "hfsc" | "htb" | "prio" | "qfq" => Others::Classes,
        _ => Others::Counted,
    }
}

/// Bytes until the queue's limit, less what was sent and not yet observed. `None` where the queue
/// holds more than the limit: then the limit is that of another queue.
fn room(queue: &QueueSample, not_yet_observed: u64) -> Option<u64> {
    let free = queue.limit?.checked_sub(queue.total?)?;
    Some(free.saturating_sub(not_yet_observed))
}
