//! The array of slots, mapped read-only, and read with plain atomic loads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals_common::{
    Direction, DropClass, DropCounters, FlowSlot, HostSlot, Layout, PRESSURE_ONE, Peak, Pressure,
    QDISC_NAME_BYTES, QueueSlot, SLOT_BYTES, SPANS, SendCounters,
};

use crate::sample::{
    BufferSample, DropTable, KernelTime, LIMITED_BY_BYTES, PressurePeaks, PressureSample,
    QdiscName, QueueId, QueueLimit, QueueSample, QueueState, SojournSample,
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

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    fn bytes(layout: Layout) -> usize {
        layout.slots() as usize * SLOT_BYTES
    }

    /// The slot at `index`.
    fn slot<T>(&self, index: u32) -> *const T {
        assert!(
            index < self.layout.slots(),
            "slot {index} of {}",
            self.layout.slots()
        );
        // SAFETY: the mapping has as many slots, and each is large and aligned enough for any.
        unsafe { self.base.as_ptr().add(index as usize * SLOT_BYTES) }.cast()
    }

    fn flow(&self, flow: FlowIndex) -> *const FlowSlot {
        self.slot(flow.0)
    }

    pub(super) fn cpus(&self) -> impl Iterator<Item = *const HostSlot> {
        (0..self.layout.cpus).map(|cpu| self.slot(cpu))
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

    pub(super) fn sent_packets(&self, flow: FlowIndex) -> u64 {
        load!(self.flow(flow), sent_packets)
    }

    /// What the flow's socket accepted.
    pub(super) fn send(&self, flow: FlowIndex) -> SendCounters {
        // SAFETY: a field inside the mapping.
        send_counters(unsafe { &raw const (*self.flow(flow)).send })
    }

    /// Packets of the flow that were dropped on their way out for reasons of this class.
    pub(super) fn leaving_drops(&self, flow: FlowIndex, class: DropClass) -> u64 {
        let (leaving, class) = (Direction::Leaving as usize, class as usize);
        load!(self.flow(flow), drops[leaving][class].packets)
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

    /// What the queue is that the flow last entered.
    pub(super) fn queue_state(&self, flow: FlowIndex) -> Option<QueueState> {
        let index = load!(self.flow(flow), queue).checked_sub(1)?;
        QueueId::new(index as usize)?;
        let queue: *const QueueSlot = self.slot(self.layout.first_queue() + index);
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
            limit: QueueLimit::of(&kind, load!(queue, limit)),
        })
    }

    /// The queue that the flow last entered. Counters of what came in are read before those of
    /// what went out, so that a packet on its way is not counted twice.
    pub(super) fn queue(&self, flow: FlowIndex) -> Option<QueueSample> {
        let slot = self.flow(flow);
        let index = load!(slot, queue).checked_sub(1)?;
        let id = QueueId::new(index as usize)?;
        let queue: *const QueueSlot = self.slot(self.layout.first_queue() + index);
        let entered = load!(slot, enqueued);
        let shared_entered = load!(queue, shared_enqueued);
        let all_entered = load!(queue, enqueued);
        let drained = load!(queue, drained);
        let own = if load!(slot, queue_drained) == drained {
            inside(entered, load!(slot, dequeued))
        } else {
            0
        };
        let shared = inside(shared_entered, load!(queue, shared_dequeued));
        let counted = inside(all_entered, load!(queue, dequeued));
        let total = load!(queue, backlog);
        Some(
            QueueSample::new(id)
                .with_own(part(own, counted, total))
                .with_shared(part(shared, counted, total))
                .with_total(total)
                .with_drained(drained)
                .with_limit(limit_in_bytes(queue)),
        )
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.layout)) };
    }
}

/// The queue's limit where it counts bytes. Read at every look, so the name is compared as a word.
fn limit_in_bytes(queue: *const QueueSlot) -> Option<u64> {
    let limit = load!(queue, limit);
    // SAFETY: the name lies in the mapping, is twice as long, and aligned as the slot's numbers are.
    let kind = Load::load(unsafe { (&raw const (*queue).kind).cast::<u64>() });
    (limit != 0 && LIMITED_BY_BYTES.contains(&kind)).then_some(limit.into())
}

/// What `payload` of `truesize` makes of `bytes`; `None` where there was nothing to go by.
fn share_of(bytes: u32, payload: u32, truesize: u32) -> Option<u32> {
    let share = u64::from(bytes) * u64::from(payload).min(u64::from(truesize));
    let share = share.checked_div(u64::from(truesize))?;
    u32::try_from(share).ok()
}

/// What is inside of what came in and went out; the two are not read in the same instant.
fn inside(entered: u64, left: u64) -> u64 {
    entered.saturating_sub(left)
}

/// What `bytes` of `counted` are of what really stands in the queue.
///
/// Under load some kernels (6.18 for one) dequeue one to four packets in a thousand without a word
/// to the tracepoint, and what was counted as inside is then too much until the queue next runs
/// empty. The queue discipline's own figure tells by how much. Whose those packets were, it does
/// not: the excess is taken from all in proportion, which is exact while there is one flow.
fn part(bytes: u64, counted: u64, total: u64) -> u64 {
    if counted <= total {
        return bytes.min(total);
    }
    let part = u128::from(bytes) * u128::from(total) / u128::from(counted);
    u64::try_from(part).unwrap_or(bytes)
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
        &[Direction::Leaving, Direction::Arriving],
    );
    table
}

/// Adds the counters of some directions, which lie one behind the other at `drops`.
pub(super) fn add_drops(table: &mut DropTable, drops: *const Classes, directions: &[Direction]) {
    for direction in directions {
        // SAFETY: callers name directions that there are counters of inside the mapping.
        let classes = unsafe { drops.add(*direction as usize) };
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
    fn packets_that_left_unseen_are_taken_from_all_in_proportion() {
        assert_eq!(part(30, 100, 80), 24);
        assert_eq!(part(100, 100, 80), 80, "all of it is one flow's");
        assert_eq!(part(30, 100, 0), 0);
    }

    #[test]
    fn what_was_there_before_anything_was_counted_is_nobodys() {
        assert_eq!(part(30, 100, 150), 30);
        assert_eq!(part(0, 0, 150), 0);
    }

    #[test]
    fn payload_is_a_share_of_what_is_charged() {
        assert_eq!(share_of(2304, 1200, 2304), Some(1200));
        assert_eq!(share_of(0, 1200, 2304), Some(0));
        assert_eq!(share_of(2304, 0, 0), None, "nothing was sent yet");
        assert_eq!(share_of(u32::MAX, u32::MAX, u32::MAX), Some(u32::MAX));
    }

    #[test]
    fn the_largest_gauges_do_not_overflow() {
        assert_eq!(part(u64::MAX, u64::MAX, u64::MAX - 1), u64::MAX - 1);
    }
}
