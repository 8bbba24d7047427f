//! The source itself.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebpf_congestion_signals_common::PeerKey;
use parking_lot::Mutex;

use super::available::AvailableSignals;
use super::flows::{Flow, FlowKey, Registry, slot_of};
use super::load::{self, ProbeCost};
use super::options::EbpfOptions;
use super::reader::Reader;
use super::ring::Pump;
use super::shared::Shared;
use super::socket;
use crate::error::{EventsError, LoadError, WatchError};
use crate::event::EventStream;
use crate::fanout::Fanout;
use crate::flow_id::FlowId;
use crate::sample::{DropsByReason, HostSample, SoftirqSample, SourceKind};
use crate::source::{Capability, FlowReader, SignalSource, Watch, WatchTarget};
use crate::symbols::KernelSymbols;

/// Probes in the running kernel.
///
/// Loading needs CAP_BPF and CAP_PERFMON (root has them) and takes up to half a second; nothing
/// afterwards needs a privilege. The probes run until the source and every [`Watch`] of it are
/// dropped, or [`detach`](Self::detach) is called.
pub struct EbpfSource {
    shared: Arc<Shared>,
    /// Not in `Shared`: ends with the source, though watches live on.
    pump: Mutex<Pump>,
}

impl EbpfSource {
    /// Loads the probes and attaches all that this kernel supports.
    ///
    /// Blocks while it reads the kernel's BTF and loads the programs: up to half a second. In
    /// an async program, call it before the runtime starts or in `spawn_blocking`.
    pub fn load() -> Result<Self, LoadError> {
        Self::load_with(&EbpfOptions::default())
    }

    /// Loads the probes as `options` say.
    pub fn load_with(options: &EbpfOptions) -> Result<Self, LoadError> {
        let loaded = load::load(options)?;
        let available = AvailableSignals::new(options, &loaded.capabilities, &loaded.reasons);
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
                available,
                symbols: KernelSymbols::default(),
                sample_every: Mutex::new(loaded.sample_every),
            }),
            pump: Mutex::new(Pump::new(loaded.ring)),
        })
    }

    /// Removes the probes from the kernel. Counters stay readable and no longer grow; samples are
    /// no longer live. Detaching again does nothing.
    pub fn detach(&self) {
        self.shared.attached.store(false, Ordering::Relaxed);
        drop(self.shared.ebpf.lock().take());
    }

    /// From now on counts one in `one_in` sends and scales the counts; 1 counts each. See
    /// [`EbpfOptions::sample_sends`]. An estimate is marked by
    /// [`SendCounters::estimated`](crate::SendCounters::estimated).
    pub fn sample_sends(&self, one_in: NonZeroU32) -> io::Result<()> {
        let mut sample_every = self.shared.sample_every.lock();
        sample_every
            .set(0, one_in.get(), 0)
            .map_err(|error| io::Error::other(crate::error::with_causes(&error)))
    }

    /// Number of other sets of these probes on this host: each process that loads its own adds
    /// their cost to every packet of the host. `None` without CAP_SYS_ADMIN.
    pub fn other_sets(&self) -> Option<usize> {
        let own = usize::from(self.shared.is_attached());
        load::sets().map(|sets| sets.saturating_sub(own))
    }

    /// Makes the kernel account the run time of every BPF program of the host until the returned
    /// value is dropped. Needs CAP_SYS_ADMIN; adds 20 to 50 ns to every run, which
    /// [`EbpfOptions::calibration`] measures.
    pub fn account_costs(&self) -> io::Result<CostAccounting> {
        match aya::sys::enable_stats(aya::sys::Stats::RunTime) {
            Ok(enabled) => Ok(CostAccounting { _enabled: enabled }),
            Err(refused) => Err(refused.io_error),
        }
    }

    /// What each probe cost while that was accounted; see [`ProbeCost`]. Empty once detached.
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
        self.shared.slots.host(&self.shared.available)
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
        if self.shared.available.softirqs {
            self.shared.slots.softirq_by_cpu().collect()
        } else {
            Vec::new()
        }
    }

    fn watch(&self, target: WatchTarget<'_>) -> Result<Watch, WatchError> {
        let (flow, reader) = watch(&self.shared, &target)?;
        let counters = self.shared.counters(flow.index);
        Ok(Watch::with_counters(reader, counters))
    }

    fn events(&self) -> Result<Box<dyn EventStream>, EventsError> {
        self.pump.lock().ensure_running(&self.shared)?;
        Ok(self.shared.events.subscribe())
    }
}

/// A reader of the flow, whether it is watched already or from now on.
fn watch(
    shared: &Arc<Shared>,
    target: &WatchTarget<'_>,
) -> Result<(Flow, Arc<dyn FlowReader>), WatchError> {
    if shared.process != std::process::id() {
        return Err(WatchError::Disconnected {
            reason: "the probes are those of the process that this one was forked from".into(),
        });
    }
    shared.token_bucket.refresh();
    let identity = socket::identify(target.fd())?;
    let key = FlowKey {
        cookie: identity.cookie,
        peer: target.peer_address().map(|remote| PeerKey {
            cookie: identity.cookie,
            remote: socket::address(remote),
        }),
    };
    let mut registry = shared.registry.lock();
    let Some(known) = registry.reader(&key) else {
        let reader = |flow| Arc::new(Reader::new(Arc::clone(shared), flow)) as Arc<dyn FlowReader>;
        return registry.add(key, &identity, target.is_sharing(), reader);
    };
    let sharing = if target.is_sharing() {
        registry.share(&key)
    } else {
        Ok(())
    };
    // The reader may be the last one by now, and takes the lock when it is dropped.
    drop(registry);
    sharing.map(|()| known)
}

/// The part of the kernel that a reason belongs to.
fn subsystem(reason: u32) -> u16 {
    let [high, low, _, _] = reason.to_be_bytes();
    u16::from_be_bytes([high, low])
}
