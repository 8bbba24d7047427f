//! What sockets send, over loopback.

use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;

use ebpf_congestion_signals::{EbpfSource, FlowSample, SignalSource, WatchTarget};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::{Stop, TestResult, bound, equal, has, needs};

/// Payload of a datagram.
const PAYLOAD: usize = 1000;

/// Datagrams that a receive buffer of the usual size holds.
const DATAGRAMS: u64 = 50;

/// A pair of bound sockets.
fn pair(address: IpAddr) -> Result<(UdpSocket, UdpSocket), Stop> {
    let sender = bound(address, UdpSocket::bind((address, 0)))?;
    Ok((sender, UdpSocket::bind((address, 0))?))
}

/// Holds what was counted against what was sent.
fn check(
    source: &EbpfSource,
    sample: &FlowSample,
    datagrams: u64,
    calls: u64,
) -> Result<String, Stop> {
    let bytes = datagrams * PAYLOAD as u64;
    equal("bytes", sample.sent_bytes.unwrap_or_default(), bytes)?;
    equal(
        "datagrams",
        sample.sent_packets.unwrap_or_default(),
        datagrams,
    )?;
    if !has(source, "sock_send_length") {
        return Ok(format!("{datagrams} datagrams, {bytes} bytes"));
    }
    let Some(send) = sample.send else {
        return Err(Stop::Fail("the socket's calls are not counted".to_owned()));
    };
    equal("bytes of calls", send.bytes, bytes)?;
    equal("calls", send.calls, calls)?;
    Ok(format!(
        "{datagrams} datagrams, {bytes} bytes, {calls} calls"
    ))
}

/// One datagram a call.
pub(super) fn udp(source: &EbpfSource, address: IpAddr) -> TestResult {
    needs(source, "net_dev_queue")?;
    let (sender, sink) = pair(address)?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    for _ in 0..DATAGRAMS {
        sender.send_to(&[7; PAYLOAD], sink.local_addr()?)?;
    }
    check(source, &watch.sample(), DATAGRAMS, DATAGRAMS)
}

/// Ten datagrams a call, which the kernel carries as one for as long as it can.
pub(super) fn batches(source: &EbpfSource, address: IpAddr) -> TestResult {
    const SEGMENTS: usize = 10;
    const BATCHES: u64 = 5;
    needs(source, "net_dev_queue")?;
    let (sender, sink) = pair(address)?;
    let watch = source.watch(WatchTarget::socket(&sender))?;
    let segment = u16::try_from(PAYLOAD)?;
    for _ in 0..BATCHES {
        sendmsg(
            sender.as_raw_fd(),
            &[IoSlice::new(&[7; SEGMENTS * PAYLOAD])],
            &[ControlMessage::UdpGsoSegments(&segment)],
            MsgFlags::empty(),
            Some(&SockaddrStorage::from(sink.local_addr()?)),
        )?;
    }
    check(source, &watch.sample(), BATCHES * SEGMENTS as u64, BATCHES)
}

/// A stream, of which the socket's calls and bytes are counted.
pub(super) fn tcp(source: &EbpfSource, address: IpAddr) -> TestResult {
    const WRITES: u64 = 64;
    const WRITE: usize = 16 * 1024;
    needs(source, "sock_send_length")?;
    let listener = bound(address, TcpListener::bind((address, 0)))?;
    let to = listener.local_addr()?;
    let reader = thread::spawn(move || -> std::io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        stream.read_to_end(&mut Vec::new())
    });
    let mut stream = TcpStream::connect(to)?;
    let watch = source.watch(WatchTarget::socket(&stream))?;
    let mut written = 0;
    for _ in 0..WRITES {
        written += stream.write(&[7; WRITE])? as u64;
    }
    let Some(send) = watch.sample().send else {
        return Err(Stop::Fail("the socket's calls are not counted".to_owned()));
    };
    drop(stream);
    let Ok(read) = reader.join() else {
        return Err(Stop::Fail("the reader panicked".to_owned()));
    };
    equal("bytes that arrived", read? as u64, written)?;
    equal("bytes", send.bytes, written)?;
    equal("calls", send.calls, WRITES)?;
    Ok(format!("{written} bytes, {WRITES} calls"))
}
