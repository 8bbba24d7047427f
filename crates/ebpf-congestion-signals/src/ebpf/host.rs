//! The host's counters: sums over the slots of its CPUs.

use std::time::Duration;

use ebpf_congestion_signals_common::{HostSlot, Pressure, SendCounters, Socket, SoftirqCounters};

use super::available::AvailableSignals;
use super::mapped::{Load, Slots, add_drops, load, pressure, send_counters};
use crate::clock;
use crate::sample::{Direction, DropTable, HostSample, PressureSample, SoftirqSample};

/// What the slots of CPUs sum up to.
#[derive(Default)]
struct Sums {
    udp_send: SendCounters,
    tcp_send: SendCounters,
    udp_packets: u64,
    tcp_packets: u64,
    drops: DropTable,
    softirqs: Softirqs,
    /// Send and receive buffers.
    pressures: [PressureSample; 2],
    events: u64,
    events_lost: u64,
    reasons_lost: u64,
}

impl Sums {
    /// Adds a CPU's counters.
    #[inline]
    fn add(&mut self, cpu: *const HostSlot) {
        // SAFETY: a field inside the mapping.
        let sends = |kind: Socket| unsafe { &raw const (*cpu).send[kind as usize] };
        add_sends(&mut self.udp_send, sends(Socket::Udp4));
        add_sends(&mut self.udp_send, sends(Socket::Udp6));
        add_sends(&mut self.tcp_send, sends(Socket::Tcp4));
        add_sends(&mut self.tcp_send, sends(Socket::Tcp6));
        let packets = |kind: Socket| load!(cpu, packets[kind as usize]);
        let udp = packets(Socket::Udp4).wrapping_add(packets(Socket::Udp6));
        let tcp = packets(Socket::Tcp4).wrapping_add(packets(Socket::Tcp6));
        self.udp_packets = self.udp_packets.wrapping_add(udp);
        self.tcp_packets = self.tcp_packets.wrapping_add(tcp);
        // SAFETY: a field inside the mapping.
        let drops = unsafe { (&raw const (*cpu).drops).cast() };
        add_drops(&mut self.drops, drops, &Direction::ALL);
        self.softirqs = self.softirqs.plus(Softirqs::of(cpu));
        // SAFETY: a field inside the mapping.
        add_pressure(&mut self.pressures[0], unsafe {
            &raw const (*cpu).send_pressure
        });
        // SAFETY: as above.
        add_pressure(&mut self.pressures[1], unsafe {
            &raw const (*cpu).receive_pressure
        });
        let (events, lost) = events(cpu);
        self.events += events;
        self.events_lost += lost;
        self.reasons_lost = self.reasons_lost.wrapping_add(load!(cpu, reasons_lost));
    }
}

/// Many CPUs never ran a socket's call.
#[inline]
fn add_sends(sum: &mut SendCounters, counters: *const SendCounters) {
    if load!(counters, calls) == 0 {
        return;
    }
    let more = send_counters(counters);
    sum.bytes = sum.bytes.wrapping_add(more.bytes);
    sum.calls = sum.calls.wrapping_add(more.calls);
    sum.estimated = sum.estimated.wrapping_add(more.estimated);
}

#[inline]
fn add_pressure(sum: &mut PressureSample, of_cpu: *const Pressure) {
    if load!(of_cpu, samples) == 0 {
        return;
    }
    let more = pressure(of_cpu);
    sum.sum += more.sum;
    sum.samples += more.samples;
    sum.peaks.merge(&more.peaks);
}

/// Events written to the ring, and events that were not.
#[inline]
fn events(cpu: *const HostSlot) -> (u64, u64) {
    let lost = load!(cpu, events_limited) + load!(cpu, events_ring_full);
    (load!(cpu, events), lost)
}

impl Slots {
    /// One sample each CPU.
    pub(super) fn softirq_by_cpu(&self) -> impl Iterator<Item = SoftirqSample> {
        self.cpus().map(|cpu| Softirqs::of(cpu).sample())
    }

    /// Events that were not written to the ring.
    pub(super) fn events_lost(&self) -> u64 {
        self.cpus().map(|cpu| events(cpu).1).sum()
    }

    /// The host's counters now.
    pub(super) fn host(&self, available: &AvailableSignals) -> HostSample {
        let mut sums = Sums::default();
        for cpu in self.cpus() {
            sums.add(cpu);
        }
        let [send_pressure, receive_pressure] = sums.pressures;
        HostSample {
            taken: clock::now(),
            udp_send: available.sends.then_some(sums.udp_send),
            tcp_send: available.sends.then_some(sums.tcp_send),
            udp_packets: available.host_packets.then_some(sums.udp_packets),
            tcp_packets: available.host_packets.then_some(sums.tcp_packets),
            drops: available.drops.then_some(sums.drops),
            softirq: available.softirqs.then(|| sums.softirqs.sample()),
            pressure: available.send_buffers.then_some(send_pressure),
            receive_pressure: available.receive_buffers.then_some(receive_pressure),
            events: sums.events,
            events_lost: sums.events_lost,
            reasons_lost: sums.reasons_lost,
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
