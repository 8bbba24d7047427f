//! Sockets that send to one another through a device's queue or over loopback, for benches of what
//! probes cost.

#![allow(dead_code, reason = "each bench uses a part")]

use std::error::Error;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use netlab::{Bottleneck, Family, Path, PathConfig, TokenBucket};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

/// Lets everything pass, but through a queue.
pub(crate) const WIDE: TokenBucket = TokenBucket {
    rate: 100_000_000_000,
    burst: 1 << 20,
    limit: 1 << 20,
};

/// Drops nearly everything.
pub(crate) const NARROW: TokenBucket = TokenBucket {
    rate: 1_000_000,
    burst: 2_000,
    limit: 4_000,
};

/// Payload bytes of a datagram.
const DATAGRAM: u16 = 1200;

/// Two sockets, the first of which sends to the second.
pub(crate) struct Pair {
    pub(crate) sender: UdpSocket,
    pub(crate) sink: UdpSocket,
    to: SocketAddrV4,
    /// Between them, if they are not on loopback.
    _path: Option<Path>,
}

impl Pair {
    fn new(sender: UdpSocket, sink: UdpSocket, path: Option<Path>) -> Result<Self, Box<dyn Error>> {
        let std::net::SocketAddr::V4(to) = sink.local_addr()? else {
            return Err("the sockets are of IPv4".into());
        };
        Ok(Self {
            sender,
            sink,
            to,
            _path: path,
        })
    }

    pub(crate) fn over_loopback() -> Result<Self, Box<dyn Error>> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        Self::new(bind()?, bind()?, None)
    }

    /// Through a token bucket at the sender's device.
    pub(crate) fn through(bucket: TokenBucket) -> Result<Self, Box<dyn Error>> {
        let path = Path::new(&PathConfig {
            bottleneck: Bottleneck::Local(bucket),
            ..PathConfig::default()
        })?;
        let ends = path.addresses(Family::V4);
        let sender = path.sender().run(|| UdpSocket::bind((ends.sender, 0)))??;
        let sink = path
            .receiver()
            .run(|| UdpSocket::bind((ends.receiver, 0)))??;
        Self::new(sender, sink, Some(path))
    }

    /// Sends so many datagrams in one call: as one GSO batch, if they are more than one.
    pub(crate) fn send(&self, segments: usize) -> nix::Result<()> {
        let data = [0; 10 * DATAGRAM as usize];
        let data = [IoSlice::new(&data[..segments * usize::from(DATAGRAM)])];
        let batch = [ControlMessage::UdpGsoSegments(&DATAGRAM)];
        let control = if segments > 1 { &batch[..] } else { &[] };
        let to = SockaddrIn::from(self.to);
        let socket = self.sender.as_raw_fd();
        sendmsg(socket, &data, control, MsgFlags::empty(), Some(&to)).map(drop)
    }
}
