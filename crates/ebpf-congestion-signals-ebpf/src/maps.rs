//! The maps that the probes share with user space, and with each other.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, Queue, RingBuf};
use ebpf_congestion_signals_common::{
    DropCounters, FlowSlot, HostSlot, LocalKey, PeerKey, QUEUE_SLOTS, QueueSlot, ReasonKey,
    SLOT_BYTES, SocketEntry,
};

use crate::kernel::fact;
use crate::owner::Owner;

/// A slot of any kind.
#[repr(C, align(64))]
pub struct Slot([u8; SLOT_BYTES]);

/// All state, mapped by user space. The loader sets the number of slots.
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Watched sockets by cookie. Written by user space; the loader sets the size of this and the
/// next two.
#[map]
pub static SOCKETS: HashMap<u64, SocketEntry> = HashMap::with_max_entries(1, 0);

/// Slots of watched remote addresses. Written by user space.
#[map]
pub static PEERS: HashMap<PeerKey, u32> = HashMap::with_max_entries(1, 0);

/// Cookies of watched sockets by local address. Written by user space.
#[map]
pub static LOCALS: HashMap<LocalKey, u64> = HashMap::with_max_entries(1, 0);

/// Indices of known queues among the queue slots, by the address of their `struct Qdisc`.
#[map]
pub static QUEUES: HashMap<u64, u32> = HashMap::with_max_entries(QUEUE_SLOTS, 0);

/// Indices of queue slots that are free. Filled by user space.
#[map]
pub static FREE_QUEUES: Queue<u32> = Queue::with_max_entries(QUEUE_SLOTS, 0);

/// Classes of the kernel's drop reasons. Written by user space before the probes are attached.
#[map]
pub static REASON_CLASSES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// Drops by owner and reason.
#[map]
pub static REASONS: HashMap<ReasonKey, DropCounters> = HashMap::with_max_entries(4096, 0);

/// Edges. The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// What the last packet handed to a device on this CPU was: the probes behind it run for the same
/// packet, when it may be gone already.
#[repr(C)]
pub struct InTransit {
    /// Address of its `sk_buff`.
    pub skb: u64,
    /// Whose it is.
    pub owner: Owner,
    /// On-wire length of all its segments.
    pub bytes: u32,
    /// 1 once a queue discipline took it.
    pub queued: u32,
    /// Packets on the wire: above 1 for a batch of segments.
    pub packets: u32,
    /// 1 if it had a socket.
    pub had_socket: u32,
    /// Address of the packet that a watched queue gave to its device last, on this CPU. Kept
    /// only where it is asked for.
    pub left: u64,
}

#[map]
static IN_TRANSIT: PerCpuArray<InTransit> = PerCpuArray::with_max_entries(1, 0);

/// The record of the packet in transit on this CPU.
#[inline(always)]
pub fn in_transit() -> Option<*mut InTransit> {
    IN_TRANSIT.get_ptr_mut(0)
}

/// The slot of the CPU that runs this.
#[inline(always)]
pub fn host() -> Option<*mut HostSlot> {
    // SAFETY: a helper without preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    Some(SLOTS.get_ptr_mut(cpu)?.cast())
}

/// The slot of the queue with this index among the queues.
#[inline(always)]
pub fn queue(index: u32) -> Option<*mut QueueSlot> {
    Some(SLOTS.get_ptr_mut(fact!(cpus) + index)?.cast())
}

/// The slot of the flow with this index in the array of slots.
#[inline(always)]
pub fn flow(slot: u32) -> Option<*mut FlowSlot> {
    Some(SLOTS.get_ptr_mut(slot)?.cast())
}
