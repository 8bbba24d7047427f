//! The source itself.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use ebpf_congestion_signals_common::{PeerKey, Socket};
use parking_lot::Mutex;

use super::flows::{Flow, FlowKey, Registry, slot_of};
use super::load::{self, ProbeCost};
use super::mapped::Slots;
use super::options::{EbpfOptions, Signal};
use super::reader::Reader;
use super::reason_table::ReasonTable;
use super::reasons::Reasons;
use super::ring::Pump;
use super::token_bucket::TokenBucket;
use super::{probes, socket};
use crate::error::{EventsError, LoadError, WatchError};
use crate::event::{Event, EventStream};
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::sample::{DropTable, DropsByReason, HostSample, KernelTime, SoftirqSample, SourceKind};
use crate::source::{Capability, SignalSource, Watch, WatchTarget};
use crate::symbols::KernelSymbols;

const UDP: [Socket; 2] = [Socket::Udp4, Socket::Udp6];
const TCP: [Socket; 2] = [Socket::Tcp4, Socket::Tcp6];

/// Probes in the running kernel.
///
/// Loading needs CAP_BPF and CAP_PERFMON (from Linux 5.8; root has them) and takes some
/// tenths of a second; nothing afterwards needs a privilege. The probes work until the source and every
/// [`Watch`] of it are gone, or [`detach`](Self::detach) is called.
pub struct EbpfSource {
    shared: Arc<Shared>,
    /// Not in `Shared`: ends with the source, though watches live on.
    pump: Mutex<Pump>,
}

/// What the source, its watches and its event reader share.
pub(super) struct Shared {
    pub(super) slots: Slots,
    registry: Mutex<Registry>,
    /// The process that loaded the probes: a child that it forks shares the kernel's maps, and must
    /// not change them.
    process: u32,
    reasons: Reasons,
    reason_table: ReasonTable,
    pub(super) token_bucket: Arc<TokenBucket>,
    capabilities: Vec<Capability>,
    events: Fanout,
    /// Programs and attachments; `None` once detached.
    ebpf: Mutex<Option<Ebpf>>,
    attached: AtomicBool,
    pub(super) tells: Tells,
    symbols: KernelSymbols,
    sample_every: Mutex<Array<MapData, u32>>,
}

/// What works here and is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tells {
    pub(super) sends: bool,
    pub(super) packets: bool,
    host_packets: bool,
    pub(super) drops: bool,
    /// Why something was dropped.
    pub(super) reasons: bool,
    pub(super) queues: bool,
    send_buffers: bool,
    receive_buffers: bool,
    softirqs: bool,
    pub(super) buffers: bool,
    /// Their occupancy over time.
    pub(super) pressures: bool,
}

impl Tells {
    fn new(options: &EbpfOptions, capabilities: &[Capability], reasons: &Reasons) -> Self {
        let works = |probe: &str| {
            capabilities
                .iter()
                .any(|capability| capability.name == probe && capability.missing.is_none())
        };
        let sends_seen = works(probes::SEND) || works("udp_sendmsg");
        Self {
            sends: options.has(Signal::Sends) && sends_seen,
            // Whatever that probe was attached for.
            packets: works(probes::PACKETS),
            host_packets: options.has(Signal::Sends) && works(probes::PACKETS),
            drops: options.has(Signal::Drops) && works("kfree_skb"),
            reasons: !reasons.is_empty(),
            queues: options.has(Signal::Queues) && works("qdisc_enqueue") && works("qdisc_dequeue"),
            send_buffers: options.has(Signal::Buffers) && sends_seen,
            receive_buffers: options.has(Signal::Buffers)
                && (works(probes::RECEIVE) || works("udp_recvmsg")),
            softirqs: options.has(Signal::Softirqs)
                && works("softirq_entry")
                && works("softirq_exit"),
            buffers: options.has(Signal::Buffers) || options.governing,
            pressures: options.has(Signal::Buffers),
        }
    }
}

#[cfg(feature = "testing")]
impl Tells {
    /// Everything.
    pub(super) const ALL: Self = Self {
        sends: true,
        packets: true,
        host_packets: true,
        drops: true,
        reasons: true,
        queues: true,
        send_buffers: true,
        receive_buffers: true,
        softirqs: true,
        buffers: true,
        pressures: true,
    };
}

