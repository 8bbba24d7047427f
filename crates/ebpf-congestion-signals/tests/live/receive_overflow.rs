use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ebpf_congestion_signals::{Direction, DropClass, SignalSource, WatchTarget};
use nix::sys::socket::{setsockopt, sockopt};

use crate::traffic::{drain, send};
use crate::{TestResult, source};

const DATAGRAMS: usize = 500;

fn overflow(receiver: IpAddr, sender: IpAddr) -> TestResult {
    let Some((_turn, source)) = source("receive_overflow") else {
        return Ok(());
    };
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
    assert!(dropped > 0, "a small buffer that nobody reads overflows");
    let drops = received.sample().drops;
    assert_eq!(
        drops
            .get(Direction::Arriving, DropClass::ReceiveBuffer)
            .packets,
        dropped
    );
    assert_eq!(drops.total().packets, dropped);
    let reasons = source.drops_by_reason(Some(received.id()));
    let [(reason, counters)] = reasons.as_slice() else {
        panic!("one reason: {reasons:?}")
    };
    assert_eq!((&**reason, counters.packets), ("SOCKET_RCVBUFF", dropped));

    let buffers = received.sample().buffers.expect("the socket was seen");
    assert_eq!(
        buffers.rcvbuf,
        2 * 16_384,
        "the kernel doubles what is asked for"
    );
    assert_eq!(
        sent.sample().drops.total().packets,
        0,
        "nothing was dropped on its way out"
    );
    assert_eq!(sent.sample().sent_packets, DATAGRAMS as u64);
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
