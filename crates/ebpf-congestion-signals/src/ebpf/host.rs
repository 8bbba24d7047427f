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
                let counters = unsafe { &raw const (*cpu).send[kind as usize] };
                if load!(counters, calls) == 0 {
                    continue;
                }
                let more = send_counters(counters);
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
        self.cpus().map(|cpu| Softirqs::of(cpu).sample())
    }

    pub(super) fn host_softirq(&self) -> SoftirqSample {
        self.cpus()
            .map(Softirqs::of)
            .fold(Softirqs::default(), Softirqs::plus)
            .sample()
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

/// Counters of both network softirqs, as numbers: durations are dear to add.
#[derive(Clone, Copy, Default)]
struct Softirqs {
    rx_ns: u64,
    tx_ns: u64,
    runs: u64,
    wait_ns: u64,
    waits: u64,
    polls_elsewhere: u64,
}

impl Softirqs {
    #[inline]
    fn of(cpu: *const HostSlot) -> Self {
        // SAFETY: a field inside the mapping.
        let rx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_rx };
        // SAFETY: as above.
        let tx: *const SoftirqCounters = unsafe { &raw const (*cpu).net_tx };
        Self {
            rx_ns: load!(rx, ns),
            tx_ns: load!(tx, ns),
            runs: load!(rx, runs).wrapping_add(load!(tx, runs)),
            wait_ns: load!(rx, wait_ns).wrapping_add(load!(tx, wait_ns)),
            waits: load!(rx, waits).wrapping_add(load!(tx, waits)),
            polls_elsewhere: load!(cpu, polls_elsewhere),
        }
    }

    #[inline]
    fn plus(self, more: Self) -> Self {
        Self {
            rx_ns: self.rx_ns.wrapping_add(more.rx_ns),
            tx_ns: self.tx_ns.wrapping_add(more.tx_ns),
            runs: self.runs.wrapping_add(more.runs),
            wait_ns: self.wait_ns.wrapping_add(more.wait_ns),
            waits: self.waits.wrapping_add(more.waits),
            polls_elsewhere: self.polls_elsewhere.wrapping_add(more.polls_elsewhere),
        }
    }

    fn sample(self) -> SoftirqSample {
        SoftirqSample {
            net_rx: Duration::from_nanos(self.rx_ns),
            net_tx: Duration::from_nanos(self.tx_ns),
            runs: self.runs,
            wait: Duration::from_nanos(self.wait_ns),
            waits: self.waits,
            polls_elsewhere: self.polls_elsewhere,
        }
    }
}
