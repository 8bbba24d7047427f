//! The array of slots, mapped read-only, and read with plain atomic loads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ebpf_congestion_signals_common::{
    BufferGauges, Direction, DropClass, DropCounters, FlowSlot, HostSlot, Layout, QueueSlot,
    SLOT_BYTES, SendCounters, Socket, SoftirqCounters,
};

use crate::sample::{DropTable, KernelTime, PressureSample, QueueId, QueueSample, SoftirqSample};

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

/// Values that the kernel writes in one store.
trait Load: Copy {
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

fn drop_counters(counters: *const DropCounters) -> DropCounters {
    DropCounters {
        skbs: load!(counters, skbs),
        packets: load!(counters, packets),
        bytes: load!(counters, bytes),
    }
}

fn send_counters(counters: *const SendCounters) -> SendCounters {
    SendCounters {
        bytes: load!(counters, bytes),
        calls: load!(counters, calls),
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

    fn cpus(&self) -> impl Iterator<Item = *const HostSlot> {
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

    /// Packets of the flow that a full queue of this host dropped on their way out.
    pub(super) fn queue_drops(&self, flow: FlowIndex) -> u64 {
        let (leaving, full) = (Direction::Leaving as usize, DropClass::QueueFull as usize);
        load!(self.flow(flow), drops[leaving][full].packets)
    }

    pub(super) fn drops(&self, flow: FlowIndex) -> DropTable {
        // SAFETY: a field inside the mapping.
        drop_table(unsafe { &raw const (*self.flow(flow)).drops })
    }

    pub(super) fn buffers(&self, flow: FlowIndex) -> Option<BufferGauges> {
        let slot = self.flow(flow);
        let buffers = BufferGauges {
            wmem: load!(slot, buffers.wmem),
            sndbuf: load!(slot, buffers.sndbuf),
            rmem: load!(slot, buffers.rmem),
            rcvbuf: load!(slot, buffers.rcvbuf),
        };
        // A socket's limits are never zero.
        (buffers.sndbuf != 0 || buffers.rcvbuf != 0).then_some(buffers)
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
        Some(QueueSample {
            id,
            own: part(own, counted, total),
            shared: part(shared, counted, total),
            total,
            drained,
        })
    }

    /// Sends of the host by kind of socket.
    pub(super) fn host_send(&self, kind: Socket) -> SendCounters {
        self.cpus()
            // SAFETY: a field inside the mapping.
            .map(|cpu| send_counters(unsafe { &raw const (*cpu).send[kind as usize] }))
            .fold(SendCounters::default(), |a, b| SendCounters {
                bytes: a.bytes.wrapping_add(b.bytes),
                calls: a.calls.wrapping_add(b.calls),
            })
    }

    pub(super) fn host_drops(&self) -> DropTable {
        let mut table = DropTable::default();
        for cpu in self.cpus() {
            // SAFETY: a field inside the mapping.
            add_drops(&mut table, unsafe { &raw const (*cpu).drops });
        }
        table
    }

    pub(super) fn host_softirq(&self) -> SoftirqSample {
        let mut sample = SoftirqSample::default();
        for cpu in self.cpus() {
            // SAFETY: a field inside the mapping.
            let rx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_rx };
            // SAFETY: as above.
            let tx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_tx };
            sample.net_rx += Duration::from_nanos(load!(rx, ns));
            sample.net_tx += Duration::from_nanos(load!(tx, ns));
            sample.runs += load!(rx, runs) + load!(tx, runs);
        }
        sample
    }

    pub(super) fn host_pressure(&self) -> PressureSample {
        let mut sample = PressureSample::default();
        for cpu in self.cpus() {
            sample.sum += load!(cpu, pressure_sum) as f64 / 65_536.0;
            sample.samples += load!(cpu, pressure_samples);
        }
        sample
    }

    /// Events written to the ring, and events that were not.
    pub(super) fn host_events(&self) -> (u64, u64) {
        self.cpus().fold((0, 0), |(written, lost), cpu| {
            (
                written + load!(cpu, events),
                lost + load!(cpu, events_limited) + load!(cpu, events_ring_full),
            )
        })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.layout)) };
    }
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
        return bytes;
    }
    let part = u128::from(bytes) * u128::from(total) / u128::from(counted);
    u64::try_from(part).unwrap_or(bytes)
}

fn drop_table(drops: *const [[DropCounters; DropClass::COUNT]; 2]) -> DropTable {
    let mut table = DropTable::default();
    add_drops(&mut table, drops);
    table
}

fn add_drops(table: &mut DropTable, drops: *const [[DropCounters; DropClass::COUNT]; 2]) {
    for direction in [Direction::Leaving, Direction::Arriving] {
        for class in DropClass::ALL {
            // SAFETY: an element of an array inside the mapping.
            let counters = unsafe { &raw const (*drops)[direction as usize][class as usize] };
            table.add(direction, class, drop_counters(counters));
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
    fn the_largest_gauges_do_not_overflow() {
        assert_eq!(part(u64::MAX, u64::MAX, u64::MAX - 1), u64::MAX - 1);
    }
}
