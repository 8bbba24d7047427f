//! A mocked flow as a test changes it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::reader::MockState;
use super::state::{State, Step};
use crate::sample::{Direction, DropClass, DropCounters, FlowSample, QueueSample};
use crate::source::{FlowReader, Watch};

/// The test's handle of a mocked flow.
#[derive(Clone, Debug)]
pub struct MockFlow {
    pub(super) flow: Arc<MockState>,
    pub(super) source: Arc<Mutex<State>>,
}

impl MockFlow {
    /// A watch of the flow.
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.flow) as Arc<dyn FlowReader>)
    }

    /// Changes the sample at once.
    pub fn set(&self, change: impl FnOnce(&mut FlowSample)) {
        self.flow.change(change);
    }

    /// Changes the sample when the source's clock reaches `at`.
    pub fn at(&self, at: Duration, change: impl FnOnce(&mut FlowSample) + Send + 'static) {
        let step = Step {
            at,
            flow: Arc::clone(&self.flow),
            change: Box::new(change),
        };
        self.source.lock().script.push(step);
    }

    /// Sets the backlog of the queue; `None`: no queue is known.
    pub fn set_queue(&self, queue: Option<QueueSample>) {
        self.set(|sample| sample.congestion.queue = queue);
    }

    /// Counts egress packets as observed: without this, a governor that sends takes the source's
    /// signals for stale. A socket that reports to the source
    /// ([`observe_socket`](crate::SignalSource::observe_socket)) does this itself.
    pub fn observe_sent(&self, packets: u64, bytes: u64) {
        self.flow.observe_sent(packets, bytes);
    }

    /// Counts packets as dropped, for this flow and for the host. Egress drops of a full queue
    /// count as congestion, those of a firewall as policy drops.
    pub fn drop_packets(
        &self,
        direction: Direction,
        class: DropClass,
        reason: &str,
        dropped: DropCounters,
    ) {
        self.set(|sample| {
            let drops = sample.drops.get_or_insert_default();
            drops.add(direction, class, dropped);
            let counter = match (direction, class) {
                (Direction::Egress, DropClass::QueueFull) => &mut sample.congestion.queue_drops,
                (Direction::Egress, DropClass::Policy) => &mut sample.congestion.policy_drops,
                _ => return,
            };
            *counter.get_or_insert_default() += dropped.packets;
        });
        let mut state = self.source.lock();
        let host = state.host.drops.get_or_insert_default();
        host.add(direction, class, dropped);
        for owner in [Some(self.flow.id), None] {
            let counters = state.reasons.entry((owner, Arc::from(reason))).or_default();
            counters.skbs += dropped.skbs;
            counters.packets += dropped.packets;
            counters.bytes += dropped.bytes;
        }
    }
}
