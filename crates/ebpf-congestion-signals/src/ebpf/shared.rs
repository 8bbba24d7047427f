//! What the source, its watches and its event reader share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use parking_lot::Mutex;

use super::available::AvailableSignals;
use super::flows::{Flow, Registry};
use super::mapped::{FlowIndex, Slots};
use super::reason_table::ReasonTable;
use super::reasons::Reasons;
use super::token_bucket::TokenBucket;
use super::version::Counters;
use crate::event::Event;
use crate::fanout::Fanout;
use crate::sample::DropTable;
use crate::source::Capability;
use crate::symbols::KernelSymbols;

/// What the source, its watches and its event reader share.
pub(super) struct Shared {
    pub(super) slots: Slots,
    pub(super) registry: Mutex<Registry>,
    /// The process that loaded the probes: a child that it forks shares the kernel's maps, and must
    /// not change them.
    pub(super) process: u32,
    pub(super) reasons: Reasons,
    pub(super) reason_table: ReasonTable,
    pub(super) token_bucket: Arc<TokenBucket>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) events: Fanout,
    /// Programs and attachments; `None` once detached.
    pub(super) ebpf: Mutex<Option<Ebpf>>,
    pub(super) attached: AtomicBool,
    pub(super) available: AvailableSignals,
    pub(super) symbols: KernelSymbols,
    pub(super) sample_every: Mutex<Array<MapData, u32>>,
}

impl Shared {
    pub(super) fn publish(&self, event: Event) {
        self.events.publish(event);
    }

    pub(super) fn events_lost(&self) -> u64 {
        self.slots.events_lost()
    }

    pub(super) fn reason_name(&self, reason: u32) -> Arc<str> {
        self.reasons.name(reason)
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// The counters by which a flow's [`Watch`](crate::Watch) compares versions.
    pub(super) fn counters(&self, flow: FlowIndex) -> Counters {
        self.slots.counters(flow, &self.attached)
    }

    /// Releases a flow's slot.
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
