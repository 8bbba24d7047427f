//! What the source, its observers, its readers and its thread share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use super::error_queue::NetworkErrors;
use super::flow::Flow;
use super::kernel;
use super::queues::Queues;
use super::state::{Due, SocketState};
use super::waker::Waker;
use crate::clock;
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::source::FlowReader;

/// What the source, its observers and its readers share.
pub(super) struct Shared {
    pub(super) sockets: Mutex<HashMap<u64, Watched>>,
    /// Those that are observed, to find competing traffic of a socket.
    pub(super) observed: RwLock<Vec<Weak<SocketState>>>,
    /// Where in `observed` the next search begins.
    next: AtomicUsize,
    pub(super) queues: Queues,
    pub(super) network_errors: NetworkErrors,
    pub(super) events: Fanout,
    next_id: AtomicU64,
    /// Of the thread that lists queues, which begins with the first socket. The error says why it
    /// could not.
    pub(super) poller: OnceLock<Result<Waker, String>>,
}

/// Most sockets that are sampled together with one that reports.
const COMPETING: usize = 8;

/// A socket that is watched or observed.
pub(super) struct Watched {
    state: Weak<SocketState>,
    /// What is watched: all of the socket, or one peer of it.
    readers: HashMap<Option<SocketAddr>, Known>,
}

/// A flow that has readers.
struct Known {
    flow: Arc<Flow>,
    reader: Weak<dyn FlowReader>,
}

impl Watched {
    /// The reader of the socket or of one peer, and what it reads, as long as it is held.
    pub(super) fn reader(
        &self,
        peer: Option<SocketAddr>,
    ) -> Option<(Arc<Flow>, Arc<dyn FlowReader>)> {
        let known = self.readers.get(&peer)?;
        Some((Arc::clone(&known.flow), known.reader.upgrade()?))
    }

    /// Enters one.
    pub(super) fn add(
        &mut self,
        peer: Option<SocketAddr>,
        flow: &Arc<Flow>,
        reader: &Arc<dyn FlowReader>,
    ) {
        let known = Known {
            flow: Arc::clone(flow),
            reader: Arc::downgrade(reader),
        };
        self.readers.insert(peer, known);
    }

    /// Forgets a reader that is no longer held; returns whether it did. The flow may be watched
    /// again by now.
    pub(super) fn forget(&mut self, peer: Option<SocketAddr>) -> bool {
        let readers = self.readers.get(&peer);
        let is_gone = readers.is_some_and(|known| known.reader.strong_count() == 0);
        if is_gone {
            self.readers.remove(&peer);
        }
        is_gone
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            sockets: Mutex::default(),
            observed: RwLock::default(),
            next: AtomicUsize::new(0),
            queues: Queues::new(),
            network_errors: NetworkErrors::default(),
            events: Fanout::new(),
            next_id: AtomicU64::new(0),
            poller: OnceLock::new(),
        }
    }

    /// Reads a socket's memory use now.
    pub(super) fn read_memory(&self, state: &SocketState, descriptor: &OwnedFd, due: Due) {
        // In this order: a send that begins in between is seen by the one or the other.
        let begun = state.sends.begun();
        let is_sending = state.sends.any();
        let sequence = state.sequence();
        match kernel::memory(descriptor.as_fd()) {
            Ok(memory)
                if memory.send > 0 && due == Due::Quiet && {
                    is_sending || state.sends.begun() != begun
                } => {}
            Ok(memory) => {
                let now = clock::now();
                if state.on_memory(&memory, sequence, now, &self.queues) {
                    self.wake_poller();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a socket's memory cannot be read");
                state.unreadable(&self.queues);
            }
        }
    }

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
    fn wake_poller(&self) {
        if let Some(Ok(poller)) = self.poller.get() {
            poller.wake();
        }
    }

    pub(super) fn new_flow(&self) -> Arc<Flow> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Arc::new(Flow::new(FlowId::from_u64(id)))
    }

    /// The state of a socket, new or not.
    pub(super) fn state(
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
            readers: HashMap::new(),
        };
        sockets.retain(|_, watched| watched.state.strong_count() > 0);
        sockets.insert(identity.cookie, watched);
        state
    }
}
