//! A recording of the live kernel, played again: what the law does with real signals, the same each
//! time.
//!
//! Made by `client --seconds 1 --source ebpf --record FILE` through a token bucket of 50 Mbit/s with
//! a queue of 150 kB and a round trip of 20 ms: its first half second.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{ReplaySource, SignalSource};
use quinn_governor::testing::rtt_estimator;
use quinn_governor::{GovernorReport, Governors};
use quinn_proto::congestion::ControllerFactory;

const RECORDING: &[u8] = include_bytes!("recordings/local_queue.jsonl");

const STEP: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(25);
const DATAGRAM: u64 = 1452;

/// Sends what the recorded sender did when it did, each packet acknowledged a round trip later.
/// The windows at every step, and what the governor did.
fn play() -> (Vec<u64>, GovernorReport) {
    #[expect(clippy::disallowed_methods, reason = "a zero for virtual time")]
    let start = Instant::now();
    let rtt = rtt_estimator(start, RTT);
    let source = Arc::new(ReplaySource::read(RECORDING).expect("it is a recording"));
    let length = source.length();
    let governors = Governors::new(Arc::clone(&source) as Arc<dyn SignalSource>);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket can be bound");
    let governor = governors.socket(&socket).expect("a flow was recorded");
    let watch = governor.watch().expect("it is governed").clone();
    let mut controller = Arc::clone(&governor).build(start, 1452);
    let (mut windows, mut flying, mut packets) = (Vec::new(), Vec::new(), 0);
    let mut since = Duration::ZERO;
    while since < length {
        source.advance(STEP);
        since += STEP;
        let now = start + since;
        let seen = watch.congestion().observed_packets.unwrap_or_default();
        // What was sent between two samples, in the batches of ten that quinn makes.
        while packets < seen {
            let batch = (seen - packets).min(10);
            packets += batch;
            controller.on_sent(now, batch * DATAGRAM, packets);
            flying.push((now, batch, packets));
        }
        let landed = flying.partition_point(|(sent, _, _)| *sent + RTT <= now);
        if landed > 0 {
            let mut last = 0;
            for (sent, batch, number) in flying.drain(..landed) {
                controller.on_ack(now, sent, batch * DATAGRAM, false, &rtt);
                last = number;
            }
            let in_flight = flying.iter().map(|(_, batch, _)| batch * DATAGRAM).sum();
            controller.on_end_acks(now, in_flight, false, Some(last));
        }
        windows.push(controller.window());
    }
    (windows, governor.report())
}

#[test]
fn recorded_signals_cap_the_window() {
    let (windows, report) = play();
    assert!(report.capped > Duration::from_millis(50), "{report:?}");
    assert_eq!(
        report.local_drop_reductions, 0,
        "none was dropped: {report:?}"
    );
    let largest = windows.iter().max().copied().unwrap_or_default();
    assert!(largest < 600_000, "{largest}");
}

#[test]
fn a_replay_decides_the_same_each_time() {
    assert_eq!(play().0, play().0);
}
