//! Ties a connection's controller to the socket and the peer that it sends to.
//!
//! quinn passes no address to a factory of controllers, and a connection can change its socket
//! (`Endpoint::rebind`) and its peer's address (migration) without telling its controller. But
//! quinn sends what it has built at once: on one thread, [`Controller::on_sent`] is followed by
//! the socket's `poll_writable` and `try_send`, with no other connection in between. So the
//! controller leaves its [`Binding`] in a thread-local variable, and the socket takes it together
//! with the datagrams, whose destination it knows. When the socket cannot send now, it clears the
//! variable: the datagrams are sent later, without a binding.
//!
//! [`Controller::on_sent`]: quinn_proto::congestion::Controller::on_sent

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::flow::WatchedFlow;

thread_local! {
    /// Of the controller whose datagrams this thread is about to send.
    static SENDING: RefCell<Option<Arc<Binding>>> = const { RefCell::new(None) };
}

/// Shared by a controller and its socket.
#[derive(Debug, Default)]
pub(crate) struct Binding {
    /// Set after `new_flow`: the controller's only load while nothing changes.
    has_new_flow: AtomicBool,
    /// The flow whose signals the controller is to use from now on.
    new_flow: Mutex<Option<Arc<WatchedFlow>>>,
    /// The peer's address is validated: it acknowledged a first window.
    validated: AtomicBool,
    /// The controller found that the source does not observe what is sent to this peer.
    not_observed: AtomicBool,
    /// Where its datagrams were sent last. Only used while they are sent, and at the end.
    pub(crate) route: Mutex<Option<Route>>,
}

/// The peers of a socket, which counts the connections that send to each.
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    /// A connection no longer sends to `remote`.
    fn leave(&self, remote: SocketAddr);
}

/// A socket and a peer of it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) socket: Weak<dyn Peers>,
    pub(crate) socket_id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) flow: Option<Arc<WatchedFlow>>,
    pub(crate) scope: FlowScope,
}

/// Which flow's signals a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowScope {
    /// The socket's. The source is asked for a flow of the peer at `retry`, or at once.
    Socket { retry: Option<Instant> },
    /// The peer's.
    Peer,
}

impl Binding {
    /// The controller's datagrams are sent next by this thread.
    pub(crate) fn set_sending(self: &Arc<Self>) {
        let binding = Some(Arc::clone(self));
        // The binding before was never sent through a socket of ours. It is dropped after the borrow.
        let _unused = SENDING.with(|sending| sending.replace(binding));
    }

    /// The binding of the datagrams that this thread sends now, if a controller left one.
    pub(crate) fn take_sending() -> Option<Arc<Self>> {
        SENDING.with(RefCell::take)
    }

    /// The flow to change to, if the socket has chosen another since the last call.
    #[inline]
    pub(crate) fn take_new_flow(&self) -> Option<Arc<WatchedFlow>> {
        if self.has_new_flow.load(Ordering::Relaxed) {
            self.take_new_flow_locked()
        } else {
            None
        }
    }

    #[cold]
    fn take_new_flow_locked(&self) -> Option<Arc<WatchedFlow>> {
        let mut new_flow = self.new_flow.lock();
        self.has_new_flow.store(false, Ordering::Relaxed);
        new_flow.take()
    }

    pub(crate) fn set_flow(&self, flow: Arc<WatchedFlow>) {
        let mut new_flow = self.new_flow.lock();
        *new_flow = Some(flow);
        self.has_new_flow.store(true, Ordering::Relaxed);
    }

    /// The peer's address is validated: it may have a flow of its own.
    pub(crate) fn set_validated(&self) {
        self.validated.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_validated(&self) -> bool {
        self.validated.load(Ordering::Relaxed)
    }

    /// The source does not observe what is sent to this peer.
    pub(crate) fn set_not_observed(&self) {
        self.not_observed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_not_observed(&self) -> bool {
        self.not_observed.load(Ordering::Relaxed)
            && self.not_observed.swap(false, Ordering::Relaxed)
    }

    /// The flow whose signals the connection uses since its last send.
    pub(crate) fn flow(&self) -> Option<Arc<WatchedFlow>> {
        self.route.lock().as_ref()?.flow.clone()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        if let Some(route) = self.route.get_mut().take() {
            route.leave();
        }
    }
}

impl Route {
    /// Whether the connection uses the best flow there is already.
    pub(crate) fn is_settled(&self, binding: &Binding) -> bool {
        let wants_peer_flow = match self.scope {
            FlowScope::Socket { .. } => binding.is_validated(),
            FlowScope::Peer => false,
        };
        self.flow.is_some() && !wants_peer_flow && !binding.not_observed.load(Ordering::Relaxed)
    }

    /// The connection no longer sends here.
    pub(crate) fn leave(self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.leave(self.remote);
        }
    }
}
