//! The clock that the kernel's times are of.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::sample::KernelTime;

/// The kernel's monotonic clock now; `bpf_ktime_get_ns` reads the same.
pub(crate) fn now() -> KernelTime {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    KernelTime::from_nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
