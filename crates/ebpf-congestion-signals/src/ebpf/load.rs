//! Loads the object into the kernel and attaches what this kernel can have.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, Queue, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{BtfError, Ebpf, EbpfError, EbpfLoader, Pod};
use ebpf_congestion_signals_common::{
    ABSENT, CORE_REASONS, FlowRef, KernelOffsets, Layout, LocalKey, PeerKey, QUEUE_SLOTS,
    SLOT_BYTES, SocketEntry,
};

use super::attach::attach;
use super::mapped::Slots;
use super::offsets::{self, Host};
use super::options::{EbpfOptions, Signal};
use super::probes::{self, NOTHING, PACKETS, PROBES};
use super::reason_table::ReasonTable;
use super::reasons::Reasons;
use super::token_bucket::TokenBucket;
use super::{denial, memlock, recursion_misses};
use crate::btf::Btf;
use crate::error::{LoadError, with_causes};
use crate::inet::netns_cookie;
use crate::shortage::{of_system, remedy};
use crate::source::Capability;

/// The probes, as `cargo xtask bpf` builds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../probes.bpf.o");

/// A record of the ABI, as the loader needs it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: each is `repr(C)` with nothing but integers and arrays of them, without padding.
unsafe impl Pod for Plain<LocalKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<PeerKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<SocketEntry> {}
// SAFETY: as above.
unsafe impl Pod for Plain<FlowRef> {}

/// The bytes of one slot.
pub(super) type SlotWords = [u64; SLOT_BYTES / size_of::<u64>()];

/// Maps that user space writes or walks.
pub(super) struct Maps {
    pub(super) slots: Array<MapData, SlotWords>,
    pub(super) watched: Array<MapData, u32>,
    pub(super) sockets: BpfHashMap<MapData, u64, Plain<SocketEntry>>,
    pub(super) peers: BpfHashMap<MapData, Plain<PeerKey>, Plain<FlowRef>>,
    pub(super) locals: BpfHashMap<MapData, Plain<LocalKey>, u64>,
}

/// What loading gives.
pub(super) struct Loaded {
    /// Keeps programs and their attachments.
    pub(super) ebpf: Ebpf,
    pub(super) slots: Slots,
    pub(super) maps: Maps,
    pub(super) sample_every: Array<MapData, u32>,
    pub(super) ring: RingBuf<MapData>,
    pub(super) reasons: Reasons,
    pub(super) reason_table: ReasonTable,
    pub(super) token_bucket: Arc<TokenBucket>,
    pub(super) capabilities: Vec<Capability>,
}

