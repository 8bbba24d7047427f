//! The handle of one watched flow.

use std::fmt;
use std::sync::Arc;

use super::flows::Flow;
use super::source::Shared;
use crate::flow_id::FlowId;
use crate::sample::{DropClass, FlowSample, LocalCongestion, SourceKind};
use crate::source::FlowReader;

/// Reads one flow's slot, and gives it back in the end.
pub(super) struct Reader {
    shared: Arc<Shared>,
    pub(super) flow: Flow,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, flow: Flow) -> Self {
        Self { shared, flow }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl FlowReader for Reader {
    fn id(&self) -> FlowId {
        self.flow.id()
    }

    fn congestion(&self) -> LocalCongestion {
        let (slots, index) = (&self.shared.slots, self.flow.index);
        let tells = self.shared.tells;
        let drops = |class| tells.drops.then(|| slots.egress_drops(index, class));
        LocalCongestion {
            live: self.shared.is_attached(),
            taken: None,
            observed_packets: tells.packets.then(|| slots.sent_packets(index)),
            queue: slots.queue(index),
            queue_drops: drops(DropClass::QueueFull),
            policy_drops: drops(DropClass::Policy).filter(|_| tells.reasons),
        }
    }

    fn sample(&self) -> FlowSample {
        let (slots, index) = (&self.shared.slots, self.flow.index);
        let tells = self.shared.tells;
        let [send_pressure, receive_pressure] = if tells.pressures {
            slots.pressures(index)
        } else {
            Default::default()
        };
        let counts_sends = tells.sends && !self.flow.is_peer();
        let (sent_bytes, sent_packets) = slots.sent(index);
        let queue = slots.queue_state(index);
        if queue.is_some_and(|queue| queue.limit.is_none() && queue.kind.as_str() == "tbf") {
            self.shared.token_bucket.look_again();
        }
        FlowSample {
            source: SourceKind::Ebpf,
            taken: super::source::now(),
            updated: slots.updated(index),
            congestion: self.congestion(),
            sent_bytes: tells.packets.then_some(sent_bytes),
            sent_packets: tells.packets.then_some(sent_packets),
            send: counts_sends.then(|| slots.send(index)),
            queue,
            sojourn: tells.queues.then(|| slots.sojourn(index)),
            buffers: slots.buffers(index).filter(|_| tells.buffers),
            send_pressure,
            receive_pressure,
            drops: tells.drops.then(|| slots.drops(index)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.release(&self.flow);
    }
}
