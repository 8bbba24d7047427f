//! `struct Qdisc`

use ebpf_congestion_signals_common::QDISC_NAME_BYTES;

use super::{Device, fact, fields, load, read};

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
