//! A controller's place on the flow that it goes by.

use std::sync::Arc;
use std::time::Instant;

use ebpf_congestion_signals::{LocalCongestion, QueueId, QueueSample, QueueState, Watch};

use crate::governor::Governed;
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{Others, QueueSignals, Signals};
use crate::mechanism::Mechanism;
use crate::queue_limit::{QueueLimit, Sharing};
use crate::report::Counters;
use crate::shared::Shared;
use crate::time::Time;

/// Which flow a controller goes by, and its entries among those who share it.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    flow: Option<Arc<Governed>>,
    /// Counts among the flow's controllers. Not before it sends: copies of a controller are also
    /// made to look at.
    joined: bool,
    /// Among those who want to send more into a queue.
    sharing: Sharing,
    /// Packets of the flow that a local queue dropped, as the source had counted them at the last
    /// sample.
    counted_drops: u64,
    /// Of these, the ones that this controller may have to answer. Of a socket with peers that are
    /// flows of their own: none, because most are of those peers, who answer them.
    drops: u64,
    /// The queue at the last sample, and what its kind says of others in it.
    queue: Option<QueueId>,
    others: Others,
    /// Others in the same tree of queues are in front of the flow.
    waits: bool,
}

impl Seat {
    pub(crate) fn new(shared: Arc<Shared>, flow: Option<Arc<Governed>>) -> Self {
        let counted_drops = flow.as_deref().map_or(0, counted_drops);
        Self {
            shared,
            flow,
            joined: false,
            sharing: Sharing::default(),
            counted_drops,
            drops: 0,
            queue: None,
            others: Others::default(),
            waits: false,
        }
    }

