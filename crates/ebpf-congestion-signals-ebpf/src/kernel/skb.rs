//! `struct sk_buff`

use ebpf_congestion_signals_common::ABSENT;

use super::{Device, Sock, fact, fields, is_null, load, read};

/// `struct sk_buff`
///
/// Pointers in an argument are loaded once. At each load of a pointer through an argument, the verifier
/// searches all of the kernel's types for one that says what the pointer may be: loads in many places
/// took half of the time of loading.
#[derive(Clone, Copy)]
pub struct Skb {
    at: *const u8,
    /// Of an argument: its socket and its device.
    pointers: Option<(*const u8, *const u8)>,
}

fields! {
    Skb {
        next_pointer: *const u8 = skb_next,
        pkt_len: u32 = skb_pkt_len,
        lost_reason: u32 = skb_lost_reason,
        len: u32 = skb_len,
        truesize: u32 = skb_truesize,
        protocol_be: u16 = skb_protocol,
        iif: u32 = skb_iif,
        network_header: u16 = skb_network_header,
        transport_header: u16 = skb_transport_header,
        head: u64 = skb_head,
        data: u64 = skb_data,
        end: u32 = skb_end,
        hash: u32 = skb_hash,
        priority: u32 = skb_priority,
        queue_mapping: u16 = skb_queue_mapping,
        pkt_type_byte: u8 = skb_pkt_type,
        inner_network_header: u16 = skb_inner_network_header,
    }
}

/// `PACKET_OUTGOING` (include/uapi/linux/if_packet.h): what the copies of sent packets are marked
/// with that packet taps get.
const PACKET_OUTGOING: u8 = 4;

impl Skb {
    /// An argument that is never null.
    #[inline(always)]
    pub fn new(argument: *const u8) -> Self {
        let sk = load(argument, fact!(skb_sk));
        let dev = load(argument, fact!(skb_dev));
        Self {
            at: argument,
            pointers: Some((sk, dev)),
        }
    }

    /// An argument that may be null, the first of a list. The verifier walks the list packet by packet:
    /// there, more values that it has to follow take longer than the searches.
    #[inline(always)]
    pub fn list(argument: *const u8) -> Self {
        if is_null(argument) {
            Self::in_list(core::ptr::null())
        } else {
            Self::in_list(argument)
        }
    }

    #[inline(always)]
    fn in_list(pointer: *const u8) -> Self {
        Self {
            at: pointer,
            pointers: None,
        }
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.at.is_null()
    }

    /// The address, as an identifier.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.at as u64
    }

    #[inline(always)]
    pub fn next(self) -> Self {
        Self::in_list(self.next_pointer())
    }

    #[inline(always)]
    pub fn sk(self) -> Sock {
        Sock {
            at: match self.pointers {
                Some((sk, _)) => sk,
                None => load(self.at, fact!(skb_sk)),
            },
        }
    }

    #[inline(always)]
    pub fn dev(self) -> Device {
        Device {
            at: match self.pointers {
                Some((_, dev)) => dev,
                None => load(self.at, fact!(skb_dev)),
            },
        }
    }

    /// Whether this is a packet tap's copy of a packet that was sent.
    #[inline(always)]
    pub fn is_taps_copy(self) -> bool {
        fact!(skb_pkt_type) != ABSENT && self.pkt_type_byte() & 7 == PACKET_OUTGOING
    }

    /// Whether a tunnel has put its own headers before the packet's. Where a packet was given more
    /// headroom, the place of an inner header that it has not is a number too, before that of the
    /// outer one.
    #[inline(always)]
    pub fn is_in_tunnel(self) -> bool {
        let inner = self.inner_network_header();
        inner != 0 && inner > self.network_header()
    }

    /// The device of a packet that may have been delivered; none for one that was.
    #[inline(always)]
    pub fn dev_unless_delivered(self) -> Device {
        if self.is_delivered() {
            Device::NONE
        } else {
            self.dev()
        }
    }

    /// Whether the packet is in a UDP socket's queue: then the field of its device holds other data
    /// (`udp_set_dev_scratch`), which is no kernel address.
    #[inline(always)]
    pub fn is_delivered(self) -> bool {
        let place = self.address().wrapping_add(fact!(skb_dev) as u64);
        let Some(device): Option<u64> = read(place) else {
            return false;
        };
        device != 0 && device >> 56 != 0xff
    }
}
