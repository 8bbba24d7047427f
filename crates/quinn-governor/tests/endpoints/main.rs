//! Governed endpoints as a program uses them: real quinn endpoints over loopback.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod by_socket;
mod outage;
mod source;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint};
use quinn_governor::testing::{Identity, quic_configs};
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
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    echo(&connection).await;
    assert_eq!((source.sockets(), source.peers()), (2, 0));
    let controller = GovernedController::of(&connection).unwrap();
    let seen = controller.watch().unwrap().congestion().seen_packets();
    let seen = seen.expect("packets are seen");
    assert!(seen >= UPLOAD as u64 / 1500, "{seen} datagrams");
    assert_eq!(governors.report().stale_periods, 0);
    assert_eq!(governors.report().fallbacks.total(), 0);
}

#[tokio::test]
async fn each_peer_of_a_server_becomes_a_flow_of_its_own_and_is_given_back() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let clients = [client(&governors), client(&governors)];
    let mut connections = Vec::new();
    // Twice from each: the same peer of the same socket is the same flow.
    for client in clients.iter().chain(&clients) {
        connections.push(server.connect(&governors, client).await);
    }
    for connection in connections.iter().chain(&connections) {
        echo(connection).await;
    }
    assert_eq!((source.sockets(), source.peers()), (3, 2));
    assert_eq!(governors.report().controllers, 8);

    for connection in connections.drain(..) {
        connection.close(0u32.into(), b"");
    }
    eventually("no peer is watched", || source.peers() == 0).await;
    eventually("no controller is left", || {
        governors.report().controllers == 0
    })
    .await;
    assert_eq!(governors.report().fallbacks.total(), 0);
}

#[tokio::test]
async fn without_a_slot_peers_go_by_their_socket_and_get_one_when_it_is_free() {
    let source = TestSource::new(1);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let clients = [client(&governors), client(&governors), client(&governors)];
    let mut connections = Vec::new();
    for client in &clients {
        connections.push(server.connect(&governors, client).await);
    }
    for connection in connections.iter().chain(&connections) {
        echo(connection).await;
    }
    assert_eq!(source.peers(), 1);
    let fallbacks = governors.report().fallbacks;
    assert!(
        fallbacks.get(Fallback::PeerNotWatched) >= 1,
        "{fallbacks:?}"
    );
    source.peer_slots.store(10, Ordering::Relaxed);
    // Asked again after a second, when something is sent.
    sleep(Duration::from_millis(1_100)).await;
    for connection in connections.iter().chain(&connections) {
        echo(connection).await;
    }
    assert_eq!(source.peers(), 3);
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
async fn a_rebound_endpoint_is_governed_by_its_new_socket() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    let flow = |connection| {
        let controller = GovernedController::of(connection).unwrap();
        controller.watch().map(ebpf_congestion_signals::Watch::id)
    };
    let before = flow(&connection);
    // quinn's own call, with a plain socket.
    let socket = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    client.rebind(socket).unwrap();
    echo(&connection).await;
    echo(&connection).await;
    let after = flow(&connection);
    assert!(after.is_some() && after != before, "{before:?}, {after:?}");
    eventually("the old socket is given back", || source.sockets() == 2).await;
    assert_eq!(governors.report().fallbacks.total(), 0);
}

/// quinn knows a peer by the address of the first family and takes no answer from the other, with
/// its own sockets too: what is governed are the connections made from then on.
#[tokio::test]
async fn an_endpoint_rebound_to_the_other_address_family_is_governed() {
    for (first, second) in [(LOOPBACK, "[::]:0"), ("[::]:0", LOOPBACK)] {
        let source = TestSource::new(10);
        let governors = Governors::new(Arc::clone(&source) as _);
        let server = Server::start(&governors, LOOPBACK);
        let client = governors.client(first.parse().unwrap()).unwrap();
        let connection = server.connect(&governors, &client).await;
        echo(&connection).await;
        let socket = std::net::UdpSocket::bind(second).unwrap();
        client.rebind(socket).unwrap();
        let connection = server.connect(&governors, &client).await;
        echo(&connection).await;
        echo(&connection).await;
        let controller = GovernedController::of(&connection).unwrap();
        let seen = controller.watch().unwrap().congestion().seen_packets();
        assert!(seen.is_some_and(|seen| seen >= UPLOAD as u64 / 1500));
        assert_eq!(governors.report().fallbacks.total(), 0, "{first}");
    }
}

#[tokio::test]
async fn a_peer_that_the_source_does_not_see_goes_by_its_socket() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let clients = [client(&governors), client(&governors)];
    let mut connections = Vec::new();
    for client in &clients {
        connections.push(server.connect(&governors, client).await);
    }
    for connection in connections.iter().chain(&connections) {
        echo(connection).await;
    }
    assert_eq!(source.peers(), 2);
    source.lose_sight_of_peers();
    for _ in 0..4 {
        for connection in &connections {
            echo(connection).await;
        }
    }
    let fallbacks = governors.report().fallbacks;
    assert_eq!(
        fallbacks.get(Fallback::PeerNotSeen),
        2,
        "{:?}",
        governors.report()
    );
    assert_eq!(source.peers(), 0);
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
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    governors.set_enabled(false);
    echo(&connection).await;
    governors.set_enabled(true);
    echo(&connection).await;
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

