//! Endpoints and peers that change their address.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn_governor::{GovernedController, Governors};

use crate::source::TestSource;
use crate::{Connected, LOOPBACK, Server, UPLOAD, echo, eventually};

#[tokio::test]
async fn a_rebound_endpoint_is_governed_by_its_new_socket() {
    let Connected {
        source,
        governors,
        client,
        connection,
        ..
    } = &Connected::start().await;
    echo(connection).await;
    let flow = |connection| {
        let controller = GovernedController::of(connection).unwrap();
        controller.watch().map(ebpf_congestion_signals::Watch::id)
    };
    let before = flow(connection);
    // quinn's own call, with a plain socket.
    let socket = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    client.rebind(socket).unwrap();
    echo(connection).await;
    echo(connection).await;
    let after = flow(connection);
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
        let seen = || controller.watch()?.congestion().seen_packets();
        // The flow may be the peer's own, from the middle of the last exchange on: the connection
        // before still tries to reach the server through the same socket.
        let before = seen().unwrap();
        echo(&connection).await;
        let packets = seen().unwrap() - before;
        assert!(packets >= UPLOAD as u64 / 1500, "{packets}");
        assert_eq!(governors.report().fallbacks.total(), 0, "{first}");
    }
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
