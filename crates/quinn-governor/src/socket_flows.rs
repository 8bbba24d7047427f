//! Chooses the flow whose signals a connection uses: its socket's, or its peer's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{WatchError, WatchTarget};
use parking_lot::Mutex;

use crate::binding::{Binding, FlowScope, Peers, Route};
use crate::fallback::Fallback;
use crate::flow::WatchedFlow;
use crate::shared::Shared;

/// After a refusal, the source is asked again after this time: slots become free as peers go.
const RETRY: Duration = Duration::from_secs(1);

/// A peer whose packets the source did not observe is watched again after this time.
const NOT_OBSERVED_RETRY: Duration = Duration::from_secs(60);

/// A socket whose connections are governed.
#[derive(Debug)]
pub(crate) struct SocketFlows {
    id: u64,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    flow: Mutex<SocketFlow>,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
}

/// The flow of the whole socket.
#[derive(Debug)]
enum SocketFlow {
    Watched(Arc<WatchedFlow>),
    /// Refused by the source, which is asked again at this time; never, when it cannot watch this
    /// socket.
    Refused(Option<Instant>),
}

/// An address that connections send to.
#[derive(Debug)]
struct Peer {
    connections: u32,
    /// Its own flow, as long as a connection uses it.
    flow: Weak<WatchedFlow>,
}

impl SocketFlows {
    pub(crate) fn new(socket: Arc<UdpSocket>, shared: Arc<Shared>, now: Instant) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let flows = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            socket,
            shared,
            flow: Mutex::new(SocketFlow::Refused(Some(now))),
            peers: Mutex::default(),
        };
        flows.socket_flow(now);
        Arc::new(flows)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The flow of all that the socket sends; `None` while the source does not watch it.
    pub(crate) fn socket_flow(&self, now: Instant) -> Option<Arc<WatchedFlow>> {
        let mut known = self.flow.lock();
        match &*known {
            SocketFlow::Watched(flow) => return Some(Arc::clone(flow)),
            SocketFlow::Refused(Some(retry)) if now >= *retry => {}
            SocketFlow::Refused(_) => return None,
        }
        // All connections of the socket are governed, so its backlog counts as shared. Flows of its
        // peers are parts of it and do not count again.
        match self
            .shared
            .flow(WatchTarget::socket(&*self.socket).sharing())
        {
            Ok(flow) => {
                *known = SocketFlow::Watched(Arc::clone(&flow));
                Some(flow)
            }
            Err(error) => {
                *known = SocketFlow::Refused(is_temporary(&error).then(|| now + RETRY));
                self.shared.note(now, Fallback::SocketNotWatched, &error);
                None
            }
        }
    }

    /// Datagrams of a connection go to `remote` by this socket.
    pub(crate) fn on_send(
        self: &Arc<Self>,
        binding: &Binding,
        remote: SocketAddr,
        now: impl FnOnce() -> Instant,
    ) {
        self.shared.announce();
        let mut route = binding.route.lock();
        let known = route
            .as_ref()
            .is_some_and(|route| route.socket_id == self.id && route.remote == remote);
        if !known {
            let before = route.replace(self.enter(remote));
            if let Some(before) = before {
                before.leave();
            }
        }
        let Some(route) = route.as_mut() else {
            return;
        };
        if route.is_settled(binding) {
            return;
        }
        let now = now();
        if binding.take_not_observed() && route.scope == FlowScope::Peer {
            self.shared
                .note(now, Fallback::PeerNotSeen, &format_args!("{remote}"));
            route.scope = FlowScope::Socket {
                retry: Some(now + NOT_OBSERVED_RETRY),
            };
            route.flow = None;
        }
        if let FlowScope::Socket { retry } = route.scope
            && binding.is_validated()
            && retry.is_none_or(|retry| now >= retry)
        {
            match self.peer_flow(remote, now) {
                Ok(Some(flow)) => {
                    route.scope = FlowScope::Peer;
                    route.flow = Some(Arc::clone(&flow));
                    binding.set_flow(flow);
                }
                Ok(None) => {}
                Err(error) => {
                    route.scope = FlowScope::Socket {
                        retry: Some(now + RETRY),
                    };
                    self.shared.note(now, Fallback::PeerNotWatched, &error);
                }
            }
        }
        if route.flow.is_none()
            && let Some(flow) = self.socket_flow(now)
        {
            route.flow = Some(Arc::clone(&flow));
            binding.set_flow(flow);
        }
    }

    /// One more connection sends to `remote`.
    fn enter(self: &Arc<Self>, remote: SocketAddr) -> Route {
        let mut peers = self.peers.lock();
        let peer = peers.entry(remote).or_insert_with(|| Peer {
            connections: 0,
            flow: Weak::new(),
        });
        peer.connections += 1;
        Route {
            socket: Arc::downgrade(&(Arc::clone(self) as Arc<dyn Peers>)),
            socket_id: self.id,
            remote,
            flow: None,
            scope: FlowScope::Socket { retry: None },
        }
    }

    /// The flow of one peer; `None` while the socket has no other peer: then the socket's flow has
    /// the same packets.
    fn peer_flow(
        &self,
        remote: SocketAddr,
        now: Instant,
    ) -> Result<Option<Arc<WatchedFlow>>, WatchError> {
        let mut peers = self.peers.lock();
        if peers.len() < 2 {
            return Ok(None);
        }
        let Some(peer) = peers.get_mut(&remote) else {
            return Ok(None);
        };
        if let Some(flow) = peer.flow.upgrade() {
            return Ok(Some(flow));
        }
        let target = WatchTarget::socket(&*self.socket).peer(remote);
        let flow = self.shared.peer(target, self.socket_flow(now))?;
        peer.flow = Arc::downgrade(&flow);
        Ok(Some(flow))
    }
}

impl Peers for SocketFlows {
    fn leave(&self, remote: SocketAddr) {
        let mut peers = self.peers.lock();
        if let Entry::Occupied(mut peer) = peers.entry(remote) {
            peer.get_mut().connections -= 1;
            if peer.get().connections == 0 {
                peer.remove();
            }
        }
    }
}

/// Whether the same call may succeed later.
fn is_temporary(error: &WatchError) -> bool {
    matches!(error, WatchError::NoSlot { .. } | WatchError::Map { .. })
}
