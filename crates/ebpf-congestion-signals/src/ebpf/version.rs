//! Whether what a congestion controller reads of a flow has changed: three loads, and one of
//! whether there still are probes.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use ebpf_congestion_signals_common::{
    FLOW_QUEUES, FlowSlot, InQueue, QUEUE_SLOTS, QueueSlot, SLOT_BYTES,
};

use super::available::AvailableSignals;
use super::mapped::{FlowIndex, Load, Slots, congestion_in, load};
use crate::sample::LocalCongestion;
use crate::version::{Change, Version};

/// Whether a probe's stores become visible before its following atomic addition. On other processors
/// every sample counts as changed: there is no barrier that all kernels offer to probes.
const IS_ORDERED: bool = cfg!(target_arch = "x86_64");

/// The counters that a flow's [`Version`] is compared with, each found without a call and without
/// asking for the bounds of the array of slots again.
///
/// The owner of one also keeps the flow's reader, which keeps the mapping and the flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    attached: NonNull<AtomicBool>,
    flow: NonNull<FlowSlot>,
    /// The first queue's slot.
    queues: NonNull<QueueSlot>,
}

// SAFETY: what is pointed to is only read, through atomic loads.
unsafe impl Send for Counters {}
// SAFETY: as above.
unsafe impl Sync for Counters {}

impl Counters {
    /// What has changed since this version of the flow.
    #[inline]
    pub(crate) fn change_since(&self, version: &Version) -> Change {
        // SAFETY: the reader that keeps the flag lives, see above.
        let attached = unsafe { self.attached.as_ref() }.load(Ordering::Relaxed);
        let flow: *const FlowSlot = self.flow.as_ptr();
        if !IS_ORDERED || !attached || load!(flow, changes) != version.of_flow() {
            return Change::Any;
        }
        let of_queue = match version.queue() {
            Some(queue) if queue < QUEUE_SLOTS => {
                // SAFETY: the mapping has so many slots of queues, one behind the other.
                let queue = unsafe { self.queues.byte_add(queue as usize * SLOT_BYTES) };
                let queue: *const QueueSlot = queue.as_ptr();
                load!(queue, changes)
            }
            _ if version.is_unknown() => return Change::Any,
            _ => 0,
        };
        if load!(flow, sent_packets) == version.sent() && of_queue == version.of_queue() {
            Change::Nothing
        } else {
            Change::Traffic
        }
    }
}

impl Slots {
    /// Valid as long as the mapping and `attached`, the flag that probes are attached.
    pub(super) fn counters(&self, flow: FlowIndex, attached: &AtomicBool) -> Counters {
        Counters {
            attached: NonNull::from(attached),
            flow: self.at(flow.slot()),
            queues: self.at(self.layout().first_queue()),
        }
    }

    /// What a congestion controller needs of a flow, and the version of that.
    ///
    /// The probes raise the counters after they have written, and here they are read before: a
    /// version that still holds is of what is written.
    pub(super) fn versioned(
        &self,
        flow: FlowIndex,
        available: &AvailableSignals,
        live: bool,
    ) -> (LocalCongestion, Version) {
        let slot = self.flow(flow);
        let (of_flow, sent) = (load!(slot, changes), load!(slot, sent_packets));
        fence(Ordering::Acquire);
        // The queue's own counter comes before what is read of the queue.
        let entered = entered(slot);
        let of_queue = entered.map_or(0, |queue| self.queue_changes(queue));
        fence(Ordering::Acquire);
        let held = self.held(slot);
        let version = match (entered, &held) {
            (Some(queue), Some(held)) if held.is_only() && held.id.index() == queue as usize => {
                Version::in_queue(of_flow, sent, of_queue, queue)
            }
            (None, None) => Version::without_queue(of_flow, sent),
            _ => Version::UNKNOWN,
        };
        (congestion_in(slot, available, live, held), version)
    }

    #[inline]
    fn queue_changes(&self, queue: u32) -> u64 {
        self.queue_slot(queue)
            .map_or(0, |queue| load!(queue, changes))
    }
}

/// Index of the queue that the flow entered last.
#[inline]
fn entered(slot: *const FlowSlot) -> Option<u32> {
    let last = load!(slot, queue).checked_sub(1)? as usize;
    // SAFETY: an array inside the mapping.
    let queues: *const InQueue = unsafe { &raw const (*slot).queues }.cast();
    // SAFETY: an element of the array.
    let record = (last < FLOW_QUEUES).then(|| unsafe { queues.add(last) })?;
    load!(record, queue).checked_sub(1)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{CongestionReader, MemorySource};

    #[test]
    fn a_version_says_what_has_changed_since() {
        let source = MemorySource::new(1, 2).unwrap();
        let [flow, other] = [(); 2].map(|()| source.add_flow().unwrap());
        let watch = flow.watch();
        let change = |by: &dyn Fn()| {
            let (_, version) = watch.versioned();
            by();
            watch.change_since(&version)
        };
        let expected = |change| if IS_ORDERED { change } else { Change::Any };
        assert_eq!(change(&|| ()), expected(Change::Nothing), "in no queue");
        assert_eq!(change(&|| flow.set_observed(1)), expected(Change::Traffic));
        flow.set_queue(1_000, 2_000, 1);
        assert_eq!(change(&|| ()), expected(Change::Nothing));
        let more = || other.set_queue(3_000, 5_000, 1);
        assert_eq!(change(&more), expected(Change::Traffic), "another's");
        assert_eq!(change(&|| flow.set_queue_drops(1)), Change::Any);
    }

    #[test]
    fn a_reader_has_what_there_is() {
        let source = MemorySource::new(1, 1).unwrap();
        let flow = source.add_flow().unwrap();
        let mut reader = CongestionReader::new(flow.watch());
        for step in 1..100 {
            flow.set_observed(step);
            flow.set_queue(step * 10, step * 20, step / 10);
            flow.set_queue_drops(step / 5);
            assert_eq!(*reader.read(), flow.watch().congestion());
            assert_eq!(*reader.read(), flow.watch().congestion());
        }
    }
}
