//! Slots in ordinary memory, which this process writes as the probes would: for benches of the
//! reading side, which need no kernel and no privilege.

use std::io;
use std::num::NonZeroUsize;
#[cfg(not(miri))]
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ebpf_congestion_signals_common::{
    Direction, DropClass, FlowSlot, InQueue, Layout, QueueSlot, SLOT_BYTES,
};
#[cfg(not(miri))]
use nix::sys::memfd::{MFdFlags, memfd_create};
#[cfg(not(miri))]
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::available::AvailableSignals;
use super::flows::flow_id;
use super::mapped::{FlowIndex, Load, Slots, load};
use super::version::Counters;
use crate::error::{EventsError, WatchError};
use crate::event::EventStream;
use crate::flow_id::FlowId;
use crate::sample::{DropsByReason, FlowSample, HostSample, LocalCongestion, SourceKind};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};
use crate::version::{Change, Version};

/// A source over memory of this process, read by the code that reads the probes' memory.
#[derive(Clone, Debug)]
pub struct MemorySource {
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    slots: Slots,
    /// The same memory, to write to.
    written: NonNull<u8>,
    bytes: NonZeroUsize,
    attached: AtomicBool,
    available: AvailableSignals,
    given: AtomicU32,
}

// SAFETY: the memory is only accessed by atomic loads and stores.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    #[cfg(not(miri))]
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and no pointer into it is kept.
        let _ = unsafe { munmap(self.written.cast(), self.bytes.get()) };
    }

    #[cfg(miri)]
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no pointer into it is used any more.
        unsafe { std::alloc::dealloc(self.written.as_ptr(), allocation(self.bytes)) };
    }
}

/// How the slots lie in memory that is allocated.
#[cfg(miri)]
fn allocation(bytes: NonZeroUsize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(bytes.get(), SLOT_BYTES).expect("slots have such a size")
}

impl MemorySource {
    /// Memory for a host of so many CPUs and as many flows as said.
    pub fn new(cpus: u32, flows: u32) -> io::Result<Self> {
        let layout = Layout { cpus, flows };
        let length = layout.slots() as usize * SLOT_BYTES;
        let bytes = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let (slots, written) = Self::memory(layout, bytes)?;
        Ok(Self {
            memory: Arc::new(Memory {
                slots,
                written,
                bytes,
                attached: AtomicBool::new(true),
                available: AvailableSignals::ALL,
                given: AtomicU32::new(0),
            }),
        })
    }

    /// Memory twice: to be read as the probes' is, and to be written.
    #[cfg(not(miri))]
    fn memory(layout: Layout, bytes: NonZeroUsize) -> io::Result<(Slots, NonNull<u8>)> {
        let file = memfd_create(c"slots", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, i64::try_from(bytes.get()).unwrap_or(i64::MAX))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let written = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok((Slots::map(file.as_fd(), layout)?, written.cast()))
    }

    /// Miri maps no files: the same memory is read and written by one pointer.
    #[cfg(miri)]
    fn memory(layout: Layout, bytes: NonZeroUsize) -> io::Result<(Slots, NonNull<u8>)> {
        // SAFETY: the size is not zero.
        let written = unsafe { std::alloc::alloc_zeroed(allocation(bytes)) };
        let written = NonNull::new(written).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok((Slots::over(written, layout), written))
    }

    /// The next unused flow; `None` when there is none.
    pub fn add_flow(&self) -> Option<MemoryFlow> {
        let given = self.memory.given.fetch_add(1, Ordering::Relaxed);
        let index = FlowIndex::all(self.memory.slots.layout()).nth(given as usize)?;
        Some(MemoryFlow {
            memory: Arc::clone(&self.memory),
            index,
        })
    }
}

/// A flow's slot, to be written.
#[derive(Clone, Debug)]
pub struct MemoryFlow {
    memory: Arc<Memory>,
    index: FlowIndex,
}

/// Stores one field of a slot.
macro_rules! store {
    ($pointer:expr, $($field:tt)+) => {
        // SAFETY: `pointer` points to a slot of its type inside of the writable mapping.
        unsafe { &raw mut (*$pointer).$($field)+ }
    };
}

fn put(field: *mut u64, value: u64) {
    // SAFETY: callers pass an aligned field inside of the mapping, which is accessed only
    // atomically.
    unsafe { AtomicU64::from_ptr(field) }.store(value, Ordering::Relaxed);
}

fn put_word(field: *mut u32, value: u32) {
    // SAFETY: as above.
    unsafe { AtomicU32::from_ptr(field) }.store(value, Ordering::Relaxed);
}

