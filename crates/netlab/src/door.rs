//! Where the relay takes packets in and gives them out.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::OnceLock,
};

/// Reads and writes whole packets, and never blocks.
#[derive(Debug)]
pub(crate) enum Door {
    /// A TUN device: IP packets.
    Tun(File),
    /// A socket for the datagrams of one peer: the first that sends.
    Entrance {
        socket: UdpSocket,
        peer: OnceLock<SocketAddr>,
    },
    /// A connected socket.
    Exit(UdpSocket),
}

impl Door {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tun(device) => (&*device).read(buffer),
            Self::Entrance { socket, peer } => {
                let (length, from) = socket.recv_from(buffer)?;
                if *peer.get_or_init(|| from) == from {
                    Ok(length)
                } else {
                    Err(io::ErrorKind::Interrupted.into())
                }
            }
            Self::Exit(socket) => socket.recv(buffer),
        }
    }

    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tun(device) => (&*device).write(packet),
            Self::Entrance { socket, peer } => match peer.get() {
                Some(peer) => socket.send_to(packet, peer),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            Self::Exit(socket) => socket.send(packet),
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tun(device) => device.as_fd(),
            Self::Entrance { socket, .. } | Self::Exit(socket) => socket.as_fd(),
        }
    }
}
