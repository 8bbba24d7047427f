//! A socket's flow, and those of its peers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{WatchError, WatchTarget};
use parking_lot::Mutex;

use crate::binding::{Binding, Grain, Peers, Route};
use crate::fallback::Fallback;
use crate::governor::Governed;
use crate::shared::Shared;

/// A source that has refused is asked again after this time: slots become free as peers go.
const RETRY: Duration = Duration::from_secs(1);

/// A peer whose packets the source did not see is asked for again after this time.
const UNSEEN_RETRY: Duration = Duration::from_secs(60);

/// A socket whose connections are governed.
#[derive(Debug)]
pub(crate) struct SocketFlows {
    id: u64,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    whole: Mutex<Whole>,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
}

/// The socket with all that it sends.
#[derive(Debug)]
enum Whole {
    Watched(Arc<Governed>),
    /// Asked again from then on; never, when the source cannot watch this socket.
    Refused(Option<Instant>),
}

/// An address that connections send to.
#[derive(Debug)]
struct Peer {
    connections: u32,
    /// Its own flow, as long as a connection uses it.
    flow: Weak<Governed>,
}

impl SocketFlows {
    pub(crate) fn new(socket: Arc<UdpSocket>, shared: Arc<Shared>, now: Instant) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let flows = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            socket,
            shared,
            whole: Mutex::new(Whole::Refused(Some(now))),
            peers: Mutex::default(),
        };
        flows.whole(now);
        Arc::new(flows)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The flow of all that the socket sends; `None` while the source does not watch it.
    pub(crate) fn whole(&self, now: Instant) -> Option<Arc<Governed>> {
        let mut whole = self.whole.lock();
        match &*whole {
            Whole::Watched(flow) => return Some(Arc::clone(flow)),
            Whole::Refused(Some(retry)) if now >= *retry => {}
            Whole::Refused(_) => return None,
        }
        // All connections of the socket are governed: its backlog is what they share. Their peers
        // are parts of it and do not count again.
        match self
            .shared
            .flow(WatchTarget::socket(&*self.socket).sharing())
        {
            Ok(flow) => {
                *whole = Whole::Watched(Arc::clone(&flow));
                Some(flow)
            }
            Err(error) => {
                *whole = Whole::Refused(is_temporary(&error).then(|| now + RETRY));
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
            let left = route.replace(self.enter(remote));
            if let Some(left) = left {
                left.leave();
            }
        }
        let Some(route) = route.as_mut() else {
            return;
        };
        if route.is_settled(binding) {
            return;
        }
        let now = now();
        if binding.take_unseen() && route.grain == Grain::Peer {
            self.shared
                .note(now, Fallback::PeerNotSeen, &format_args!("{remote}"));
            route.grain = Grain::Socket {
                retry: Some(now + UNSEEN_RETRY),
            };
            route.flow = None;
        }
        if let Grain::Socket { retry } = route.grain
            && binding.is_validated()
            && retry.is_none_or(|retry| now >= retry)
        {
            match self.peer(remote, now) {
                Ok(Some(flow)) => {
                    route.grain = Grain::Peer;
                    route.flow = Some(Arc::clone(&flow));
                    binding.move_to(flow);
                }
                Ok(None) => {}
                Err(error) => {
                    route.grain = Grain::Socket {
                        retry: Some(now + RETRY),
                    };
                    self.shared.note(now, Fallback::PeerNotWatched, &error);
                }
            }
        }
        if route.flow.is_none()
            && let Some(flow) = self.whole(now)
        {
            route.flow = Some(Arc::clone(&flow));
            binding.move_to(flow);
        }
    }

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
            grain: Grain::Socket { retry: None },
        }
    }

    /// The flow of one peer; `None` while the socket has no other, and its own flow says as much.
    fn peer(&self, remote: SocketAddr, now: Instant) -> Result<Option<Arc<Governed>>, WatchError> {
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
        let flow = self.shared.peer(target, self.whole(now))?;
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