impl EbpfSource {
    /// Loads the probes and attaches all that this kernel supports.
    ///
    /// Blocks while it reads the kernel's BTF and loads the programs: some tenths of a second, about
    /// a second in a debug build. In an async program, call it before the runtime starts or in
    /// `spawn_blocking`.
    pub fn load() -> Result<Self, LoadError> {
        Self::load_with(&EbpfOptions::default())
    }

    /// Loads the probes as `options` say.
    pub fn load_with(options: &EbpfOptions) -> Result<Self, LoadError> {
        let loaded = load::load(options)?;
        let tells = Tells::new(options, &loaded.capabilities, &loaded.reasons);
        let layout = loaded.slots.layout();
        if let Some(others) = load::sets().and_then(|sets| sets.checked_sub(1))
            && others > 0
        {
            tracing::warn!(
                others,
                "other processes have probes loaded: each set costs every packet of the host as much"
            );
        }
        Ok(Self {
            shared: Arc::new(Shared {
                slots: loaded.slots,
                registry: Mutex::new(Registry::new(loaded.maps, layout)),
                process: std::process::id(),
                reasons: loaded.reasons,
                reason_table: loaded.reason_table,
                token_bucket: loaded.token_bucket,
                capabilities: loaded.capabilities,
                events: Fanout::new(),
                ebpf: Mutex::new(Some(loaded.ebpf)),
                attached: AtomicBool::new(true),
                tells,
                symbols: KernelSymbols::default(),
                sample_every: Mutex::new(loaded.sample_every),
            }),
            pump: Mutex::new(Pump::new(loaded.ring)),
        })
    }

    /// Takes the probes out of the kernel. Counters stay readable and no longer grow; samples say
    /// that they are no longer live. Detaching again does nothing.
    pub fn detach(&self) {
        self.shared.attached.store(false, Ordering::Relaxed);
        drop(self.shared.ebpf.lock().take());
    }

    /// From now on, samples one in so many sends and counts it for all of them; 1 counts
    /// each. See [`EbpfOptions::sample_sends`]. Such an estimate is marked by
    /// [`SendCounters::estimated`](crate::SendCounters::estimated).
    pub fn sample_sends(&self, one_in: NonZeroU32) -> io::Result<()> {
        let mut sample_every = self.shared.sample_every.lock();
        sample_every
            .set(0, one_in.get(), 0)
            .map_err(|error| io::Error::other(crate::error::with_causes(&error)))
    }

    /// Other sets of these probes that are loaded on this host: each process that loads its own adds
    /// its probes' cost to every packet of the host. `None` where this process may not ask
    /// (CAP_SYS_ADMIN).
    pub fn other_sets(&self) -> Option<usize> {
        let own = usize::from(self.shared.is_attached());
        load::sets().map(|sets| sets.saturating_sub(own))
    }

    /// Lets the kernel account what every BPF program of the host costs, for as long as the answer
    /// lives. Needs CAP_SYS_ADMIN; takes 20 to 50 ns of every run, which
    /// [`EbpfOptions::calibration`] measures.
    pub fn account_costs(&self) -> io::Result<CostAccounting> {
        match aya::sys::enable_stats(aya::sys::Stats::RunTime) {
            Ok(enabled) => Ok(CostAccounting { _enabled: enabled }),
            Err(refused) => Err(refused.io_error),
        }
    }

    /// What each probe has cost while that was accounted; see [`ProbeCost`]. Empty once detached.
    pub fn costs(&self) -> io::Result<Vec<ProbeCost>> {
        self.shared
            .ebpf
            .lock()
            .as_ref()
            .map_or(Ok(Vec::new()), load::costs)
    }
}

/// Ends the kernel's accounting when dropped; see [`EbpfSource::account_costs`].
#[derive(Debug)]
pub struct CostAccounting {
    _enabled: OwnedFd,
}

