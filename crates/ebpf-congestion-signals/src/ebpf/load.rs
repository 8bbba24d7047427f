//! Loads the object into the kernel and attaches what this kernel can have.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, Queue, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, Pod};
use ebpf_congestion_signals_common::{
    DropCounters, KernelFacts, Layout, LocalKey, PeerKey, QUEUE_SLOTS, ReasonKey, SLOT_BYTES,
    SocketEntry,
};

use super::mapped::Slots;
use super::reasons::Reasons;
use super::{facts, socket};
use crate::btf::Btf;
use crate::error::LoadError;
use crate::source::Capability;

/// The probes, as `cargo xtask bpf` builds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../probes.bpf.o");

/// A probe and what it is for.
struct Probe {
    /// Name of the program in the object, and of the tracepoint it attaches to.
    name: &'static str,
    gives: &'static str,
    /// First kernel that has the tracepoint with the arguments that the probe reads.
    since: &'static str,
}

const PROBES: [Probe; 9] = [
    Probe {
        name: "kfree_skb",
        gives: "drops by reason, class and owner",
        since: "Linux 5.10",
    },
    Probe {
        name: "net_dev_queue",
        gives: "packets and bytes that watched flows send",
        since: "Linux 5.10",
    },
    Probe {
        name: "qdisc_enqueue",
        gives: "what enters the queues that watched flows leave by",
        since: "Linux 5.15",
    },
    Probe {
        name: "qdisc_dequeue",
        gives: "what leaves those queues",
        since: "Linux 5.10",
    },
    Probe {
        name: "qdisc_reset",
        gives: "queues thrown away",
        since: "Linux 5.10",
    },
    Probe {
        name: "sock_send_length",
        gives: "bytes that sockets send, and their send buffers' occupancy",
        since: "Linux 6.3",
    },
    Probe {
        name: "sock_recv_length",
        gives: "watched sockets' receive buffer occupancy",
        since: "Linux 6.3",
    },
    Probe {
        name: "softirq_entry",
        gives: "time in network softirqs",
        since: "Linux 5.10",
    },
    Probe {
        name: "softirq_exit",
        gives: "time in network softirqs",
        since: "Linux 5.10",
    },
];

/// How to load the probes.
#[derive(Clone, Debug)]
pub struct EbpfOptions {
    flows: u32,
    events_per_second: u32,
    ring_bytes: u32,
}

/// Flows by default: a server with a thousand peers, in one megabyte.
const DEFAULT_FLOWS: u32 = 1024;

/// Most flows: 64 MB of slots.
const MOST_FLOWS: u32 = 65_536;

/// Events a second of one CPU by default: each is one wake-up at most, so this bounds what a
/// flood of drops costs its readers.
const DEFAULT_EVENTS_PER_SECOND: u32 = 1000;

/// Size of the ring by default: over a second of events of eight CPUs.
const DEFAULT_RING_BYTES: u32 = 512 * 1024;

impl Default for EbpfOptions {
    fn default() -> Self {
        Self {
            flows: DEFAULT_FLOWS,
            events_per_second: DEFAULT_EVENTS_PER_SECOND,
            ring_bytes: DEFAULT_RING_BYTES,
        }
    }
}

impl EbpfOptions {
    /// How many flows can be watched at a time, 1 to 65,536; a kilobyte of locked memory each.
    pub fn flows(mut self, flows: u32) -> Self {
        self.flows = flows;
        self
    }

    /// How many events each CPU may write in a second; 0 writes none. Counters are exact all the
    /// same.
    pub fn events_per_second(mut self, events: u32) -> Self {
        self.events_per_second = events;
        self
    }

    /// Size of the ring buffer of events in bytes: a power of two, 4 KiB to 64 MiB.
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = bytes;
        self
    }

    fn validate(&self) -> Result<(), LoadError> {
        let refuse = |option, value: u32, limits| {
            Err(LoadError::Option {
                option,
                value: u64::from(value),
                limits,
            })
        };
        if self.flows == 0 || self.flows > MOST_FLOWS {
            return refuse("flows", self.flows, "1 to 65536");
        }
        if !self.ring_bytes.is_power_of_two() || !(4096..=64 << 20).contains(&self.ring_bytes) {
            return refuse(
                "ring_bytes",
                self.ring_bytes,
                "a power of two, 4096 to 67108864",
            );
        }
        Ok(())
    }
}

