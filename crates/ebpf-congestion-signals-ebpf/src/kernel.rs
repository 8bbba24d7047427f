//! The kernel's structures, read at the offsets that the loader found in its BTF.
//!
//! Pointers that come from a tracepoint's arguments, and those read through them, are known to the
//! verifier by type: loads through them are allowed, and read as zero where the memory is gone.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use ebpf_congestion_signals_common::{ABSENT, KernelFacts, QDISC_NAME_BYTES};

use crate::packet::IPPROTO_UDP;

/// Set by the loader before the programs are verified.
#[unsafe(no_mangle)]
pub static KERNEL_FACTS: KernelFacts = KernelFacts::UNKNOWN;

/// A field of [`KERNEL_FACTS`]. Volatile, so that the compiler does not take the value in the
/// object for the one at load.
macro_rules! fact {
    ($field:ident) => {
        $crate::kernel::word(&raw const $crate::kernel::KERNEL_FACTS.$field)
    };
}
pub(crate) use fact;

/// For [`fact!`].
#[inline(always)]
pub fn word(fact: *const u32) -> u32 {
    // SAFETY: a field of a static.
    unsafe { fact.read_volatile() }
}

/// Copies a `T` from any address.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper answers an error for memory that cannot be read.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Loads a `T` at an offset of a typed kernel pointer.
#[inline(always)]
fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: the verifier checks type and bounds of the load.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

macro_rules! kernel_pointer {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $fact:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name(*const u8);

        impl $name {
            $($(#[$field_doc])*
            #[inline(always)]
            pub fn $field(self) -> $type {
                load(self.0, fact!($fact))
            })*
        }
    };
}

kernel_pointer! {
    /// `struct sk_buff`
    Skb {
        next_pointer: *const u8 = skb_next,
        sk_pointer: *const u8 = skb_sk,
        dev_pointer: *const u8 = skb_dev,
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
    }
}

impl Skb {
    #[inline(always)]
    pub fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// The address, to tell one from another.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub fn next(self) -> Self {
        Self(self.next_pointer())
    }

    #[inline(always)]
    pub fn sk(self) -> Sock {
        Sock(self.sk_pointer())
    }

    #[inline(always)]
    pub fn dev(self) -> Device {
        Device(self.dev_pointer())
    }
}

kernel_pointer! {
    /// `struct sock`
    Sock {
        cookie: u64 = sk_cookie,
        family: u16 = sk_family,
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

impl Sock {
    pub const NONE: Self = Self(core::ptr::null());

    #[inline(always)]
    pub fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// Length and charge (`truesize`) of a packet that waits to be read, if one does.
    #[inline(always)]
    pub fn waiting(self) -> Option<[u32; 2]> {
        if self.receive_qlen() != 0 {
            let first = Skb(self.receive_next());
            return Some([first.len(), first.truesize()]);
        }
        if self.protocol() != IPPROTO_UDP as u16 || fact!(udp_reader_next) == ABSENT {
            return None;
        }
        // The verifier knows a `struct sock`, which a `struct udp_sock` begins with.
        let socket = self.0 as u64;
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

kernel_pointer! {
    /// `struct net_device`
    Device {
        net: *const u8 = dev_net,
        ifindex: u32 = dev_ifindex,
        lower: u64 = dev_lower,
    }
}

impl Device {
    /// Whether it hands its packets to another device of this host, where they come by again: a
    /// VLAN, bond, bridge or the like.
    #[inline(always)]
    pub fn is_stacked(self) -> bool {
        if self.0.is_null() || fact!(dev_lower) == ABSENT {
            return false;
        }
        // An empty list points at itself.
        self.lower() != (self.0 as u64).wrapping_add(fact!(dev_lower) as u64)
    }

    /// Its index; 0 where there is no device.
    #[inline(always)]
    pub fn ifindex_or_none(self) -> u32 {
        if self.0.is_null() { 0 } else { self.ifindex() }
    }

    /// Cookie of the device's network namespace; 0 where the kernel has none.
    #[inline(always)]
    pub fn netns_cookie(self) -> u64 {
        if self.0.is_null() || fact!(net_cookie) == ABSENT {
            return 0;
        }
        let net = self.net();
        if net.is_null() {
            0
        } else {
            load(net, fact!(net_cookie))
        }
    }
}

kernel_pointer! {
    /// `struct Qdisc`
    Qdisc {
        flags: u32 = qdisc_flags,
        handle: u32 = qdisc_handle,
        qlen: u32 = qdisc_qlen,
        backlog: u32 = qdisc_backlog,
        dev_queue: *const u8 = qdisc_dev_queue,
        limit: u32 = qdisc_limit,
        ops: *const u8 = qdisc_ops,
    }
}

/// A queue discipline's name, as it lies in memory.
pub type QdiscName = [u64; QDISC_NAME_BYTES / 8];

/// `tbf`, as [`QdiscName`] holds it.
const TBF: u64 = u64::from_ne_bytes(*b"tbf\0\0\0\0\0");

impl Qdisc {
    #[inline(always)]
    pub fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// The address, to tell one from another.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Its kind.
    #[inline(always)]
    pub fn kind(self) -> QdiscName {
        let ops = self.ops();
        if ops.is_null() {
            return [0; 2];
        }
        [
            load(ops, fact!(qdisc_ops_id)),
            load(ops, fact!(qdisc_ops_id).wrapping_add(8)),
        ]
    }

    /// Most that it holds, bytes or packets as its kind has it; 0 where not known.
    #[inline(always)]
    pub fn capacity(self, kind: u64) -> u32 {
        if kind != TBF {
            return self.limit();
        }
        // A token bucket's is not where the others have theirs.
        if fact!(tbf_limit) == ABSENT {
            return 0;
        }
        let at = self.address().wrapping_add(fact!(tbf_limit) as u64);
        read(at).unwrap_or(0)
    }

    /// The device that the queue belongs to.
    #[inline(always)]
    pub fn dev(self) -> Device {
        Device(load(self.dev_queue(), fact!(netdev_queue_dev)))
    }
}
