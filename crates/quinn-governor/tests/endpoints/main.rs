//! Governed endpoints as a program uses them: real quinn endpoints over loopback.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod by_socket;
mod moves;
mod outage;
mod peers;
mod source;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint};
use quinn_governor::testing::quic_configs;
use quinn_governor::{Fallback, GovernedController, Governors};
use source::TestSource;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// So much is acknowledged before a peer counts as validated, and more.
const UPLOAD: usize = 60_000;

const LOOPBACK: &str = "127.0.0.1:0";

/// A governed server that reads all it is sent and sends as much back.
struct Server {
    endpoint: Endpoint,
    client_config: quinn::ClientConfig,
}

impl Server {
    fn start(governors: &Governors, address: &str) -> Self {
        Self::with_retry(governors, address, false)
    }

    fn with_retry(governors: &Governors, address: &str, retry: bool) -> Self {
        Self::with_configs(governors, address, quic_configs(), retry)
    }

    fn with_configs(
        governors: &Governors,
        address: &str,
        (client_config, server_config): (quinn::ClientConfig, quinn::ServerConfig),
        retry: bool,
    ) -> Self {
        let endpoint = governors
            .server(server_config, address.parse().unwrap())
            .unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                if retry && !incoming.remote_address_validated() {
                    incoming.retry().unwrap();
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else {
                        return;
                    };
                    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                        let all = receive.read_to_end(usize::MAX).await.unwrap();
                        send.write_all(&all).await.unwrap();
                        send.finish().unwrap();
                    }
                });
            }
        });
        Self {
            endpoint,
            client_config,
        }
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    async fn connect(&self, governors: &Governors, client: &Endpoint) -> Connection {
        self.connect_at(self.address(), governors, client).await
    }

    async fn connect_at(
        &self,
        address: SocketAddr,
        governors: &Governors,
        client: &Endpoint,
    ) -> Connection {
        let config = governors.client_config(self.client_config.clone());
        let connecting = client.connect_with(config, address, "localhost");
        connecting.unwrap().await.unwrap()
    }
}

/// A governed server, and a governed client that is connected to it over loopback.
struct Connected {
    source: Arc<TestSource>,
    governors: Governors,
    /// Kept, so that it serves.
    _server: Server,
    client: Endpoint,
    connection: Connection,
}

impl Connected {
    async fn start() -> Self {
        let source = TestSource::new(10);
        let governors = Governors::new(Arc::clone(&source) as _);
        let server = Server::start(&governors, LOOPBACK);
        let client = client(&governors);
        let connection = server.connect(&governors, &client).await;
        Self {
            source,
            governors,
            _server: server,
            client,
            connection,
        }
    }
}

fn client(governors: &Governors) -> Endpoint {
    governors.client(LOOPBACK.parse().unwrap()).unwrap()
}

/// Sends there and back.
async fn echo(connection: &Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let data = vec![7; UPLOAD];
    send.write_all(&data).await.unwrap();
    send.finish().unwrap();
    let back = timeout(LIMIT, receive.read_to_end(usize::MAX));
    assert_eq!(back.await.unwrap().unwrap().len(), UPLOAD);
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test waits")]
    let start = Instant::now();
    while !holds() {
        #[expect(clippy::disallowed_methods, reason = "a test waits")]
        let waited = start.elapsed();
        assert!(waited < LIMIT, "{what} did not come about");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lone_connection_goes_by_its_socket() {
    let Connected {
        source,
        governors,
        connection,
        ..
    } = &Connected::start().await;
    echo(connection).await;
    echo(connection).await;
    assert_eq!((source.sockets(), source.peers()), (2, 0));
    let controller = GovernedController::of(connection).unwrap();
    let seen = controller.watch().unwrap().congestion().seen_packets();
    let seen = seen.expect("packets are seen");
    assert!(seen >= UPLOAD as u64 / 1500, "{seen} datagrams");
    assert_eq!(governors.report().stale_periods, 0);
    assert_eq!(governors.report().fallbacks.total(), 0);
}

#[tokio::test]
async fn a_source_that_refuses_costs_no_connection() {
    let source = TestSource::new(10);
    source.refuses.store(true, Ordering::Relaxed);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    let controller = GovernedController::of(&connection).unwrap();
    assert!(controller.watch().is_none());
    assert!(!controller.is_in_force());
    let fallbacks = governors.report().fallbacks;
    assert_eq!(fallbacks.get(Fallback::SocketNotWatched), 2);
}

#[tokio::test]
async fn an_ipv6_socket_reaches_an_ipv4_server() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = governors.client("[::]:0".parse().unwrap()).unwrap();
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    let controller = GovernedController::of(&connection).unwrap();
    assert!(controller.watch().is_some());
}

#[tokio::test]
async fn without_signals_connections_have_the_base_controller_alone() {
    let base = Arc::new(quinn::congestion::NewRenoConfig::default());
    let governors = Governors::without_signals(base);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    assert!(GovernedController::of(&connection).is_none());
    assert!(governors.absence().is_some());
    assert_eq!(
        governors.report(),
        quinn_governor::GovernorReport::default()
    );
}

#[tokio::test]
async fn a_switch_turns_governing_off_and_on_while_connections_run() {
    let Connected {
        governors,
        connection,
        ..
    } = &Connected::start().await;
    echo(connection).await;
    governors.set_enabled(false);
    echo(connection).await;
    governors.set_enabled(true);
    echo(connection).await;
    assert_eq!(governors.report().stale_periods, 0);
}

#[tokio::test]
async fn a_shared_transport_configuration_is_left_alone_and_counted() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let (_, server_config) = quic_configs();
    let _other = Arc::clone(&server_config.transport);
    let address = LOOPBACK.parse().unwrap();
    governors.server(server_config, address).unwrap();
    let fallbacks = governors.report().fallbacks;
    assert_eq!(fallbacks.get(Fallback::TransportShared), 1);
}

#[tokio::test]
async fn what_a_client_receives_is_governed_by_the_same_governors_as_what_it_sends() {
    let source = TestSource::new(10);
    let mut config = quinn_governor::GovernorConfig::default();
    config.receive_window(1_000_000u32.into());
    let governors = Governors::builder(Arc::clone(&source) as _)
        .config(config)
        .build()
        .unwrap();
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    let window = governors.receive(&connection);
    echo(&connection).await;
    assert!(
        GovernedController::of(&connection)
            .unwrap()
            .watch()
            .is_some()
    );
    // One socket, one flow, whatever is governed of it.
    assert_eq!((source.sockets(), source.peers()), (2, 0));
    drop(window);
    connection.close(0u32.into(), b"");
}

#[tokio::test]
async fn two_governors_over_one_source_share_its_flows() {
    let source = TestSource::new(10);
    let [one, other] = [(); 2].map(|()| Governors::new(Arc::clone(&source) as _));
    let socket = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let id = |governors: &Governors| {
        let governor = governors.socket(&socket).unwrap();
        (governor.watch().unwrap().id(), governor)
    };
    let (first, second) = (id(&one), id(&other));
    assert_eq!(first.0, second.0);
    assert_eq!(source.sockets(), 1);
}

#[test]
fn what_is_no_udp_socket_is_refused_by_name() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let stream = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let refused = governors.socket(&stream).unwrap_err().to_string();
    assert!(refused.contains("TCP"), "{refused}");
    let file = std::fs::File::open("/dev/null").unwrap();
    let refused = governors.socket(&file).unwrap_err().to_string();
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(source.sockets(), 0);
}