/// A record of the ABI, as the loader wants it.
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
unsafe impl Pod for Plain<ReasonKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<DropCounters> {}

/// The bytes of one slot.
pub(super) type SlotWords = [u64; SLOT_BYTES / size_of::<u64>()];

/// Maps that user space writes or walks.
pub(super) struct Maps {
    pub(super) slots: Array<MapData, SlotWords>,
    pub(super) sockets: BpfHashMap<MapData, u64, Plain<SocketEntry>>,
    pub(super) peers: BpfHashMap<MapData, Plain<PeerKey>, u32>,
    pub(super) locals: BpfHashMap<MapData, Plain<LocalKey>, u64>,
    pub(super) reasons: BpfHashMap<MapData, Plain<ReasonKey>, Plain<DropCounters>>,
}

/// What loading gives.
pub(super) struct Loaded {
    /// Keeps programs and their attachments.
    pub(super) ebpf: Ebpf,
    pub(super) slots: Slots,
    pub(super) maps: Maps,
    pub(super) ring: RingBuf<MapData>,
    pub(super) reasons: Reasons,
    pub(super) capabilities: Vec<Capability>,
}

/// Loads and attaches.
pub(super) fn load(options: &EbpfOptions) -> Result<Loaded, LoadError> {
    options.validate()?;
    let btf = Btf::from_sys_fs()?;
    let reasons = Reasons::read(&btf)?;
    let facts = facts::read(&btf, has_netns_cookie())?;
    let layout = Layout {
        cpus: possible_cpus()?,
        flows: options.flows,
    };
    let kernel = KernelFacts {
        cpus: layout.cpus,
        events_per_second: options.events_per_second,
        ..facts.kernel
    };

    let words = facts::words(&kernel);
    let sys_btf = aya::Btf::from_sys_fs().map_err(|error| object(&error))?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&sys_btf))
        .override_global("KERNEL_FACTS", words.as_slice(), true)
        .map_max_entries("SLOTS", layout.slots())
        .map_max_entries("SOCKETS", options.flows)
        .map_max_entries("PEERS", options.flows)
        .map_max_entries("LOCALS", options.flows)
        .map_max_entries("EVENTS", options.ring_bytes)
        .load(OBJECT)
        .map_err(|error| not_loaded(error, layout))?;

    fill(&mut ebpf, &reasons)?;
    let capabilities = attach(&mut ebpf, &btf, &sys_btf, &facts.missing)?;
    let slots = take(&mut ebpf, "SLOTS")?;
    let aya::maps::Map::Array(data) = &slots else {
        return Err(LoadError::Object {
            problem: "SLOTS is no array".into(),
        });
    };
    let mapped = Slots::map(data.fd().as_fd(), layout).map_err(LoadError::Mmap)?;
    let maps = Maps {
        slots: slots.try_into().map_err(|error| object(&error))?,
        sockets: typed(&mut ebpf, "SOCKETS")?,
        peers: typed(&mut ebpf, "PEERS")?,
        locals: typed(&mut ebpf, "LOCALS")?,
        reasons: typed(&mut ebpf, "REASONS")?,
    };
    let ring = typed(&mut ebpf, "EVENTS")?;
    Ok(Loaded {
        ebpf,
        slots: mapped,
        maps,
        ring,
        reasons,
        capabilities,
    })
}

/// Gives the probes what they look up from the start.
fn fill(ebpf: &mut Ebpf, reasons: &Reasons) -> Result<(), LoadError> {
    // Borrowed, not taken: a map that is closed before the programs are loaded is gone.
    let mut classes: BpfHashMap<&mut MapData, u32, u32> = borrowed(ebpf, "REASON_CLASSES")?;
    for (reason, class) in reasons.classes() {
        classes
            .insert(reason, class as u32, 0)
            .map_err(|error| object(&error))?;
    }
    let mut free: Queue<&mut MapData, u32> = borrowed(ebpf, "FREE_QUEUES")?;
    for index in 0..QUEUE_SLOTS {
        free.push(index, 0).map_err(|error| object(&error))?;
    }
    Ok(())
}

