//! Sockets and quinn endpoints over them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

/// What a receiver lets a sender have in flight: enough that congestion control, not flow
/// control, decides on any path up to 1 Gbit/s and 100 ms.
pub const RECEIVE_WINDOW: u32 = 16 * 1024 * 1024;

/// After this long without a sign of the peer a connection has failed.
const IDLE_TIMEOUT_MS: u32 = 10_000;

/// A socket at this address.
pub fn bind(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| {
        format!(
            "cannot bind a UDP socket to {address}: is the port taken, the address this host's?"
        )
    })
}

/// A socket that can send to `peer`.
pub fn bind_for(peer: SocketAddr) -> anyhow::Result<UdpSocket> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    bind(SocketAddr::new(any, 0))
}

/// Makes the buffer for what arrived and was not read yet so large. The kernel doubles it for its
/// own books, and takes no more than `net.core.rmem_max`.
pub fn set_receive_buffer(socket: &UdpSocket, bytes: u32) -> anyhow::Result<()> {
    let bytes = usize::try_from(bytes)?;
    socket2::SockRef::from(socket)
        .set_recv_buffer_size(bytes)
        .context("cannot set the size of the receive buffer")
}

/// A server's configuration with this certificate.
pub fn server_config(tls: QuicServerConfig) -> ServerConfig {
    ServerConfig::with_crypto(Arc::new(tls))
}

/// quinn's defaults but for windows: congestion control alone shall limit an upload.
pub fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(RECEIVE_WINDOW.into())
        .receive_window(RECEIVE_WINDOW.into())
        .send_window(RECEIVE_WINDOW.into())
        // A burst is a stream of its own; one at a time, and the next while the last is ended.
        .max_concurrent_uni_streams(VarInt::from_u32(4))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}
