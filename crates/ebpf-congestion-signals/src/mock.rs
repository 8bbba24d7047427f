//! A source that reports what a test scripts.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{EventsError, WatchError};
use crate::event::{Event, EventStream};
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::observer::{AfterSend, SendOutcome, SocketObserver, SocketSend};
use crate::sample::{
    Direction, DropClass, DropCounters, DropTable, DropsByReason, FlowSample, HostSample,
    KernelTime, LocalCongestion, QueueSample, SendCounters, SourceKind,
};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};
use crate::version::{Change, Version};

/// A source that reports what a test scripts, on its own clock: changes are made at once, or at a time
/// of that clock, through a [`MockFlow`]. Only the test moves the clock ([`advance`](Self::advance)).
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

#[derive(Debug, Default)]
struct State {
    now: Duration,
    host: HostSample,
    flows: Vec<Arc<MockState>>,
    script: Vec<Step>,
    reasons: HashMap<(Option<FlowId>, Arc<str>), DropCounters>,
}

/// A change of a flow's sample at a time.
struct Step {
    at: Duration,
    flow: Arc<MockState>,
    change: Box<dyn FnOnce(&mut FlowSample) + Send>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
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

    /// The flow behind a [`Watch`] of this source, for a test in which the code under test watches a
    /// real socket.
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

fn kernel_time(time: Duration) -> KernelTime {
    KernelTime::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
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

/// The socket, and the peer if any, of a watched flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MockTarget {
    /// Device and inode, which all descriptors of a socket share.
    socket: (u64, u64),
    peer: Option<SocketAddr>,
}

impl MockTarget {
    /// `None` on systems whose sockets have no inode.
    #[cfg(unix)]
    fn of(target: &WatchTarget<'_>) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        let socket = target.fd().try_clone_to_owned().ok()?;
        let socket = std::fs::File::from(socket).metadata().ok()?;
        Some(Self {
            socket: (socket.dev(), socket.ino()),
            peer: target.peer_address(),
        })
    }

