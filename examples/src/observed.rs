//! A socket that tells a mock what it sends, as probes in the kernel would.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use ebpf_congestion_signals::{MockFlow, MockSource, SendCounters};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};

/// Counts for a flow what leaves by the socket, when it does: a governor does not believe a source
/// that hears of it later.
#[derive(Debug)]
struct ObservedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    source: Arc<MockSource>,
    flow: MockFlow,
}

/// An endpoint that connects, over a socket that is observed so.
pub fn client(
    socket: UdpSocket,
    source: &Arc<MockSource>,
    flow: MockFlow,
) -> anyhow::Result<Endpoint> {
    let runtime = Arc::new(TokioRuntime);
    let failed = "cannot make a QUIC endpoint of the socket";
    let socket = ObservedSocket {
        inner: runtime.wrap_udp_socket(socket).context(failed)?,
        source: Arc::clone(source),
        flow,
    };
    let config = EndpointConfig::default();
    Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), runtime).context(failed)
}

impl AsyncUdpSocket for ObservedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        let bytes = transmit.contents.len();
        let datagrams = bytes.div_ceil(transmit.segment_size.unwrap_or(bytes).max(1));
        let (bytes, datagrams) = (bytes as u64, datagrams as u64);
        self.flow.observe_sent(datagrams, bytes);
        self.source.set_host(|host| {
            let sends = host.udp_send.get_or_insert(SendCounters::default());
            sends.bytes += bytes;
            sends.calls += 1;
        });
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
