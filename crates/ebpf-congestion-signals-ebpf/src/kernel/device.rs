//! `struct net_device`

use ebpf_congestion_signals_common::ABSENT;

use super::{Sock, fact, fields, load, read};

/// `struct net_device`
#[derive(Clone, Copy)]
pub struct Device {
    pub(super) at: *const u8,
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
    pub(super) const NONE: Self = Self {
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
