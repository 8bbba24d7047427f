//! What else is done against a standing queue in one's own host, to compare with.

use std::any::Any;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use socket2::SockRef;

/// How to hold back instead of being governed; not at all by default.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub struct Baseline {
    /// Make each socket's send buffer so large (SO_SNDBUF; the kernel doubles it for its own
    /// books).
    #[arg(long, value_name = "BYTES")]
    pub send_buffer: Option<u32>,
    /// Let each socket's send buffer hold 2 ms of what the receiver reports, measured every 100 ms.
    #[arg(long)]
    pub send_gate: bool,
    /// Keep as much in flight as this rate needs at the least round trip, whatever is lost.
    #[arg(long, value_name = "MBITS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub fixed_rate: Option<u32>,
}

impl Baseline {
    /// Of a socket that was just made.
    pub fn prepare(&self, socket: &UdpSocket) -> anyhow::Result<()> {
        match self.send_buffer {
            Some(bytes) => set_send_buffer(socket, bytes as usize),
            None => Ok(()),
        }
    }

    /// The congestion controller to use in place of the one that the options name.
    pub fn controller(&self) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
        let rate = u64::from(self.fixed_rate?) * 1_000_000 / 8;
        Some(Arc::new(FixedRate { rate }))
    }

    /// The gate of a socket that was just made.
    pub fn gate(&self, socket: &UdpSocket) -> anyhow::Result<Option<Gate>> {
        if !self.send_gate {
            return Ok(None);
        }
        let socket = socket.try_clone().context("cannot clone the socket")?;
        Ok(Some(Gate {
            socket,
            since: Duration::ZERO,
            delivered: 0,
        }))
    }
}

fn set_send_buffer(socket: &UdpSocket, bytes: usize) -> anyhow::Result<()> {
    SockRef::from(socket)
        .set_send_buffer_size(bytes)
        .context("cannot set the size of the send buffer")
}

/// How often a gate is set.
const GATE_INTERVAL: Duration = Duration::from_millis(100);

/// What a gate lets wait, in seconds of the measured rate.
const GATE_SECONDS: f64 = 0.002;

/// Memory that the kernel charges for a full datagram, by its payload: 2,304 by 1,452 bytes.
const CHARGED: f64 = 2304.0 / 1452.0;

/// A send buffer that follows the measured rate.
#[derive(Debug)]
pub struct Gate {
    socket: UdpSocket,
    since: Duration,
    delivered: u64,
}

impl Gate {
    /// Sets the buffer if it is time to, given what the receiver has reported.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of a tenth of a second, and a positive size of less"
    )]
    pub fn follow(&mut self, now: Duration, delivered: u64) -> anyhow::Result<()> {
        let time = now.saturating_sub(self.since);
        if time < GATE_INTERVAL {
            return Ok(());
        }
        let rate = delivered.saturating_sub(self.delivered) as f64 / time.as_secs_f64();
        (self.since, self.delivered) = (now, delivered);
        // The kernel doubles it, and takes no less than a few kB.
        let bytes = rate * GATE_SECONDS * CHARGED / 2.0;
        set_send_buffer(&self.socket, bytes as usize)
    }
}

/// quinn paced at a rate that is known in advance.
#[derive(Debug)]
struct FixedRate {
    /// Bytes a second.
    rate: u64,
}

impl ControllerFactory for FixedRate {
    fn build(self: Arc<Self>, _now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(FixedRateController {
            rate: self.rate,
            mtu: u64::from(mtu),
            round_trip: None,
        })
    }
}

#[derive(Clone, Debug)]
struct FixedRateController {
    rate: u64,
    mtu: u64,
    /// The least so far.
    round_trip: Option<Duration>,
}

impl Controller for FixedRateController {
    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, rtt: &RttEstimator) {
        self.round_trip = Some(rtt.min());
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
    }

    fn window(&self) -> u64 {
        let Some(round_trip) = self.round_trip else {
            return self.initial_window();
        };
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        let flight = self.rate.saturating_mul(micros) / 1_000_000;
        flight.max(2 * self.mtu)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        10 * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_keeps_its_flight_whatever_is_lost() {
        let now = Instant::now();
        let factory = Arc::new(FixedRate { rate: 6_250_000 });
        let mut controller = factory.build(now, 1200);
        assert_eq!(controller.window(), 12_000);
        let rtt = quinn_governor::testing::rtt_estimator(now, Duration::from_millis(20));
        controller.on_ack(now, now, 1200, false, &rtt);
        let window = controller.window();
        assert_eq!(
            window,
            6_250_000 * u64::try_from(rtt.min().as_micros()).unwrap() / 1_000_000
        );
        controller.on_congestion_event(now, now, true, 12_000);
        assert_eq!(controller.window(), window);
    }

    #[test]
    fn a_gate_follows_what_arrives() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let size = || SockRef::from(&socket).send_buffer_size().unwrap();
        let gates = Baseline {
            send_gate: true,
            ..Baseline::default()
        };
        let mut gate = gates.gate(&socket).unwrap().unwrap();
        let at = Duration::from_millis;
        gate.follow(at(100), 600_000).unwrap();
        // 6 MB a second: 12 kB of payload.
        assert!((18_000..=20_000).contains(&size()), "{}", size());
        gate.follow(at(150), 650_000).unwrap();
        assert!((18_000..=20_000).contains(&size()), "{}", size());
        gate.follow(at(200), 750_000).unwrap();
        assert!(size() < 6_000, "{}", size());
    }
}
