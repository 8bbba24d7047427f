//! The source of signals for programs without privilege.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use super::books::canonical;
use super::error_queue::{NetworkError, NetworkErrors};
use super::flow::Flow;
use super::kernel;
use super::netlink::Netlink;
use super::observer::{Observer, QUEUE_FULL, RULE};
use super::poller::Poller;
use super::queues::Queues;
use super::state::SocketState;
use super::{capabilities, host};
use crate::error::{EventsError, WatchError};
use crate::event::EventStream;
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::observer::SocketObserver;
use crate::sample::{
    Direction, DropClass, DropTable, DropsByReason, FlowSample, HostSample, LocalCongestion,
    PressureSample, QueueId, QueueSample, SendCounters, SourceKind,
};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};

/// Signals from what a program may know of its own sockets: no privilege, no probes.
///
/// A flow is live while the code that sends on its socket reports to an observer
/// ([`SignalSource::observe_socket`]): what the kernel took, and what it refused. Between these
/// reports the source reads the socket's memory use, at most once in 200 us a socket and only while
/// something was sent, so that a reader only loads what is known.
///
/// What it cannot know is in [`capabilities`](SignalSource::capabilities): drops inside a queue,
/// why a packet was dropped, what other programs have in a queue of several.
#[derive(Clone)]
pub struct SocketSource {
    shared: Arc<Shared>,
}

/// What the source, its observers and its readers share.
pub(super) struct Shared {
    sockets: Mutex<HashMap<u64, Watched>>,
    /// Those that are observed, to find competing traffic of a socket.
    observed: RwLock<Vec<Weak<SocketState>>>,
    /// Where in `observed` the next search begins.
    next: AtomicUsize,
    pub(super) queues: Queues,
    pub(super) network_errors: NetworkErrors,
    pub(super) events: Fanout,
    next_id: AtomicU64,
    /// Begun with the first socket. The error says why it could not be.
    poller: OnceLock<Result<Poller, String>>,
}

/// Sockets that are looked at together with one that reports, at most.
const COMPETING: usize = 8;

/// A socket that somebody watches or observes.
struct Watched {
    state: Weak<SocketState>,
    reader: Weak<Reader>,
    peers: HashMap<SocketAddr, Weak<Reader>>,
}

impl SocketSource {
    /// A source, where this kernel reports what it needs (Linux 4.12): a socket is made and read to
    /// find out. The error says what is missing.
    pub fn probe() -> Result<Self, WatchError> {
        let failed = |operation| move |source| WatchError::Socket { operation, source };
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
            .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
            .map_err(failed("bind"))?;
        kernel::memory(socket.as_fd()).map_err(failed("SO_MEMINFO"))?;
        kernel::report_errors(socket.as_fd(), false)?;
        Ok(Self::new())
    }

    /// A source. Nothing is asked of the kernel before the first socket.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                sockets: Mutex::default(),
                observed: RwLock::default(),
                next: AtomicUsize::new(0),
                queues: Queues::new(),
                network_errors: NetworkErrors::default(),
                events: Fanout::new(),
                next_id: AtomicU64::new(0),
                poller: OnceLock::new(),
            }),
        }
    }

    /// How many errors of this kind the network reported of all observed sockets' datagrams.
    /// Counter. None of them fails a socket.
    pub fn network_errors(&self, kind: NetworkError) -> u64 {
        self.shared.network_errors.get(kind)
    }
}

impl Default for SocketSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SocketSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketSource")
            .field("sockets", &self.shared.sockets.lock().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The sockets of which this is true.
    pub(super) fn sockets(&self, which: impl Fn(&SocketState) -> bool) -> Vec<Arc<SocketState>> {
        let sockets = self.sockets.lock();
        let states = sockets.values().filter_map(|socket| socket.state.upgrade());
        states.filter(|state| which(state)).collect()
    }

    /// Some of the observed sockets that wait in the same queue as this one, others at each call.
    pub(super) fn competing(&self, of: &SocketState) -> impl Iterator<Item = Arc<SocketState>> {
        let observed = self.observed.read();
        let count = observed.len();
        let first = self.next.fetch_add(COMPETING, Ordering::Relaxed);
        let competing: [Option<Arc<SocketState>>; COMPETING] = std::array::from_fn(|place| {
            // Each once, this one not.
            let index = (place < count).then(|| first.wrapping_add(place) % count)?;
            let state = observed[index].upgrade()?;
            (state.queue() == of.queue() && !std::ptr::eq(&*state, of)).then_some(state)
        });
        competing.into_iter().flatten()
    }

    /// A socket waits: its queue is to be listed.
    pub(super) fn wake_poller(&self) {
        if let Some(Ok(poller)) = self.poller.get() {
            poller.wake();
        }
    }

    fn start_poller(self: &Arc<Self>) {
        self.poller.get_or_init(|| {
            let started =
                Netlink::open().and_then(|netlink| Poller::start(Arc::downgrade(self), netlink));
            started.map_err(|error| {
                tracing::debug!(%error, "queues cannot be looked at: others' backlog is unknown");
                error.to_string()
            })
        });
    }

    fn new_flow(&self) -> Arc<Flow> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Arc::new(Flow::new(FlowId::from_u64(id)))
    }

    /// The state of a socket, new or not.
    fn state(
        &self,
        sockets: &mut HashMap<u64, Watched>,
        identity: kernel::Identity,
    ) -> Arc<SocketState> {
        if let Some(state) = sockets
            .get(&identity.cookie)
            .and_then(|watched| watched.state.upgrade())
        {
            return state;
        }
        let state = Arc::new(SocketState::new(identity, self.new_flow()));
        let watched = Watched {
            state: Arc::downgrade(&state),
            reader: Weak::new(),
            peers: HashMap::new(),
        };
        sockets.retain(|_, watched| watched.state.strong_count() > 0);
        sockets.insert(identity.cookie, watched);
        state
    }
}