/// Loads and attaches.
pub(super) fn load(options: &EbpfOptions) -> Result<Loaded, LoadError> {
    options.validate()?;
    // A new loader reads all of the kernel's BTF in any case: meanwhile this thread reads it too.
    let loader = std::thread::Builder::new().spawn(EbpfLoader::new).ok();
    let btf = Btf::from_sys_fs()?;
    let reasons = Reasons::read(&btf)?;
    let host = Host {
        has_netns_cookie: has_netns_cookie().map_err(|error| failed("a socket", &error))?,
    };
    let offsets = offsets::read(&btf, &host)?;
    let layout = Layout {
        cpus: possible_cpus()?,
        flows: options.flows,
    };
    let kernel = KernelOffsets {
        cpus: layout.cpus,
        events_per_second: options.events_per_second,
        counts_all: if options.has(Signal::Sends) {
            1
        } else {
            ABSENT
        },
        ..offsets.kernel
    };

    let words = offsets::words(&kernel);
    let hooks = aya::Btf::parse(
        &btf.excerpt(&probes::hook_types()),
        aya::Endianness::default(),
    )
    .map_err(|error| failed("its type information", &error))?;
    let loader = loader.and_then(|loader| loader.join().ok());
    let mut loader = loader.unwrap_or_default();
    let mut make = || {
        loader
            .override_global("KERNEL_FACTS", words.as_slice(), true)
            .map_max_entries("SLOTS", layout.slots())
            .map_max_entries("SOCKETS", options.flows)
            .map_max_entries("PEERS", options.flows)
            .map_max_entries("LOCALS", options.flows)
            .map_max_entries("REASONS", ReasonTable::entries_for(options.flows))
            .map_max_entries("EVENTS", options.ring_bytes)
            .load(OBJECT)
    };
    let mut ebpf = match make() {
        // Kernels before 5.11 hold maps against the limit of locked memory, and refuse with the
        // error that a missing capability has.
        Err(EbpfError::MapError(MapError::CreateError { io_error, .. }))
            if denial::is_denied(&io_error) && memlock::lift() =>
        {
            make()
        }
        made => made,
    }
    .map_err(|error| not_loaded(error, layout))?;

    fill(&mut ebpf, &reasons)?;
    let capabilities = attach(&mut ebpf, &btf, &hooks, &offsets, options)?;
    let slots = take(&mut ebpf, "SLOTS")?;
    let aya::maps::Map::Array(data) = &slots else {
        return Err(LoadError::Object {
            problem: "SLOTS is no array".into(),
        });
    };
    let mapped = Slots::map(data.fd().as_fd(), layout).map_err(LoadError::Mmap)?;
    let maps = Maps {
        slots: slots.try_into().map_err(|error| not_taken(&error))?,
        watched: typed(&mut ebpf, "WATCHED")?,
        sockets: typed(&mut ebpf, "SOCKETS")?,
        peers: typed(&mut ebpf, "PEERS")?,
        locals: typed(&mut ebpf, "LOCALS")?,
    };
    let reason_table = take(&mut ebpf, "REASONS")?;
    let aya::maps::Map::HashMap(data) = &reason_table else {
        return Err(LoadError::Object {
            problem: "REASONS is no hash map".into(),
        });
    };
    let reason_table = ReasonTable::new(data.fd(), options.flows).map_err(LoadError::Mmap)?;
    let token_bucket = TokenBucket::new(typed(&mut ebpf, "TBF_CHILD")?, &btf)?;
    let ring = typed(&mut ebpf, "EVENTS")?;
    let mut sample_every: Array<MapData, u32> = typed(&mut ebpf, "SAMPLE_EVERY")?;
    sample_every
        .set(0, options.send_sampling, 0)
        .map_err(|error| failed("an entry of a map", &error))?;
    Ok(Loaded {
        ebpf,
        slots: mapped,
        maps,
        sample_every,
        ring,
        reasons,
        reason_table,
        token_bucket,
        capabilities,
    })
}

/// Fills the maps that the probes look up from the start.
fn fill(ebpf: &mut Ebpf, reasons: &Reasons) -> Result<(), LoadError> {
    // Borrowed: a map that is closed before the programs are loaded would be freed.
    let mut core: Array<&mut MapData, u32> = borrowed(ebpf, "CORE_CLASSES")?;
    for (reason, class) in reasons.classes().filter(|(reason, _)| is_core(*reason)) {
        core.set(reason, class, 0)
            .map_err(|error| failed("an entry of a map", &error))?;
    }
    let mut classes: BpfHashMap<&mut MapData, u32, u32> = borrowed(ebpf, "REASON_CLASSES")?;
    for (reason, class) in reasons.classes().filter(|(reason, _)| !is_core(*reason)) {
        classes
            .insert(reason, class, 0)
            .map_err(|error| failed("an entry of a map", &error))?;
    }
    let mut free: Queue<&mut MapData, u32> = borrowed(ebpf, "FREE_QUEUES")?;
    for index in 0..QUEUE_SLOTS {
        free.push(index, 0)
            .map_err(|error| failed("an entry of a map", &error))?;
    }
    Ok(())
}

fn is_core(reason: u32) -> bool {
    reason < CORE_REASONS
}

fn not_loaded(error: EbpfError, layout: Layout) -> LoadError {
    let denied =
        |error: &io::Error| denial::is_denied(error) || error.raw_os_error() == Some(libc::ENOSYS);
    let (refused, io_error) = match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
            if !denied(&io_error) && !is_of_descriptors(&io_error) =>
        {
            return LoadError::Map {
                slots: layout.slots(),
                source: Box::new(io_error),
            };
        }
        EbpfError::MapError(MapError::CreateError { io_error, .. }) if denied(&io_error) => {
            ("a map", io_error)
        }
        EbpfError::BtfError(BtfError::LoadError { io_error, .. }) if denied(&io_error) => {
            ("type information", io_error)
        }
        other => return failed("a map or type information", &other),
    };
    LoadError::NotPermitted {
        refused,
        cause: denial::explain(io_error.raw_os_error()),
        source: io_error,
    }
}

/// Whether it is the process's or the host's descriptors that there are too few of.
fn is_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What a failure of the loader means: that the system lacks something, or that the object does
/// not fit.
fn failed(refused: &'static str, error: &(dyn std::error::Error + 'static)) -> LoadError {
    match of_system(error).filter(|error| remedy(error).is_some()) {
        Some(source) => LoadError::Exhausted { refused, source },
        None => LoadError::Object {
            problem: with_causes(error),
        },
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Object {
        problem: format!("no map {name}"),
    })
}

