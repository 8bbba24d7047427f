//! Where a token bucket has its child, which holds its packets and has the limit.
//!
//! Most kernels have token buckets in a module, which describes itself once it is loaded. That may
//! be after the probes were.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::maps::{Array, MapData};
use parking_lot::Mutex;

use crate::btf::{Btf, BtfError};
use crate::error::with_causes;

/// The module, and where it describes itself.
const MODULE: &str = "sch_tbf";
const MODULE_BTF: &str = "/sys/kernel/btf/sch_tbf";

/// What the probes know of token buckets.
pub(super) struct TokenBucket {
    offset: Mutex<Array<MapData, u32>>,
    /// Nothing is to be done: it is known, or being read, or cannot be.
    is_done: AtomicBool,
}

impl TokenBucket {
    /// Passes the child's offset to the probes, if the kernel has it by now.
    pub(super) fn new(map: Array<MapData, u32>, btf: &Btf) -> Result<Arc<Self>, BtfError> {
        let bucket = Arc::new(Self {
            offset: Mutex::new(map),
            is_done: AtomicBool::new(false),
        });
        match child_offset(btf) {
            Ok(offset) => {
                bucket.is_done.store(true, Ordering::Relaxed);
                bucket.publish(offset);
            }
            Err(absence) if absence.is_absence() => {
                if Path::new(MODULE_BTF).exists() {
                    bucket.is_done.store(true, Ordering::Relaxed);
                    bucket.read_module();
                }
            }
            Err(damage) => return Err(damage),
        }
        Ok(bucket)
    }

    /// Checks whether the module was loaded meanwhile: a system call while it was not. Its types
    /// take tens of milliseconds to read, which a thread does, once.
    pub(super) fn refresh(self: &Arc<Self>) {
        if self.is_done.load(Ordering::Relaxed) || !Path::new(MODULE_BTF).exists() {
            return;
        }
        if self.is_done.swap(true, Ordering::Relaxed) {
            return;
        }
        let bucket = Arc::clone(self);
        let reading = thread::Builder::new().name("token-bucket-btf".to_owned());
        if let Err(error) = reading.spawn(move || bucket.read_module()) {
            tracing::warn!(%error, "limits of token buckets are unknown");
        }
    }

    fn read_module(&self) {
        match Btf::from_sys_fs_with_module(MODULE).and_then(|btf| child_offset(&btf)) {
            Ok(offset) => self.publish(offset),
            Err(error) => tracing::warn!(%error, "limits of token buckets are unknown"),
        }
    }

    fn publish(&self, offset: u32) {
        if let Err(error) = self.offset.lock().set(0, offset, 0) {
            let error = with_causes(&error);
            tracing::warn!(%error, "limits of token buckets are unknown");
        }
    }
}

/// From the beginning of the `struct Qdisc`, whose private data lie behind it.
fn child_offset(btf: &Btf) -> Result<u32, BtfError> {
    let private = btf.member("Qdisc", "privdata")?.offset;
    let child = btf.member("tbf_sched_data", "qdisc")?.offset;
    Ok(private.saturating_add(child))
}