impl SignalSource for SocketSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Socket
    }

    fn capabilities(&self) -> Vec<Capability> {
        let queues = match self.shared.poller.get() {
            Some(Err(why)) => Some(why.clone()),
            _ => None,
        };
        capabilities::list(queues)
    }

    fn host(&self) -> HostSample {
        host::sample()
    }

    fn drops_by_reason(&self, flow: Option<FlowId>) -> Vec<DropsByReason> {
        let mut sums = [(QUEUE_FULL, Default::default()), (RULE, Default::default())];
        let mut add = |flow: &Flow| {
            for ((_, sum), more) in sums
                .iter_mut()
                .zip([flow.queue_full.get(), flow.policy.get()])
            {
                *sum = crate::sample::sum(*sum, more);
            }
        };
        for state in self.shared.sockets(|_| true) {
            match flow {
                None => add(&state.flow),
                Some(id) => state.each_flow(|flow| {
                    if flow.id == id {
                        add(flow);
                    }
                }),
            }
        }
        sums.into_iter()
            .filter(|(_, drops)| drops.packets > 0)
            .map(|(reason, drops)| DropsByReason::new(reason, drops))
            .collect()
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        let identity = kernel::identify(target.fd())?;
        let peer = target.peer_address().map(canonical);
        let mut sockets = self.shared.sockets.lock();
        let state = self.shared.state(&mut sockets, identity);
        let Some(watched) = sockets.get_mut(&identity.cookie) else {
            unreachable!("it was just entered");
        };
        let known = match peer {
            None => watched.reader.upgrade(),
            Some(peer) => watched.peers.get(&peer).and_then(Weak::upgrade),
        };
        let reader = known.unwrap_or_else(|| {
            let flow = match peer {
                None => Arc::clone(&state.flow),
                Some(_) => self.shared.new_flow(),
            };
            let reader = Arc::new(Reader {
                shared: Arc::clone(&self.shared),
                state: Arc::clone(&state),
                flow,
                peer,
            });
            match peer {
                None => watched.reader = Arc::downgrade(&reader),
                Some(peer) => {
                    state.add_peer(peer, &reader.flow);
                    watched.peers.insert(peer, Arc::downgrade(&reader));
                }
            }
            reader
        });
        drop(sockets);
        if target.is_sharing() {
            state.share(&reader.flow, &self.shared.queues);
        }
        Ok(Watch::new(reader))
    }

    fn observe_socket(
        &self,
        socket: WatchTarget<'_>,
    ) -> Result<Option<Arc<dyn SocketObserver>>, WatchError> {
        let failed = |operation| move |source| WatchError::Socket { operation, source };
        let identity = kernel::identify(socket.fd())?;
        let memory = kernel::memory(socket.fd()).map_err(failed("SO_MEMINFO"))?;
        let descriptor = socket.fd().try_clone_to_owned().map_err(failed("dup"))?;
        kernel::report_errors(descriptor.as_fd(), identity.is_ipv6)?;
        let descriptor = Arc::new(descriptor);
        let state = self.shared.state(&mut self.shared.sockets.lock(), identity);
        state.observe(&descriptor, &memory);
        let mut observed = self.shared.observed.write();
        observed.retain(|other| other.upgrade().is_some_and(|other| other.is_observed()));
        if !observed
            .iter()
            .any(|other| std::ptr::eq(other.as_ptr(), &*state))
        {
            observed.push(Arc::downgrade(&state));
        }
        drop(observed);
        self.shared.start_poller();
        let shared = Arc::clone(&self.shared);
        Ok(Some(Arc::new(Observer::new(shared, state, descriptor))))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Ok(self.shared.events.subscribe())
    }
}

/// Reads a flow.
struct Reader {
    shared: Arc<Shared>,
    state: Arc<SocketState>,
    flow: Arc<Flow>,
    peer: Option<SocketAddr>,
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
        let now = self.state.looked().unwrap_or_default();
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
            taken: self.state.looked(),
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
            taken: kernel::now(),
            updated: self.state.looked(),
            congestion: self.congestion(),
            sent_bytes: Some(bytes),
            sent_packets: Some(packets),
            send: self.peer.is_none().then_some(SendCounters {
                bytes,
                calls,
                estimated: 0,
            }),
            queue: self.shared.queues.get(self.state.queue()).state(),
            buffers: self.state.looked().map(|_| self.state.buffers()),
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
        let Some(peer) = self.peer else { return };
        let mut sockets = self.shared.sockets.lock();
        let Some(watched) = sockets.get_mut(&self.state.identity.cookie) else {
            return;
        };
        // Somebody may watch the peer again already.
        if watched
            .peers
            .get(&peer)
            .is_some_and(|reader| reader.strong_count() == 0)
        {
            watched.peers.remove(&peer);
            self.state.remove_peer(peer, &self.shared.queues);
        }
    }
}
