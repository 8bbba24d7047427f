//! A receiving socket that is not read at once.

use std::collections::VecDeque;
use std::time::Duration;

use ebpf_congestion_signals::{
    BufferSample, Direction, DropClass, DropCounters, KernelTime, MockFlow, MockSource, Watch,
};

use super::app;
use super::packet::Batch;
use super::time::SimTime;
use super::window::Windows;

/// The receiving host of each flow. The default reads whatever comes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverConfig {
    /// Bytes that the socket's buffer holds, as the kernel accounts them (about 2,300 for a
    /// datagram of 1,452): what comes beyond is dropped.
    pub buffer: u64,
    /// Time to read a datagram and work on it, one after the other.
    pub per_datagram: Duration,
    /// When the time for each changes.
    pub later: Option<(Duration, Duration)>,
    /// What the connection's window of flow control begins with, bytes: so much its peer may have
    /// on the way.
    pub window: u64,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            buffer: u64::MAX,
            per_datagram: Duration::ZERO,
            later: None,
            window: app::FLOW_CONTROL_WINDOW,
        }
    }
}

impl ReceiverConfig {
    /// A socket with this buffer (bytes) that needs this time for each datagram.
    pub fn slow(buffer: u64, per_datagram: Duration) -> Self {
        Self {
            buffer,
            per_datagram,
            ..Self::default()
        }
    }

    /// How long a datagram takes whose turn comes now.
    fn time_for_one(&self, now: SimTime) -> Duration {
        match self.later {
            Some((from, time)) if now.since_start() >= from => time,
            _ => self.per_datagram,
        }
    }
}

/// A receiving socket at work.
pub(super) struct Receiver {
    config: ReceiverConfig,
    waiting: VecDeque<Batch>,
    occupied: u64,
    busy_until: SimTime,
    pub(super) dropped: u64,
    /// Payload of those that were dropped.
    dropped_bytes: u64,
    /// Its kernel's signals.
    signals: MockFlow,
    /// Who sets its connection's window.
    pub(super) windows: Option<Windows>,
}

impl Receiver {
    pub(super) fn new(config: ReceiverConfig) -> Self {
        Self {
            config,
            waiting: VecDeque::new(),
            occupied: 0,
            busy_until: SimTime::ZERO,
            dropped: 0,
            dropped_bytes: 0,
            signals: MockSource::new().add_flow(),
            windows: None,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.config.window
    }

    /// The socket as the probes of its kernel watch it.
    pub(super) fn watch(&self) -> Watch {
        self.signals.watch()
    }

    /// Updates its signals.
    pub(super) fn tell(&self, now: SimTime) {
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let payload = self.waiting.iter().map(|batch| u64::from(batch.payload()));
        let mut buffers = BufferSample::default();
        buffers.rcvbuf = bytes(self.config.buffer);
        buffers.rmem = bytes(self.occupied);
        buffers.rmem_payload = Some(bytes(payload.sum())).filter(|_| self.occupied > 0);
        let nanos = now.since_start().as_nanos();
        let updated = KernelTime::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.signals.set(|sample| {
            let (arriving, class) = (Direction::Ingress, DropClass::ReceiveBuffer);
            let drops = sample.drops.get_or_insert_default();
            let reported = drops.get(arriving, class);
            let more = DropCounters {
                skbs: self.dropped - reported.skbs,
                packets: self.dropped - reported.packets,
                bytes: self.dropped_bytes - reported.bytes,
            };
            drops.add(arriving, class, more);
            sample.buffers = Some(buffers);
            sample.updated = Some(updated);
        });
    }

    /// A datagram arrives: it is returned if it can be read at once. Otherwise it waits, and the
    /// time of the socket's next read is returned, unless that was returned before.
    pub(super) fn arrive(
        &mut self,
        now: SimTime,
        packet: Batch,
    ) -> (Option<Batch>, Option<SimTime>) {
        if self.config.per_datagram.is_zero() {
            return (Some(packet), None);
        }
        let size = u64::from(packet.truesize());
        if self.occupied + size > self.config.buffer {
            self.dropped += 1;
            self.dropped_bytes += u64::from(packet.payload());
            return (None, None);
        }
        self.occupied += size;
        self.waiting.push_back(packet);
        if self.waiting.len() > 1 {
            return (None, None);
        }
        let begin = self.busy_until.max(now);
        self.busy_until = begin + self.config.time_for_one(begin);
        (None, Some(self.busy_until))
    }

    /// The work on the first datagram that waits is done; when the next will be.
    pub(super) fn read(&mut self) -> (Option<Batch>, Option<SimTime>) {
        let packet = self.waiting.pop_front();
        if let Some(packet) = &packet {
            self.occupied -= u64::from(packet.truesize());
        }
        if self.waiting.is_empty() {
            return (packet, None);
        }
        self.busy_until = self.busy_until + self.config.time_for_one(self.busy_until);
        (packet, Some(self.busy_until))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn datagram() -> Batch {
        Batch::quic(0, BytesMut::zeroed(1452), 1452)
    }

    #[test]
    fn a_slow_reader_drops_what_its_buffer_cannot_hold() {
        let config = ReceiverConfig::slow(5_000, Duration::from_millis(1));
        let mut receiver = Receiver::new(config);
        let first = receiver.arrive(SimTime::ZERO, datagram());
        assert_eq!(first.1, Some(SimTime::from(Duration::from_millis(1))));
        for _ in 0..3 {
            assert!(receiver.arrive(SimTime::ZERO, datagram()).1.is_none());
        }
        assert_eq!(receiver.dropped, 2);
        let (read, next) = receiver.read();
        assert!(read.is_some());
        assert_eq!(next, Some(SimTime::from(Duration::from_millis(2))));
    }

    #[test]
    fn a_reader_may_take_less_time_later() {
        let mut config = ReceiverConfig::slow(50_000, Duration::from_millis(4));
        config.later = Some((Duration::from_millis(8), Duration::from_millis(1)));
        let mut receiver = Receiver::new(config);
        let first = receiver.arrive(SimTime::ZERO, datagram());
        let mut reads = vec![first.1];
        for _ in 0..3 {
            receiver.arrive(SimTime::ZERO, datagram());
            reads.push(receiver.read().1);
            receiver.arrive(SimTime::ZERO, datagram());
        }
        let at = |millis| Some(SimTime::from(Duration::from_millis(millis)));
        assert_eq!(reads, [at(4), at(8), at(9), at(10)]);
    }

    #[test]
    fn a_fast_reader_keeps_nothing() {
        let mut receiver = Receiver::new(ReceiverConfig::default());
        assert!(receiver.arrive(SimTime::ZERO, datagram()).0.is_some());
    }
}
