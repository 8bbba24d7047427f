//! The host's counters: sums over the slots of its CPUs.

use std::time::Duration;

use ebpf_congestion_signals_common::{HostSlot, SendCounters, Socket, SoftirqCounters};

use super::mapped::{Load, Slots, add_drops, load, pressure, send_counters};
use super::tells::Tells;
use crate::clock;
use crate::sample::{Direction, DropTable, HostSample, PressureSample, SoftirqSample};

const UDP: [Socket; 2] = [Socket::Udp4, Socket::Udp6];
const TCP: [Socket; 2] = [Socket::Tcp4, Socket::Tcp6];

impl Slots {
    /// What sockets of these kinds sent.
    pub(super) fn host_send(&self, kinds: [Socket; 2]) -> SendCounters {
        let mut sum = SendCounters::default();
        for cpu in self.cpus() {
            for kind in kinds {
                // SAFETY: a field inside the mapping.
                let more = send_counters(unsafe { &raw const (*cpu).send[kind as usize] });
                sum.bytes = sum.bytes.wrapping_add(more.bytes);
                sum.calls = sum.calls.wrapping_add(more.calls);
                sum.estimated = sum.estimated.wrapping_add(more.estimated);
            }
        }
        sum
    }

    /// Packets of these kinds' sockets that were handed to devices.
    pub(super) fn host_packets(&self, kinds: [Socket; 2]) -> u64 {
        let packets = |cpu: *const HostSlot, kind: Socket| load!(cpu, packets[kind as usize]);
        self.cpus()
            .flat_map(|cpu| kinds.map(|kind| packets(cpu, kind)))
            .fold(0, u64::wrapping_add)
    }

    pub(super) fn host_drops(&self) -> DropTable {
        let mut table = DropTable::default();
        for cpu in self.cpus() {
            // SAFETY: a field inside the mapping.
            add_drops(
                &mut table,
                unsafe { (&raw const (*cpu).drops).cast() },
                &Direction::ALL,
            );
        }
        table
    }

    /// One sample each CPU.
    pub(super) fn softirq_by_cpu(&self) -> impl Iterator<Item = SoftirqSample> {
        self.cpus().map(|cpu| {
            // SAFETY: a field inside the mapping.
            let rx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_rx };
            // SAFETY: as above.
            let tx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_tx };
            SoftirqSample {
                net_rx: Duration::from_nanos(load!(rx, ns)),
                net_tx: Duration::from_nanos(load!(tx, ns)),
                runs: load!(rx, runs) + load!(tx, runs),
                wait: Duration::from_nanos(load!(rx, wait_ns) + load!(tx, wait_ns)),
                waits: load!(rx, waits) + load!(tx, waits),
                polls_elsewhere: load!(cpu, polls_elsewhere),
            }
        })
    }

    pub(super) fn host_softirq(&self) -> SoftirqSample {
        self.softirq_by_cpu()
            .fold(SoftirqSample::default(), |sum, cpu| SoftirqSample {
                net_rx: sum.net_rx + cpu.net_rx,
                net_tx: sum.net_tx + cpu.net_tx,
                runs: sum.runs + cpu.runs,
                wait: sum.wait + cpu.wait,
                waits: sum.waits + cpu.waits,
                polls_elsewhere: sum.polls_elsewhere + cpu.polls_elsewhere,
            })
    }

    /// Send and receive buffers' occupancy at sends and receives.
    pub(super) fn host_pressures(&self) -> [PressureSample; 2] {
        let mut sums = [PressureSample::default(); 2];
        for cpu in self.cpus() {
            // SAFETY: a field inside the mapping.
            let send = unsafe { &raw const (*cpu).send_pressure };
            // SAFETY: as above.
            let receive = unsafe { &raw const (*cpu).receive_pressure };
            for (sum, cpu) in sums.iter_mut().zip([send, receive]) {
                // Many CPUs never ran a socket's call.
                if load!(cpu, samples) == 0 {
                    continue;
                }
                let cpu = pressure(cpu);
                sum.sum += cpu.sum;
                sum.samples += cpu.samples;
                sum.peaks.merge(&cpu.peaks);
            }
        }
        sums
    }

    /// Drops whose reason found no room in the table of reasons.
    pub(super) fn reasons_lost(&self) -> u64 {
        self.cpus()
            .map(|cpu| load!(cpu, reasons_lost))
            .fold(0, u64::wrapping_add)
    }

    /// Events written to the ring, and events that were not.
    pub(super) fn host_events(&self) -> (u64, u64) {
        self.cpus().fold((0, 0), |(written, lost), cpu| {
            (
                written + load!(cpu, events),
                lost + load!(cpu, events_limited) + load!(cpu, events_ring_full),
            )
        })
    }
}

impl Slots {
    /// The host's counters now.
    pub(super) fn host(&self, tells: &Tells) -> HostSample {
        let slots = self;
        let (events, events_lost) = slots.host_events();
        let [send_pressure, receive_pressure] = slots.host_pressures();
        HostSample {
            taken: clock::now(),
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
