//! Addresses and segments of a packet, read from its headers.

use ebpf_congestion_signals_common::FlowAddress;

use crate::kernel::{IPPROTO_TCP, IPPROTO_UDP, Skb, fact, read, read_into};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Length of a UDP header in bytes (RFC 768).
const UDP_HEADER: u32 = 8;

/// Offset of the data offset in a TCP header, in words of four bytes (RFC 9293 section 3.1).
const TCP_DATA_OFFSET_AT: u64 = 12;

/// Both ends of a TCP or UDP packet.
#[repr(C)]
pub struct Ends {
    pub source: FlowAddress,
    pub destination: FlowAddress,
    pub protocol: u8,
}

/// Protocols whose headers can precede those of IP in an egress packet: VLAN tags and PPPoE.
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const ETH_P_PPP_SES: u16 = 0x8864;

/// Bits of IPv4's fragment offset (RFC 791 section 3.1).
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Whether the packet is IPv4 or IPv6, in a VLAN or PPPoE session or not.
#[inline(always)]
pub fn is_ip(skb: Skb) -> bool {
    matches!(
        u16::from_be(skb.protocol_be()),
        ETH_P_IP | ETH_P_IPV6 | ETH_P_8021Q | ETH_P_8021AD | ETH_P_PPP_SES
    )
}

/// Room to read a packet's ends in.
#[repr(C)]
pub struct Parsing {
    header: [u8; 40],
    pub ends: Ends,
}

/// Reads the ends of a packet, in a tunnel those of the packet inside; whether it has any. None has
/// anything but TCP and UDP directly over IP, nor a fragment without ports.
#[inline(always)]
pub fn parse(skb: Skb, work: *mut Parsing) -> bool {
    let protocol = u16::from_be(skb.protocol_be());
    let is_in_tunnel = skb.is_in_tunnel();
    let at = if is_in_tunnel {
        skb.inner_network_header()
    } else {
        skb.network_header()
    };
    let network = skb.head().wrapping_add(at as u64);
    let is_v6 = if !is_in_tunnel && (protocol == ETH_P_IP || protocol == ETH_P_IPV6) {
        protocol == ETH_P_IPV6
    } else {
        let first: u8 = read(network).unwrap_or_default();
        first >> 4 == 6
    };
    // SAFETY: the caller's memory.
    let (header, ends) = unsafe { (&raw mut (*work).header, &raw mut (*work).ends) };
    if is_v6 {
        if !read_into(network, header.cast::<u8>(), 40) {
            return false;
        }
        let Some([source_port, destination_port]) = ports(network.wrapping_add(40)) else {
            return false;
        };
        // SAFETY: as above; addresses of 16 bytes at their places in the header (RFC 8200 section 3).
        unsafe {
            (*ends).protocol = (*header)[6];
            (*ends).source = FlowAddress::v6(*header.cast::<u8>().add(8).cast(), source_port);
            (*ends).destination =
                FlowAddress::v6(*header.cast::<u8>().add(24).cast(), destination_port);
            if (*ends).source.is_link_local() || (*ends).destination.is_link_local() {
                let link = skb.dev_unless_delivered().ifindex_or_none();
                (*ends).source = (*ends).source.on_link(link);
                (*ends).destination = (*ends).destination.on_link(link);
            }
        }
    } else {
        if !read_into(network, header.cast::<u8>(), 20) {
            return false;
        }
        // SAFETY: as above.
        let (length, fragment) = unsafe {
            (
                ((*header)[0] & 0xf) as u64 * 4,
                u16::from_be_bytes([(*header)[6], (*header)[7]]),
            )
        };
        if fragment & FRAGMENT_OFFSET != 0 {
            return false;
        }
        let Some([source_port, destination_port]) = ports(network.wrapping_add(length)) else {
            return false;
        };
        // SAFETY: as above; addresses of 4 bytes at their places in the header (RFC 791 section 3.1).
        unsafe {
            (*ends).protocol = (*header)[9];
            (*ends).source = FlowAddress::v4(*header.cast::<u8>().add(12).cast(), source_port);
            (*ends).destination =
                FlowAddress::v4(*header.cast::<u8>().add(16).cast(), destination_port);
        }
    }
    // SAFETY: as above.
    let protocol = unsafe { (*ends).protocol };
    protocol == IPPROTO_UDP || protocol == IPPROTO_TCP
}

/// Packets that this one is on the wire: the segments of a GSO batch, else 1.
#[inline(always)]
pub fn packets(skb: Skb) -> u32 {
    let shinfo = skb.head().wrapping_add(skb.end() as u64);
    let segments: u16 =
        read(shinfo.wrapping_add(fact!(shinfo_gso_segs) as u64)).unwrap_or_default();
    if segments > 1 { segments as u32 } else { 1 }
}

/// Payload bytes of an egress packet or batch: a batch carries its headers once. For UDP
/// and TCP.
#[inline(always)]
pub fn payload(skb: Skb, protocol: u8) -> u32 {
    let transport = skb.head().wrapping_add(skb.transport_header() as u64);
    let transport_header = if protocol == IPPROTO_TCP {
        let data_offset: u8 = read(transport.wrapping_add(TCP_DATA_OFFSET_AT)).unwrap_or_default();
        (data_offset >> 4) as u32 * 4
    } else {
        UDP_HEADER
    };
    let headers = transport.wrapping_sub(skb.data()) as u32 + transport_header;
    let len = skb.len();
    len.saturating_sub(headers)
}

#[inline(always)]
fn ports(transport: u64) -> Option<[u16; 2]> {
    let bytes: [u8; 4] = read(transport)?;
    Some([
        u16::from_be_bytes([bytes[0], bytes[1]]),
        u16::from_be_bytes([bytes[2], bytes[3]]),
    ])
}
