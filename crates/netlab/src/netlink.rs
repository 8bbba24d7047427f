//! Requests to the kernel over rtnetlink, one at a time.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A socket in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink {
    /// With the number of the last request.
    socket: Mutex<(Socket, u32)>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // 0 is the kernel.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket: Mutex::new((socket, 0)),
        })
    }

    /// Sends a request with these flags beside the usual ones and waits for its acknowledgement.
    /// What the kernel sends before that is the answer.
    pub(crate) fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut guard = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, number) = &mut *guard;
        *number = number.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = *number;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        socket.send(&buffer, 0)?;
        let mut answer = None;
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                // Messages begin at multiples of four bytes.
                let length = usize::try_from(message.header.length).map_err(io::Error::other)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if message.header.sequence_number != *number {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) => return Ok(answer),
                    _ => {}
                }
            }
        }
    }
}
