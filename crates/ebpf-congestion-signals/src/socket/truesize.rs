//! What the kernel charges a socket for what it sends.
//!
//! A send buffer is counted in `truesize`: the memory of the packets, not their payload. What a
//! send is charged follows from how the kernel allocates it, which has been the same since UDP
//! learned GSO (Linux 4.18) but for the small heads of Linux 6.3.

use crate::observer::SocketSend;

/// `struct sk_buff`, rounded up to a cache line.
const SKB: u64 = 256;

/// `struct skb_shared_info`, rounded up to a cache line: it lies behind every packet's head.
const SHARED_INFO: u64 = 320;

/// What `ip_append_data` makes room for beside the packet: the link layer's header of 14 bytes
/// rounded up to 16 (`LL_RESERVED_SPACE`), and 15 more.
const HEADROOM: u64 = 31;

/// Head of a packet with nothing but headers in it: the rest of a GSO batch lies in pages. 576
/// from Linux 6.3 on (`SKB_SMALL_HEAD_CACHE_SIZE`), 512 before.
const SMALL_HEAD: u64 = 576;

/// Most that a small head has room for beside [`SHARED_INFO`].
const SMALL_HEAD_ROOM: u64 = SMALL_HEAD - SHARED_INFO;

/// An IPv4 and a UDP header.
const HEADERS_V4: u64 = 20 + 8;

/// An IPv6 and a UDP header.
const HEADERS_V6: u64 = 40 + 8;

/// An Ethernet header: what most devices, loopback included, put before a packet.
const LINK_HEADER: u64 = 14;

/// What one send weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes on the wire of all its datagrams, as a queue discipline counts them on an Ethernet
    /// device.
    pub wire: u64,
    /// `truesize` while it is one packet.
    pub whole: u64,
    /// `truesize` after a queue discipline or a device split the batch into its datagrams. The
    /// same as `whole` for a single datagram.
    pub split: u64,
}

impl Weight {
    /// The weight of a send.
    pub fn of(send: &SocketSend) -> Self {
        let bytes = send.bytes as u64;
        let datagrams = send.datagrams() as u64;
        let headers = match send.destination.ip().to_canonical() {
            std::net::IpAddr::V4(_) => HEADERS_V4,
            std::net::IpAddr::V6(_) => HEADERS_V6,
        };
        let wire = bytes + datagrams * (headers + LINK_HEADER);
        if datagrams == 1 {
            let linear = linear(bytes + headers);
            return Self {
                wire,
                whole: linear,
                split: linear,
            };
        }
        Self {
            wire,
            whole: SKB + SMALL_HEAD + bytes,
            split: datagrams * (SKB + SMALL_HEAD) + bytes,
        }
    }
}

/// `truesize` of a packet of `length` bytes whose data all lie in its head.
fn linear(length: u64) -> u64 {
    let room = length + HEADROOM;
    if room <= SMALL_HEAD_ROOM {
        SKB + SMALL_HEAD
    } else {
        // The kernel's allocator has sizes that are powers of two.
        SKB + (room + SHARED_INFO).next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn send(bytes: usize, segment: Option<usize>) -> SocketSend {
        SocketSend {
            destination: SocketAddr::from(([192, 0, 2, 1], 443)),
            bytes,
            segment,
        }
    }

    #[test]
    fn a_single_datagram_is_charged_by_the_size_of_its_allocation() {
        for (bytes, truesize) in [(100, 832), (600, 1280), (1200, 2304), (1452, 2304)] {
            let weight = Weight::of(&send(bytes, None));
            assert_eq!((weight.whole, weight.split), (truesize, truesize));
            assert_eq!(weight.wire, bytes as u64 + 42);
        }
    }

    #[test]
    fn a_batch_is_charged_one_head_until_it_is_split() {
        let weight = Weight::of(&send(14_520, Some(1452)));
        assert_eq!(weight.wire, 10 * (1452 + 42));
        assert_eq!(weight.whole, 832 + 14_520);
        assert_eq!(weight.split, 10 * (832 + 1452));
    }

    #[test]
    fn a_mapped_address_is_sent_over_ipv4() {
        let mapped = SocketSend {
            destination: "[::ffff:192.0.2.1]:443".parse().unwrap(),
            ..send(1200, None)
        };
        assert_eq!(Weight::of(&mapped), Weight::of(&send(1200, None)));
        let v6 = SocketSend {
            destination: "[2001:db8::1]:443".parse().unwrap(),
            ..mapped
        };
        assert_eq!(Weight::of(&v6).wire, 1262);
    }

    /// What the running kernel charges: loopback hands the sender's packet to the receiver as it is,
    /// and what is not read yet is charged there.
    #[test]
    fn the_running_kernel_charges_what_is_computed() {
        use std::io::IoSlice;
        use std::net::UdpSocket;
        use std::os::fd::{AsFd, AsRawFd};

        use nix::sys::socket::sockopt::UdpGroSegment;
        use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt};

        use crate::socket::kernel::memory;

        for (bytes, segment) in [
            (100, None),
            (600, None),
            (1200, None),
            (1452, None),
            (12_000, Some(1200)),
            (14_520, Some(1452)),
        ] {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            setsockopt(&receiver, UdpGroSegment, &true).unwrap();
            let to = SockaddrStorage::from(receiver.local_addr().unwrap());
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let size = segment.map(|segment: usize| u16::try_from(segment).unwrap());
            let control = size.as_ref().map(ControlMessage::UdpGsoSegments);
            let payload = vec![0; bytes];
            sendmsg(
                sender.as_raw_fd(),
                &[IoSlice::new(&payload)],
                control.as_slice(),
                MsgFlags::empty(),
                Some(&to),
            )
            .unwrap();
            let charged = u64::from(memory(receiver.as_fd()).unwrap().receive);
            let computed = Weight::of(&send(bytes, segment)).whole;
            // Kernels before 6.3 have smaller heads; a head can lie in what is left of a page.
            assert!(
                charged.abs_diff(computed) * 10 <= computed,
                "{bytes} bytes: charged {charged}, computed {computed}"
            );
        }
    }
}
