//! Memory, descriptors, threads and BPF objects of this process, as the kernel counts them.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData, loaded_maps};
use aya::programs::loaded_programs;
use ebpf_congestion_signals_common::{FlowRef, LocalKey, PeerKey, SocketEntry};
use procfs::process::Process;

use crate::heap;

/// What this process holds, at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) resident_kb: u64,
    pub(crate) heap_bytes: i64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) mappings: u64,
    /// Maps and programs for which this process has descriptors.
    pub(crate) bpf_objects: u64,
}

/// Longest wait for threads that are about to end.
const PATIENCE: Duration = Duration::from_secs(5);

impl Census {
    /// Waits until there are no more threads and descriptors than `before`, at most [`PATIENCE`],
    /// and counts. The threads of a source end in the background after it is dropped.
    pub(crate) fn settled(before: &Self) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            heap::trim();
            let now = Self::take()?;
            let is_settled = now.threads <= before.threads && now.descriptors <= before.descriptors;
            if is_settled || Instant::now() > end {
                return Ok(now);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Counts now.
    pub(crate) fn take() -> Result<Self> {
        let own = Process::myself().context("/proc cannot be read")?;
        let status = own.status()?;
        let (maps, programs) = own_objects()?;
        Ok(Self {
            resident_kb: status.vmrss.unwrap_or_default(),
            heap_bytes: heap::live_bytes(),
            // Not counting the descriptor that reads the list.
            descriptors: (own.fd_count()? as u64).saturating_sub(1),
            threads: status.threads,
            mappings: own.maps()?.len() as u64,
            bpf_objects: (maps.len() + programs.len()) as u64,
        })
    }
}

/// Ids of the BPF maps and programs for which this process has descriptors.
fn own_objects() -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    let (mut maps, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir("/proc/self/fdinfo").context("/proc cannot be read")? {
        // A descriptor may have been closed since.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match (name, value.trim().parse()) {
                ("map_id", Ok(id)) => maps.insert(id),
                ("prog_id", Ok(id)) => programs.insert(id),
                _ => continue,
            };
        }
    }
    Ok((maps, programs))
}

/// The probes' maps and programs, found by id: what the kernel has, not what the source reports.
pub(crate) struct KernelObjects {
    maps: BTreeSet<u32>,
    programs: BTreeSet<u32>,
}

/// Entries in the probes' maps of watched flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    pub(crate) sockets: u64,
    pub(crate) peers: u64,
    pub(crate) locals: u64,
    /// Sum of the counters in `WATCHED`.
    pub(crate) watched: u64,
}

impl Entries {
    pub(crate) fn total(self) -> u64 {
        self.sockets + self.peers + self.locals + self.watched
    }
}

impl KernelObjects {
    /// Those for which this process has descriptors now.
    pub(crate) fn own() -> Result<Self> {
        let (maps, programs) = own_objects()?;
        Ok(Self { maps, programs })
    }

    /// Counts the entries of the maps.
    pub(crate) fn entries(&self) -> Result<Entries> {
        let mut entries = Entries::default();
        for map in loaded_maps() {
            // A map of another process may have been freed since.
            let Ok(map) = map else { continue };
            if !self.maps.contains(&map.id()) {
                continue;
            }
            let open = || -> Result<Map> { Ok(Map::from_map_data(MapData::from_id(map.id())?)?) };
            match map.name_as_str() {
                Some("SOCKETS") => entries.sockets += count::<8, SOCKET_ENTRY>(open()?)?,
                Some("PEERS") => entries.peers += count::<PEER_KEY, FLOW_REF>(open()?)?,
                Some("LOCALS") => entries.locals += count::<LOCAL_KEY, 8>(open()?)?,
                Some("WATCHED") => {
                    let array = Array::<_, u32>::try_from(open()?)?;
                    for value in array.iter() {
                        entries.watched += u64::from(value?);
                    }
                }
                _ => {}
            }
        }
        Ok(entries)
    }

    /// How many of them the kernel still has.
    pub(crate) fn left(&self) -> u64 {
        let maps = loaded_maps().flatten();
        let maps = maps.filter(|map| self.maps.contains(&map.id())).count();
        let programs = loaded_programs().flatten();
        let programs = programs
            .filter(|program| self.programs.contains(&program.id()))
            .count();
        (maps + programs) as u64
    }
}

const SOCKET_ENTRY: usize = size_of::<SocketEntry>();
const PEER_KEY: usize = size_of::<PeerKey>();
const FLOW_REF: usize = size_of::<FlowRef>();
const LOCAL_KEY: usize = size_of::<LocalKey>();

fn count<const KEY: usize, const VALUE: usize>(map: Map) -> Result<u64> {
    let map = HashMap::<_, [u8; KEY], [u8; VALUE]>::try_from(map)?;
    let mut count = 0;
    for key in map.keys() {
        key?;
        count += 1;
    }
    Ok(count)
}
