//! The kernel's structures, read at the offsets that the loader found in its BTF.
//!
//! Pointers that come from a tracepoint's arguments, and those read through them, are known to the
//! verifier by type: loads through them are allowed, and read as zero where the memory is gone.

use core::arch::asm;

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use ebpf_congestion_signals_common::{ABSENT, KernelOffsets, QDISC_NAME_BYTES};

/// Protocol numbers of IP (`IPPROTO_TCP`, `IPPROTO_UDP`).
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;

/// Set by the loader before the programs are verified.
#[unsafe(no_mangle)]
pub static KERNEL_FACTS: KernelOffsets = KernelOffsets::UNKNOWN;

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

/// Copies so many bytes from any address; whether they could be read.
#[inline(always)]
pub fn read_into(address: u64, to: *mut u8, bytes: u32) -> bool {
    // SAFETY: the helper answers an error for memory that cannot be read; callers give it room for
    // so many bytes.
    unsafe { generated::bpf_probe_read_kernel(to.cast(), bytes, address as *const _) == 0 }
}

/// Loads a `T` at an offset of a typed kernel pointer.
#[inline(always)]
fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: the verifier checks type and bounds of the load.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

/// Whether a tracepoint's argument is null.
///
/// Linux 6.6 to 6.12 take no argument of a BTF tracepoint for null: they remove the comparison with
/// zero from a program, and a load through a null argument stops the kernel. The comparison with the
/// difference of two pointers stays, which is no known number to the verifier.
#[inline(always)]
fn is_null(argument: *const u8) -> bool {
    let zero: u64;
    // SAFETY: one register is written.
    unsafe {
        asm!(
            "{zero} = {argument}",
            "{zero} -= {argument}",
            zero = out(reg) zero,
            argument = in(reg) argument as u64,
            options(pure, nomem, nostack),
        );
    }
    argument.is_null() || argument as u64 == zero
}

/// Defines what is loaded through a typed kernel pointer (`at`).
macro_rules! fields {
    ($name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $fact:ident,)* }) => {
        impl $name {
            $($(#[$doc])*
            #[inline(always)]
            pub fn $field(self) -> $type {
                load(self.at, fact!($fact))
            })*
        }
    };
}

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

/// `struct sock`
#[derive(Clone, Copy)]
pub struct Sock {
    at: *const u8,
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

/// `struct net_device`
#[derive(Clone, Copy)]
pub struct Device {
    at: *const u8,
}

fields! {
    Device {
        net: *const u8 = dev_net,
        ifindex: u32 = dev_ifindex,
        lower: u64 = dev_lower,
        link_ops: *const u8 = dev_link_ops,
    }
}

/// `vxlan`, as eight bytes of a name.
pub const VXLAN: u64 = u64::from_ne_bytes(*b"vxlan\0\0\0");

/// `veth`, the same.
const VETH: u64 = u64::from_ne_bytes(*b"veth\0\0\0\0");

/// `ifb`, the same.
const IFB: u64 = u64::from_ne_bytes(*b"ifb\0\0\0\0\0");

impl Device {
    const NONE: Self = Self {
        at: core::ptr::null(),
    };

    /// Whether it hands its packets to another device of this host, where they come by again: a
    /// VLAN, bond, bridge or the like.
    #[inline(always)]
    pub fn is_stacked(self) -> bool {
        if self.at.is_null() || fact!(dev_lower) == ABSENT {
            return false;
        }
        // An empty list points at itself.
        self.lower() != (self.at as u64).wrapping_add(fact!(dev_lower) as u64)
    }

    /// The address, as an identifier.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.at as u64
    }

    /// The first eight bytes of its kind's name; 0 where it has none.
    #[inline(always)]
    pub fn kind(self) -> u64 {
        if self.at.is_null() {
            return 0;
        }
        let ops = self.link_ops();
        if ops.is_null() {
            return 0;
        }
        let name: u64 = load(ops, fact!(link_ops_kind));
        let bytes: [u8; 8] = read(name).unwrap_or_default();
        // Bytes behind the end of the name are not part of it.
        let word = u64::from_ne_bytes(bytes);
        let mut mask = 0u64;
        let mut at = 0;
        while at < 64 {
            if (word >> at) & 0xff == 0 {
                break;
            }
            mask |= 0xff << at;
            at += 8;
        }
        word & mask
    }

    /// Whether this is an end of a cable between namespaces that lies in another one than the socket.
    #[inline(always)]
    pub fn is_far_end(self, sk: Sock) -> bool {
        if fact!(sk_net) == ABSENT || fact!(dev_net) == ABSENT {
            return false;
        }
        self.kind() == VETH && self.net() as u64 != sk.net() as u64
    }

    /// Whether packets come back from it as if they were received again (an intermediate functional
    /// block).
    #[inline(always)]
    pub fn is_ifb(self) -> bool {
        self.kind() == IFB
    }

