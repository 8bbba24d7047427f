//! The array of slots, mapped read-only, and read with plain atomic loads.

mod flow;
mod queue;
mod records;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use ebpf_congestion_signals_common::{
    FlowSlot, HostSlot, Layout, QUEUE_SLOTS, QueueSlot, SLOT_BYTES,
};

pub(super) use flow::congestion_in;
pub(super) use records::{add_drops, pressure, send_counters};

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

    #[inline]
    pub(super) fn queue_slot(&self, index: u32) -> Option<*const QueueSlot> {
        (index < QUEUE_SLOTS).then(|| {
            let slot = (self.layout.first_queue() + index) as usize;
            // SAFETY: the mapping has the layout's slots, and so many are queues' from the first on.
            unsafe { self.base.as_ptr().cast_const().add(slot * SLOT_BYTES) }.cast()
        })
    }
}

#[cfg(not(miri))]
impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.layout)) };
    }
}
