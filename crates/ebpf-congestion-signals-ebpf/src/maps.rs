//! The maps that the probes share with user space, and with each other.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, Queue, RingBuf};
use ebpf_congestion_signals_common::{
    COOKIE_BUCKETS, CORE_REASONS, DropCounters, FlowRef, FlowSlot, HostSlot, LocalKey, PeerKey,
    QUEUE_BUCKETS, QUEUE_SLOTS, QueueEntry, QueueSlot, ReasonKey, SLOT_BYTES, SocketEntry,
    cookie_bucket, queue_bucket,
};

use crate::atomic::{get, set};
use crate::buffers::Departed;
use crate::kernel::fact;
use crate::owner::{Finding, Owner};

/// A slot of any kind.
#[repr(C, align(64))]
pub struct Slot([u8; SLOT_BYTES]);

/// All state, mapped by user space. The loader sets the number of slots.
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One in how many sends is sampled; 0 and 1: each. Written by user space at any time.
#[map]
static SAMPLE_EVERY: Array<u32> = Array::with_max_entries(1, 0);

/// How many watched sockets have their place here, by [`cookie_bucket`]. Written by user space.
#[map]
static WATCHED: Array<u32> = Array::with_max_entries(COOKIE_BUCKETS, 0);

/// Watched sockets by cookie. Written by user space; the loader sets the size of this and the
/// next two.
#[map]
static SOCKETS: HashMap<u64, SocketEntry> = HashMap::with_max_entries(1, 0);

/// Slots of watched remote addresses. Written by user space.
#[map]
pub static PEERS: HashMap<PeerKey, FlowRef> = HashMap::with_max_entries(1, 0);

/// Cookies of watched sockets by local address. Written by user space.
#[map]
pub static LOCALS: HashMap<LocalKey, u64> = HashMap::with_max_entries(1, 0);

/// Indices of known queues among the queue slots, by the address of their `struct Qdisc`.
#[map]
pub static QUEUES: HashMap<u64, u32> = HashMap::with_max_entries(QUEUE_SLOTS, 0);

/// The same where it can be seen without a hash table, by [`queue_bucket`].
#[map]
static KNOWN_QUEUES: Array<QueueEntry> = Array::with_max_entries(QUEUE_BUCKETS, 0);

/// Indices of queue slots that are free. Filled by user space.
#[map]
pub static FREE_QUEUES: Queue<u32> = Queue::with_max_entries(QUEUE_SLOTS, 0);

/// Classes of the kernel's core drop reasons. Written by user space before the probes are attached.
#[map]
static CORE_CLASSES: Array<u32> = Array::with_max_entries(CORE_REASONS, 0);

/// Classes of the other reasons, the same.
#[map]
static REASON_CLASSES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// Offset of a token bucket's child in its `struct Qdisc`; 0: not known. Written by user space, which
/// may know it only later: token buckets can be a module.
#[map]
static TBF_CHILD: Array<u32> = Array::with_max_entries(1, 0);

/// Drops by owner and reason. The loader sets the size.
#[map]
pub static REASONS: HashMap<ReasonKey, DropCounters> = HashMap::with_max_entries(1, 0);

/// Edges. The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// What the last packet handed to a device on this CPU was: the probes behind it run for the same
/// packet, when it may be gone already.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InTransit {
    /// Address of its `sk_buff`.
    pub skb: u64,
    /// Address of the device.
    pub device: u64,
    /// Whose it is.
    pub owner: Owner,
    /// On-wire length of all its segments, before a size table adds to it.
    pub bytes: u32,
    /// 1 once a queue discipline took it.
    pub queued: u32,
    /// Packets on the wire: above 1 for a batch of segments.
    pub packets: u32,
    /// 1 if it had a socket.
    pub had_socket: u32,
    /// Bytes of segments that a queue discipline made of it and did not take, not yet freed.
    pub refused_bytes: u32,
    /// The device's transmit queue.
    pub mapping: u32,
}

/// Devices hand a packet on to others: what a device was handed, one on top of another, and one that
/// carries a tunnel's packets.
pub const DEPTH: usize = 3;

