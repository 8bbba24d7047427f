//! A plain TCP-like flow: clocked by acknowledgements, with an endless amount to send.

use std::collections::VecDeque;
use std::time::Duration;

use super::number::whole;
use super::packet::{Batch, Body};
use super::tcp_window::{TcpLaw, Window};
use super::time::SimTime;

/// Payload of a full segment on Ethernet with timestamps.
const SEGMENT: u32 = 1448;

/// RFC 6675: after so many later arrivals a missing packet counts as lost.
const REORDERING: u64 = 3;

/// Linux's least retransmission timeout (`TCP_RTO_MIN`), and RFC 6298's before the first
/// measurement.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Linux delays an acknowledgement for so long at least (`TCP_DELACK_MIN`).
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// A TCP-like competitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpSpec {
    /// When it starts.
    pub start: Duration,
    /// When it stops to send; `None`: never.
    pub end: Option<Duration>,
    /// Its congestion control.
    pub law: TcpLaw,
    /// The hop whose queue it enters first: 0 for the sender's own host, like the QUIC flows.
    pub hop: usize,
    /// Whether it keeps little of its own in the queue of its host, as TCP Small Queues do in
    /// Linux. Only at hop 0.
    pub small_queue: bool,
    /// Whether it reduces at once when the queue of its host drops a segment, as TCP in Linux
    /// does. Only at hop 0.
    pub local_feedback: bool,
}

impl TcpSpec {
    /// A flow that knows nothing of its host: as if it came from another one behind the same
    /// queue.
    pub fn plain(law: TcpLaw) -> Self {
        Self {
            start: Duration::ZERO,
            end: None,
            law,
            hop: 0,
            small_queue: false,
            local_feedback: false,
        }
    }

    /// A flow of the sender's own host, as Linux treats it.
    pub fn local(law: TcpLaw) -> Self {
        Self {
            small_queue: true,
            local_feedback: true,
            ..Self::plain(law)
        }
    }

    /// Starting at this time.
    #[must_use]
    pub fn starting(self, start: Duration) -> Self {
        Self { start, ..self }
    }

    /// Entering at this hop.
    #[must_use]
    pub fn at_hop(self, hop: usize) -> Self {
        Self { hop, ..self }
    }
}

/// A flow at work: both of its ends.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) spec: TcpSpec,
    index: usize,
    window: Window,
    /// Transmissions that are neither acknowledged nor lost, or not yet known to be. Numbers go on
    /// with each, as QUIC's do: what is sent again is a new one.
    outstanding: VecDeque<Sent>,
    first: u64,
    in_flight: u32,
    /// The window is what stopped it from sending more.
    limited: bool,
    /// Losses up to here are of a reduction that was made.
    recovery: u64,
    round_end: u64,
    srtt: Option<Duration>,
    rttvar: Duration,
    timeouts: u32,
    deadline: Option<SimTime>,
    timer: Option<SimTime>,
    started: bool,
    /// Bytes on the wire in the queue of its host.
    queued: u64,
    receiver: Receiver,
    pub(super) stats: TcpStats,
}

/// What a competitor did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Segments sent.
    pub sent_packets: u64,
    /// Segments found lost.
    pub lost_packets: u64,
    /// Segments that a queue of the path dropped.
    pub dropped_packets: u64,
    /// Bytes of payload that arrived.
    pub received_bytes: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    time: SimTime,
    arrived: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Receiver {
    largest: Option<u64>,
    unacknowledged: u32,
    timer: Option<SimTime>,
}

impl Tcp {
    pub(super) fn new(spec: TcpSpec, index: usize) -> Self {
        Self {
            window: Window::new(spec.law),
            spec,
            index,
            outstanding: VecDeque::new(),
            first: 0,
            in_flight: 0,
            limited: true,
            recovery: 0,
            round_end: 0,
            srtt: None,
            rttvar: Duration::ZERO,
            timeouts: 0,
            deadline: None,
            timer: None,
            started: false,
            queued: 0,
            receiver: Receiver::default(),
            stats: TcpStats::default(),
        }
    }

    pub(super) fn start(&mut self) {
        self.started = true;
    }

    /// Bytes of payload that may be in flight.
    pub(super) fn window_bytes(&self) -> u64 {
        whole(self.window.packets * f64::from(SEGMENT))
    }

    pub(super) fn in_flight_bytes(&self) -> u64 {
        u64::from(self.in_flight) * u64::from(SEGMENT)
    }

    pub(super) fn srtt(&self) -> Duration {
        self.srtt.unwrap_or_default()
    }

    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// The next segment, if it may be sent now.
    pub(super) fn poll(&mut self, now: SimTime) -> Option<Batch> {
        let ended = self.spec.end.is_some_and(|end| now.since_start() >= end);
        if !self.started || ended {
            return None;
        }
        self.limited = f64::from(self.in_flight) + 1.0 > self.window.packets;
        if self.limited || self.is_throttled() {
            return None;
        }
        let number = self.first + self.outstanding.len() as u64;
        self.outstanding.push_back(Sent {
            time: now,
            arrived: false,
            done: false,
        });
        self.in_flight += 1;
        self.stats.sent_packets += 1;
        if self.deadline.is_none() {
            self.deadline = Some(now + self.timeout());
        }
        Some(Batch::tcp(self.index, Body::TcpData(number), SEGMENT))
    }