/// Attaches every probe that this kernel can have, and says why it cannot have the others.
fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    sys_btf: &aya::Btf,
    missing_members: &[String],
) -> Result<Vec<Capability>, LoadError> {
    let mut capabilities = Vec::with_capacity(PROBES.len());
    let mut first_rejected = None;
    for probe in &PROBES {
        let missing = match btf.tracepoint_args(probe.name) {
            Err(absence) if absence.is_absence() => Some(format!(
                "this kernel has no tracepoint {}: {} has",
                probe.name, probe.since
            )),
            Err(damage) => return Err(damage.into()),
            Ok(_) => match attach_one(ebpf, sys_btf, probe.name) {
                Ok(()) => None,
                Err(Refusal::NotPermitted(source)) => {
                    return Err(LoadError::NotPermitted {
                        refused: "a tracing program",
                        source,
                    });
                }
                Err(Refusal::Rejected(log)) => {
                    tracing::warn!(probe = probe.name, %log, "probe rejected");
                    let log = format!("{log}{}", missing_members.join("; "));
                    first_rejected.get_or_insert((probe.name, log.clone()));
                    Some(format!("this kernel rejected the probe: {log}"))
                }
            },
        };
        capabilities.push(Capability::new(probe.name, probe.gives, missing));
    }
    if capabilities
        .iter()
        .any(|capability| capability.missing.is_none())
    {
        return Ok(capabilities);
    }
    Err(match first_rejected {
        Some((probe, log)) => LoadError::Rejected { probe, log },
        None => LoadError::KernelTooOld {
            needs: "Linux 5.10 or later",
        },
    })
}

enum Refusal {
    NotPermitted(io::Error),
    Rejected(String),
}

fn attach_one(ebpf: &mut Ebpf, btf: &aya::Btf, name: &str) -> Result<(), Refusal> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Refusal::Rejected("not built".into()))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(rejected)?;
    program.load(name, btf).map_err(rejected)?;
    program.attach().map(drop).map_err(rejected)
}

fn rejected(error: ProgramError) -> Refusal {
    match error {
        // Without a word of the verifier, it never looked at the program.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } if not_permitted(&io_error) && verifier_log.to_string().trim().is_empty() => {
            Refusal::NotPermitted(io_error)
        }
        ProgramError::LoadError { verifier_log, .. } => Refusal::Rejected(verifier_log.to_string()),
        ProgramError::SyscallError(call) if not_permitted(&call.io_error) => {
            Refusal::NotPermitted(call.io_error)
        }
        other => Refusal::Rejected(chain(&other)),
    }
}

fn not_permitted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn not_loaded(error: EbpfError, layout: Layout) -> LoadError {
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
            if not_permitted(&io_error) {
                LoadError::NotPermitted {
                    refused: "a map",
                    source: io_error,
                }
            } else {
                LoadError::Map {
                    slots: layout.slots(),
                    source: Box::new(io_error),
                }
            }
        }
        other => object(&other),
    }
}

fn object(error: &(dyn std::error::Error + 'static)) -> LoadError {
    LoadError::Object {
        problem: chain(error),
    }
}

/// An error with its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
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
        .map_err(|error: MapError| object(&error))
}

fn borrowed<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M, LoadError>
where
    M: TryFrom<&'a mut aya::maps::Map, Error = MapError>,
{
    let map = ebpf.map_mut(name);
    let map = map.ok_or_else(|| LoadError::Object {
        problem: format!("no map {name}"),
    })?;
    map.try_into().map_err(|error: MapError| object(&error))
}

/// CPUs that the kernel may ever number: BPF programs run on any of them.
fn possible_cpus() -> Result<u32, LoadError> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| LoadError::Object {
        problem: format!("the number of CPUs cannot be read from {path}: {error}"),
    })?;
    u32::try_from(cpus).map_err(|error| object(&error))
}

/// Whether sockets can be asked for their network namespace.
fn has_netns_cookie() -> bool {
    let Ok(socket) = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) else {
        return false;
    };
    matches!(socket::netns_cookie(socket.as_fd()), Ok(Some(_)))
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
}

/// What each attached probe has cost so far.
pub(super) fn costs(ebpf: &Ebpf) -> io::Result<Vec<ProbeCost>> {
    let mut costs = Vec::with_capacity(PROBES.len());
    for probe in &PROBES {
        let Some(program) = ebpf.program(probe.name) else {
            continue;
        };
        match program.info() {
            Ok(info) => costs.push(ProbeCost {
                name: probe.name,
                runs: info.run_count(),
                time: info.run_time(),
            }),
            Err(ProgramError::NotLoaded) => {}
            Err(error) => return Err(io::Error::other(chain(&error))),
        }
    }
    Ok(costs)
}
