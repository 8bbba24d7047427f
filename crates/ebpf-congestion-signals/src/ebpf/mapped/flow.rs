//! Reads a flow's slot.

use std::time::Duration;

use ebpf_congestion_signals_common::{Direction, DropClass, FlowSlot, SendCounters};

use super::queue::Held;
use super::records::{Classes, add_drops, pressure, send_counters};
use super::{FlowIndex, Load, Slots, load};
use crate::ebpf::available::AvailableSignals;
use crate::sample::{
    BufferSample, DropTable, KernelTime, LocalCongestion, PressureSample, SojournSample,
};

impl Slots {
    /// Kernel time of the flow's last observation.
    pub(in crate::ebpf) fn updated(&self, flow: FlowIndex) -> Option<KernelTime> {
        let nanos = load!(self.flow(flow), updated_ns);
        (nanos != 0).then(|| KernelTime::from_nanos(nanos))
    }

    /// Payload bytes and packets of the flow that were handed to devices.
    pub(in crate::ebpf) fn sent(&self, flow: FlowIndex) -> (u64, u64) {
        let slot = self.flow(flow);
        (load!(slot, sent_bytes), load!(slot, sent_packets))
    }

    /// What the flow's socket accepted.
    pub(in crate::ebpf) fn send(&self, flow: FlowIndex) -> SendCounters {
        // SAFETY: a field inside the mapping.
        send_counters(unsafe { &raw const (*self.flow(flow)).send })
    }

    /// Packets that the probes saw leave the flow's socket, wherever they got to.
    #[inline]
    pub(in crate::ebpf) fn seen_packets(
        &self,
        flow: FlowIndex,
        available: &AvailableSignals,
    ) -> Option<u64> {
        let slot = self.flow(flow);
        let policy = if available.drops && available.reasons {
            egress_drops(slot, DropClass::Policy)
        } else {
            0
        };
        let packets = available.packets.then(|| load!(slot, sent_packets))?;
        Some(packets.saturating_add(policy))
    }

    pub(in crate::ebpf) fn drops(&self, flow: FlowIndex) -> DropTable {
        // SAFETY: a field inside the mapping.
        drop_table(unsafe { &raw const (*self.flow(flow)).drops })
    }

    pub(in crate::ebpf) fn buffers(&self, flow: FlowIndex) -> Option<BufferSample> {
        let slot = self.flow(flow);
        let (wmem, rmem) = (load!(slot, buffers.wmem), load!(slot, buffers.rmem));
        let (sndbuf, rcvbuf) = (load!(slot, buffers.sndbuf), load!(slot, buffers.rcvbuf));
        let sent = load!(slot, buffers.sent_payload);
        let received = load!(slot, buffers.received_payload);
        // A socket's limits are never zero.
        (sndbuf != 0 || rcvbuf != 0).then_some(BufferSample {
            wmem,
            sndbuf,
            wmem_payload: share_of(wmem, sent, load!(slot, buffers.sent_truesize)),
            rmem,
            rcvbuf,
            rmem_payload: share_of(rmem, received, load!(slot, buffers.received_truesize)),
        })
    }

    /// Send and receive buffers' occupancy at sends and receives.
    pub(in crate::ebpf) fn pressures(&self, flow: FlowIndex) -> [PressureSample; 2] {
        let slot = self.flow(flow);
        // SAFETY: a field inside the mapping.
        let send = pressure(unsafe { &raw const (*slot).send_pressure });
        // SAFETY: as above.
        let receive = pressure(unsafe { &raw const (*slot).receive_pressure });
        [send, receive]
    }

    pub(in crate::ebpf) fn sojourn(&self, flow: FlowIndex) -> SojournSample {
        let slot = self.flow(flow);
        SojournSample {
            time: Duration::from_nanos(load!(slot, sojourn.sum_ns)),
            packets: load!(slot, sojourn.samples),
            last: Duration::from_nanos(load!(slot, sojourn.last_ns)),
        }
    }

    /// What a congestion controller needs of a flow.
    #[inline]
    pub(in crate::ebpf) fn congestion(
        &self,
        flow: FlowIndex,
        available: &AvailableSignals,
        live: bool,
    ) -> LocalCongestion {
        let slot = self.flow(flow);
        congestion_in(slot, available, live, self.held(slot))
    }
}

/// Packets of a flow that were dropped on their way out for reasons of this class.
#[inline]
fn egress_drops(slot: *const FlowSlot, class: DropClass) -> u64 {
    let (egress, class) = (Direction::Egress as usize, class as usize);
    load!(slot, drops[egress][class].packets)
}

/// What a congestion controller needs of a flow that is in this queue.
#[inline]
pub(in crate::ebpf) fn congestion_in(
    slot: *const FlowSlot,
    available: &AvailableSignals,
    live: bool,
    held: Option<Held>,
) -> LocalCongestion {
    let drops = |class| available.drops.then(|| egress_drops(slot, class));
    LocalCongestion {
        live,
        taken: None,
        observed_packets: available.packets.then(|| load!(slot, sent_packets)),
        queue: held.map(Held::sample),
        queue_drops: drops(DropClass::QueueFull),
        policy_drops: drops(DropClass::Policy).filter(|_| available.reasons),
    }
}

/// The payload in `bytes`, in the proportion of `payload` to `truesize`; `None` where both are 0.
fn share_of(bytes: u32, payload: u32, truesize: u32) -> Option<u32> {
    let share = u64::from(bytes) * u64::from(payload).min(u64::from(truesize));
    let share = share.checked_div(u64::from(truesize))?;
    u32::try_from(share).ok()
}

/// A flow's drops: no forwarded packet is a flow's.
fn drop_table(drops: *const [Classes; 2]) -> DropTable {
    let mut table = DropTable::default();
    add_drops(
        &mut table,
        drops.cast(),
        &[Direction::Egress, Direction::Ingress],
    );
    table
}

#[cfg(test)]
mod tests {
    use super::share_of;

    #[test]
    fn payload_is_a_share_of_what_is_charged() {
        assert_eq!(share_of(2304, 1200, 2304), Some(1200));
        assert_eq!(share_of(0, 1200, 2304), Some(0));
        assert_eq!(share_of(2304, 0, 0), None, "nothing was sent yet");
        assert_eq!(share_of(u32::MAX, u32::MAX, u32::MAX), Some(u32::MAX));
    }
}
