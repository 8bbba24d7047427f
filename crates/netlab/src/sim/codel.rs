//! Controlled delay (RFC 8289): drops at the head of a standing queue.

use std::time::Duration;

use super::time::{SimTime, nanos};

/// Bytes below which a queue is never too long: one packet (RFC 8289 section 4.3, `MAXPACKET`).
const MAX_PACKET: u64 = 1514;

/// The state of one queue.
#[derive(Clone, Debug)]
pub(super) struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the sojourn time will have been over the target for an interval.
    first_above: Option<SimTime>,
    dropping: bool,
    next_drop: SimTime,
    count: u32,
    last_count: u32,
}

impl CoDel {
    pub(super) fn new(target: Duration, interval: Duration) -> Self {
        Self {
            target,
            interval,
            first_above: None,
            dropping: false,
            next_drop: SimTime::ZERO,
            count: 0,
            last_count: 0,
        }
    }

    /// Whether to drop the packet at the head, which has waited for `sojourn` while `backlog`
    /// bytes wait with it. Asked for each packet that is taken out, until the answer is no.
    pub(super) fn drops(&mut self, now: SimTime, sojourn: Duration, backlog: u64) -> bool {
        let too_long = self.is_too_long(now, sojourn, backlog);
        if self.dropping {
            if !too_long {
                self.dropping = false;
                return false;
            }
            if now < self.next_drop {
                return false;
            }
            self.count = self.count.saturating_add(1);
            self.next_drop = self.after(self.next_drop);
            return true;
        }
        if !too_long {
            return false;
        }
        self.dropping = true;
        // Soon again: go on at about the rate that was right last time.
        let grown = self.count.saturating_sub(self.last_count);
        let recent = now.since(self.next_drop) < self.interval * 16;
        self.count = if grown > 1 && recent { grown } else { 1 };
        self.last_count = self.count;
        self.next_drop = self.after(now);
        true
    }

    /// The queue ran empty.
    pub(super) fn on_empty(&mut self) {
        self.first_above = None;
        self.dropping = false;
    }

    fn is_too_long(&mut self, now: SimTime, sojourn: Duration, backlog: u64) -> bool {
        if sojourn < self.target || backlog <= MAX_PACKET {
            self.first_above = None;
            return false;
        }
        match self.first_above {
            None => {
                self.first_above = Some(now + self.interval);
                false
            }
            Some(first_above) => now >= first_above,
        }
    }

    /// The control law: intervals shrink with the square root of the number of drops.
    fn after(&self, time: SimTime) -> SimTime {
        let interval = nanos(self.interval) as f64 / f64::from(self.count.max(1)).sqrt();
        time + Duration::from_nanos(super::number::whole(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);

    /// Drops in each tenth of a second, when every millisecond a packet leaves after `sojourn`.
    fn drops(codel: &mut CoDel, from: u64, tenths: u64, sojourn: Duration) -> Vec<usize> {
        (from..from + tenths)
            .map(|tenth| {
                (0..100)
                    .map(|ms| SimTime::from(Duration::from_millis(tenth * 100 + ms)))
                    .filter(|now| codel.drops(*now, sojourn, 100_000))
                    .count()
            })
            .collect()
    }

    #[test]
    fn a_standing_queue_drops_at_a_rising_rate() {
        let mut codel = CoDel::new(TARGET, INTERVAL);
        let counts = drops(&mut codel, 0, 20, TARGET * 2);
        assert_eq!(counts[0], 0, "not within the first interval");
        assert!(counts[1] >= 1);
        assert!(counts[19] > counts[1], "{counts:?}");
    }

    #[test]
    fn a_short_queue_loses_nothing() {
        let mut codel = CoDel::new(TARGET, INTERVAL);
        assert_eq!(drops(&mut codel, 0, 5, TARGET / 2).iter().sum::<usize>(), 0);
    }
}
