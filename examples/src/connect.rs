//! How a client comes to its connections, as its options say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quinn::{ClientConfig, Endpoint};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Load;
use crate::certificate::SERVER_NAME;
use crate::endpoint;
use crate::send::Sending;

/// Others get to run after so many first datagrams: a server's receive buffer holds about a hundred.
const AT_ONCE: u16 = 16;

/// A connection, after those that were asked for before it; and how long it took to connect.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: ClientConfig,
    server: SocketAddr,
    load: &Load,
) -> anyhow::Result<(Sending, Duration)> {
    for _ in 0..load.reconnects {
        let connected = Sending::connect(endpoint, config.clone(), server).await?;
        connected.connection().close(0u32.into(), b"once more");
    }
    let began = Instant::now();
    let connected = Sending::connect(endpoint, config, server).await?;
    Ok((connected, began.elapsed()))
}

/// How long a server may take to answer the first datagrams that it had room for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the first datagrams of so many connections, each from a port of its own, and forgets them
/// once the server has answered one of the last.
pub(crate) async fn half_open(
    server: SocketAddr,
    config: &ClientConfig,
    connections: u16,
) -> anyhow::Result<()> {
    let endpoint_config = Arc::new(quinn_proto::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(endpoint_config, None, true, None);
    let mut answers = JoinSet::new();
    for index in 0..connections {
        let now = Instant::now();
        let connecting = endpoint.connect(now, config.clone(), server, SERVER_NAME);
        let (_, mut connection) = connecting.context("cannot begin a connection")?;
        let mut datagram = Vec::new();
        let built = connection.poll_transmit(now, 1, &mut datagram);
        ensure!(built.is_some(), "a client has nothing to send first");
        let socket = endpoint::bind_for(server)?;
        socket.send_to(&datagram, server)?;
        if connections - index <= AT_ONCE {
            socket.set_nonblocking(true)?;
            let socket = UdpSocket::from_std(socket)?;
            answers.spawn(async move { socket.readable().await });
        }
        if index % AT_ONCE == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    // All of the last may have come when the server's receive buffer was full.
    if let Ok(Some(answered)) = timeout(ANSWER_TIMEOUT, answers.join_next()).await {
        answered??;
    }
    Ok(())
}
