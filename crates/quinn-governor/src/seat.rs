//! A controller's place on the flow that it goes by.

use std::sync::Arc;

use ebpf_congestion_signals::{LocalCongestion, QueueSample, Watch};

use crate::governor::Governed;
use crate::law::constants::WIRE_OVERHEAD;
use crate::law::{QueueSignals, Signals};
use crate::queue_limit::{QueueLimit, Sharing};
use crate::report::Counters;
use crate::shared::Shared;

/// Which flow a controller goes by, and its entries among those who share it.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    flow: Option<Arc<Governed>>,
    /// Counts among the flow's controllers. Not before it sends: copies of a controller are also
    /// made to look at.
    joined: bool,
    /// Among those who want to send more into a queue.
    sharing: Sharing,
    /// The drops as they were last told: see [`Seat::drops`].
    drops: u64,
}

impl Seat {
    pub(crate) fn new(shared: Arc<Shared>, flow: Option<Arc<Governed>>) -> Self {
        Self {
            shared,
            flow,
            joined: false,
            sharing: Sharing::default(),
            drops: 0,
        }
    }

    /// For a copy of the controller.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Self::new(Arc::clone(&self.shared), self.flow.clone());
        copy.drops = self.drops;
        copy
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
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
        self.drops = flow.watch.congestion().queue_drops.unwrap_or_default();
        self.flow = Some(flow);
        if joined {
            self.join();
        }
    }

    /// Counts among the flow's controllers from now on.
    pub(crate) fn join(&mut self) {
        if !self.joined {
            self.joined = true;
            if let Some(flow) = &self.flow {
                flow.join();
            }
            self.count(Counters::controller_built);
        }
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

    /// The sample as this controller has to see it; `None` without a flow.
    pub(crate) fn signals(&self, mtu: u64) -> Option<Signals> {
        let governed = self.flow.as_deref()?;
        let sample = governed.watch.congestion();
        let observed = observed(&sample);
        let unobserved = governed.flow.unobserved(observed);
        // Of a queue that the source does not know whole, nothing is used.
        let queue = sample.queue.and_then(|queue| {
            let (own, shared) = (queue.own?, queue.shared?);
            let (total, drained) = (queue.total?, queue.drained?);
            let datagram = mtu + WIRE_OVERHEAD;
            let id = queue.id.index();
            let on_its_way = unobserved.saturating_mul(datagram);
            // Gauges are read one after the other.
            let own_flow = own.min(total);
            let backlog = own_flow.saturating_add(on_its_way);
            // A FIFO is left in the order it was entered; which of a socket's connections entered
            // it, the source does not tell.
            let own = backlog / governed.flow.controllers();
            let limit = self.queue(id);
            Some(QueueSignals {
                id,
                own,
                own_flow,
                shared,
                total,
                drained,
                room: room(&queue, on_its_way),
                limit: limit.limit(&self.shared.config, datagram),
                boost: limit.boost(),
                others_share: limit
                    .sharers()
                    .saturating_sub(u32::from(self.sharing.is_at(id))),
                mean_rate: limit.mean_rate(),
            })
        });
        Some(Signals {
            live: sample.live && self.shared.is_enabled(),
            observed,
            unobserved,
            policy_drops: sample.policy_drops.unwrap_or_default(),
            drops: self.drops(governed, sample.queue_drops.unwrap_or_default()),
            queue,
        })
    }

    /// The drops that one of the flow's controllers has to answer. Of a socket with peers that are
    /// flows of their own: none, because most are of those peers, who answer them.
    fn drops(&self, governed: &Governed, drops: u64) -> u64 {
        if governed.has_peers() {
            self.drops
        } else {
            drops
        }
    }

    /// The controller knows of these drops.
    pub(crate) fn on_drops(&mut self, drops: u64) {
        self.drops = drops;
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
