//! Estimators of a round trip: quinn-proto makes them only inside of a connection.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{DatagramEvent, Endpoint, EndpointConfig, RttEstimator, TransportConfig};

use super::quic_configs;

/// Estimators for a range of round trips, from 0.5 ms to 2 s in steps of a quarter.
#[derive(Clone)]
pub struct Rtts {
    estimators: Vec<RttEstimator>,
}

impl Rtts {
    /// Makes them; takes some milliseconds each.
    pub fn new(now: Instant) -> Self {
        let mut rtt = Duration::from_micros(500);
        let mut estimators = Vec::new();
        while rtt <= Duration::from_secs(2) {
            estimators.push(rtt_estimator(now, rtt));
            rtt = rtt * 5 / 4;
        }
        Self { estimators }
    }

    /// The estimator nearest to a round trip.
    pub fn nearest(&self, rtt: Duration) -> &RttEstimator {
        let nearest = self
            .estimators
            .iter()
            .min_by_key(|estimator| estimator.get().abs_diff(rtt));
        nearest.expect("there are always some")
    }
}

/// Time zero and the estimators, made once.
pub(super) fn environment() -> &'static (Instant, Rtts) {
    static ENVIRONMENT: OnceLock<(Instant, Rtts)> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
        let now = Instant::now();
        (now, Rtts::new(now))
    })
}

/// An estimator that says `rtt`, captured from the first acknowledgement of a connection that
/// assumes it.
pub fn rtt_estimator(now: Instant, rtt: Duration) -> RttEstimator {
    let captured = Arc::new(Mutex::new(None));
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(rtt)
        .congestion_controller_factory(Arc::new(Capture(Arc::clone(&captured))));
    let (mut client_config, server_config) = quic_configs();
    client_config.transport_config(Arc::new(transport));

    let endpoint = |server| Endpoint::new(Arc::new(EndpointConfig::default()), server, false, None);
    let mut client = endpoint(None);
    let mut server = endpoint(Some(Arc::new(server_config)));
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));

    let (handle, mut client_connection) = client
        .connect(now, client_config, address(1), "localhost")
        .expect("a client can connect");
    let mut buf = Vec::new();
    let sent = client_connection.poll_transmit(now, 1, &mut buf);
    assert!(sent.is_some(), "a client sends first");
    let mut response = Vec::new();
    let first = buf.as_slice().into();
    let event = server.handle(now, address(2), None, None, first, &mut response);
    let Some(DatagramEvent::NewConnection(incoming)) = event else {
        unreachable!("a first datagram makes a connection");
    };
    let accepted = server.accept(incoming, now, &mut response, None);
    let (_, mut server_connection) = accepted.expect("a server accepts");
    let mut buf = Vec::new();
    let sent = server_connection.poll_transmit(now, 1, &mut buf);
    assert!(sent.is_some(), "a server answers");
    let answer = buf.as_slice().into();
    let event = client.handle(now, address(1), None, None, answer, &mut response);
    let Some(DatagramEvent::ConnectionEvent(to, event)) = event else {
        unreachable!("the answer is for the connection");
    };
    assert_eq!(to, handle);
    client_connection.handle_event(event);
    let estimator = *captured.lock();
    estimator.expect("the answer acknowledges the first datagram")
}

struct Capture(Arc<Mutex<Option<RttEstimator>>>);

impl ControllerFactory for Capture {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(CaptureController(Arc::clone(&self.0)))
    }
}

struct CaptureController(Arc<Mutex<Option<RttEstimator>>>);

impl Controller for CaptureController {
    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, rtt: &RttEstimator) {
        self.0.lock().get_or_insert(*rtt);
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        1 << 20
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    fn initial_window(&self) -> u64 {
        1 << 20
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}