fn typed<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, LoadError>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    take(ebpf, name)?
        .try_into()
        .map_err(|error| not_taken(&error))
}

fn borrowed<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M, LoadError>
where
    M: TryFrom<&'a mut aya::maps::Map, Error = MapError>,
{
    let map = ebpf.map_mut(name);
    let map = map.ok_or_else(|| LoadError::Object {
        problem: format!("no map {name}"),
    })?;
    map.try_into().map_err(|error| not_taken(&error))
}

/// A map that is there cannot be used: of a ring, memory is mapped.
fn not_taken(error: &MapError) -> LoadError {
    match error {
        // Its message is the cause's, which so is no cause of it.
        MapError::IoError(cause) => failed("a map's memory", cause),
        other => failed("a map's memory", other),
    }
}

/// Where the kernel lists the CPUs that it may ever number: BPF programs run on any of them.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// One more than the highest number of a possible CPU: there can be gaps between them.
fn possible_cpus() -> Result<u32, LoadError> {
    let unreadable = |source: io::Error| match remedy(&source) {
        Some(_) => LoadError::Exhausted {
            refused: "a file",
            source,
        },
        None => LoadError::Host {
            path: POSSIBLE_CPUS.into(),
            source,
        },
    };
    let list = std::fs::read_to_string(POSSIBLE_CPUS).map_err(unreadable)?;
    highest_cpu(&list)
        .map(|highest| highest + 1)
        .ok_or_else(|| unreadable(io::Error::other(format!("it lists no CPUs: {list}"))))
}

/// The highest number of a list of ranges: `0-3,8,10-11`.
fn highest_cpu(list: &str) -> Option<u32> {
    list.trim()
        .split([',', '-'])
        .map(|number| number.parse().ok())
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .max()
}

/// Whether the kernel has `SO_NETNS_COOKIE`.
fn has_netns_cookie() -> io::Result<bool> {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)));
    match socket {
        Ok(socket) => Ok(netns_cookie(socket.as_fd())?.is_some()),
        // A namespace whose loopback is down has no address to bind to.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(true),
        Err(error) => Err(error),
    }
}

/// What the kernel accounts to one probe, while it does: see
/// [`EbpfSource::account_costs`](crate::EbpfSource::account_costs).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeCost {
    /// The probe.
    pub name: &'static str,
    /// Times it ran. Counter.
    pub runs: u64,
    /// Time in it, summed over CPUs. Counter.
    pub time: Duration,
    /// Times that the kernel did not run it, because it was running on that CPU already:
    /// interrupted, or, since Linux 7.0, preempted. What happened then is in no counter. Counted
    /// without accounting too; `None` on kernels that do not count it. Counter.
    pub recursion_misses: Option<u64>,
}

fn recursion_misses_of(program: &Program) -> io::Result<Option<u64>> {
    let fd = program
        .fd()
        .map_err(|error| io::Error::other(with_causes(&error)))?;
    recursion_misses::runs(fd.as_fd())
}

/// Sets of these probes that are loaded on this host; `None` where this process may not ask.
pub(super) fn sets() -> Option<usize> {
    let mut sets = 0;
    for program in aya::programs::loaded_programs() {
        if program.ok()?.name_as_str() == Some(PACKETS) {
            sets += 1;
        }
    }
    Some(sets)
}

/// What each attached probe has cost so far.
pub(super) fn costs(ebpf: &Ebpf) -> io::Result<Vec<ProbeCost>> {
    let mut costs = Vec::with_capacity(PROBES.len() + 1);
    let names = PROBES.iter().map(|probe| probe.name);
    for name in names.chain([NOTHING.0]) {
        let Some(program) = ebpf.program(name) else {
            continue;
        };
        match program.info() {
            Ok(info) => costs.push(ProbeCost {
                name,
                runs: info.run_count(),
                time: info.run_time(),
                recursion_misses: recursion_misses_of(program)?,
            }),
            Err(ProgramError::NotLoaded) => {}
            Err(error) => return Err(io::Error::other(with_causes(&error))),
        }
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_cpu_counts_where_numbers_have_gaps() {
        assert_eq!(highest_cpu("0-3\n"), Some(3));
        assert_eq!(highest_cpu("0,2-5,16"), Some(16));
        assert_eq!(highest_cpu("0"), Some(0));
        assert_eq!(highest_cpu(""), None);
    }
}
