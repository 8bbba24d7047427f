//! The array of slots, mapped read-only, and read with plain atomic loads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals_common::{
    Direction, DropClass, DropCounters, FLOW_QUEUES, FlowSlot, HostSlot, InQueue, Layout,
    PRESSURE_ONE, Peak, Pressure, QDISC_NAME_BYTES, QUEUE_SLOTS, QueueSlot, SLOT_BYTES, SPANS,
    SendCounters,
};

use super::tells::Tells;
use crate::sample::{
    BufferSample, DropTable, KernelTime, LocalCongestion, PressurePeaks, PressureSample, QdiscName,
    QueueId, QueueLimit, QueueSample, QueueState, SojournSample,
};

/// The mapping. Every slot stays readable as long as this lives, whatever becomes of the probes.
#[derive(Debug)]
pub(super) struct Slots {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is read-only for this process and only read through atomic loads.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

/// Index of a flow's slot in the array of slots. Made by the registry alone, which keeps it below
/// the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlowIndex(u32);

impl FlowIndex {
    /// All flow slots of a layout.
    pub(super) fn all(layout: Layout) -> impl Iterator<Item = Self> {
        (layout.first_flow()..layout.slots()).map(Self)
    }

    /// The index in the array of slots.
    pub(super) fn slot(self) -> u32 {
        self.0
    }
}

/// Loads one field of a slot.
macro_rules! load {
    ($pointer:expr, [$place:expr].$field:ident) => {
        // SAFETY: as below.
        Load::load(unsafe { &raw const (*$pointer)[$place].$field })
    };
    ($pointer:expr, $($field:tt)+) => {
        // SAFETY: `pointer` points to a slot of its type inside the mapping, so the field is
        // readable and aligned.
        Load::load(unsafe { &raw const (*$pointer).$($field)+ })
    };
}

pub(super) use load;

/// Values that the kernel writes in one store.
pub(super) trait Load: Copy {
    fn load(field: *const Self) -> Self;
}

impl Load for u64 {
    #[inline]
    fn load(field: *const Self) -> Self {
        // SAFETY: callers pass aligned fields inside the mapping; a 64-bit atomic load of
        // read-only memory is a plain load on the targets that BPF has.
        unsafe { &*field.cast::<AtomicU64>() }.load(Ordering::Relaxed)
    }
}

impl Load for u32 {
    #[inline]
    fn load(field: *const Self) -> Self {
        // SAFETY: as for `u64`.
        unsafe { &*field.cast::<AtomicU32>() }.load(Ordering::Relaxed)
    }
}

impl Load for u8 {
    #[inline]
    fn load(field: *const Self) -> Self {
        // SAFETY: as for `u64`.
        unsafe { &*field.cast::<AtomicU8>() }.load(Ordering::Relaxed)
    }
}

fn drop_counters(counters: *const DropCounters) -> DropCounters {
    DropCounters {
        skbs: load!(counters, skbs),
        packets: load!(counters, packets),
        bytes: load!(counters, bytes),
    }
}

pub(super) fn send_counters(counters: *const SendCounters) -> SendCounters {
    SendCounters {
        bytes: load!(counters, bytes),
        calls: load!(counters, calls),
        estimated: load!(counters, estimated),
    }
}

impl Slots {
    /// Maps the array behind `map`.
    pub(super) fn map(map: BorrowedFd<'_>, layout: Layout) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::bytes(layout),
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { base, layout })
    }

