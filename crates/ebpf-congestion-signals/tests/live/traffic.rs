//! Sockets and datagrams for the tests.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use netlab::{Bottleneck, Family, Namespace, Path, PathConfig, TokenBucket};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};

/// Payload of a test's datagrams, bytes.
pub(crate) const PAYLOAD: usize = 1200;

/// Room that no test overflows by accident.
const RECEIVE_BUFFER: usize = 32 << 20;

/// How long nothing comes before all has come.
const SILENCE: Duration = Duration::from_millis(300);

/// A bound socket in a namespace.
pub(crate) fn bind(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket, Box<dyn Error>> {
    Ok(namespace.run(|| UdpSocket::bind((address, 0)))??)
}

/// A bound socket with room for whatever a test sends.
pub(crate) fn sink(path: &Path, address: IpAddr) -> Result<UdpSocket, Box<dyn Error>> {
    let socket = bind(path.receiver(), address)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    Ok(socket)
}

/// A path so slow that the backlog hardly changes while it is read, and a socket at either end.
pub(crate) struct Slow {
    /// Holds the path.
    pub(crate) _path: Path,
    pub(crate) sink: UdpSocket,
    pub(crate) sender: UdpSocket,
}

impl Slow {
    /// Bits a second.
    pub(crate) const RATE: u64 = 2_000_000;

    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let path = Path::new(&PathConfig {
            bottleneck: Bottleneck::Local(TokenBucket {
                rate: Self::RATE,
                burst: 3_000,
                limit: 200_000,
            }),
            ..PathConfig::default()
        })?;
        let ends = path.addresses(Family::V4);
        Ok(Self {
            sink: sink(&path, ends.receiver)?,
            sender: bind(path.sender(), ends.sender)?,
            _path: path,
        })
    }
}

/// Sends `count` datagrams.
pub(crate) fn send(socket: &UdpSocket, to: SocketAddr, count: usize) -> io::Result<()> {
    for _ in 0..count {
        socket.send_to(&[7; PAYLOAD], to)?;
    }
    Ok(())
}

/// Sends one batch of `segments` datagrams, which the kernel carries as one for as long as it can.
pub(crate) fn send_batch(socket: &UdpSocket, to: SocketAddr, segments: usize) -> io::Result<()> {
    let payload = vec![7; segments * PAYLOAD];
    let segment = u16::try_from(PAYLOAD).expect("a payload fits a datagram");
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&payload)],
        &[ControlMessage::UdpGsoSegments(&segment)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    )?;
    assert_eq!(sent, payload.len());
    Ok(())
}

/// Reads until nothing more comes; answers how many datagrams came.
pub(crate) fn drain(socket: &UdpSocket) -> io::Result<u64> {
    socket.set_read_timeout(Some(SILENCE))?;
    let mut buffer = [0; 2048];
    let mut datagrams = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => datagrams += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(datagrams),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until `holds`, for some seconds at most.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{what} does not come true"
        );
        thread::sleep(Duration::from_millis(2));
    }
}