/// First datagrams of clients that nobody hears of again, each from an address of its own.
async fn half_open(server: &Server, connections: u16) {
    let config = Arc::new(quinn_proto::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(config, None, true, None);
    for index in 0..connections {
        #[expect(clippy::disallowed_methods, reason = "a real client's time")]
        let now = Instant::now();
        let client_config = server.client_config.clone();
        let connecting = endpoint.connect(now, client_config, server.address(), "localhost");
        let (_, mut connection) = connecting.unwrap();
        let mut datagram = Vec::new();
        let sent = connection.poll_transmit(now, 1, &mut datagram);
        assert!(sent.is_some(), "a client sends first");
        let [high, low] = index.to_be_bytes();
        let made_up = SocketAddr::from(([127, 1, high, low], 0));
        let made_up = std::net::UdpSocket::bind(made_up).unwrap();
        made_up.send_to(&datagram, server.address()).unwrap();
        // Others get to run: the server's receive buffer holds about a hundred.
        if index % 16 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_prove_no_address_take_no_slot_of_those_that_do() {
    const HALF_OPEN: u16 = 300;

    let source = TestSource::new(2);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::start(&governors, LOOPBACK);
    half_open(&server, HALF_OPEN).await;
    eventually("half-open connections", || {
        governors.report().controllers >= u64::from(HALF_OPEN) / 2
    })
    .await;
    assert_eq!(source.peers(), 0);
    let clients = [client(&governors), client(&governors)];
    for client in &clients {
        let connection = server.connect(&governors, client).await;
        echo(&connection).await;
        echo(&connection).await;
    }
    assert_eq!(source.peers(), 2);
    assert_eq!(governors.report().fallbacks.total(), 0);
}

#[tokio::test]
async fn a_peer_that_moves_to_another_port_is_watched_there() {
    // IPv4, IPv6, and IPv4 over a socket of IPv6.
    let cases = [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"),
        ("[::1]:0", "::1", "[::1]:0"),
        ("[::]:0", "127.0.0.1", "127.0.0.1:0"),
    ];
    for (listen, reached_at, local) in cases {
        let source = TestSource::new(10);
        let governors = Governors::new(Arc::clone(&source) as _);
        let server = Server::start(&governors, listen);
        let address = SocketAddr::new(reached_at.parse().unwrap(), server.address().port());
        let mut connections = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..2 {
            let client = governors.client(local.parse().unwrap()).unwrap();
            let connection = server.connect_at(address, &governors, &client).await;
            echo(&connection).await;
            connections.push(connection);
            clients.push(client);
        }
        for connection in &connections {
            echo(connection).await;
        }
        let before = clients[0].local_addr().unwrap().port();
        assert!(source.watches_peer_at(before), "{listen}");
        let socket = std::net::UdpSocket::bind(local).unwrap();
        let after = socket.local_addr().unwrap().port();
        clients[0].rebind(socket).unwrap();
        for _ in 0..3 {
            echo(&connections[0]).await;
        }
        assert!(source.watches_peer_at(after), "{listen}");
        assert_eq!(governors.report().fallbacks.total(), 0, "{listen}");
        // quinn keeps what it knows of the path before, its controller among it, as long as the
        // connection lives.
        connections[0].close(0u32.into(), b"");
        eventually("both ports are given back", || {
            !source.watches_peer_at(before) && !source.watches_peer_at(after)
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_that_had_to_retry_is_governed() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let server = Server::with_retry(&governors, LOOPBACK, true);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    echo(&connection).await;
    let controller = GovernedController::of(&connection).unwrap();
    let seen = controller.watch().unwrap().congestion().seen_packets();
    assert!(
        seen.is_some_and(|seen| seen >= UPLOAD as u64 / 1500),
        "{seen:?}"
    );
    assert_eq!(governors.report().stale_periods, 0);
}

#[tokio::test]
async fn a_connection_whose_early_data_is_rejected_is_governed() {
    let source = TestSource::new(10);
    let governors = Governors::new(Arc::clone(&source) as _);
    let identity = Identity::new();
    let start = || {
        let configs = (identity.client(), identity.server());
        Server::with_configs(&governors, LOOPBACK, configs, false)
    };
    let [known, other] = [start(), start()];
    let client = client(&governors);
    let connection = known.connect(&governors, &client).await;
    echo(&connection).await;

    // The ticket is for the name, which both servers have; only the first can redeem it.
    let config = governors.client_config(known.client_config.clone());
    let connecting = client.connect_with(config, other.address(), "localhost");
    let Ok((connection, accepted)) = connecting.unwrap().into_0rtt() else {
        panic!("there is no ticket");
    };
    let (mut early, _) = connection.open_bi().await.unwrap();
    // As much as an initial window takes is on its way before the server answers.
    let sent = early.write_all(&[7; 10_000]).await;
    sent.unwrap();
    assert!(!accepted.await, "the early data was accepted");

    echo(&connection).await;
    echo(&connection).await;
    let controller = GovernedController::of(&connection).unwrap();
    let seen = controller.watch().unwrap().congestion().seen_packets();
    assert!(seen.is_some_and(|seen| seen > UPLOAD as u64 / 1500));
    assert_eq!(governors.report().stale_periods, 0);
    assert_eq!(governors.report().fallbacks.total(), 0);
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