    /// Over memory that the caller frees later: Miri maps no files.
    #[cfg(all(miri, feature = "testing"))]
    pub(super) fn over(base: NonNull<u8>, layout: Layout) -> Self {
        Self { base, layout }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    fn bytes(layout: Layout) -> usize {
        layout.slots() as usize * SLOT_BYTES
    }

    /// The slot at `index`.
    #[inline]
    fn slot<T>(&self, index: u32) -> *const T {
        self.at(index).as_ptr()
    }

    /// The slot at `index`, as a pointer that is not null.
    #[inline]
    pub(super) fn at<T>(&self, index: u32) -> NonNull<T> {
        assert!(
            index < self.layout.slots(),
            "slot {index} of {}",
            self.layout.slots()
        );
        // SAFETY: the mapping has as many slots, and each is large and aligned enough for any.
        unsafe { self.base.add(index as usize * SLOT_BYTES) }.cast()
    }

    #[inline]
    pub(super) fn flow(&self, flow: FlowIndex) -> *const FlowSlot {
        self.slot(flow.0)
    }

    pub(super) fn cpus(&self) -> impl Iterator<Item = *const HostSlot> {
        let first: *const u8 = self.base.as_ptr();
        // SAFETY: the mapping has the layout's slots, and so many from the first on are CPUs'.
        let slot = move |cpu| unsafe { first.add(cpu as usize * SLOT_BYTES) };
        (0..self.layout.cpus).map(move |cpu| slot(cpu).cast())
    }

    /// Kernel time of the flow's last observation.
    pub(super) fn updated(&self, flow: FlowIndex) -> Option<KernelTime> {
        let nanos = load!(self.flow(flow), updated_ns);
        (nanos != 0).then(|| KernelTime::from_nanos(nanos))
    }

    /// Payload bytes and packets of the flow that were handed to devices.
    pub(super) fn sent(&self, flow: FlowIndex) -> (u64, u64) {
        let slot = self.flow(flow);
        (load!(slot, sent_bytes), load!(slot, sent_packets))
    }

    /// What the flow's socket accepted.
    pub(super) fn send(&self, flow: FlowIndex) -> SendCounters {
        // SAFETY: a field inside the mapping.
        send_counters(unsafe { &raw const (*self.flow(flow)).send })
    }

    /// Packets that the probes saw leave the flow's socket, wherever they got to.
    #[inline]
    pub(super) fn seen_packets(&self, flow: FlowIndex, tells: &Tells) -> Option<u64> {
        let slot = self.flow(flow);
        let policy = if tells.drops && tells.reasons {
            egress_drops(slot, DropClass::Policy)
        } else {
            0
        };
        let packets = tells.packets.then(|| load!(slot, sent_packets))?;
        Some(packets.saturating_add(policy))
    }

    pub(super) fn drops(&self, flow: FlowIndex) -> DropTable {
        // SAFETY: a field inside the mapping.
        drop_table(unsafe { &raw const (*self.flow(flow)).drops })
    }

    pub(super) fn buffers(&self, flow: FlowIndex) -> Option<BufferSample> {
        let slot = self.flow(flow);
        let (wmem, rmem) = (load!(slot, buffers.wmem), load!(slot, buffers.rmem));
        let (sndbuf, rcvbuf) = (load!(slot, buffers.sndbuf), load!(slot, buffers.rcvbuf));
        let sent = load!(slot, buffers.sent_payload);
        let received = load!(slot, buffers.received_payload);
        // A socket's limits are never zero.
        (sndbuf != 0 || rcvbuf != 0).then_some(BufferSample {
            wmem,
            sndbuf,
            wmem_payload: share_of(wmem, sent, load!(slot, buffers.sent_truesize)),
            rmem,
            rcvbuf,
            rmem_payload: share_of(rmem, received, load!(slot, buffers.received_truesize)),
        })
    }

    /// Send and receive buffers' occupancy at sends and receives.
    pub(super) fn pressures(&self, flow: FlowIndex) -> [PressureSample; 2] {
        let slot = self.flow(flow);
        // SAFETY: a field inside the mapping.
        let send = pressure(unsafe { &raw const (*slot).send_pressure });
        // SAFETY: as above.
        let receive = pressure(unsafe { &raw const (*slot).receive_pressure });
        [send, receive]
    }

    pub(super) fn sojourn(&self, flow: FlowIndex) -> SojournSample {
        let slot = self.flow(flow);
        SojournSample {
            time: Duration::from_nanos(load!(slot, sojourn.sum_ns)),
            packets: load!(slot, sojourn.samples),
            last: Duration::from_nanos(load!(slot, sojourn.last_ns)),
        }
    }

    /// What a congestion controller needs of a flow.
    #[inline]
    pub(super) fn congestion(&self, flow: FlowIndex, tells: &Tells, live: bool) -> LocalCongestion {
        let slot = self.flow(flow);
        congestion_in(slot, tells, live, self.held(slot))
    }

    /// What the queue is that holds most of the flow.
    pub(super) fn queue_state(&self, flow: FlowIndex) -> Option<QueueState> {
        let held = self.held(self.flow(flow))?;
        let queue = held.queue;
        let mut name = [0; QDISC_NAME_BYTES];
        for (place, byte) in name.iter_mut().enumerate() {
            *byte = load!(queue, kind[place]);
        }
        let kind = QdiscName::new(name);
        Some(QueueState {
            ifindex: load!(queue, ifindex),
            handle: load!(queue, handle),
            kind,
            packets: load!(queue, packets),
            limit: QueueLimit::of(first_word(queue), load!(queue, child), load!(queue, limit)),
        })
    }

    /// The queue that holds most of the flow: the one that it entered last, where others hold no
    /// more.
    #[inline]
    pub(super) fn held(&self, slot: *const FlowSlot) -> Option<Held> {
        let last = load!(slot, queue).checked_sub(1)? as usize;
        // SAFETY: an array inside the mapping.
        let queues: *const InQueue = unsafe { &raw const (*slot).queues }.cast();
        let used = |place: usize| {
            // SAFETY: an element of the array.
            let record = unsafe { queues.add(place) };
            u32::from(load!(record, queue) != 0)
        };
        if last >= FLOW_QUEUES || (0..FLOW_QUEUES).map(used).sum::<u32>() > used(last) {
            return self.held_of_several(slot, last);
        }
        // Most flows are in one queue.
        // SAFETY: an element of the array.
        let record = unsafe { queues.add(last) };
        let index = load!(record, queue).checked_sub(1)?;
        Some(Held {
            own: self.in_queue(record, index)?,
            id: QueueId::with_generation(index as usize, load!(record, generation))?,
            queue: self.queue_slot(index)?,
            elsewhere: 0,
            is_last: true,
            shares: load!(record, shared) != 0,
            counted: load!(slot, uncounted) == 0,
        })
    }

    /// The same, of a flow that is in more queues than the one it entered last.
    #[cold]
    fn held_of_several(&self, slot: *const FlowSlot, last: usize) -> Option<Held> {
        let mut everywhere = 0;
        let mut most: Option<(*const InQueue, usize, u32, u64)> = None;
        // SAFETY: an array inside the mapping.
        let queues: *const InQueue = unsafe { &raw const (*slot).queues }.cast();
        for place in 0..FLOW_QUEUES {
            // SAFETY: an element of the array.
            let record = unsafe { queues.add(place) };
            // Most records are unused.
            let number = load!(record, queue);
            if number == 0 {
                continue;
            }
            let Some(own) = self.in_queue(record, number - 1) else {
                continue;
            };
            everywhere += own;
            let is_more = |most: u64| own > most || (own == most && place == last);
            if most.is_none_or(|(_, _, _, most)| is_more(most)) {
                most = Some((record, place, number - 1, own));
            }
        }
        let (record, place, index, own) = most?;
        Some(Held {
            id: QueueId::with_generation(index as usize, load!(record, generation))?,
            queue: self.queue_slot(index)?,
            own,
            elsewhere: everywhere - own,
            is_last: place == last,
            shares: load!(record, shared) != 0,
            counted: load!(slot, uncounted) == 0,
        })
    }

    #[inline]
    pub(super) fn queue_slot(&self, index: u32) -> Option<*const QueueSlot> {
        (index < QUEUE_SLOTS).then(|| {
            let slot = (self.layout.first_queue() + index) as usize;
            // SAFETY: the mapping has the layout's slots, and so many are queues' from the first on.
            unsafe { self.base.as_ptr().cast_const().add(slot * SLOT_BYTES) }.cast()
        })
    }

    /// What the flow has in a queue; `None` where that is another by now than the flow entered.
    #[inline]
    fn in_queue(&self, record: *const InQueue, index: u32) -> Option<u64> {
        let queue = self.queue_slot(index)?;
        if load!(queue, generation) != load!(record, generation) {
            return None;
        }
        let entered = load!(record, entered);
        let own = inside(entered, load!(record, left));
        let is_current = load!(queue, drained) == load!(record, drained);
        Some(if is_current { own } else { 0 })
    }
}

/// Packets of a flow that were dropped on their way out for reasons of this class.
#[inline]
fn egress_drops(slot: *const FlowSlot, class: DropClass) -> u64 {
    let (egress, class) = (Direction::Egress as usize, class as usize);
    load!(slot, drops[egress][class].packets)
}

/// What a congestion controller needs of a flow that is in this queue.
#[inline]
pub(super) fn congestion_in(
    slot: *const FlowSlot,
    tells: &Tells,
    live: bool,
    held: Option<Held>,
) -> LocalCongestion {
    let drops = |class| tells.drops.then(|| egress_drops(slot, class));
    LocalCongestion {
        live,
        taken: None,
        observed_packets: tells.packets.then(|| load!(slot, sent_packets)),
        queue: held.map(Held::sample),
        queue_drops: drops(DropClass::QueueFull),
        policy_drops: drops(DropClass::Policy).filter(|_| tells.reasons),
    }
}

/// The queue that a flow is in, or the one of several that holds most of it.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) id: QueueId,
    pub(super) queue: *const QueueSlot,
    /// Bytes of the flow in it.
    own: u64,
    /// Bytes of the flow in other queues.
    elsewhere: u64,
    /// Whether the flow entered it last.
    is_last: bool,
    /// Whether the flow counts as sharing there.
    shares: bool,
    /// Whether the flow is counted in every queue that it enters.
    counted: bool,
}

