//! The source without privilege, under real endpoints.

use std::sync::Arc;
use std::time::Duration;

use ebpf_congestion_signals::{NetworkError, SocketSource};
use quinn_governor::{GovernedController, Governors};
use tokio::time::timeout;

use crate::{LIMIT, LOOPBACK, Server, client, echo, eventually, quic_configs};

#[tokio::test]
async fn a_connection_is_observed_by_what_its_socket_reports() {
    let source = Arc::new(SocketSource::new());
    let governors = Governors::new(source as _);
    let server = Server::start(&governors, LOOPBACK);
    let client = client(&governors);
    let connection = server.connect(&governors, &client).await;
    echo(&connection).await;
    let controller = GovernedController::of(&connection).unwrap();
    let congestion = controller.watch().unwrap().congestion();
    assert!(congestion.live);
    assert!(congestion.seen_packets() >= Some(40), "{congestion:?}");
    assert_eq!(congestion.queue_drops, Some(0));
    let report = governors.report();
    assert_eq!((report.stale_periods, report.fallbacks.total()), (0, 0));
}

/// What the network reports of a peer that is gone meets the server's socket, under which another
/// peer goes on.
#[tokio::test]
async fn a_peer_that_vanishes_costs_the_others_nothing() {
    let source = Arc::new(SocketSource::new());
    let governors = Governors::new(Arc::clone(&source) as _);
    let (client_config, mut server_config) = quic_configs();
    // All may have come back before the peer vanishes: the server has to go on sending.
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_millis(50)));
    server_config.transport_config(Arc::new(transport));
    let configs = (client_config, server_config);
    let server = Server::with_configs(&governors, LOOPBACK, configs, false);
    let stays = client(&governors);
    let connection = server.connect(&governors, &stays).await;
    echo(&connection).await;

    let vanishes = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (config, address) = (server.client_config.clone(), server.address());
    let sent = vanishes.spawn(async move {
        let client = quinn::Endpoint::client(LOOPBACK.parse().unwrap()).unwrap();
        let connecting = client.connect_with(config, address, "localhost");
        let connection = connecting.unwrap().await.unwrap();
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&[7; 500_000]).await.unwrap();
        send.finish().unwrap();
        // What comes back is not read: the server has something to send for long.
        (client, connection, receive)
    });
    let peer = timeout(LIMIT, sent).await.unwrap().unwrap();
    // Nothing runs any more that would say good-bye.
    vanishes.shutdown_background();
    drop(peer);

    eventually("the network reports", || {
        source.network_errors(NetworkError::PortUnreachable) > 0
    })
    .await;
    for _ in 0..10 {
        echo(&connection).await;
    }
    assert_eq!(connection.stats().path.lost_packets, 0);
    assert!(server.endpoint.local_addr().is_ok());
}
