//! Writing to slots that other CPUs write and user space reads.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds to a counter. The old value is not asked for: plain `lock add` on every kernel.
#[inline(always)]
pub fn add(counter: *mut u64, more: u64) {
    // SAFETY: callers pass aligned fields of slots that outlive the program.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, more) };
}

/// Adds to a counter of this CPU's own slot that one program alone writes, where the kernel has bottom
/// halves off (`__dev_queue_xmit`): nothing on this CPU comes between load and store. A plain add takes
/// a fraction of an atomic one's time.
#[inline(always)]
pub fn add_alone(counter: *mut u64, more: u64) {
    // SAFETY: as above.
    unsafe { counter.write_volatile(counter.read_volatile().wrapping_add(more)) };
}

/// Adds one to a counter that wraps round.
#[inline(always)]
pub fn raise(counter: *mut u32) {
    // SAFETY: as above.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, 1) };
}

/// Sets a gauge.
#[inline(always)]
pub fn set<T: Copy>(gauge: *mut T, value: T) {
    // SAFETY: as above; one store of at most 8 bytes.
    unsafe { gauge.write_volatile(value) };
}

/// Reads a counter or gauge.
#[inline(always)]
pub fn get<T: Copy>(field: *const T) -> T {
    // SAFETY: as above; one load of at most 8 bytes.
    unsafe { field.read_volatile() }
}