    /// Address of the queue discipline of one of its transmit queues.
    #[inline(always)]
    pub fn queue_discipline(self, mapping: u16) -> Option<u64> {
        if self.at.is_null() || fact!(netdev_queue_bytes) == ABSENT {
            return None;
        }
        let queues: u64 = read(self.address().wrapping_add(fact!(dev_tx) as u64))?;
        let queue = queues.wrapping_add(mapping as u64 * fact!(netdev_queue_bytes) as u64);
        read(queue.wrapping_add(fact!(netdev_queue_qdisc) as u64))
    }

    /// Its index; 0 where there is no device.
    #[inline(always)]
    pub fn ifindex_or_none(self) -> u32 {
        if self.at.is_null() { 0 } else { self.ifindex() }
    }

    /// Cookie of the device's network namespace; 0 where the kernel has none.
    #[inline(always)]
    pub fn netns_cookie(self) -> u64 {
        if self.at.is_null() || fact!(net_cookie) == ABSENT {
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

/// `struct Qdisc`
///
/// Always an argument. Its pointers are loaded once, as those of [`Skb`], where it is to be identified.
#[derive(Clone, Copy)]
pub struct Qdisc {
    at: *const u8,
    /// Its transmit queue and its operations.
    pointers: Option<(*const u8, *const u8)>,
}

fields! {
    Qdisc {
        flags: u32 = qdisc_flags,
        handle: u32 = qdisc_handle,
        qlen: u32 = qdisc_qlen,
        backlog: u32 = qdisc_backlog,
        limit: u32 = qdisc_limit,
        requeues: u32 = qdisc_requeues,
    }
}

/// A queue discipline's name, as it lies in memory.
pub type QdiscName = [u64; QDISC_NAME_BYTES / 8];

/// `tbf`, as [`QdiscName`] holds it.
pub const TBF: u64 = u64::from_ne_bytes(*b"tbf\0\0\0\0\0");

/// `netem`, the same: it changes the order of packets.
pub const NETEM: u64 = u64::from_ne_bytes(*b"netem\0\0\0");

/// First bytes of the names of queue disciplines that are one list: `bfifo`, `pfifo`,
/// `pfifo_head_drop`, `pfifo_fast` apart.
const LISTS: [u64; 3] = [
    u64::from_ne_bytes(*b"bfifo\0\0\0"),
    u64::from_ne_bytes(*b"pfifo\0\0\0"),
    u64::from_ne_bytes(*b"pfifo_he"),
];

impl Qdisc {
    /// One that is known already.
    #[inline(always)]
    pub fn known(argument: *const u8) -> Self {
        Self {
            at: argument,
            pointers: None,
        }
    }

    /// One that may have to be identified.
    #[inline(always)]
    pub fn new(argument: *const u8) -> Self {
        let dev_queue = load(argument, fact!(qdisc_dev_queue));
        let ops = load(argument, fact!(qdisc_ops));
        Self {
            at: argument,
            pointers: Some((dev_queue, ops)),
        }
    }

    #[inline(always)]
    fn ops(self) -> *const u8 {
        match self.pointers {
            Some((_, ops)) => ops,
            None => load(self.at, fact!(qdisc_ops)),
        }
    }

    #[inline(always)]
    fn dev_queue(self) -> *const u8 {
        match self.pointers {
            Some((dev_queue, _)) => dev_queue,
            None => load(self.at, fact!(qdisc_dev_queue)),
        }
    }

    /// The address, as an identifier.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.at as u64
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

    /// The child of a token bucket, which holds its packets; `offset` is that of the pointer to it.
    #[inline(always)]
    pub fn bucket_child(self, offset: u32) -> Option<Child> {
        let at = self.address().wrapping_add(offset as u64);
        let child: u64 = read(at)?;
        let ops: u64 = read(child.wrapping_add(fact!(qdisc_ops) as u64))?;
        Some(Child {
            address: child,
            kind: read(ops.wrapping_add(fact!(qdisc_ops_id) as u64))?,
        })
    }

    /// The device that the queue belongs to.
    #[inline(always)]
    pub fn dev(self) -> Device {
        Device {
            at: load(self.dev_queue(), fact!(netdev_queue_dev)),
        }
    }
}

/// A token bucket's child. The verifier knows nothing of it.
pub struct Child {
    address: u64,
    /// First eight bytes of its name.
    pub kind: u64,
}

impl Child {
    /// `Qdisc.limit`
    #[inline(always)]
    pub fn limit(&self) -> u32 {
        read(self.address.wrapping_add(fact!(qdisc_limit) as u64)).unwrap_or(0)
    }

    /// Address of the packet that came in last, where the child is one list.
    #[inline(always)]
    pub fn last_packet(&self) -> u64 {
        if self.kind != LISTS[0] && self.kind != LISTS[1] && self.kind != LISTS[2] {
            return 0;
        }
        read(self.address.wrapping_add(fact!(qdisc_tail) as u64)).unwrap_or(0)
    }
}