    /// For a copy of the controller.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Self::new(Arc::clone(&self.shared), self.flow.clone());
        (copy.counted_drops, copy.drops) = (self.counted_drops, self.drops);
        copy
    }

    fn has(&self, mechanism: Mechanism) -> bool {
        self.shared.config.has(mechanism)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The time as the law counts it.
    #[inline]
    pub(crate) fn time(&self, at: Instant) -> Time {
        self.shared.state.time(at)
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.flow.as_ref().map(|flow| &flow.watch)
    }

    pub(crate) fn flow(&self) -> Option<&Governed> {
        self.flow.as_deref()
    }

    /// Goes by another flow from now on.
    pub(crate) fn move_to(&mut self, flow: Arc<Governed>) {
        let joined = self.joined;
        self.leave();
        self.counted_drops = counted_drops(&flow);
        self.flow = Some(flow);
        if joined {
            self.join();
        }
    }

    /// Counts among the flow's controllers from now on.
    #[inline]
    pub(crate) fn join(&mut self) {
        if !self.joined {
            self.join_now();
        }
    }

    #[cold]
    fn join_now(&mut self) {
        self.joined = true;
        if let Some(flow) = &self.flow {
            flow.join();
        }
        self.count(Counters::controller_built);
    }

    fn leave(&mut self) {
        self.leave_queue();
        if self.joined {
            self.count(Counters::controller_gone);
            if let Some(flow) = &self.flow {
                flow.leave();
            }
        }
        self.joined = false;
    }

    /// The connection wants to send more into this queue than its `rate`, bytes a second.
    pub(crate) fn enter_queue(&mut self, queue: usize, rate: u64) {
        self.sharing.enter(&self.shared.state.queues, queue, rate);
    }

    pub(crate) fn leave_queue(&mut self) {
        self.sharing.leave(&self.shared.state.queues);
    }

    /// Counts for the flow and in sum.
    pub(crate) fn count(&self, count: impl Fn(&Counters)) {
        match &self.flow {
            Some(flow) => flow.count(count),
            None => count(&self.shared.sums),
        }
    }

    pub(crate) fn queue(&self, index: usize) -> &QueueLimit {
        &self.shared.state.queues[index]
    }

    /// The queue at the last sample.
    pub(crate) fn last_queue(&self) -> Option<&QueueLimit> {
        self.queue.map(|queue| self.queue(queue.index()))
    }

    /// The sample as this controller has to see it; `None` without a flow.
    pub(crate) fn signals(&self, mtu: u64) -> Option<Signals> {
        let sample = self.flow.as_deref()?.watch.congestion();
        self.signals_of(&sample, mtu)
    }

    /// The same, of a sample at hand.
    pub(crate) fn signals_of(&self, sample: &LocalCongestion, mtu: u64) -> Option<Signals> {
        let governed = self.flow.as_deref()?;
        let observed = observed(sample);
        let unobserved = governed.flow.unobserved(observed);
        let queue = sample.queue.and_then(|queue| {
            let own = queue.own?;
            let shared = queue.shared.unwrap_or(own).max(own);
            let whole = queue.total.zip(queue.drained);
            let whole = whole.filter(|_| match self.others {
                Others::Classes => self.waits || !self.has(Mechanism::Classes),
                others => others == Others::Counted,
            });
            let others = match (whole, self.others) {
                (Some(_), _) => Others::Counted,
                (None, Others::Counted) => Others::Unknown,
                (None, others) => others,
            };
            let dry = self.queue(queue.id.index()).dry(shared);
            let (total, drained) = whole.unwrap_or((shared, dry));
            let datagram = mtu + WIRE_OVERHEAD;
            let id = queue.id.index();
            let on_its_way = unobserved.saturating_mul(datagram);
            // Gauges are read one after the other.
            let own_flow = own.min(total);
            let backlog = own_flow.saturating_add(on_its_way);
            // A FIFO is left in the order it was entered; which of a socket's connections entered
            // it, the source does not tell.
            let own = match governed.flow.controllers() {
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
                    .and_then(|_| room(&queue, on_its_way)),
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

    /// Takes note of new drops, and of the queue's kind when it is another than before. Call before
    /// [`Seat::signals_of`] is shown to the law, with whether the flow `waits` for others that it is not
    /// known to be behind.
    pub(crate) fn follow(&mut self, sample: &LocalCongestion, waits: bool) {
        self.waits = waits;
        let Some(flow) = &self.flow else {
            return;
        };
        let counted = sample.queue_drops.unwrap_or_default();
        if !flow.has_peers() {
            let more = counted.saturating_sub(self.counted_drops);
            self.drops = self.drops.saturating_add(more);
        }
        self.counted_drops = counted.max(self.counted_drops);
        let queue = sample.queue.map(|queue| queue.id);
        if queue != self.queue {
            self.queue = queue;
            self.others = others_in(flow.watch.sample().queue.as_ref());
            if let Some(queue) = queue {
                self.queue(queue.index()).follow(queue.generation());
            }
        }
    }

    /// The flow's drops at the last sample, as the source counts them.
    pub(crate) fn counted_drops(&self) -> u64 {
        self.counted_drops
    }

    /// Takes note of a sample that the law is about to see.
    pub(crate) fn on_sample(&self, signals: &Signals) {
        if let Some(queue) = signals
            .queue
            .filter(|queue| queue.others != Others::Counted)
        {
            self.queue(queue.id).on_level(queue.shared);
        }
    }
}

fn counted_drops(flow: &Governed) -> u64 {
    flow.watch.congestion().queue_drops.unwrap_or_default()
}

/// What a queue's kind says of others' packets in it. A queue of an unknown kind is taken for one
/// that is left in the order it was entered, as most are.
fn others_in(queue: Option<&QueueState>) -> Others {
    let Some(queue) = queue else {
        return Others::Counted;
    };
    match queue.kind.as_str() {
        "fq" | "fq_codel" | "fq_pie" | "cake" | "sfq" => Others::Apart,
        "drr" | "ets" | "hfsc" | "htb" | "prio" | "qfq" => Others::Classes,
        _ => Others::Counted,
    }
}

/// Packets that the source saw; none from one that cannot tell, which is then not relied on.
pub(crate) fn observed(sample: &LocalCongestion) -> u64 {
    sample.seen_packets().unwrap_or_default()
}

/// Bytes that the queue still takes, less what is on its way there. A queue that holds more than its
/// limit has another.
fn room(queue: &QueueSample, on_its_way: u64) -> Option<u64> {
    let free = queue.limit?.checked_sub(queue.total?)?;
    Some(free.saturating_sub(on_its_way))
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use ebpf_congestion_signals::{
        Direction, DropClass, DropCounters, MockFlow, MockSource, SignalSource, WatchTarget,
    };

    use super::*;
    use crate::config::GovernorConfig;

    fn drop_one(flow: &MockFlow) {
        let one = DropCounters {
            skbs: 1,
            packets: 1,
            bytes: 1242,
        };
        flow.drop_packets(Direction::Egress, DropClass::QueueFull, "QDISC_DROP", one);
    }

    #[test]
    fn drops_of_peers_with_flows_of_their_own_are_never_told_to_who_goes_by_the_socket() {
        let source = Arc::new(MockSource::new());
        let shared = Shared::new(Arc::clone(&source) as _, GovernorConfig::default());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = WatchTarget::socket(&socket);
        let whole = shared.flow(target.sharing()).unwrap();
        let socket_flow = source.flow(source.watch(target).unwrap().id()).unwrap();
        let remote = ([192, 0, 2, 1], 443).into();
        let peer = shared.peer(target.peer(remote), Some(Arc::clone(&whole)));
        let mut seat = Seat::new(Arc::clone(&shared), Some(whole));
        let mut told = || {
            let sample = seat.watch().unwrap().congestion();
            seat.follow(&sample, false);
            seat.signals(1200).unwrap().drops
        };
        let before = told();
        drop_one(&socket_flow);
        assert_eq!(told(), before);
        // The peer is gone, and so is who answers for it; what was its own stays its own.
        drop(peer);
        assert_eq!(told(), before);
        drop_one(&socket_flow);
        assert_eq!(told(), before + 1);
    }
}
