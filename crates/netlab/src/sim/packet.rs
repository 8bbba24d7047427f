//! What travels.

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

/// Headers around a datagram's payload on the wire, as a queue of the sender's host counts them:
/// Ethernet 14, IPv4 20, UDP 8.
pub const UDP_WIRE_OVERHEAD: u32 = 42;

/// The same around a TCP segment's payload: Ethernet 14, IPv4 20, TCP with timestamps 32.
pub const TCP_WIRE_OVERHEAD: u32 = 66;

/// The flow that a packet belongs to, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The QUIC flow of this index.
    Quic(usize),
    /// The TCP flow of this index.
    Tcp(usize),
}

/// What a packet carries.
#[derive(Debug)]
pub(super) enum Body {
    /// UDP payload: datagrams of equal length one after the other, the last may be shorter.
    Quic(BytesMut),
    /// A TCP segment, by the number of its transmission.
    TcpData(u64),
    /// An acknowledgement of everything that arrived up to this transmission.
    TcpAck(u64),
}

/// What a socket hands down at once and a queue holds as one: a packet, or a batch of datagrams
/// that the device will split.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) owner: Owner,
    pub(super) body: Body,
    /// Datagrams.
    pub(super) packets: u32,
    /// Bytes on the wire of each but the last.
    pub(super) segment_wire: u32,
    /// Bytes on the wire of all.
    pub(super) wire: u32,
    /// The ECN codepoint in the IP header.
    pub(super) ecn: Option<EcnCodepoint>,
}

impl Batch {
    /// Datagrams of `segment` bytes of payload each, the last may be shorter.
    pub(super) fn quic(flow: usize, payload: BytesMut, segment: usize) -> Self {
        let packets = count(payload.len().div_ceil(segment.max(1)));
        Self {
            owner: Owner::Quic(flow),
            packets,
            segment_wire: count(segment) + UDP_WIRE_OVERHEAD,
            wire: count(payload.len()) + packets * UDP_WIRE_OVERHEAD,
            body: Body::Quic(payload),
            ecn: None,
        }
    }

    /// A single TCP packet.
    pub(super) fn tcp(flow: usize, body: Body, payload: u32) -> Self {
        Self {
            owner: Owner::Tcp(flow),
            body,
            packets: 1,
            segment_wire: payload + TCP_WIRE_OVERHEAD,
            wire: payload + TCP_WIRE_OVERHEAD,
            ecn: None,
        }
    }

    /// Bytes of payload.
    pub(super) fn payload(&self) -> u32 {
        let overhead = match self.owner {
            Owner::Quic(_) => UDP_WIRE_OVERHEAD,
            Owner::Tcp(_) => TCP_WIRE_OVERHEAD,
        };
        self.wire - self.packets * overhead
    }

    /// Bytes of payload of the largest datagram.
    pub(super) fn segment(&self) -> usize {
        match &self.body {
            Body::Quic(payload) => {
                let segment = self.segment_wire - UDP_WIRE_OVERHEAD;
                payload.len().min(segment as usize)
            }
            Body::TcpData(_) | Body::TcpAck(_) => self.payload() as usize,
        }
    }

    /// Takes the first datagram off; the batch itself when it is the only one.
    pub(super) fn split_first(mut self) -> (Self, Option<Self>) {
        let Body::Quic(payload) = &mut self.body else {
            return (self, None);
        };
        if self.packets <= 1 {
            return (self, None);
        }
        let segment = self.segment_wire - UDP_WIRE_OVERHEAD;
        let first = Self {
            owner: self.owner,
            body: Body::Quic(payload.split_to(segment as usize)),
            packets: 1,
            segment_wire: self.segment_wire,
            wire: self.segment_wire,
            ecn: self.ecn,
        };
        self.packets -= 1;
        self.wire -= first.wire;
        (first, Some(self))
    }

    /// What the kernel charges to the sending socket (`truesize`): the linear buffer with its
    /// headers and the shared info behind it, as the slab allocator rounds it up, and the
    /// `sk_buff` itself.
    pub(super) fn truesize(&self) -> u32 {
        const HEADROOM_AND_SHARED_INFO: u32 = 16 + 28 + 320;
        const SK_BUFF: u32 = 256;
        (self.payload() + HEADROOM_AND_SHARED_INFO).next_power_of_two() + SK_BUFF
    }
}

/// Lengths here are those of datagrams and batches of at most ten.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_splits_into_its_datagrams() {
        let mut batch = Some(Batch::quic(0, BytesMut::zeroed(3300), 1200));
        let mut wires = Vec::new();
        while let Some(rest) = batch {
            let (first, more) = rest.split_first();
            let Body::Quic(payload) = &first.body else {
                panic!("not QUIC")
            };
            assert_eq!(payload.len(), first.payload() as usize);
            wires.push(first.wire);
            batch = more;
        }
        assert_eq!(wires, [1242, 1242, 942]);
    }

    #[test]
    fn the_kernel_charges_more_than_the_payload() {
        let one = Batch::quic(0, BytesMut::zeroed(1452), 1452);
        assert_eq!(one.truesize(), 2048 + 256);
        let ten = Batch::quic(0, BytesMut::zeroed(14_520), 1452);
        assert_eq!(ten.truesize(), 16_384 + 256);
    }
}