    /// TCP Small Queues: about a millisecond at the pacing rate, and two batches of two segments
    /// at least (net/ipv4/tcp_output.c, `tcp_small_queue_check`, `tcp_tso_autosize`).
    fn is_throttled(&self) -> bool {
        if !self.spec.small_queue {
            return false;
        }
        let factor = if self.window.in_slow_start() {
            2.0
        } else {
            1.2
        };
        let srtt = self.srtt.unwrap_or(Duration::from_millis(1)).as_secs_f64();
        let per_ms = factor * self.window.packets * f64::from(SEGMENT) / srtt / 1000.0;
        self.queued > whole(per_ms).max(4 * u64::from(SEGMENT))
    }

    /// The queue of its host took a segment.
    pub(super) fn on_enqueue(&mut self, wire: u32) {
        self.queued += u64::from(wire);
    }

    /// A segment left that queue.
    pub(super) fn on_dequeue(&mut self, wire: u32) {
        self.queued -= u64::from(wire);
    }

    /// A queue dropped a segment; `local`: that of its host, before it was taken.
    pub(super) fn on_drop(&mut self, local: bool) {
        self.stats.dropped_packets += 1;
        if local && self.spec.local_feedback {
            self.reduce();
        }
    }

    /// A segment arrives: the acknowledgement that is sent at once, if one is.
    pub(super) fn receive(&mut self, now: SimTime, number: u64) -> Option<Batch> {
        self.stats.received_bytes += u64::from(SEGMENT);
        if let Some(sent) = self.sent(number) {
            sent.arrived = true;
        }
        let next = self.receiver.largest.map_or(0, |largest| largest + 1);
        self.receiver.largest = Some(number.max(next));
        self.receiver.unacknowledged += 1;
        if self.receiver.unacknowledged >= 2 || number != next {
            return self.acknowledge();
        }
        self.receiver.timer = Some(now + DELAYED_ACK);
        None
    }

    fn acknowledge(&mut self) -> Option<Batch> {
        self.receiver.unacknowledged = 0;
        self.receiver.timer = None;
        let largest = self.receiver.largest?;
        Some(Batch::tcp(self.index, Body::TcpAck(largest), 0))
    }

    /// An acknowledgement of what arrived up to `largest` comes back.
    ///
    /// Whether an earlier transmission is among what arrived, its record says: the path keeps
    /// packets in order, so what had not arrived before `largest` never will.
    pub(super) fn on_ack(&mut self, now: SimTime, largest: u64) {
        let mut acked = 0;
        let mut lost = None;
        let mut newest = None;
        let count = (largest + 1).saturating_sub(self.first);
        for (offset, sent) in self.outstanding.iter_mut().enumerate() {
            let offset = offset as u64;
            if offset >= count {
                break;
            }
            if sent.done {
                continue;
            }
            let number = self.first + offset;
            if sent.arrived {
                sent.done = true;
                acked += 1;
                newest = Some(sent.time);
            } else if number + REORDERING <= largest {
                sent.done = true;
                self.stats.lost_packets += 1;
                self.in_flight -= 1;
                lost = Some(number);
            }
        }
        self.in_flight -= acked;
        while self.outstanding.pop_front_if(|sent| sent.done).is_some() {
            self.first += 1;
        }
        if let Some(sent) = newest {
            self.measure(now.since(sent));
            self.timeouts = 0;
            if self.limited && largest >= self.recovery {
                let srtt = self.srtt();
                self.window.on_ack(now, acked, srtt);
            }
        }
        if largest >= self.round_end {
            self.window.on_round();
            self.round_end = self.next_number();
        }
        if lost.is_some_and(|number| number >= self.recovery) {
            self.reduce();
        }
        self.deadline = (self.in_flight > 0).then(|| now + self.timeout());
    }

    fn reduce(&mut self) {
        if self.first < self.recovery {
            return;
        }
        self.window.reduce();
        self.recovery = self.next_number();
    }

    fn measure(&mut self, rtt: Duration) {
        self.window.on_rtt(rtt);
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(srtt) => {
                self.rttvar = (3 * self.rttvar + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * srtt + rtt) / 8);
            }
        }
    }

    fn timeout(&self) -> Duration {
        let base = match self.srtt {
            None => INITIAL_TIMEOUT,
            Some(srtt) => (srtt + 4 * self.rttvar).max(MIN_TIMEOUT),
        };
        base * (1 << self.timeouts.min(6))
    }

    /// When [`Tcp::on_timer`] is to be called, if it was not said before.
    pub(super) fn poll_timer(&mut self) -> Option<SimTime> {
        let next = [self.deadline, self.receiver.timer]
            .into_iter()
            .flatten()
            .min()?;
        if self.timer.is_some_and(|timer| timer <= next) {
            return None;
        }
        self.timer = Some(next);
        Some(next)
    }

    /// A time that [`Tcp::poll_timer`] gave has come; a late acknowledgement, if one is sent.
    pub(super) fn on_timer(&mut self, now: SimTime) -> Option<Batch> {
        if self.timer == Some(now) {
            self.timer = None;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.time_out(now);
        }
        if self.receiver.timer.is_some_and(|timer| timer <= now) {
            return self.acknowledge();
        }
        None
    }

    fn time_out(&mut self, now: SimTime) {
        let lost = self.outstanding.iter().filter(|sent| !sent.done).count();
        self.stats.lost_packets += lost as u64;
        self.stats.timeouts += 1;
        self.first = self.next_number();
        self.outstanding.clear();
        self.in_flight = 0;
        self.window.time_out();
        self.recovery = self.first;
        self.timeouts += 1;
        self.deadline = Some(now + self.timeout());
    }

    fn next_number(&self) -> u64 {
        self.first + self.outstanding.len() as u64
    }

    fn sent(&mut self, number: u64) -> Option<&mut Sent> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.outstanding.get_mut(index)
    }
}
