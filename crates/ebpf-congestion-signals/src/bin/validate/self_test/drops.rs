//! A receive buffer that overflows, over loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use ebpf_congestion_signals::{
    Direction, DropClass, EbpfSource, Event, EventStream, SignalSource, Watch, WatchTarget,
};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::time::timeout;

use super::{Stop, TestResult, bound, equal, has, needs};
use crate::proc_net;

/// Bytes asked for; a few datagrams fit.
const RECEIVE_BUFFER: usize = 16_384;

/// How long no event comes before all have come.
const SILENCE: Duration = Duration::from_millis(500);

/// A small receive buffer.
fn small_sink(address: IpAddr) -> Result<UdpSocket, Stop> {
    let sink = bound(address, UdpSocket::bind((address, 0)))?;
    setsockopt(&sink, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    Ok(sink)
}

fn send(address: IpAddr, sink: &UdpSocket, datagrams: u64) -> Result<(), Stop> {
    let sender = UdpSocket::bind((address, 0))?;
    for _ in 0..datagrams {
        sender.send_to(&[7; 1000], sink.local_addr()?)?;
    }
    Ok(())
}

/// Reads what has arrived, once nothing more is in flight; returns the number of datagrams.
fn drain(sink: &UdpSocket) -> io::Result<u64> {
    sink.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut datagrams = 0;
    loop {
        match sink.recv(&mut [0; 2048]) {
            Ok(_) => datagrams += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(datagrams),
            Err(error) => return Err(error),
        }
    }
}

/// Drops of a watched receiver's buffer.
fn counted(source: &EbpfSource, watch: &Watch) -> u64 {
    let drops = watch.sample().drops.unwrap_or_default();
    // Without reasons the classes cannot be distinguished.
    if has(source, "skb_drop_reason") {
        drops
            .get(Direction::Ingress, DropClass::ReceiveBuffer)
            .packets
    } else {
        drops.total().packets
    }
}

/// What is not read was dropped, and the kernel's table of sockets says the same.
pub(super) fn receive_overflow(source: &EbpfSource, address: IpAddr) -> TestResult {
    const DATAGRAMS: u64 = 500;
    needs(source, "kfree_skb")?;
    let sink = small_sink(address)?;
    let port = sink.local_addr()?.port();
    let watch = source.watch(WatchTarget::socket(&sink))?;
    send(address, &sink, DATAGRAMS)?;
    let read = drain(&sink)?;
    let dropped = counted(source, &watch);
    equal("drops, by what was not read", dropped, DATAGRAMS - read)?;
    let table = if address.is_ipv6() { "udp6" } else { "udp" };
    let sockets = proc_net::sockets(table)?;
    let Some(row) = sockets.iter().find(|row| row.local_port == port) else {
        return Err(Stop::Fail(format!("/proc/net/{table} lacks the socket")));
    };
    equal(&format!("drops, by /proc/net/{table}"), dropped, row.drops)?;
    if dropped == 0 {
        return Err(Stop::Fail("a small buffer did not overflow".to_owned()));
    }
    Ok(format!(
        "{dropped} of {DATAGRAMS} datagrams dropped, as /proc/net/{table} counts"
    ))
}

/// Each drop of a few is an event.
pub(super) async fn events(source: &EbpfSource) -> TestResult {
    const DATAGRAMS: u64 = 50;
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    needs(source, "kfree_skb")?;
    // The limit of events is a second's: what an earlier test dropped does not count any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sink = small_sink(V4)?;
    let watch = source.watch(WatchTarget::socket(&sink))?;
    let mut stream = source.events()?;
    send(V4, &sink, DATAGRAMS)?;
    let (reported, lost) = reported(&mut *stream, &watch).await;
    let dropped = counted(source, &watch);
    if lost > 0 {
        return Err(Stop::Skip(format!(
            "this host drops too much for an event of each drop: {lost} events were shed"
        )));
    }
    equal("drop events", reported, dropped)?;
    if dropped == 0 {
        return Err(Stop::Fail("a small buffer did not overflow".to_owned()));
    }
    Ok(format!("{reported} events for {dropped} drops"))
}

/// Drop events of a flow, and events lost.
async fn reported(stream: &mut dyn EventStream, watch: &Watch) -> (u64, u64) {
    let (mut reported, mut lost) = (0, 0);
    while let Ok(Some(event)) = timeout(SILENCE, stream.next()).await {
        match event {
            Event::Drop(drop) if drop.flow == Some(watch.id()) => reported += 1,
            Event::Lost { events } => lost += events,
            _ => {}
        }
    }
    (reported, lost)
}
