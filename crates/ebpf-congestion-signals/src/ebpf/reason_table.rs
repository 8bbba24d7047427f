//! Drops by reason, as the probes count them in a table of the kernel's.
//!
//! An entry belongs to a slot in one generation, so what an earlier flow of a slot has left is
//! nobody's. It is removed now and then, not with each flow: to find it, the whole table is walked.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ebpf_congestion_signals_common::{DropCounters, ReasonKey};
use parking_lot::Mutex;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h), since Linux 5.6.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_DELETE_BATCH: libc::c_long = 27;

/// Entries that one call copies.
const BATCH: usize = 512;

/// `union bpf_attr` for batches.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The table.
pub(super) struct ReasonTable {
    map: OwnedFd,
    entries: u32,
    /// Flows with drops that were released since stale entries were last removed.
    released: Mutex<u32>,
}

impl ReasonTable {
    /// Entries for a source of so many flows: a few reasons each, if a part of them has drops at a
    /// time, and the host's own.
    pub(super) const fn entries_for(flows: u32) -> u32 {
        4096 + 2 * flows
    }

    pub(super) fn new(map: impl AsFd, flows: u32) -> io::Result<Self> {
        Ok(Self {
            map: map.as_fd().try_clone_to_owned()?,
            entries: Self::entries_for(flows),
            released: Mutex::new(0),
        })
    }

    /// The counters of a slot in a generation; those of the host for slot 0.
    pub(super) fn of(&self, slot: u32, generation: u32) -> Vec<(ReasonKey, DropCounters)> {
        let mut found = Vec::new();
        let walked = self.walk(|key, counters| {
            if (key.slot, key.generation) == (slot, generation) {
                found.push((key, counters));
            }
        });
        if let Err(error) = walked {
            tracing::warn!(%error, "the table of drop reasons cannot be read on");
        }
        found
    }

    /// Notes that a flow with drops was released; whether it is time to [`sweep`](Self::sweep).
    pub(super) fn note_release(&self) -> bool {
        let mut released = self.released.lock();
        *released += 1;
        if *released < self.entries / 16 {
            return false;
        }
        *released = 0;
        true
    }

    /// Removes what belongs to flows that are gone; `live` has the generation of each slot that is a
    /// watched flow's.
    pub(super) fn sweep(&self, live: &HashMap<u32, u32>) {
        let mut stale = Vec::new();
        let walked = self.walk(|key, _| {
            if key.slot != 0 && live.get(&key.slot) != Some(&key.generation) {
                stale.push(key);
            }
        });
        let removed = stale.chunks(BATCH).try_for_each(|keys| self.remove(keys));
        if let Err(error) = walked.and(removed) {
            tracing::warn!(%error, "entries of released flows stay in the table of drop reasons");
        }
    }

    /// Visits every entry.
    fn walk(&self, mut visit: impl FnMut(ReasonKey, DropCounters)) -> io::Result<()> {
        let mut position = [0u64; 2];
        let mut is_first = true;
        loop {
            let mut keys = [NO_KEY; BATCH];
            let mut values = [DropCounters::default(); BATCH];
            let mut next = [0u64; 2];
            let mut attributes = BatchAttributes {
                in_batch: if is_first { 0 } else { address(&mut position) },
                out_batch: address(&mut next),
                keys: address(&mut keys),
                values: address(&mut values),
                count: u32::try_from(BATCH).unwrap_or(u32::MAX),
                map_fd: self.fd(),
                elem_flags: 0,
                flags: 0,
            };
            let result = call(MAP_LOOKUP_BATCH, &mut attributes);
            let is_last = match result {
                Ok(()) => false,
                // No entries are left behind these.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let count = (attributes.count as usize).min(BATCH);
            for (key, counters) in keys.iter().zip(&values).take(count) {
                visit(*key, *counters);
            }
            if is_last {
                return Ok(());
            }
            position = next;
            is_first = false;
        }
    }

    fn remove(&self, keys: &[ReasonKey]) -> io::Result<()> {
        let mut keys = keys.to_vec();
        let mut attributes = BatchAttributes {
            in_batch: 0,
            out_batch: 0,
            // The kernel reads through this number.
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: 0,
            count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            map_fd: self.fd(),
            elem_flags: 0,
            flags: 0,
        };
        call(MAP_DELETE_BATCH, &mut attributes)
    }

    fn fd(&self) -> u32 {
        u32::try_from(self.map.as_raw_fd()).unwrap_or(u32::MAX)
    }
}

const NO_KEY: ReasonKey = ReasonKey {
    slot: 0,
    generation: 0,
    reason: 0,
    reserved: 0,
    location: 0,
};

/// The address of a buffer, for the kernel to read and write through.
fn address<T>(buffer: &mut T) -> u64 {
    (&raw mut *buffer).expose_provenance() as u64
}

fn call(command: libc::c_long, attributes: &mut BatchAttributes) -> io::Result<()> {
    // SAFETY: the kernel reads and writes no more than the size given of the attributes, and no more
    // than `count` keys and values of the map's sizes, which the callers' buffers hold.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attributes,
            size_of::<BatchAttributes>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
