//! Peers of a server, each a flow of its own where the source has room.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quinn_governor::{Fallback, Governors};
use tokio::time::sleep;

use crate::source::TestSource;
use crate::{LOOPBACK, Server, client, echo, eventually};

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

/// First datagrams of clients that then send nothing more, each from an address of its own.
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
    let mut connections = Vec::new();
    for client in &clients {
        let connection = server.connect(&governors, client).await;
        echo(&connection).await;
        echo(&connection).await;
        // A connection that is dropped is closed, and gives its slot back.
        connections.push(connection);
    }
    assert_eq!(source.peers(), 2);
    assert_eq!(governors.report().fallbacks.total(), 0);
}
