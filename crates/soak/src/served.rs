//! The governed server, governed clients that upload, and the server that they upload to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use quinn::{ClientConfig, Endpoint, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_governor::Governors;
use tokio::time::{sleep, timeout};

use crate::peers::{Tally, random_time};

/// Idle timeout: when the server gives up a peer that vanished. Long enough for the handshake to
/// survive five probe timeouts.
const IDLE: Duration = Duration::from_secs(30);

/// Bytes of a usual download, at most.
const USUAL: usize = 40_000;
/// Bytes of a large download, which fills the queue.
const LARGE: usize = 1_500_000;

/// One download in this many is large.
const LARGE_EVERY: usize = 100;

/// Mean lifetime of a governed client.
const CLIENT_LIFE: Duration = Duration::from_secs(5);

/// Configurations of both ends, with a short idle timeout.
pub(crate) fn configs() -> (ClientConfig, ServerConfig) {
    let (mut client, mut server) = quinn_governor::testing::quic_configs();
    client.transport_config(Arc::new(transport()));
    server.transport_config(Arc::new(transport()));
    (client, server)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX);
    transport.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))));
    // Idle peers stay connected.
    transport.keep_alive_interval(Some(IDLE / 9));
    transport
}

/// A governed server. Each connection gets one download, then stays idle until the peer closes it.
pub(crate) fn serve(
    governors: &Governors,
    config: ServerConfig,
    address: SocketAddr,
) -> Result<Endpoint> {
    // A transport configuration of its own: the one in `config` is shared, and cannot be changed.
    let mut config = config;
    let mut transport = transport();
    governors.govern(&mut transport);
    config.transport_config(Arc::new(transport));
    let address = SocketAddr::new(address.ip(), 0);
    let endpoint = governors.server(config, address)?;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                let large = fastrand::usize(..LARGE_EVERY) == 0;
                let bytes = if large {
                    LARGE
                } else {
                    fastrand::usize(1..USUAL)
                };
                let mut send = connection.open_uni().await?;
                send.write_all(&vec![0; bytes]).await?;
                send.finish()?;
                connection.closed().await;
                anyhow::Ok(())
            });
        }
    });
    Ok(endpoint)
}

/// A stock server that reads and discards all streams.
pub(crate) fn drain(config: ServerConfig, address: SocketAddr) -> Result<Endpoint> {
    let endpoint = Endpoint::server(config, SocketAddr::new(address.ip(), 0))?;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let connection = incoming.await?;
                while let Ok(mut receive) = connection.accept_uni().await {
                    while receive.read_chunk(usize::MAX, false).await?.is_some() {}
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(endpoint)
}

/// Governed clients, one after the other, that upload and rebind to new sockets.
pub(crate) async fn upload(
    governors: Governors,
    config: ClientConfig,
    from: SocketAddr,
    to: SocketAddr,
    tally: Arc<Tally>,
) -> Result<()> {
    let from = SocketAddr::new(from.ip(), 0);
    loop {
        let mut endpoint = governors.client(from)?;
        let mut transport = transport();
        governors.govern(&mut transport);
        let mut config = config.clone();
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        let life = random_time(CLIENT_LIFE);
        let uploaded = timeout(life, upload_for_ever(&endpoint, to, &tally)).await;
        if let Ok(Err(error)) = uploaded {
            tally.fail(&error);
        }
        endpoint.close(VarInt::from_u32(0), b"");
        let _ = timeout(IDLE, endpoint.wait_idle()).await;
    }
}

async fn upload_for_ever(endpoint: &Endpoint, to: SocketAddr, tally: &Tally) -> Result<()> {
    let connection = endpoint.connect(to, "localhost")?.await?;
    tally.connected();
    let data = vec![0; USUAL];
    loop {
        let mut send = connection.open_uni().await?;
        send.write_all(&data).await?;
        send.finish()?;
        if fastrand::usize(..50) == 0 {
            let address = SocketAddr::new(endpoint.local_addr()?.ip(), 0);
            let socket = std::net::UdpSocket::bind(address).context("bind")?;
            endpoint.rebind(socket)?;
            tally.rebound();
        }
        sleep(Duration::from_millis(20)).await;
    }
}