/// What goes on on this CPU.
#[repr(C)]
pub struct Transit {
    pub handed: [InTransit; DEPTH],
    /// Kernel time at the beginning of the tick.
    tick_ns: u64,
    /// The tick in which this CPU last read the time.
    tick: u32,
    /// Why a queue discipline said last to drop a packet.
    pub refused_reason: u32,
    /// The packet's address.
    pub refused: u64,
    /// The bulk that a queue gave to its device last; see [`begin_bulk`].
    bulk: u32,
    /// The watched packets of it.
    departed: [Departed; BULK as usize],
    departed_packets: u32,
    /// See [`in_map`].
    owner: Owner,
    /// Where [`forgotten`] puts a value.
    forgotten: u64,
}

/// The same value, of which the verifier knows nothing: it follows values through registers and the
/// stack, and not through maps. What it cannot tell apart, it verifies once. An address becomes a number.
#[inline(always)]
pub fn forgotten<T: Copy>(transit: *mut Transit, value: T) -> T {
    const { assert!(size_of::<T>() <= size_of::<u64>()) };
    // SAFETY: a field of this CPU's own record, with room for such a value.
    unsafe {
        let field = (&raw mut (*transit).forgotten).cast::<T>();
        field.write_volatile(value);
        field.read_volatile()
    }
}

/// Most packets of one dequeue that are counted one by one. Byte queue limits bound a bulk, so only a
/// fast device exceeds this; packets beyond are taken to be as long as the mean of these. The verifier
/// walks the loop: 64 instead of 16 would make loading slower.
pub const BULK: u32 = 16;

/// A number for the packets that a queue gives to its device at once, which no other CPU gives out, and
/// this one not soon again.
#[inline(always)]
pub fn begin_bulk(transit: *mut Transit) -> u32 {
    /// More than there are.
    const CPUS: u32 = 1 << 14;
    // SAFETY: a helper without preconditions, and this CPU's own record.
    unsafe {
        let bulk = (*transit).bulk.wrapping_add(CPUS);
        (*transit).bulk = bulk;
        bulk | (bpf_get_smp_processor_id() % CPUS)
    }
}

/// A queue gives packets to its device.
#[inline(always)]
pub fn begin_departing(transit: *mut Transit) {
    // SAFETY: this CPU's own record.
    unsafe { set(&raw mut (*transit).departed_packets, 0) };
}

/// Room for one more watched packet of them.
#[inline(always)]
pub fn next_departed(transit: *mut Transit) -> *mut Departed {
    let number = departed_packets(transit);
    // SAFETY: this CPU's own record.
    unsafe { set(&raw mut (*transit).departed_packets, number + 1) };
    departed(transit, number)
}

/// Watched packets of what a queue gave to its device last.
#[inline(always)]
pub fn departed_packets(transit: *mut Transit) -> u32 {
    // SAFETY: this CPU's own record.
    unsafe { get(&raw const (*transit).departed_packets) }
}

/// One of them.
#[inline(always)]
pub fn departed(transit: *mut Transit, number: u32) -> *mut Departed {
    const { assert!(BULK.is_power_of_two()) };
    // SAFETY: an element of this CPU's own record.
    unsafe {
        let first = (&raw mut (*transit).departed).cast::<Departed>();
        first.add((number % BULK) as usize)
    }
}

/// The owner, in a map; see [`Owner::flow`].
#[inline(always)]
pub fn in_map(transit: *mut Transit, owner: Owner) -> *const Owner {
    // SAFETY: this CPU's own record.
    unsafe {
        (*transit).owner = owner;
        &raw const (*transit).owner
    }
}

#[map]
static IN_TRANSIT: PerCpuArray<Transit> = PerCpuArray::with_max_entries(1, 0);

/// The programs that find owners. `kfree_skb` can be interrupted by those of sent packets.
#[derive(Clone, Copy)]
pub enum Finder {
    Dropping,
    Sending,
}

#[map]
static FINDING: PerCpuArray<Finding> = PerCpuArray::with_max_entries(2, 0);

