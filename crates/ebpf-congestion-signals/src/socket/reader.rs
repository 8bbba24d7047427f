//! What is known of a flow, for those who watch it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::flow::Flow;
use super::shared::Shared;
use super::state::SocketState;
use crate::clock;
use crate::flow_id::FlowId;
use crate::sample::{
    Direction, DropClass, DropTable, FlowSample, LocalCongestion, PressureSample, QueueId,
    QueueSample, SendCounters, SourceKind,
};
use crate::source::FlowReader;

/// Reads a flow.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<SocketState>,
    pub(super) flow: Arc<Flow>,
    /// `None`: all of the socket.
    pub(super) peer: Option<SocketAddr>,
}

impl Reader {
    fn queue(&self) -> Option<QueueSample> {
        if !self.state.shows_queue() {
            return None;
        }
        let index = self.state.queue();
        let queue = self.shared.queues.get(index);
        let own = self.flow.own();
        let program = queue.program().max(own);
        let sample = QueueSample::new(QueueId::with_generation(index, queue.generation())?)
            .with_own(own)
            .with_shared(queue.shared())
            .with_drained(queue.drained())
            .with_limit(queue.limit_in_bytes());
        let now = self.state.read_at().unwrap_or_default();
        Some(match queue.others(now) {
            Some(others) => sample.with_total(program.saturating_add(others)),
            None => sample,
        })
    }
}

impl FlowReader for Reader {
    fn id(&self) -> FlowId {
        self.flow.id
    }

    fn seen_packets(&self) -> Option<u64> {
        let (_, packets, _) = self.flow.sent();
        Some(packets.saturating_add(self.flow.policy.get().packets))
    }

    fn congestion(&self) -> LocalCongestion {
        let (_, packets, _) = self.flow.sent();
        LocalCongestion {
            live: self.state.is_observed(),
            taken: self.state.read_at(),
            observed_packets: Some(packets),
            queue: self.queue(),
            queue_drops: Some(self.flow.queue_full.get().packets),
            policy_drops: Some(self.flow.policy.get().packets),
        }
    }

    fn sample(&self) -> FlowSample {
        let (calls, packets, bytes) = self.flow.sent();
        let mut drops = DropTable::default();
        let egress = Direction::Egress;
        drops.add(egress, DropClass::QueueFull, self.flow.queue_full.get());
        drops.add(egress, DropClass::Policy, self.flow.policy.get());
        let mut pressures = [PressureSample::default(); 2];
        if self.peer.is_none() {
            let received = self.state.receive_drops();
            drops.add(Direction::Ingress, DropClass::ReceiveBuffer, received);
            pressures = [&self.state.send_pressure, &self.state.receive_pressure]
                .map(super::pressure::Pressure::sample);
        }
        FlowSample {
            source: SourceKind::Socket,
            taken: clock::now(),
            updated: self.state.read_at(),
            congestion: self.congestion(),
            is_backlog_estimated: self.peer.is_some(),
            sent_bytes: Some(bytes),
            sent_packets: Some(packets),
            send: self.peer.is_none().then_some(SendCounters {
                bytes,
                calls,
                estimated: 0,
            }),
            queue: self.shared.queues.get(self.state.queue()).state(),
            buffers: self.state.read_at().map(|_| self.state.buffers()),
            send_pressure: pressures[0],
            receive_pressure: pressures[1],
            drops: Some(drops),
            ..FlowSample::empty(SourceKind::Socket)
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("flow", &self.flow)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut sockets = self.shared.sockets.lock();
        let watched = sockets.get_mut(&self.state.identity.cookie);
        if watched.is_some_and(|watched| watched.forget(self.peer))
            && let Some(peer) = self.peer
        {
            self.state.remove_peer(peer, &self.shared.queues);
        }
    }
}
