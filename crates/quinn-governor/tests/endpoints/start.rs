//! How a connection begins: after a retry, with early data.

use std::sync::Arc;

use quinn_governor::testing::Identity;
use quinn_governor::{GovernedController, Governors};

use crate::source::TestSource;
use crate::{LOOPBACK, Server, UPLOAD, client, echo};

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
    // An initial window is in flight before the server answers.
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
