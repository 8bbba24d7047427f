//! `struct sock`

use ebpf_congestion_signals_common::ABSENT;

use super::{IPPROTO_UDP, fact, fields, is_null, load, read};

/// `struct sock`
#[derive(Clone, Copy)]
pub struct Sock {
    pub(super) at: *const u8,
}

fields! {
    Sock {
        cookie: u64 = sk_cookie,
        family: u16 = sk_family,
        state: u8 = sk_state,
        net: *const u8 = sk_net,
        port: u16 = sk_num,
        protocol: u16 = sk_protocol,
        wmem_alloc: u32 = sk_wmem_alloc,
        wmem_queued: u32 = sk_wmem_queued,
        sndbuf: u32 = sk_sndbuf,
        rmem_alloc: u32 = sk_rmem_alloc,
        rcvbuf: u32 = sk_rcvbuf,
        /// The first packet to be read; no packet where `receive_qlen` is 0.
        receive_next: *const u8 = sk_receive_next,
        receive_qlen: u32 = sk_receive_qlen,
    }
}

/// States of sockets that are not full (include/net/tcp_states.h).
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

impl Sock {
    pub const NONE: Self = Self {
        at: core::ptr::null(),
    };

    /// From an argument that is never null.
    #[inline(always)]
    pub fn new(argument: *const u8) -> Self {
        Self { at: argument }
    }

    /// From an argument that may be null.
    #[inline(always)]
    pub fn or_none(argument: *const u8) -> Self {
        if is_null(argument) {
            Self::NONE
        } else {
            Self::new(argument)
        }
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.at.is_null()
    }

    /// Whether it is a whole `struct sock`: not a connection that is being opened, nor what is left
    /// of one that was closed.
    #[inline(always)]
    pub fn is_full(self) -> bool {
        let state = self.state();
        state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV
    }

    /// Length and charge (`truesize`) of a packet that waits to be read, if one does.
    #[inline(always)]
    pub fn waiting(self) -> Option<[u32; 2]> {
        if self.receive_qlen() != 0 {
            let first = self.receive_next();
            return Some([
                load(first, fact!(skb_len)),
                load(first, fact!(skb_truesize)),
            ]);
        }
        if self.protocol() != IPPROTO_UDP as u16 || fact!(udp_reader_next) == ABSENT {
            return None;
        }
        // The verifier knows a `struct sock`, which a `struct udp_sock` begins with.
        let socket = self.at as u64;
        let packets: u32 = read(socket.wrapping_add(fact!(udp_reader_qlen) as u64))?;
        if packets == 0 {
            return None;
        }
        let first: u64 = read(socket.wrapping_add(fact!(udp_reader_next) as u64))?;
        Some([
            read(first.wrapping_add(fact!(skb_len) as u64))?,
            read(first.wrapping_add(fact!(skb_truesize) as u64))?,
        ])
    }
}
