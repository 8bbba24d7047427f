//! A source that knows what the sockets of endpoints report, and nothing else: which flows are
//! watched, and that what was sent was seen.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ebpf_congestion_signals::{
    AfterSend, Capability, DropsByReason, EventStream, EventsError, FlowId, FlowReader, FlowSample,
    HostSample, LocalCongestion, SendOutcome, SignalSource, SocketObserver, SocketSend, SourceKind,
    Watch, WatchError, WatchTarget,
};
use parking_lot::Mutex;

/// A socket is known by its inode, as duplicates of its descriptor are the same socket.
type Key = (u64, Option<SocketAddr>);

#[derive(Debug, Default)]
pub(crate) struct TestSource {
    state: Arc<State>,
    /// Watching fails.
    pub(crate) refuses: AtomicBool,
    /// Peers that can be watched at a time.
    pub(crate) peer_slots: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    flows: Mutex<HashMap<Key, Weak<TestFlow>>>,
    ids: AtomicU64,
}

#[derive(Debug)]
struct TestFlow {
    id: FlowId,
    observed: AtomicU64,
    /// What is sent to this flow is not seen.
    stopped: AtomicBool,
}

impl TestSource {
    pub(crate) fn new(peer_slots: u64) -> Arc<Self> {
        let source = Self::default();
        source.peer_slots.store(peer_slots, Ordering::Relaxed);
        Arc::new(source)
    }

    /// Sockets that are watched whole.
    pub(crate) fn sockets(&self) -> usize {
        self.state.live(|key| key.1.is_none())
    }

    /// Peers that are watched.
    pub(crate) fn peers(&self) -> usize {
        self.state.live(|key| key.1.is_some())
    }

    /// Whether a peer at this port is watched.
    pub(crate) fn watches_peer_at(&self, port: u16) -> bool {
        self.state
            .live(|key| key.1.is_some_and(|peer| peer.port() == port))
            > 0
    }

    /// What is sent to a peer's flow is no longer seen, nor ever again.
    pub(crate) fn lose_sight_of_peers(&self) {
        for (key, flow) in &*self.state.flows.lock() {
            if let (Some(_), Some(flow)) = (key.1, flow.upgrade()) {
                flow.stopped.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl State {
    fn live(&self, which: impl Fn(&Key) -> bool) -> usize {
        let flows = self.flows.lock();
        let live = flows
            .iter()
            .filter(|(key, flow)| which(key) && flow.strong_count() > 0);
        live.count()
    }

    fn saw(&self, key: Key, datagrams: usize) {
        if let Some(flow) = self.flows.lock().get(&key).and_then(Weak::upgrade)
            && !flow.stopped.load(Ordering::Relaxed)
        {
            flow.observed.fetch_add(datagrams as u64, Ordering::Relaxed);
        }
    }
}

impl SignalSource for TestSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Mock
    }

    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn host(&self) -> HostSample {
        HostSample::default()
    }

    fn drops_by_reason(&self, _flow: Option<FlowId>) -> Vec<DropsByReason> {
        Vec::new()
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(WatchError::NotBound);
        }
        let key = (inode(&target), target.peer_address());
        let slots = self.peer_slots.load(Ordering::Relaxed);
        let full = self.peers() as u64 >= slots;
        let mut flows = self.state.flows.lock();
        if let Some(flow) = flows.get(&key).and_then(Weak::upgrade) {
            return Ok(Watch::new(flow));
        }
        if key.1.is_some() && full {
            let slots = u32::try_from(slots).unwrap();
            return Err(WatchError::NoSlot { slots });
        }
        let flow = Arc::new(TestFlow {
            id: FlowId::from_u64(self.state.ids.fetch_add(1, Ordering::Relaxed)),
            observed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        flows.insert(key, Arc::downgrade(&flow));
        Ok(Watch::new(flow))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Err(EventsError::NoRuntime)
    }

    fn observe_socket(
        &self,
        socket: WatchTarget<'_>,
    ) -> Result<Option<Arc<dyn SocketObserver>>, WatchError> {
        Ok(Some(Arc::new(Observer {
            socket: inode(&socket),
            state: Arc::clone(&self.state),
        })))
    }
}

impl FlowReader for TestFlow {
    fn id(&self) -> FlowId {
        self.id
    }

    fn congestion(&self) -> LocalCongestion {
        LocalCongestion::new(true).with_observed(self.observed.load(Ordering::Relaxed))
    }

    fn sample(&self) -> FlowSample {
        let mut sample = FlowSample::empty(SourceKind::Mock);
        sample.congestion = self.congestion();
        sample
    }
}

#[derive(Debug)]
struct Observer {
    socket: u64,
    state: Arc<State>,
}

impl SocketObserver for Observer {
    fn on_send(&self, send: SocketSend, outcome: SendOutcome<'_>) -> AfterSend {
        if let SendOutcome::Sent = outcome {
            let destination = Some(send.destination);
            self.state.saw((self.socket, None), send.datagrams());
            self.state.saw((self.socket, destination), send.datagrams());
        }
        AfterSend::Done
    }

    fn on_receive(&self, _error: Option<&io::Error>) {}
}

fn inode(target: &WatchTarget<'_>) -> u64 {
    let link = format!("/proc/self/fd/{}", target.fd().as_raw_fd());
    let name = std::fs::read_link(link).unwrap();
    let name = name.to_string_lossy();
    let number = name.trim_start_matches("socket:[").trim_end_matches(']');
    number.parse().unwrap()
}