impl fmt::Debug for EbpfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EbpfSource")
            .field("layout", &self.shared.slots.layout())
            .field("attached", &self.shared.attached)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn publish(&self, event: Event) {
        self.events.publish(event);
    }

    pub(super) fn events_lost(&self) -> u64 {
        self.slots.host_events().1
    }

    pub(super) fn reason_name(&self, reason: u32) -> Arc<str> {
        self.reasons.name(reason)
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// A handle of the flow, whether it is watched already or from now on.
    fn watch(self: &Arc<Self>, target: &WatchTarget<'_>) -> Result<Arc<Reader>, WatchError> {
        if self.process != std::process::id() {
            return Err(WatchError::Disconnected {
                reason: "the probes are those of the process that this one was forked from".into(),
            });
        }
        self.token_bucket.look_again();
        let identity = socket::identify(target.fd())?;
        let key = FlowKey {
            cookie: identity.cookie,
            peer: target.peer_address().map(|remote| PeerKey {
                cookie: identity.cookie,
                remote: socket::address(remote),
            }),
        };
        let mut registry = self.registry.lock();
        let Some(reader) = registry.reader(&key) else {
            let reader = |flow| Arc::new(Reader::new(Arc::clone(self), flow));
            return registry.add(key, &identity, target.is_sharing(), reader);
        };
        let shared = if target.is_sharing() {
            registry.share(&key)
        } else {
            Ok(())
        };
        // The handle may be the last one by now, and takes the lock when it goes.
        drop(registry);
        shared.map(|()| reader)
    }

    /// Gives a flow's slot back.
    pub(super) fn release(&self, flow: &Flow) {
        if self.process != std::process::id() {
            return;
        }
        let had_drops = self.slots.drops(flow.index) != DropTable::default();
        self.registry.lock().remove(flow);
        if had_drops {
            let is_live = |slot, generation| self.registry.lock().is_live(slot, generation);
            self.reason_table.on_release(is_live);
        }
    }
}

impl SignalSource for EbpfSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Ebpf
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = self.shared.capabilities.clone();
        let no_reasons = self.shared.reasons.is_empty();
        capabilities.push(Capability::new(
            "skb_drop_reason",
            "names of drop reasons",
            no_reasons.then(|| "this kernel does not report reasons: Linux 5.17 does".into()),
        ));
        capabilities
    }

    fn host(&self) -> HostSample {
        self.shared.slots.host(&self.shared.tells)
    }

    fn drops_by_reason(&self, flow: Option<FlowId>) -> Vec<DropsByReason> {
        let (slot, generation) = flow.map_or((0, 0), slot_of);
        let reasons = self.shared.reason_table.of(slot, generation);
        let places: Vec<u64> = reasons
            .iter()
            .map(|(key, _)| key.location)
            .filter(|location| *location != 0)
            .collect();
        let mut locations = self.shared.symbols.names(&places).into_iter();
        reasons
            .into_iter()
            .map(|(key, drops)| DropsByReason {
                reason: self.shared.reason_name(key.reason),
                subsystem: subsystem(key.reason),
                location: (key.location != 0).then(|| locations.next()).flatten(),
                drops,
            })
            .collect()
    }

    fn softirq_by_cpu(&self) -> Vec<SoftirqSample> {
        if self.shared.tells.softirqs {
            self.shared.slots.softirq_by_cpu().collect()
        } else {
            Vec::new()
        }
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        let reader = self.shared.watch(&target)?;
        Ok(Watch::new(reader))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        self.pump.lock().ensure_running(&self.shared)?;
        Ok(self.shared.events.subscribe())
    }
}

impl Slots {
    /// The host's counters now.
    pub(super) fn host(&self, tells: &Tells) -> HostSample {
        let slots = self;
        let (events, events_lost) = slots.host_events();
        let [send_pressure, receive_pressure] = slots.host_pressures();
        HostSample {
            taken: now(),
            udp_send: tells.sends.then(|| slots.host_send(UDP)),
            tcp_send: tells.sends.then(|| slots.host_send(TCP)),
            udp_packets: tells.host_packets.then(|| slots.host_packets(UDP)),
            tcp_packets: tells.host_packets.then(|| slots.host_packets(TCP)),
            drops: tells.drops.then(|| slots.host_drops()),
            softirq: tells.softirqs.then(|| slots.host_softirq()),
            pressure: tells.send_buffers.then_some(send_pressure),
            receive_pressure: tells.receive_buffers.then_some(receive_pressure),
            events,
            events_lost,
            reasons_lost: slots.reasons_lost(),
        }
    }
}

/// The part of the kernel that a reason belongs to.
fn subsystem(reason: u32) -> u16 {
    let [high, low, _, _] = reason.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The kernel's monotonic clock now; `bpf_ktime_get_ns` reads the same.
pub(super) fn now() -> KernelTime {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for the kernel to write. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    KernelTime::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
