//! Reads one watched flow.

use std::fmt;
use std::sync::Arc;

use super::available::AvailableSignals;
use super::flows::Flow;
use super::mapped::{FlowIndex, Slots};
use super::shared::Shared;
use crate::clock;
use crate::flow_id::FlowId;
use crate::sample::{FlowSample, LocalCongestion, SourceKind};
use crate::source::FlowReader;
use crate::version::{Change, Version};

/// Reads one flow's slot, and releases it when dropped.
pub(super) struct Reader {
    shared: Arc<Shared>,
    flow: Flow,
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
        let shared = &*self.shared;
        let index = self.flow.index;
        shared
            .slots
            .congestion(index, &shared.available, shared.is_attached())
    }

    fn versioned(&self) -> (LocalCongestion, Version) {
        let shared = &*self.shared;
        let live = shared.is_attached();
        (shared.slots).versioned(self.flow.index, &shared.available, live)
    }

    fn change_since(&self, version: &Version) -> Change {
        self.shared.counters(self.flow.index).change_since(version)
    }

    fn seen_packets(&self) -> Option<u64> {
        let shared = &*self.shared;
        shared
            .slots
            .seen_packets(self.flow.index, &shared.available)
    }

    fn sample(&self) -> FlowSample {
        let shared = &*self.shared;
        let is_socket = !self.flow.is_peer();
        let (index, live) = (self.flow.index, shared.is_attached());
        let sample = (shared.slots).flow_sample(index, &shared.available, live, is_socket);
        let queue = sample.queue.as_ref();
        if queue.is_some_and(|queue| queue.limit.is_none() && queue.kind.as_str() == "tbf") {
            shared.token_bucket.refresh();
        }
        sample
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.release(&self.flow);
    }
}

impl Slots {
    /// Everything known of a flow, which is a whole socket's or a peer's.
    pub(super) fn flow_sample(
        &self,
        index: FlowIndex,
        available: &AvailableSignals,
        live: bool,
        is_socket: bool,
    ) -> FlowSample {
        let slots = self;
        let [send_pressure, receive_pressure] = if available.pressures {
            slots.pressures(index)
        } else {
            Default::default()
        };
        let counts_sends = available.sends && is_socket;
        let (sent_bytes, sent_packets) = slots.sent(index);
        let queue = slots.queue_state(index);
        FlowSample {
            source: SourceKind::Ebpf,
            taken: clock::now(),
            updated: slots.updated(index),
            congestion: slots.congestion(index, available, live),
            is_backlog_estimated: false,
            sent_bytes: available.packets.then_some(sent_bytes),
            sent_packets: available.packets.then_some(sent_packets),
            send: counts_sends.then(|| slots.send(index)),
            queue,
            sojourn: available.queues.then(|| slots.sojourn(index)),
            buffers: slots.buffers(index).filter(|_| available.buffers),
            send_pressure,
            receive_pressure,
            drops: available.drops.then(|| slots.drops(index)),
        }
    }
}