    #[cfg(not(unix))]
    fn of(_target: &WatchTarget<'_>) -> Option<Self> {
        None
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

#[derive(Debug)]
struct MockState {
    id: FlowId,
    /// `None` for a flow without a socket.
    target: Option<MockTarget>,
    sample: Mutex<FlowSample>,
    /// Raised by every change but that of observed packets and of backlog.
    of_flow: AtomicU32,
    /// Raised by each change.
    changes: AtomicU64,
}

impl MockState {
    fn new(id: FlowId, target: Option<MockTarget>, sample: FlowSample) -> Self {
        Self {
            id,
            target,
            sample: Mutex::new(sample),
            of_flow: AtomicU32::new(0),
            changes: AtomicU64::new(0),
        }
    }

    fn change(&self, change: impl FnOnce(&mut FlowSample)) {
        let mut sample = self.sample.lock();
        let before = sample.congestion;
        change(&mut sample);
        let after = &sample.congestion;
        if before == *after {
            return;
        }
        let rest = |of: &LocalCongestion| {
            let queue = of.queue.map(|queue| queue.id);
            (of.live, queue, of.queue_drops, of.policy_drops)
        };
        if rest(&before) != rest(after) {
            self.of_flow.fetch_add(1, Ordering::Release);
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn version(&self) -> Version {
        let of_flow = self.of_flow.load(Ordering::Acquire);
        Version::in_queue(of_flow, self.changes.load(Ordering::Acquire), 0, 0)
    }

    fn observe_sent(&self, packets: u64, bytes: u64) {
        self.change(|sample| {
            *sample.congestion.observed_packets.get_or_insert_default() += packets;
            *sample.sent_packets.get_or_insert_default() += packets;
            *sample.sent_bytes.get_or_insert_default() += bytes;
        });
    }
}

impl FlowReader for MockState {
    fn id(&self) -> FlowId {
        self.id
    }

    fn congestion(&self) -> LocalCongestion {
        self.sample.lock().congestion
    }

    fn sample(&self) -> FlowSample {
        *self.sample.lock()
    }

    fn versioned(&self) -> (LocalCongestion, Version) {
        let version = self.version();
        (self.congestion(), version)
    }

    fn change_since(&self, version: &Version) -> Change {
        let now = self.version();
        if now == *version {
            Change::Nothing
        } else if now.of_flow() == version.of_flow() {
            Change::Traffic
        } else {
            Change::Any
        }
    }
}

/// The test's handle of a mocked flow.
#[derive(Clone, Debug)]
pub struct MockFlow {
    flow: Arc<MockState>,
    source: Arc<Mutex<State>>,
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

    /// Counts egress packets as observed: without this, a governor that sends takes the source's signals
    /// for stale. A socket that reports to the source ([`SignalSource::observe_socket`]) does this
    /// itself.
    pub fn observe_sent(&self, packets: u64, bytes: u64) {
        self.flow.observe_sent(packets, bytes);
    }

    /// Counts packets as dropped, for this flow and for the host. Egress drops of a full queue count as
    /// congestion, those of a firewall as policy drops.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_applied_in_the_order_of_time() {
        let source = MockSource::new();
        let flow = source.add_flow();
        flow.at(Duration::from_millis(2), |sample| {
            sample.sent_packets = sample.sent_packets.map(|sent| sent * 10);
        });
        flow.at(Duration::from_millis(1), |sample| {
            sample.sent_packets = sample.sent_packets.map(|sent| sent + 1);
        });
        source.advance(Duration::from_millis(3));
        let sample = flow.watch().sample();
        assert_eq!(sample.sent_packets, Some(10));
        assert_eq!(sample.updated, Some(KernelTime::from_nanos(2_000_000)));
    }

    #[test]
    fn drops_count_for_the_flow_its_reason_and_the_host() {
        let source = MockSource::new();
        let (ours, other) = (source.add_flow(), source.add_flow());
        let three = DropCounters {
            skbs: 1,
            packets: 3,
            bytes: 3600,
        };
        ours.drop_packets(Direction::Egress, DropClass::QueueFull, "QDISC_DROP", three);

        assert_eq!(ours.watch().congestion().queue_drops, Some(3));
        assert_eq!(other.watch().congestion().queue_drops, Some(0));
        assert_eq!(source.host().drops.map(|drops| drops.total()), Some(three));
        let reasons = source.drops_by_reason(Some(ours.watch().id()));
        assert_eq!(reasons, [DropsByReason::new("QDISC_DROP", three)]);
    }

    #[test]
    fn what_a_firewall_drops_at_egress_was_seen() {
        let source = MockSource::new();
        let flow = source.add_flow();
        let three = DropCounters {
            skbs: 1,
            packets: 3,
            bytes: 3600,
        };
        flow.observe_sent(5, 6000);
        for direction in [Direction::Egress, Direction::Ingress] {
            flow.drop_packets(direction, DropClass::Policy, "NETFILTER_DROP", three);
        }
        let congestion = flow.watch().congestion();
        assert_eq!(
            (congestion.queue_drops, congestion.policy_drops),
            (Some(0), Some(3))
        );
        assert_eq!(
            (congestion.observed_packets, congestion.seen_packets()),
            (Some(5), Some(8))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_one_flow_however_often_it_is_watched_and_so_is_each_peer_of_it() {
        let source = MockSource::new();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let again = socket.try_clone().unwrap();
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let watch = |target: WatchTarget<'_>| source.watch(target).unwrap();
        let whole = watch(WatchTarget::socket(&socket));
        let peer = watch(WatchTarget::socket(&socket).peer(one));
        assert_eq!(watch(WatchTarget::socket(&again)).id(), whole.id());
        assert_eq!(watch(WatchTarget::socket(&again).peer(one)).id(), peer.id());
        assert_ne!(peer.id(), whole.id());
        assert_ne!(
            watch(WatchTarget::socket(&socket).peer(other)).id(),
            peer.id()
        );

        let observer = source.observe_socket(WatchTarget::socket(&again));
        let observer = observer.unwrap().unwrap();
        for destination in [one, other] {
            let send = SocketSend {
                destination,
                bytes: 2_500,
                segment: Some(1_200),
            };
            let _ = observer.on_send(send, SendOutcome::Sent);
            let _ = observer.on_send(send, SendOutcome::WouldBlock);
        }
        assert_eq!(whole.congestion().observed_packets, Some(6));
        assert_eq!(peer.congestion().observed_packets, Some(3));

        let id = peer.id();
        drop(peer);
        assert_ne!(watch(WatchTarget::socket(&socket).peer(one)).id(), id);
    }
}