/// Room to find a packet's owner in.
#[inline(always)]
pub fn finding(finder: Finder) -> Option<*mut Finding> {
    FINDING.get_ptr_mut(finder as u32)
}

/// What a kind of softirq does on this CPU now.
#[repr(C)]
pub struct SoftirqState {
    /// Kernel time of an entry without its exit yet; 0 outside.
    pub since: u64,
    /// Kernel time of the first raise without an entry yet; 0: none.
    pub raised: u64,
    /// Raises so far.
    pub raises: u64,
}

/// Of NET_RX and of NET_TX.
#[map]
static SOFTIRQS: PerCpuArray<SoftirqState> = PerCpuArray::with_max_entries(2, 0);

/// The state of NET_RX (0) or NET_TX (1) on this CPU.
#[inline(always)]
pub fn softirq(which: u32) -> Option<*mut SoftirqState> {
    SOFTIRQS.get_ptr_mut(which)
}

/// Where a token bucket has its child, in bytes from its `struct Qdisc`.
#[inline(always)]
pub fn tbf_child() -> Option<u32> {
    let offset = *TBF_CHILD.get(0)?;
    if offset == 0 { None } else { Some(offset) }
}

/// What user space knows of a drop reason: its class and flags; `None` for one that the kernel's type
/// information does not name.
#[inline(always)]
pub fn reason(number: u32) -> Option<u32> {
    if number < CORE_REASONS {
        let value = *CORE_CLASSES.get(number)?;
        return if value == 0 { None } else { Some(value) };
    }
    // SAFETY: the value is copied at once.
    unsafe { REASON_CLASSES.get(number) }.copied()
}

/// The record of what goes on on this CPU.
#[inline(always)]
pub fn transit() -> Option<*mut Transit> {
    IN_TRANSIT.get_ptr_mut(0)
}

/// The record of this packet, if it is the last that was handed to a device on this CPU.
#[inline(always)]
pub fn handed(transit: *mut Transit, skb: u64) -> Option<*mut InTransit> {
    let mut depth = 0;
    while depth < DEPTH {
        // SAFETY: an element of this CPU's own record.
        unsafe {
            let record = &raw mut (*transit).handed[depth];
            if (*record).skb == skb {
                return Some(record);
            }
        }
        depth += 1;
    }
    None
}

/// A packet of this address is handed to a device: what is recorded of an earlier one that had the
/// address, or of the same one at the device above, is no longer found.
#[inline(always)]
pub fn supersede(transit: *mut Transit, skb: u64) {
    let mut depth = 0;
    while depth < DEPTH {
        // SAFETY: an element of this CPU's own record.
        unsafe {
            let record = &raw mut (*transit).handed[depth];
            if (*record).skb == skb {
                (*record).skb = 0;
            }
        }
        depth += 1;
    }
}

/// The record of the packet that was handed to a device on this CPU last.
#[inline(always)]
pub fn handed_to(transit: *mut Transit, device: u64) -> Option<*mut InTransit> {
    let mut depth = 0;
    while depth < DEPTH {
        // SAFETY: an element of this CPU's own record.
        unsafe {
            let record = &raw mut (*transit).handed[depth];
            if (*record).device == device {
                return Some(record);
            }
        }
        depth += 1;
    }
    None
}

/// One in how many sends is sampled, at least 1.
#[inline(always)]
pub fn sample_every() -> u32 {
    match SAMPLE_EVERY.get(0) {
        Some(every) if *every > 1 => *every,
        _ => 1,
    }
}

/// What is watched of the socket with this cookie. Cheap for a socket that is not watched.
#[inline(always)]
pub fn watched(cookie: u64) -> Option<SocketEntry> {
    // A cookie is given out when someone asks for it, which watching does.
    if cookie == 0 {
        return None;
    }
    match WATCHED.get(cookie_bucket(cookie)) {
        Some(sockets) if *sockets != 0 => {}
        _ => return None,
    }
    // SAFETY: the value is copied at once.
    unsafe { SOCKETS.get(cookie) }.copied()
}