impl Held {
    /// Whether the flow is in no other queue, nor has entered one since.
    pub(super) fn is_only(&self) -> bool {
        self.is_last && self.elsewhere == 0
    }

    /// What left is read after what entered, so that a packet in between is not counted twice.
    #[inline]
    fn sample(self) -> QueueSample {
        let queue = self.queue;
        let shared_entered = load!(queue, shared_entered);
        let shared = inside(shared_entered, load!(queue, shared_left));
        let total = load!(queue, backlog);
        let own = self.own.min(total);
        let elsewhere = self.elsewhere;
        let others = if self.shares { elsewhere } else { 0 };
        QueueSample {
            id: self.id,
            own: self.counted.then_some(own + elsewhere),
            shared: self.counted.then_some(shared.min(total) + others),
            total: Some(total + elsewhere),
            drained: Some(load!(queue, drained)),
            limit: limit_in_bytes(queue),
        }
    }
}

#[cfg(not(miri))]
impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.layout)) };
    }
}

/// The queue's limit where it counts bytes. Read at every sample, so names are compared as words.
#[inline]
fn limit_in_bytes(queue: *const QueueSlot) -> Option<u64> {
    QueueLimit::in_bytes(first_word(queue), load!(queue, child), load!(queue, limit))
}

/// The first bytes of the queue discipline's name.
#[inline]
fn first_word(queue: *const QueueSlot) -> u64 {
    // SAFETY: the name lies in the mapping, is twice as long, and aligned as the slot's numbers are.
    Load::load(unsafe { (&raw const (*queue).kind).cast::<u64>() })
}

