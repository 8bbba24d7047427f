//! A path that drops everything for a while.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, CubicConfig};

use quinn_governor::{GovernedController, Governors};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::source::TestSource;
use super::{LIMIT, LOOPBACK, Server, UPLOAD, client, echo};

/// Passes datagrams on between one client and a server, but for the time in which `silent` is set.
async fn relay(server: std::net::SocketAddr, silent: Arc<AtomicBool>) -> std::net::SocketAddr {
    let entrance = UdpSocket::bind(LOOPBACK).await.unwrap();
    let exit = UdpSocket::bind(LOOPBACK).await.unwrap();
    exit.connect(server).await.unwrap();
    let address = entrance.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((length, from)) = entrance.recv_from(&mut there) => {
                    client = Some(from);
                    if !silent.load(Ordering::Relaxed) {
                        exit.send(&there[..length]).await.unwrap();
                    }
                }
                Ok(length) = exit.recv(&mut back) => {
                    if let Some(client) = client && !silent.load(Ordering::Relaxed) {
                        entrance.send_to(&back[..length], client).await.unwrap();
                    }
                }
            }
        }
    });
    address
}

/// Cubic that takes note of persistent congestion.
#[derive(Clone)]
struct Noting(Arc<AtomicBool>);

struct NotingController {
    cubic: Box<dyn Controller>,
    noting: Noting,
}

impl ControllerFactory for Noting {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(NotingController {
            cubic: Arc::new(CubicConfig::default()).build(now, mtu),
            noting: (*self).clone(),
        })
    }
}

impl Controller for NotingController {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.noting.0.fetch_or(persistent, Ordering::Relaxed);
        self.cubic.on_congestion_event(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.cubic.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            cubic: self.cubic.clone_box(),
            noting: self.noting.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Longer than three probe timeouts: quinn calls that persistent congestion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_persistent_congestion_a_connection_is_governed_as_before() {
    let source = TestSource::new(10);
    let persistent = Arc::new(AtomicBool::new(false));
    let base = Noting(Arc::clone(&persistent));
    let governors = Governors::builder(Arc::clone(&source) as _).base(Arc::new(base));
    let governors = governors.build().unwrap();
    let server = Server::start(&governors, LOOPBACK);
    let silent = Arc::new(AtomicBool::new(false));
    let address = relay(server.address(), Arc::clone(&silent)).await;
    let client = client(&governors);
    let connection = server.connect_at(address, &governors, &client).await;
    for _ in 0..20 {
        echo(&connection).await;
    }
    // How long a probe timeout is depends on how busy this machine is.
    let mut silence = Duration::from_millis(1_500);
    while !persistent.load(Ordering::Relaxed) {
        assert!(silence < LIMIT, "no congestion was persistent");
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let sending = tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                send.write_all(&[7; UPLOAD / 10]).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
            send.finish().unwrap();
        });
        sleep(Duration::from_millis(100)).await;
        silent.store(true, Ordering::Relaxed);
        sleep(silence).await;
        silent.store(false, Ordering::Relaxed);
        over.store(true, Ordering::Relaxed);
        sending.await.unwrap();
        echo(&connection).await;
        silence *= 2;
    }
    echo(&connection).await;

    let controller = GovernedController::of(&connection).unwrap();
    assert_eq!(governors.report().stale_periods, 0);
    assert_eq!(governors.report().fallbacks.total(), 0);
    let before = controller.watch().unwrap().congestion().seen_packets();
    echo(&connection).await;
    let after = controller.watch().unwrap().congestion().seen_packets();
    assert!(after >= before.map(|before| before + UPLOAD as u64 / 1500));
}
