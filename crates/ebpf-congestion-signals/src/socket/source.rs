//! The source of signals for programs without privilege.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::books::canonical;
use super::error_queue::NetworkError;
use super::flow::Flow;
use super::kernel;
use super::netlink::Netlink;
use super::observer::{Observer, QUEUE_FULL, RULE};
use super::reader::Reader;
use super::shared::Shared;
use super::{capabilities, host, poller};
use crate::error::{EventsError, WatchError};
use crate::event::EventStream;
use crate::flow_id::FlowId;
use crate::observer::SocketObserver;
use crate::sample::{DropsByReason, HostSample, SourceKind};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};

/// Signals from the state of the program's own sockets: no privilege, no probes.
///
/// A flow is live while the code that sends on its socket reports to an observer
/// ([`SignalSource::observe_socket`]) what the kernel accepted and refused. With these reports the
/// source reads the socket's memory use, at most once in 200 µs for each socket and only after
/// something was sent, so that a reader makes no system call.
///
/// What it cannot know is listed in [`capabilities`](SignalSource::capabilities): drops inside a
/// queue, drop reasons, the backlog of other programs below a classful queue discipline.
#[derive(Clone)]
pub struct SocketSource {
    shared: Arc<Shared>,
}

impl SocketSource {
    /// A source, if this kernel reports what it needs (Linux 4.12), which is tried on a new socket.
    /// The error says what is missing.
    pub fn probe() -> Result<Self, WatchError> {
        let failed = |operation| move |source| WatchError::Socket { operation, source };
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
            .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
            .map_err(failed("bind"))?;
        kernel::memory(socket.as_fd()).map_err(failed("SO_MEMINFO"))?;
        kernel::report_errors(socket.as_fd(), false)?;
        Ok(Self::new())
    }

    /// A source, without checking what this kernel reports.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
        }
    }

    /// ICMP errors of this kind for datagrams of all observed sockets. Counter. None of them fails
    /// a socket.
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
        let (flow, reader) = watched.reader(peer).unwrap_or_else(|| {
            let flow = match peer {
                None => Arc::clone(&state.flow),
                Some(peer) => {
                    let flow = self.shared.new_flow();
                    state.add_peer(peer, &flow);
                    flow
                }
            };
            let reader: Arc<dyn FlowReader> = Arc::new(Reader {
                shared: Arc::clone(&self.shared),
                state: Arc::clone(&state),
                flow: Arc::clone(&flow),
                peer,
            });
            watched.add(peer, &flow, &reader);
            (flow, reader)
        });
        drop(sockets);
        if target.is_sharing() {
            state.share(&flow, &self.shared.queues);
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
        start_poller(&self.shared);
        let shared = Arc::clone(&self.shared);
        Ok(Some(Arc::new(Observer::new(shared, state, descriptor))))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Ok(self.shared.events.subscribe())
    }
}

/// Begins the thread that lists queues, once.
fn start_poller(shared: &Arc<Shared>) {
    shared.poller.get_or_init(|| {
        let started =
            Netlink::open().and_then(|netlink| poller::start(Arc::downgrade(shared), netlink));
        started.map_err(|error| {
            tracing::debug!(%error, "queues cannot be listed: others' backlog is unknown");
            error.to_string()
        })
    });
}
