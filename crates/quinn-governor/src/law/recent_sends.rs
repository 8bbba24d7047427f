//! Whose of a socket's bytes are in the queue.

/// Remembers where in the socket's stream of sent bytes this controller's last ones are.
///
/// The source tells the backlog of the whole socket. A queue is left in the order it was entered,
/// so what is in it is the last that the socket sent: this controller's part is what it sent of
/// that.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentSends {
    /// End positions and lengths, a ring.
    sends: [(u64, u64); SENDS],
    next: usize,
}

/// Sends remembered. A batch is one; where the backlog reaches further back than all of them, the
/// part is extrapolated.
const SENDS: usize = 16;

impl RecentSends {
    /// This controller sent `bytes`, the last of which is at `end` in the socket's stream.
    pub(crate) fn push(&mut self, end: u64, bytes: u64) {
        self.sends[self.next % SENDS] = (end, bytes);
        self.next = (self.next + 1) % SENDS;
    }

    /// This controller's part of the last `backlog` bytes of the stream that is at `end` now.
    pub(crate) fn part(&self, end: u64, backlog: u64) -> u64 {
        let begin = end.saturating_sub(backlog);
        let mut mine = 0;
        let mut oldest = end;
        for &(last, bytes) in self.sends.iter().filter(|(_, bytes)| *bytes > 0) {
            let first = last.saturating_sub(bytes);
            oldest = oldest.min(first);
            mine += last.min(end).saturating_sub(first.max(begin));
        }
        let (known, full) = (end - oldest, self.sends[self.next].1 > 0);
        if full && known < backlog && known > 0 {
            let scaled = u128::from(mine) * u128::from(backlog) / u128::from(known);
            return u64::try_from(scaled).unwrap_or(backlog).min(backlog);
        }
        mine.min(backlog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_the_last_bytes_is_what_was_sent_among_them() {
        let mut sends = RecentSends::default();
        sends.push(1_000, 1_000);
        // 1,000 to 5,000 came from another controller of the socket.
        sends.push(7_000, 2_000);
        assert_eq!(sends.part(7_000, 1_000), 1_000);
        assert_eq!(sends.part(7_000, 2_000), 2_000);
        assert_eq!(sends.part(7_000, 6_500), 2_500);
        // Another controller sent 3,000 more since.
        assert_eq!(sends.part(10_000, 3_000), 0);
        assert_eq!(sends.part(10_000, 4_000), 1_000);
    }

    #[test]
    fn further_back_than_is_remembered_the_part_is_extrapolated() {
        let mut sends = RecentSends::default();
        // Every second kilobyte of the stream.
        for i in 1..=100 {
            sends.push(2_000 * i, 1_000);
        }
        let part = sends.part(200_000, 100_000);
        assert!((48_000..=53_000).contains(&part), "{part}");
    }
}