/// What `payload` of `truesize` makes of `bytes`; `None` where there was nothing to go by.
fn share_of(bytes: u32, payload: u32, truesize: u32) -> Option<u32> {
    let share = u64::from(bytes) * u64::from(payload).min(u64::from(truesize));
    let share = share.checked_div(u64::from(truesize))?;
    u32::try_from(share).ok()
}

/// What is inside of what came in and went out; none when more went out than was seen to come in.
#[inline]
fn inside(entered: u64, left: u64) -> u64 {
    let inside = entered.wrapping_sub(left);
    if inside.cast_signed() < 0 { 0 } else { inside }
}

pub(super) fn pressure(pressure: *const Pressure) -> PressureSample {
    let mut peaks = [Peak::default(); SPANS];
    for (place, peak) in peaks.iter_mut().enumerate() {
        *peak = Peak {
            span: load!(pressure, peaks[place].span),
            share: load!(pressure, peaks[place].share),
        };
    }
    PressureSample {
        sum: load!(pressure, sum) as f64 / f64::from(PRESSURE_ONE),
        samples: load!(pressure, samples),
        peaks: PressurePeaks::new(peaks),
    }
}

/// Counters of one direction, by class.
pub(super) type Classes = [DropCounters; DropClass::COUNT];

/// A flow's drops: no forwarded packet is a flow's.
fn drop_table(drops: *const [Classes; 2]) -> DropTable {
    let mut table = DropTable::default();
    add_drops(
        &mut table,
        drops.cast(),
        &[Direction::Egress, Direction::Ingress],
    );
    table
}

/// Adds the counters of some directions, which lie one behind the other at `drops`.
#[inline]
pub(super) fn add_drops(table: &mut DropTable, drops: *const Classes, directions: &[Direction]) {
    for direction in directions {
        // SAFETY: callers name directions that there are counters of inside the mapping.
        let classes = unsafe { drops.add(*direction as usize) };
        let dropped = |class| load!(classes, [class as usize].skbs);
        // Mostly, nothing was dropped for any reason.
        if DropClass::ALL
            .map(dropped)
            .iter()
            .fold(0, |any, skbs| any | skbs)
            == 0
        {
            continue;
        }
        for class in DropClass::ALL {
            // SAFETY: as above.
            let counters = unsafe { &raw const (*classes)[class as usize] };
            table.add(*direction, class, drop_counters(counters));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_out_than_in_is_nothing_inside() {
        assert_eq!(inside(100, 70), 30);
        assert_eq!(inside(70, 100), 0);
        assert_eq!(inside(5, u64::MAX), 6, "counters may go round");
    }

    #[test]
    fn payload_is_a_share_of_what_is_charged() {
        assert_eq!(share_of(2304, 1200, 2304), Some(1200));
        assert_eq!(share_of(0, 1200, 2304), Some(0));
        assert_eq!(share_of(2304, 0, 0), None, "nothing was sent yet");
        assert_eq!(share_of(u32::MAX, u32::MAX, u32::MAX), Some(u32::MAX));
    }
}
