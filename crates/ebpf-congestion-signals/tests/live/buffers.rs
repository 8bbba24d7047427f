//! Occupancy of socket buffers: live, on average, at its peak, and how much of it is payload.

use std::net::{Ipv4Addr, UdpSocket};

use ebpf_congestion_signals::{CongestionSignals, EbpfSource, SignalSource, WatchTarget};
use nix::sys::socket::{setsockopt, sockopt};

use crate::known::Known;
use crate::traffic::{PAYLOAD, Slow, drain, send, wait_until};
use crate::{TestResult, source_with};

#[test]
fn a_send_buffer_tells_its_average_peak_and_payload() -> TestResult {
    let needs = ["sock_send_length", "qdisc_enqueue"];
    let source = source_with(&needs)?;
    let Slow {
        sink,
        sender,
        _path,
    } = Slow::new()?;
    setsockopt(&sender, sockopt::SndBufForce, &200_000)?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    let (start, before) = (source.host(), watch.known_sample());
    send(&sender, sink.local_addr()?, 50)?;
    let (host, sample) = (source.host(), watch.known_sample());

    let buffers = sample.buffers.ok_or("the socket was seen")?;
    assert_eq!(
        buffers.sndbuf, 400_000,
        "the kernel doubles what is asked for"
    );
    let payload = buffers.wmem_payload.ok_or("something was sent")?;
    assert_eq!(
        payload as usize % PAYLOAD,
        0,
        "whole datagrams: {buffers:?}"
    );
    let queued = sample.congestion.queue.ok_or("the queue is known")?.own;
    let on_wire = u64::from(payload) / PAYLOAD as u64 * (PAYLOAD as u64 + 42);
    // All of it is in the queue, but for what left while the two were read: a probe on another
    // processor subtracts a packet from one before the other.
    assert!(queued.abs_diff(on_wire) <= 2 * 1242, "{on_wire} {queued}");
    assert!(buffers.wmem > payload, "{buffers:?}");

    // Filled step by step, so the average is about half of what it ends with.
    let share = f64::from(buffers.wmem) / f64::from(buffers.sndbuf);
    let pressure = sample.send_pressure;
    assert_eq!(pressure.samples, 50);
    let average = pressure
        .average_since(&before.send_pressure)
        .ok_or("50 sends")?;
    assert!(
        (0.4 * share..0.65 * share).contains(&average),
        "{average} {share}"
    );
    let peak = pressure
        .peaks
        .between(start.taken, host.taken)
        .ok_or("just now")?;
    assert!((0.9 * share..1.1 * share).contains(&peak), "{peak} {share}");
    // Others on this host may have fuller buffers.
    let signals = CongestionSignals::between(&start, &host);
    assert!(signals.peak_wmem_pressure >= Some(peak), "{signals:?}");

    assert_eq!(drain(&sink)?, 50);
    let empty = || {
        watch
            .known_sample()
            .buffers
            .is_some_and(|buffers| buffers.wmem == 0)
    };
    wait_until("the send buffer empties", empty);
    Ok(())
}

#[test]
fn a_receive_buffer_tells_its_average_peak_and_payload() -> TestResult {
    let source = source_with(&["sock_recv_length"])?;
    receive_buffer(source)
}

pub(crate) fn receive_buffer(source: &EbpfSource) -> TestResult {
    const DATAGRAMS: usize = 40;
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &100_000)?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&receiver))?;
    let start = source.host();
    send(&sender, receiver.local_addr()?, DATAGRAMS)?;
    let mut buffer = [0; 2048];
    let mut expected = 0.0;
    for read in 1..=DATAGRAMS {
        receiver.recv(&mut buffer)?;
        let buffers = watch.known_sample().buffers.ok_or("the socket was seen")?;
        assert_eq!(buffers.rcvbuf, 200_000);
        // The kernel returns memory in steps, so the last bytes are charged longer than their
        // packets.
        let waiting = DATAGRAMS - read;
        if waiting > 0 {
            let payload = buffers.rmem_payload.ok_or("a packet waits")? as usize;
            assert!(payload >= waiting * PAYLOAD, "{waiting} wait: {buffers:?}");
        }
        expected += f64::from(buffers.rmem) / f64::from(buffers.rcvbuf);
    }
    let pressure = watch.known_sample().receive_pressure;
    assert_eq!(pressure.samples, DATAGRAMS as u64);
    assert!(
        (pressure.sum - expected).abs() < 0.01,
        "{} {expected}",
        pressure.sum
    );
    let peak = pressure
        .peaks
        .between(start.taken, source.host().taken)
        .ok_or("just now")?;
    assert!(peak > expected / DATAGRAMS as f64, "{peak}");
    let host = source.host().receive_pressure.ok_or("reported here")?;
    assert!(host.samples >= DATAGRAMS as u64);
    Ok(())
}
