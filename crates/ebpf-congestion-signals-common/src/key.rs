//! Keys and values of the probes' hash maps. All fields are in host byte order unless said, and
//! every byte is a field: the kernel hashes and compares keys bytewise.

/// An IP address and a port. IPv4 addresses are held as IPv4-mapped IPv6 (RFC 4291 section
/// 2.5.5.2), so that a dual-stack socket's traffic has one form; the wildcard address of either
/// family is all zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowAddress {
    /// The address, most significant byte first.
    pub ip: [u8; 16],
    /// The port, host byte order.
    pub port: u16,
    /// Always 0.
    pub reserved: u16,
    /// Of a link-local IPv6 address: index of the network device that it belongs to, 0 for any
    /// device. Always 0 for other addresses.
    pub scope: u32,
}

impl FlowAddress {
    /// An IPv6 address.
    pub const fn v6(ip: [u8; 16], port: u16) -> Self {
        Self {
            ip,
            port,
            reserved: 0,
            scope: 0,
        }
    }

    /// Whether the address means something on one link only (RFC 4291 section 2.5.6, `fe80::/10`).
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        self.ip[0] == 0xfe && self.ip[1] & 0xc0 == 0x80
    }

    /// The same address on one link; unchanged unless it is [link-local](Self::is_link_local).
    #[inline(always)]
    pub const fn on_link(mut self, ifindex: u32) -> Self {
        if self.is_link_local() {
            self.scope = ifindex;
        }
        self
    }

    /// An IPv4 address, in its IPv4-mapped form.
    pub const fn v4(ip: [u8; 4], port: u16) -> Self {
        let [a, b, c, d] = ip;
        Self::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], port)
    }

    /// The same port on every local address.
    pub const fn wildcard(port: u16) -> Self {
        Self::v6([0; 16], port)
    }
}

/// Finds a watched socket by its local address, for a packet that has lost its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LocalKey {
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`); 0 on kernels that have none.
    pub netns: u64,
    /// Local address of the socket; the wildcard address where it is bound to that.
    pub local: FlowAddress,
    /// IP protocol number: 17 for UDP, 6 for TCP.
    pub protocol: u64,
}

/// Finds the flow of one remote address of a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PeerKey {
    /// The socket's cookie (`SO_COOKIE`).
    pub cookie: u64,
    /// The remote address.
    pub remote: FlowAddress,
}

/// Set in [`FlowRef::slot`] of a flow that shares the queue's limit with others (a governed one).
pub const FLOW_IS_SHARED: u32 = 1 << 31;

/// A watched flow, as the probes' maps name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowRef {
    /// Index of the flow's [`FlowSlot`](crate::FlowSlot) in the array of slots, with
    /// [`FLOW_IS_SHARED`]; 0: no flow (slot 0 is a CPU's).
    pub slot: u32,
    /// The slot's generation while it is this flow's.
    pub generation: u32,
}

impl FlowRef {
    /// No flow.
    pub const NONE: Self = Self {
        slot: 0,
        generation: 0,
    };

    /// Index of the flow's slot in the array of slots; 0: no flow.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.slot & !FLOW_IS_SHARED
    }

    /// Whether this names no flow.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.slot == 0
    }

    /// Whether the flow shares.
    #[inline(always)]
    pub const fn is_shared(self) -> bool {
        self.slot & FLOW_IS_SHARED != 0
    }
}

/// What is watched of a socket, found by its cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketEntry {
    /// The whole socket's flow, where it is watched.
    pub flow: FlowRef,
    /// Remote addresses of this socket that are watched: where 0, packets need not be parsed.
    pub peers: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Finds the drop counters of one reason of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ReasonKey {
    /// Index of the owner's slot in the array of slots; 0 is the whole host.
    pub slot: u32,
    /// The slot's generation while it is this owner's.
    pub generation: u32,
    /// The kernel's number of the reason, subsystem in the high 16 bits.
    pub reason: u32,
    /// Always 0.
    pub reserved: u32,
    /// Kernel address behind the call that dropped, where the reason says nothing; else 0.
    pub location: u64,
}

/// Buckets over which watched sockets are spread: an empty bucket shows that a socket is not watched,
/// without a look-up in the map of watched sockets. Four times a source's default number of flows.
pub const COOKIE_BUCKETS: u32 = 4096;

/// A socket's bucket, by its cookie: the kernel counts cookies up.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is wanted"
)]
pub const fn cookie_bucket(cookie: u64) -> u32 {
    cookie as u32 % COOKIE_BUCKETS
}

/// Buckets that known queues are spread over, each having two to choose from: four times as many
/// as there can be queues.
pub const QUEUE_BUCKETS: u32 = 256;

/// The first bucket of a queue, by its address counted from anywhere; the other differs in the
/// lowest bit. The kernel aligns a `struct Qdisc` to 64 bytes.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is wanted"
)]
pub const fn queue_bucket(address: u64) -> u32 {
    ((address >> 6) ^ (address >> 13)) as u32 % QUEUE_BUCKETS
}

/// A known queue, found by its address without a hash table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct QueueEntry {
    /// Kernel address of the `struct Qdisc`; 0: the bucket is empty.
    pub qdisc: u64,
    /// Index among the queue slots.
    pub index: u32,
    /// 1: there were more queues than the two places here, which are found in the hash table.
    pub others: u32,
}

const _: () = {
    assert!(size_of::<FlowAddress>() == 24);
    assert!(size_of::<LocalKey>() == 40);
    assert!(size_of::<PeerKey>() == 32);
    assert!(size_of::<FlowRef>() == 8);
    assert!(size_of::<SocketEntry>() == 16);
    assert!(size_of::<ReasonKey>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_takes_its_mapped_form() {
        let address = FlowAddress::v4([192, 0, 2, 1], 4433);
        let mapped = core::net::Ipv4Addr::new(192, 0, 2, 1)
            .to_ipv6_mapped()
            .octets();
        assert_eq!(address, FlowAddress::v6(mapped, 4433));
    }

    #[test]
    fn link_local_addresses_alone_belong_to_a_link() {
        let mut ip = [0; 16];
        ip[..2].copy_from_slice(&[0xfe, 0x80]);
        assert_eq!(FlowAddress::v6(ip, 1).on_link(7).scope, 7);
        ip[..2].copy_from_slice(&[0xfe, 0xbf]);
        assert_eq!(FlowAddress::v6(ip, 1).on_link(7).scope, 7);
        ip[..2].copy_from_slice(&[0xfe, 0xc0]);
        assert_eq!(FlowAddress::v6(ip, 1).on_link(7).scope, 0);
        assert_eq!(FlowAddress::v4([192, 0, 2, 1], 1).on_link(7).scope, 0);
    }
}
