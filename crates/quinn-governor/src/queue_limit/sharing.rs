//! The controllers that share a queue.

use std::sync::atomic::Ordering;

use super::QueueLimit;

/// A controller's entry among those that share a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sharing {
    /// The queue, and the controller's part of its sum of rates.
    entry: Option<(usize, u64)>,
}

impl Sharing {
    /// Whether there is an entry at this queue.
    pub(crate) fn is_at(&self, queue: usize) -> bool {
        self.entry.is_some_and(|(at, _)| at == queue)
    }

    /// Enters or moves: this controller wants to send more into the queue than `rate`, bytes a
    /// second.
    pub(crate) fn enter(&mut self, queues: &[QueueLimit], queue: usize, rate: u64) {
        match self.entry {
            // The common case, at each acknowledgement.
            Some((at, before)) if at == queue => {
                if rate != before {
                    let more = rate.wrapping_sub(before);
                    queues[queue].rates.fetch_add(more, Ordering::Relaxed);
                }
            }
            _ => {
                self.leave(queues);
                queues[queue].sharers.fetch_add(1, Ordering::Relaxed);
                queues[queue].rates.fetch_add(rate, Ordering::Relaxed);
            }
        }
        self.entry = Some((queue, rate));
    }

    /// Removes the entry, if there is one.
    pub(crate) fn leave(&mut self, queues: &[QueueLimit]) {
        if let Some((queue, rate)) = self.entry.take() {
            queues[queue].rates.fetch_sub(rate, Ordering::Relaxed);
            queues[queue].sharers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_move_with_their_controller_and_are_removed() {
        let queues = [QueueLimit::new(), QueueLimit::new()];
        let (mut one, mut two) = (Sharing::default(), Sharing::default());
        let seen = || {
            queues
                .each_ref()
                .map(|queue| (queue.sharers(), queue.mean_rate()))
        };
        one.enter(&queues, 0, 1_000);
        two.enter(&queues, 0, 2_000);
        two.enter(&queues, 0, 3_000);
        assert_eq!(seen(), [(2, 2_000), (0, 0)]);
        one.enter(&queues, 1, 500);
        assert_eq!(seen(), [(1, 3_000), (1, 500)]);
        one.leave(&queues);
        one.leave(&queues);
        two.leave(&queues);
        assert_eq!(seen(), [(0, 0), (0, 0)]);
    }
}
