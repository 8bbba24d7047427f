//! A source that reports what a test scripts.

mod flow;
mod reader;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::flow::MockFlow;
use self::reader::{MockState, MockTarget};
use self::state::{State, kernel_time};
use crate::error::{EventsError, WatchError};
use crate::event::{Event, EventStream};
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::observer::{AfterSend, SendOutcome, SocketObserver, SocketSend};
use crate::sample::{DropTable, DropsByReason, FlowSample, HostSample, SendCounters, SourceKind};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};

/// A source that reports what a test scripts, on its own clock: changes are made at once, or at a
/// time of that clock, through a [`MockFlow`]. Only the test moves the clock
/// ([`advance`](Self::advance)).
///
/// ```
/// use std::time::Duration;
/// use ebpf_congestion_signals::{MockSource, SignalSource};
///
/// let source = MockSource::new();
/// let flow = source.add_flow();
/// let watch = flow.watch();
///
/// flow.at(Duration::from_millis(20), |sample| sample.congestion.queue_drops = Some(3));
/// source.advance(Duration::from_millis(10));
/// assert_eq!(watch.congestion().queue_drops, Some(0));
/// source.advance(Duration::from_millis(10));
/// assert_eq!(watch.congestion().queue_drops, Some(3));
/// ```
///
/// Reading a mock takes a lock that is held for a copy; it is for tests and simulations.
#[derive(Debug)]
pub struct MockSource {
    state: Arc<Mutex<State>>,
    events: Fanout,
}

impl MockSource {
    /// A source at time zero, with no flow and nothing counted.
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            events: Fanout::new(),
        }
    }

    /// A new flow without a socket, live from the start.
    pub fn add_flow(&self) -> MockFlow {
        self.new_flow(&mut self.state.lock(), None)
    }

    fn new_flow(&self, state: &mut State, target: Option<MockTarget>) -> MockFlow {
        let mut sample = FlowSample::empty(SourceKind::Mock);
        sample.congestion.live = true;
        sample.congestion.observed_packets = Some(0);
        sample.congestion.queue_drops = Some(0);
        sample.congestion.policy_drops = Some(0);
        (sample.sent_packets, sample.sent_bytes) = (Some(0), Some(0));
        sample.drops = Some(DropTable::default());
        let id = FlowId::from_u64(state.flows.len() as u64);
        let flow = Arc::new(MockState::new(id, target, sample));
        state.flows.push(Arc::clone(&flow));
        MockFlow {
            flow,
            source: Arc::clone(&self.state),
        }
    }

    /// The flow behind a [`Watch`] of this source, for a test in which the code under test watches
    /// a real socket.
    pub fn flow(&self, id: FlowId) -> Option<MockFlow> {
        let state = self.state.lock();
        let flow = state.flows.iter().find(|flow| flow.id == id)?;
        Some(MockFlow {
            flow: Arc::clone(flow),
            source: Arc::clone(&self.state),
        })
    }

    /// Moves the clock on and applies the scripted changes up to then, in the order of time.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.now += by;
        let now = state.now;
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut state.script)
            .into_iter()
            .partition(|step| step.at <= now);
        state.script = later;
        let flows = state.flows.clone();
        drop(state);
        for flow in flows {
            flow.sample.lock().taken = kernel_time(now);
        }
        // Stable: steps of one time keep the order in which they were written.
        due.sort_by_key(|step| step.at);
        for step in due {
            step.flow.change(|sample| {
                (step.change)(sample);
                sample.updated = Some(kernel_time(step.at));
            });
        }
    }

    /// Changes what [`SignalSource::host`] returns.
    pub fn set_host(&self, change: impl FnOnce(&mut HostSample)) {
        change(&mut self.state.lock().host);
    }

    /// Sends an event to all readers.
    pub fn emit(&self, event: Event) {
        self.events.publish(event);
    }
}

impl Default for MockSource {
    fn default() -> Self {
        Self::new()
    }
}

impl SignalSource for MockSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Mock
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new("script", "whatever the test scripts", None)]
    }

    fn host(&self) -> HostSample {
        let state = self.state.lock();
        HostSample {
            taken: kernel_time(state.now),
            ..state.host
        }
    }

    fn drops_by_reason(&self, flow: Option<FlowId>) -> Vec<DropsByReason> {
        let state = self.state.lock();
        let of_flow = state
            .reasons
            .iter()
            .filter(|((owner, _), _)| *owner == flow);
        of_flow
            .map(|((_, reason), drops)| DropsByReason::new(Arc::clone(reason), *drops))
            .collect()
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        let target = MockTarget::of(&target);
        let mut state = self.state.lock();
        // One reference is the source's own: if it is the only one, the flow was released.
        let known = state
            .flows
            .iter()
            .find(|flow| target.is_some() && flow.target == target && Arc::strong_count(flow) > 1);
        match known {
            Some(flow) => Ok(Watch::new(Arc::clone(flow) as Arc<dyn FlowReader>)),
            None => Ok(self.new_flow(&mut state, target).watch()),
        }
    }

    /// What is sent counts as observed, for the socket's flow and for its peer's.
    fn observe_socket(
        &self,
        socket: WatchTarget<'_>,
    ) -> Result<Option<Arc<dyn SocketObserver>>, WatchError> {
        let Some(target) = MockTarget::of(&socket) else {
            return Ok(None);
        };
        Ok(Some(Arc::new(MockObserver {
            socket: target.socket,
            source: Arc::clone(&self.state),
        })))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Ok(self.events.subscribe())
    }
}

/// Counts what a socket sends.
#[derive(Debug)]
struct MockObserver {
    socket: (u64, u64),
    source: Arc<Mutex<State>>,
}

impl SocketObserver for MockObserver {
    fn on_send(&self, send: SocketSend, outcome: SendOutcome<'_>) -> AfterSend {
        if !matches!(outcome, SendOutcome::Sent) {
            return AfterSend::Done;
        }
        let (packets, bytes) = (send.datagrams() as u64, send.bytes as u64);
        let mut state = self.source.lock();
        let sends = state.host.udp_send.get_or_insert(SendCounters::default());
        sends.bytes += bytes;
        sends.calls += 1;
        for flow in &state.flows {
            if let Some(target) = flow.target
                && target.socket == self.socket
                && target.peer.is_none_or(|peer| peer == send.destination)
            {
                flow.observe_sent(packets, bytes);
            }
        }
        AfterSend::Done
    }

    fn on_receive(&self, _error: Option<&io::Error>) {}
}
