//! A receive buffer that is never read: what it drops, and how full it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ebpf_congestion_signals::{
    Direction, DropClass, EbpfOptions, EbpfSource, SignalSource, WatchTarget,
};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use crate::known::Known;
use crate::traffic::{PAYLOAD, drain, send, send_batch};
use crate::{TestResult, kernel, source, source_with};

const DATAGRAMS: usize = 500;

fn overflow(receiver: IpAddr, sender: IpAddr) -> TestResult {
    let source = source()?;
    let sink = UdpSocket::bind((receiver, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &16_384)?;
    let sender = UdpSocket::bind((sender, 0))?;
    let (received, sent) = (
        source.watch(WatchTarget::socket(&sink))?,
        source.watch(WatchTarget::socket(&sender))?,
    );

    let mut to = sink.local_addr()?;
    if sender.local_addr()?.is_ipv4() {
        to.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    send(&sender, to, DATAGRAMS)?;
    let read = drain(&sink)?;

    let dropped = DATAGRAMS as u64 - read;
    assert!(dropped > 0, "a small buffer that is never read overflows");
    let (class, name) = if kernel::has(source, "skb_drop_reason") {
        (DropClass::ReceiveBuffer, "SOCKET_RCVBUFF")
    } else {
        (DropClass::Other, "UNKNOWN")
    };
    let drops = received.known_sample().drops;
    assert_eq!(drops.get(Direction::Ingress, class).packets, dropped);
    assert_eq!(drops.total().packets, dropped);
    let reasons = source.drops_by_reason(Some(received.id()));
    let [by] = reasons.as_slice() else {
        panic!("one reason: {reasons:?}")
    };
    assert_eq!((&*by.reason, by.drops.packets), (name, dropped));
    assert_eq!(
        sent.known_sample().drops.total().packets,
        0,
        "nothing was dropped on its way out"
    );
    assert_eq!(sent.known_sample().sent_packets, DATAGRAMS as u64);
    Ok(())
}

#[test]
fn what_a_full_receive_buffer_drops_is_what_cannot_be_read_ipv4() -> TestResult {
    overflow(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into())
}

#[test]
fn what_a_full_receive_buffer_drops_is_what_cannot_be_read_ipv6() -> TestResult {
    overflow(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
}

#[test]
fn a_dual_stack_socket_is_found_for_ipv4_packets() -> TestResult {
    overflow(Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into())
}

#[test]
fn a_full_receive_buffer_reads_full_and_an_emptied_one_empty() -> TestResult {
    let source = source_with(&["sock_recv_length"])?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &16_384)?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let buffers = || watch.known_sample().buffers.ok_or("the socket was seen");
    send(&sink, sink.local_addr()?, DATAGRAMS)?;
    let full = buffers()?;
    assert_eq!(
        full.rcvbuf,
        2 * 16_384,
        "the kernel doubles what is asked for"
    );
    assert!(full.rmem > full.rcvbuf / 2, "{full:?}");
    drain(&sink)?;
    let emptied = buffers()?;
    assert_eq!((emptied.rmem, emptied.rcvbuf), (0, full.rcvbuf));
    Ok(())
}

#[test]
fn a_batch_that_a_receiver_has_no_room_for_counts_every_segment() -> TestResult {
    const BATCHES: usize = 50;
    const SEGMENTS: usize = 10;
    let source = source()?;
    for takes_batches in [false, true] {
        let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        setsockopt(&sink, sockopt::RcvBuf, &65_536)?;
        setsockopt(&sink, sockopt::UdpGroSegment, &takes_batches)?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let watch = source.watch(WatchTarget::socket(&sink))?;
        for _ in 0..BATCHES {
            send_batch(&sender, sink.local_addr()?, SEGMENTS)?;
        }
        let mut read = 0;
        let mut buffer = vec![0; 1 << 16];
        sink.set_nonblocking(true)?;
        while let Ok(bytes) = sink.recv(&mut buffer) {
            read += bytes / PAYLOAD;
        }
        let dropped = BATCHES * SEGMENTS - read;
        assert!(dropped > 0, "a small buffer that is never read overflows");
        let drops = watch.known_sample().drops.direction(Direction::Ingress);
        assert_eq!(
            drops.packets, dropped as u64,
            "takes batches: {takes_batches}"
        );
    }
    Ok(())
}

#[test]
fn governing_probes_know_a_receive_buffer_that_overflows() -> TestResult {
    source()?;
    let source = EbpfSource::load_with(&EbpfOptions::default().governing())?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&sink, sockopt::RcvBuf, &65_536)?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    send(&sender, sink.local_addr()?, DATAGRAMS)?;
    let buffers = watch.known_sample().buffers.ok_or("it overflowed")?;
    assert_eq!(buffers.rcvbuf as usize, getsockopt(&sink, sockopt::RcvBuf)?);
    assert_eq!(watch.known_sample().receive_pressure.samples, 0);
    let held = drain(&sink)? * PAYLOAD as u64;
    match buffers.rmem_payload {
        Some(told) => {
            let told = u64::from(told);
            assert!(told.abs_diff(held) <= held / 10, "{told} of {held}");
        }
        // Where a drop does not say whose it is, the buffer is seen, and no packet.
        None => assert!(kernel::has(&source, "udp_fail_queue_rcv_skb")),
    }
    Ok(())
}
