//! A relay between sockets, for where there is no TUN device.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::OnceLock,
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    door::Door,
    error::Error,
    path::{Family, Path},
    relay::{Relay, RelayConfig, RelayStats},
};

/// Bytes of receive buffer that the relay asks for.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Bytes of the largest datagram that is passed on whole.
const LARGEST: u32 = 9_000;

/// Delay and loss for the datagrams between one sender and one server, by two sockets in the
/// receiver's namespace of a [`Path`]: an entrance that the sender takes for the server, and one
/// that the server takes for the sender.
///
/// Unlike the relay of a [`PathConfig`](crate::PathConfig) it needs no TUN device, which only root
/// can open on some systems. But it passes on UDP payloads alone: marks of ECN end here.
#[derive(Debug)]
pub struct DatagramRelay {
    relay: Relay,
    entrance: SocketAddr,
    exit: SocketAddr,
}

impl DatagramRelay {
    /// Starts relaying to `server`, a socket bound in the receiver's namespace to an address of
    /// loopback (IPv4).
    ///
    /// # Errors
    ///
    /// [`Error::System`] when no socket or thread could be had.
    pub fn start(path: &Path, config: &RelayConfig, server: SocketAddr) -> Result<Self, Error> {
        let address = path.addresses(Family::V4).receiver;
        let sockets = path.receiver().run(|| {
            let entrance = UdpSocket::bind((address, 0))?;
            let exit = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            exit.connect(server)?;
            for socket in [&entrance, &exit] {
                socket.set_nonblocking(true)?;
                // As much as this user may have: the relay's thread may have to wait for its turn.
                let _ = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
                let _ = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
            }
            io::Result::Ok((entrance.local_addr()?, exit.local_addr()?, entrance, exit))
        })?;
        let (near, far, entrance, exit) = sockets.map_err(|e| {
            Error::system("make the relay's sockets", e, "raise the limit on files")
        })?;
        let near_door = Door::Entrance {
            socket: entrance,
            peer: OnceLock::new(),
        };
        let doors = (near_door, Door::Exit(exit));
        Ok(Self {
            relay: Relay::start(config, LARGEST, doors)?,
            entrance: near,
            exit: far,
        })
    }

    /// Where the sender sends to, from the sender's namespace.
    #[must_use]
    pub fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    /// What the relay did so far.
    ///
    /// # Errors
    ///
    /// When /proc cannot be read.
    pub fn stats(&self, path: &Path) -> Result<RelayStats, Error> {
        let missed = |port| -> Result<u64, Error> {
            let sockets = path.receiver().udp_sockets(Family::V4, port)?;
            Ok(sockets.iter().map(|socket| socket.drops).sum())
        };
        let mut stats = self.relay.stats();
        stats.forward.missed = missed(self.entrance.port())?;
        stats.backward.missed = missed(self.exit.port())?;
        Ok(stats)
    }
}
