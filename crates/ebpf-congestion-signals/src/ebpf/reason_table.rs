//! Drops by reason, as the probes count them in a table of the kernel's.
//!
//! An entry belongs to one generation of a slot, so entries of an earlier flow are garbage. To find
//! them the table is walked a few entries at a time: each release of a flow does one step, so that
//! no call takes long.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ebpf_congestion_signals_common::{DropCounters, ReasonKey};
use parking_lot::Mutex;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h), since Linux 5.6.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_DELETE_BATCH: libc::c_long = 27;

/// Entries that one call copies when all are read.
const BATCH: usize = 512;

/// Entries that one step of a sweep reads: some ten microseconds.
const STEP: usize = 64;

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
    sweep: Mutex<Sweep>,
}

/// How far the removal of stale entries is.
#[derive(Default)]
struct Sweep {
    /// Flows with drops that were released since the last pass began.
    released: u32,
    /// Where a sweep in progress continues.
    position: Option<Position>,
}

/// Between two entries, as the kernel numbers them.
type Position = [u64; 2];

/// A part of the table.
struct Part {
    entries: Vec<(ReasonKey, DropCounters)>,
    /// Where the next part begins; `None`: this was the last.
    next: Option<Position>,
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
            sweep: Mutex::default(),
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

    /// A flow with drops was released: does a step of a sweep, if one is due. A pass begins when a
    /// few in a hundred of the table may be stale, and takes as many steps. `is_live` says whether
    /// a slot in a generation is a watched flow's.
    pub(super) fn on_release(&self, is_live: impl Fn(u32, u32) -> bool) {
        let mut sweep = self.sweep.lock();
        sweep.released += 1;
        if sweep.position.is_none() {
            if sweep.released < self.entries / 64 {
                return;
            }
            sweep.released = 0;
        }
        let part = self.part(sweep.position, STEP);
        sweep.position = part.as_ref().ok().and_then(|part| part.next);
        drop(sweep);
        let removed = part.and_then(|part| {
            let keys = part.entries.into_iter().map(|(key, _)| key);
            let stale = keys.filter(|key| key.slot != 0 && !is_live(key.slot, key.generation));
            self.remove(&mut stale.collect::<Vec<_>>())
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "entries of released flows stay in the table of drop reasons");
        }
    }

    /// Visits every entry.
    fn walk(&self, mut visit: impl FnMut(ReasonKey, DropCounters)) -> io::Result<()> {
        let mut position = None;
        loop {
            let part = self.part(position, BATCH)?;
            for (key, counters) in part.entries {
                visit(key, counters);
            }
            position = part.next;
            if position.is_none() {
                return Ok(());
            }
        }
    }

    /// So many entries from a position on; from the first on where there is none.
    fn part(&self, position: Option<Position>, most: usize) -> io::Result<Part> {
        let mut from = position.unwrap_or_default();
        let mut next = Position::default();
        let mut keys = vec![NO_KEY; most];
        let mut values = vec![DropCounters::default(); most];
        let mut attributes = BatchAttributes {
            in_batch: if position.is_some() {
                address(&mut from)
            } else {
                0
            },
            out_batch: address(&mut next),
            // The kernel writes through these numbers.
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: u32::try_from(most).unwrap_or(u32::MAX),
            map_fd: self.fd(),
            elem_flags: 0,
            flags: 0,
        };
        let is_last = match call(MAP_LOOKUP_BATCH, &mut attributes) {
            Ok(()) => false,
            // No entries are left behind these.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = attributes.count as usize;
        Ok(Part {
            entries: keys.into_iter().zip(values).take(count).collect(),
            next: (!is_last).then_some(next),
        })
    }

    fn remove(&self, keys: &mut [ReasonKey]) -> io::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
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
    // SAFETY: the kernel reads and writes no more than the size given of the attributes, and no
    // more than `count` keys and values of the map's sizes, which the callers' buffers hold.
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