fn raise(field: *mut u64) {
    // SAFETY: as above.
    unsafe { AtomicU64::from_ptr(field) }.fetch_add(1, Ordering::Release);
}

fn raise_word(field: *mut u32) {
    // SAFETY: as above.
    unsafe { AtomicU32::from_ptr(field) }.fetch_add(1, Ordering::Release);
}

impl MemoryFlow {
    /// A handle that reads the flow.
    pub fn watch(&self) -> Watch {
        let reader = MemoryReader(self.clone());
        let counters = reader.counters();
        Watch::with_counters(Arc::new(reader), counters)
    }

    /// So many packets of the flow were seen so far.
    pub fn set_observed(&self, packets: u64) {
        put(store!(self.slot(), sent_packets), packets);
    }

    /// So many packets of the flow were dropped by a full queue so far.
    pub fn set_queue_drops(&self, packets: u64) {
        const AT: (usize, usize) = (Direction::Egress as usize, DropClass::QueueFull as usize);
        put(store!(self.slot(), drops[AT.0][AT.1].skbs), packets);
        put(store!(self.slot(), drops[AT.0][AT.1].packets), packets);
        raise_word(store!(self.slot(), changes));
    }

    /// The flow has `own` bytes in the host's first queue, which holds `total` of 150,000 and ran
    /// empty `drained` times.
    pub fn set_queue(&self, own: u64, total: u64, drained: u64) {
        let layout = self.memory.slots.layout();
        let queue: *mut QueueSlot = self.memory.at(layout.first_queue());
        put_word(store!(queue, generation), 1);
        put(store!(queue, backlog), total);
        put(store!(queue, drained), drained);
        put(store!(queue, shared_entered), own);
        put_word(store!(queue, limit), 150_000);
        put(
            store!(queue, kind).cast(),
            u64::from_ne_bytes(*b"bfifo\0\0\0"),
        );
        let slot = self.slot();
        let record: *mut InQueue = store!(slot, queues).cast();
        put_word(store!(record, queue), 1);
        put_word(store!(record, generation), 1);
        put_word(store!(record, shared), 1);
        put(store!(record, drained), drained);
        put(store!(record, entered), own);
        if load!(slot, queue) == 0 {
            put_word(store!(slot, queue), 1);
            raise_word(store!(slot, changes));
        }
        raise(store!(queue, changes));
    }

    fn slot(&self) -> *mut FlowSlot {
        self.memory.at(self.index.slot())
    }
}

impl Memory {
    fn at<T>(&self, index: u32) -> *mut T {
        assert!(index < self.slots.layout().slots());
        // SAFETY: the mapping has as many slots.
        unsafe { self.written.as_ptr().add(index as usize * SLOT_BYTES) }.cast()
    }
}

#[derive(Debug)]
struct MemoryReader(MemoryFlow);

impl MemoryReader {
    fn counters(&self) -> Counters {
        let memory = &*self.0.memory;
        memory.slots.counters(self.0.index, &memory.attached)
    }
}

impl FlowReader for MemoryReader {
    fn id(&self) -> FlowId {
        flow_id(self.0.index.slot(), 1)
    }

    fn congestion(&self) -> LocalCongestion {
        let memory = &*self.0.memory;
        let live = memory.attached.load(Ordering::Relaxed);
        memory
            .slots
            .congestion(self.0.index, &memory.available, live)
    }

    fn versioned(&self) -> (LocalCongestion, Version) {
        let memory = &*self.0.memory;
        let live = memory.attached.load(Ordering::Relaxed);
        memory
            .slots
            .versioned(self.0.index, &memory.available, live)
    }

    fn change_since(&self, version: &Version) -> Change {
        self.counters().change_since(version)
    }

    fn seen_packets(&self) -> Option<u64> {
        let memory = &*self.0.memory;
        memory.slots.seen_packets(self.0.index, &memory.available)
    }

    fn sample(&self) -> FlowSample {
        let memory = &*self.0.memory;
        let live = memory.attached.load(Ordering::Relaxed);
        memory
            .slots
            .flow_sample(self.0.index, &memory.available, live, true)
    }
}

impl SignalSource for MemorySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Mock
    }

    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn host(&self) -> HostSample {
        self.memory.slots.host(&self.memory.available)
    }

    fn drops_by_reason(&self, _: Option<FlowId>) -> Vec<DropsByReason> {
        Vec::new()
    }

    fn watch(&self, _: WatchTarget<'_>) -> Result<Watch, WatchError> {
        let slots = self.memory.slots.layout().flows;
        let flow = self.add_flow().ok_or(WatchError::NoSlot { slots })?;
        Ok(flow.watch())
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        Err(EventsError::Unsupported)
    }
}
