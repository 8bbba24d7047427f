//! The relay's buffer for one direction: what is in flight on the path. No clock, no I/O.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What one direction of the path does to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How long each packet is held.
    pub delay: Duration,
    /// On top of `delay`, a time drawn evenly from zero to this. Order is kept: a packet is
    /// never earlier than the one before it.
    pub jitter: Duration,
    /// The share of packets lost at random, 0 to 1.
    pub loss: f64,
}

/// Room for one packet; no packet may be longer.
pub(crate) type Buffer = Box<[u8]>;

/// What became of an offered packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is held until its time.
    Held,
    /// It fell to random loss.
    Lost,
    /// There was no room.
    Overflowed,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) due: Instant,
    length: usize,
    buffer: Buffer,
}

impl Held {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

#[derive(Debug)]
pub(crate) struct DelayLine {
    impairment: Impairment,
    random: SplitMix64,
    buffer_size: usize,
    capacity: usize,
    held: VecDeque<Held>,
    spare: Vec<Buffer>,
    last_due: Option<Instant>,
}

impl DelayLine {
    /// A line for packets of up to `buffer_size` bytes that holds up to `capacity` of them.
    pub(crate) fn new(
        impairment: Impairment,
        seed: u64,
        buffer_size: usize,
        capacity: usize,
    ) -> Self {
        Self {
            impairment,
            random: SplitMix64(seed),
            buffer_size,
            capacity,
            held: VecDeque::new(),
            spare: Vec::new(),
            last_due: None,
        }
    }

    /// A buffer to read the next packet into; to be handed to `offer` or `recycle`.
    pub(crate) fn buffer(&mut self) -> Buffer {
        let size = self.buffer_size;
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.spare.push(buffer);
    }

    /// Takes the packet in the first `length` bytes of `buffer`, which arrived at `now`.
    ///
    /// The same draws are made for each packet whatever becomes of it, so that packet n meets
    /// the same fate in every run with one seed.
    pub(crate) fn offer(&mut self, now: Instant, buffer: Buffer, length: usize) -> Admission {
        let lost = self.random.unit() < self.impairment.loss;
        let extra = self.impairment.jitter.mul_f64(self.random.unit());
        let admission = if lost {
            Admission::Lost
        } else if self.held.len() >= self.capacity {
            Admission::Overflowed
        } else {
            Admission::Held
        };
        if admission != Admission::Held {
            self.recycle(buffer);
            return admission;
        }
        let due = now + self.impairment.delay + extra;
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.held.push_back(Held {
            due,
            length,
            buffer,
        });
        admission
    }

    /// The next packet whose time has come, oldest first. Its buffer goes back by `release`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Held> {
        self.held.pop_front_if(|packet| packet.due <= now)
    }

    pub(crate) fn release(&mut self, packet: Held) {
        self.recycle(packet.buffer);
    }

    /// When the next packet is due; `None` when nothing is held.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.front().map(|packet| packet.due)
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

/// Sebastiano Vigna's SplitMix64: small, seedable with any number, good enough for loss.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from [0, 1).
    #[expect(
        clippy::cast_precision_loss,
        reason = "the upper 53 bits fit a double exactly"
    )]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn line(impairment: Impairment, capacity: usize) -> DelayLine {
        DelayLine::new(impairment, 1, 16, capacity)
    }

    fn offer(line: &mut DelayLine, now: Instant, byte: u8) -> Admission {
        let mut buffer = line.buffer();
        buffer[0] = byte;
        line.offer(now, buffer, 1)
    }

    #[test]
    fn a_packet_is_held_for_exactly_the_delay() {
        let start = Instant::now();
        let impairment = Impairment {
            delay: 10 * MS,
            ..Impairment::default()
        };
        let mut line = line(impairment, 8);
        assert_eq!(offer(&mut line, start, 7), Admission::Held);
        assert_eq!(line.next_due(), Some(start + 10 * MS));
        assert!(line.pop_due(start + 9 * MS).is_none());
        let packet = line.pop_due(start + 10 * MS).expect("it is due");
        assert_eq!(packet.bytes(), [7]);
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn jitter_delays_without_reordering() {
        let start = Instant::now();
        let impairment = Impairment {
            delay: 10 * MS,
            jitter: 20 * MS,
            ..Impairment::default()
        };
        let mut line = line(impairment, 1000);
        for n in 0..200 {
            offer(&mut line, start + u32::from(n) * MS / 10, n);
        }
        let mut last = start + 10 * MS;
        for n in 0..200 {
            let packet = line.pop_due(start + 100 * MS).expect("all are due by now");
            assert_eq!(packet.bytes(), [n]);
            assert!(packet.due >= last);
            assert!(packet.due <= start + 50 * MS);
            last = packet.due;
        }
    }

    #[test]
    fn a_seed_fixes_which_packets_are_lost() {
        let start = Instant::now();
        let impairment = Impairment {
            loss: 0.1,
            ..Impairment::default()
        };
        let run = || {
            let mut line = line(impairment, 10_000);
            (0..10_000)
                .map(|_| offer(&mut line, start, 0))
                .collect::<Vec<_>>()
        };
        let fates = run();
        assert_eq!(fates, run());
        let lost = fates.iter().filter(|&&fate| fate == Admission::Lost);
        assert!((900..1100).contains(&lost.count()));
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let start = Instant::now();
        let mut line = line(Impairment::default(), 2);
        assert_eq!(offer(&mut line, start, 0), Admission::Held);
        assert_eq!(offer(&mut line, start, 1), Admission::Held);
        assert_eq!(offer(&mut line, start, 2), Admission::Overflowed);
        assert_eq!(line.len(), 2);
    }
}