/// How far a kernel pointer is from a fixed place: it tells pointers apart as the address does, but
/// is a number to the verifier, which allows no arithmetic on pointers but to subtract them.
#[inline(always)]
fn distance(pointer: u64) -> u64 {
    pointer.wrapping_sub((&raw const crate::kernel::KERNEL_FACTS) as u64)
}

/// The index of a known queue among the queues.
#[inline(always)]
pub fn known_queue(qdisc: u64) -> Option<u32> {
    let first = queue_bucket(distance(qdisc));
    let entry = KNOWN_QUEUES.get(first)?;
    if entry.qdisc == qdisc {
        return Some(entry.index);
    }
    let others = entry.others;
    let entry = KNOWN_QUEUES.get(first ^ 1)?;
    if entry.qdisc == qdisc {
        return Some(entry.index);
    }
    if others | entry.others == 0 {
        return None;
    }
    // SAFETY: the value is copied at once.
    unsafe { QUEUES.get(qdisc) }.copied()
}

/// Makes a queue found by [`known_queue`].
#[inline(always)]
pub fn remember_queue(qdisc: u64, index: u32) {
    let first = queue_bucket(distance(qdisc));
    for place in [first, first ^ 1] {
        let Some(entry) = KNOWN_QUEUES.get_ptr_mut(place) else {
            return;
        };
        // SAFETY: fields of a map's value. Two CPUs can take one place at once: then one of the
        // queues is not found, and is remembered again with its next packet.
        unsafe {
            if get(&raw const (*entry).qdisc) == 0 {
                set(&raw mut (*entry).index, index);
                set(&raw mut (*entry).qdisc, qdisc);
                return;
            }
        }
    }
    // Both places are others': it is found in the hash table alone.
    if let Some(entry) = KNOWN_QUEUES.get_ptr_mut(first) {
        // SAFETY: a field of a map's value.
        unsafe { set(&raw mut (*entry).others, 1) };
    }
}

/// Makes a queue that is gone unknown.
#[inline(always)]
pub fn forget_queue(qdisc: u64) {
    let _ = QUEUES.remove(qdisc);
    let first = queue_bucket(distance(qdisc));
    for place in [first, first ^ 1] {
        let Some(entry) = KNOWN_QUEUES.get_ptr_mut(place) else {
            return;
        };
        // SAFETY: a field of a map's value.
        unsafe {
            if get(&raw const (*entry).qdisc) == qdisc {
                set(&raw mut (*entry).qdisc, 0);
            }
        }
    }
}

/// The same for an address that was read from memory, which is a number already.
#[inline(always)]
pub fn known_queue_at(qdisc: u64) -> Option<u32> {
    // SAFETY: the value is copied at once.
    unsafe { QUEUES.get(qdisc) }.copied()
}

/// The kernel's tick now.
#[inline(always)]
pub fn tick(transit: *mut Transit) -> u32 {
    tick_time(transit);
    // SAFETY: this CPU's own record.
    unsafe { (*transit).tick }
}

/// Kernel time to a tick of the kernel, 1 to 10 ms: a tenth of the cost of the time itself.
#[inline(always)]
pub fn tick_time(transit: *mut Transit) -> u64 {
    // SAFETY: helpers without preconditions, and this CPU's own record.
    unsafe {
        let tick = bpf_jiffies64() as u32;
        if tick != (*transit).tick {
            (*transit).tick_ns = bpf_ktime_get_ns();
            (*transit).tick = tick;
        }
        (*transit).tick_ns
    }
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

/// The slot of a flow; `None` for none, and for one that is no longer watched.
#[inline(always)]
pub fn flow(flow: FlowRef) -> Option<*mut FlowSlot> {
    if flow.is_none() {
        return None;
    }
    let slot: *mut FlowSlot = SLOTS.get_ptr_mut(flow.index())?.cast();
    // SAFETY: a field of a slot.
    if get(unsafe { &raw const (*slot).generation }) == flow.generation {
        Some(slot)
    } else {
        None
    }
}
