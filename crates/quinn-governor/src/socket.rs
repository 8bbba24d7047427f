//! The socket under a governed endpoint.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{SendOutcome, SocketObserver, SocketSend, WatchTarget};
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};

use crate::binding::Binding;
use crate::poller::{Poller, on_full_buffer};
use crate::shared::Shared;
use crate::socket_flows::SocketFlows;

/// A UDP socket for quinn. It knows the destination of each datagram and the kernel's answer, and
/// reports them to the governed connections.
///
/// It sends through quinn-udp (GSO, ECN) and leaves waiting and receiving (GRO, ECN) to the socket
/// that the endpoint's runtime makes: with connections that are not governed it does what that
/// socket does. [`Governors::wrap_socket`](crate::Governors::wrap_socket) makes one, to be passed
/// to `quinn::Endpoint::new_with_abstract_socket`; with
/// [`Governors::runtime`](crate::Governors::runtime), an endpoint makes its own.
pub struct GovernedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// A second handle of the socket, used for sending.
    io: Arc<UdpSocket>,
    state: UdpSocketState,
    runtime: Arc<dyn Runtime>,
    flows: Arc<SocketFlows>,
    /// Of a source that learns from what the socket sends and receives.
    observer: Option<Arc<dyn SocketObserver>>,
    logged: Mutex<Option<Instant>>,
}

/// Failed sends are logged at most once in this time, as quinn-udp does.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// So many errors in a row that are no datagram's are skipped before the task is scheduled anew.
const RECEIVE_ERRORS: u32 = 64;

impl GovernedSocket {
    /// Over a bound socket, of which `inner` has a second handle.
    pub(crate) fn new(
        io: Arc<UdpSocket>,
        inner: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&*io).into())?;
        let observer = observer(&io, shared);
        let flows = SocketFlows::new(Arc::clone(&io), Arc::clone(shared), runtime.now());
        Ok(Self {
            inner,
            io,
            state,
            runtime,
            flows,
            observer,
            logged: Mutex::new(None),
        })
    }

    /// One send call, and a second one where the first returned the error of an earlier datagram.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let attempt = || self.state.try_send((&*self.io).into(), transmit);
        match &self.observer {
            None => attempt(),
            Some(observer) => observer.send(report(transmit), attempt),
        }
    }

    /// The kernel refused datagrams for a reason other than a full send buffer. QUIC finds
    /// out as for any loss: the connection goes on.
    fn refused(&self, binding: Option<&Binding>, transmit: &Transmit<'_>, error: &io::Error) {
        let datagrams = report(transmit).datagrams() as u64;
        self.flows.shared().sums.refused(datagrams);
        if never_left(error)
            && let Some(flow) = binding.and_then(Binding::flow)
        {
            flow.forget(datagrams);
        }
        if is_too_large(error) {
            return;
        }
        let now = self.runtime.now();
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL) {
            *logged = Some(now);
            tracing::warn!(
                %error,
                destination = %transmit.destination,
                bytes = transmit.contents.len(),
                segment = transmit.segment_size,
                "the kernel refused to send; the connection goes on"
            );
        }
    }
}

fn observer(io: &UdpSocket, shared: &Shared) -> Option<Arc<dyn SocketObserver>> {
    match shared.state.source.observe_socket(WatchTarget::socket(io)) {
        Ok(observer) => observer,
        Err(error) => {
            tracing::debug!(%error, "the source cannot observe a socket");
            None
        }
    }
}

fn report(transmit: &Transmit<'_>) -> SocketSend {
    SocketSend {
        destination: transmit.destination,
        bytes: transmit.contents.len(),
        segment: transmit.segment_size,
    }
}

/// Whether the kernel refused before it allocated a packet, so that no probe observes one. A full
/// queue (`ENOBUFS`) and a firewall (`EPERM`) drop packets, which probes do observe.
#[cfg(unix)]
fn never_left(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EPERM))
}

#[cfg(not(unix))]
fn never_left(_error: &io::Error) -> bool {
    true
}

/// Whether the datagrams were larger than the path's MTU: the expected failure of an MTU probe.
#[cfg(unix)]
fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

#[cfg(not(unix))]
fn is_too_large(_error: &io::Error) -> bool {
    false
}

impl AsyncUdpSocket for GovernedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let inner = Arc::clone(&self.inner).create_io_poller();
        let runtime = Arc::clone(&self.runtime);
        Box::pin(Poller::new(inner, runtime))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let binding = Binding::take_sending();
        let result = match self.send(transmit) {
            // The runtime's own socket must see EAGAIN itself, so that it waits until the socket
            // is writable again. It may be writable by now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.inner
                    .try_send(transmit)
                    .inspect_err(|_| on_full_buffer())?;
                if let Some(observer) = &self.observer {
                    let _ = observer.on_send(report(transmit), SendOutcome::Sent);
                }
                Ok(())
            }
            result => result,
        };
        if let Some(binding) = &binding {
            self.flows
                .on_send(binding, transmit.destination, || self.runtime.now());
        }
        if let Err(error) = result {
            self.refused(binding.as_deref(), transmit, &error);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..RECEIVE_ERRORS {
            let result = ready!(self.inner.poll_recv(cx, bufs, meta));
            let Some(observer) = &self.observer else {
                return Poll::Ready(result);
            };
            observer.on_receive(result.as_ref().err());
            match result {
                // Errors of datagrams sent before (ICMP, under IP_RECVERR) are no failure of the socket.
                Err(error) if is_of_the_network(&error) => {}
                result => return Poll::Ready(result),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for GovernedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernedSocket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Whether the error is one that Linux makes of an ICMP message about a datagram that was sent
/// (`icmp_err_convert`, `tab_unreach`, `icmpv6_err_convert`).
#[cfg(unix)]
fn is_of_the_network(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EMSGSIZE
                | libc::EPROTO
                | libc::EACCES
        )
    ) || is_unknown_host(error)
}

#[cfg(not(unix))]
fn is_of_the_network(_error: &io::Error) -> bool {
    false
}

/// `ENONET`, which only Linux has.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_unknown_host(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENONET)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn is_unknown_host(_error: &io::Error) -> bool {
    false
}
