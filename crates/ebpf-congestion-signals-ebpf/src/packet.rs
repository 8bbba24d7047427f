//! Addresses and segments of a packet, read from its headers.

use ebpf_congestion_signals_common::FlowAddress;

use crate::kernel::{Skb, fact, read};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;

/// Length of a UDP header in bytes (RFC 768).
const UDP_HEADER: u32 = 8;

/// Where a TCP header tells its own length, in words of four bytes (RFC 9293 section 3.1).
const TCP_DATA_OFFSET_AT: u64 = 12;

/// Both ends of a TCP or UDP packet.
pub struct Ends {
    pub source: FlowAddress,
    pub destination: FlowAddress,
    pub protocol: u8,
}

/// Whether the packet is IPv4 or IPv6.
#[inline(always)]
pub fn is_ip(skb: Skb) -> bool {
    let protocol = u16::from_be(skb.protocol_be());
    protocol == ETH_P_IP || protocol == ETH_P_IPV6
}

/// The ends of a packet; `None` for anything but TCP and UDP directly over IP.
#[inline(always)]
pub fn ends(skb: Skb) -> Option<Ends> {
    let network = skb.head().wrapping_add(skb.network_header() as u64);
    if u16::from_be(skb.protocol_be()) == ETH_P_IPV6 {
        let header: [u8; 40] = read(network)?;
        let [source_port, destination_port] = ports(network.wrapping_add(40))?;
        let protocol = header[6];
        if protocol != IPPROTO_UDP && protocol != IPPROTO_TCP {
            return None;
        }
        let mut source = [0; 16];
        source.copy_from_slice(&header[8..24]);
        let mut destination = [0; 16];
        destination.copy_from_slice(&header[24..40]);
        let mut source = FlowAddress::v6(source, source_port);
        let mut destination = FlowAddress::v6(destination, destination_port);
        if source.is_link_local() || destination.is_link_local() {
            let link = skb.dev().ifindex_or_none();
            source = source.on_link(link);
            destination = destination.on_link(link);
        }
        Some(Ends {
            source,
            destination,
            protocol,
        })
    } else {
        let header: [u8; 20] = read(network)?;
        let header_length = (header[0] & 0xf) as u64 * 4;
        let [source_port, destination_port] = ports(network.wrapping_add(header_length))?;
        let protocol = header[9];
        if protocol != IPPROTO_UDP && protocol != IPPROTO_TCP {
            return None;
        }
        Some(Ends {
            source: FlowAddress::v4(
                [header[12], header[13], header[14], header[15]],
                source_port,
            ),
            destination: FlowAddress::v4(
                [header[16], header[17], header[18], header[19]],
                destination_port,
            ),
            protocol,
        })
    }
}

/// Packets that this one is on the wire: the segments of a GSO batch, else 1.
#[inline(always)]
pub fn packets(skb: Skb) -> u32 {
    let shinfo = skb.head().wrapping_add(skb.end() as u64);
    let segments: u16 =
        read(shinfo.wrapping_add(fact!(shinfo_gso_segs) as u64)).unwrap_or_default();
    if segments > 1 { segments as u32 } else { 1 }
}

/// Payload bytes of a packet or batch on its way out: a batch carries its headers once. For UDP
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
