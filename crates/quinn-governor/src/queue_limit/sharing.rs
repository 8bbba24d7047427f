//! Who shares a queue.

use std::sync::atomic::Ordering;

use super::QueueLimit;

/// A controller's entry among those who share a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sharing {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    queue: usize,
    held_rate: Option<u64>,
}

impl Sharing {
    /// Whether there is an entry at this queue.
    pub(crate) fn is_at(&self, queue: usize) -> bool {
        self.entry.is_some_and(|entry| entry.queue == queue)
    }

    /// Enters, moves or corrects the entry: this controller wants to send more into the queue, and
    /// if the cap is what holds it back, it sends at `held_rate`, bytes a second.
    pub(crate) fn enter(&mut self, queues: &[QueueLimit], queue: usize, held_rate: Option<u64>) {
        if !self.is_at(queue) {
            self.leave(queues);
            queues[queue].sharers.fetch_add(1, Ordering::Relaxed);
        } else if let Some(entry) = &self.entry {
            entry.withdraw_rate(queues);
        }
        if let Some(rate) = held_rate {
            queues[queue].held.fetch_add(1, Ordering::Relaxed);
            queues[queue].held_rates.fetch_add(rate, Ordering::Relaxed);
        }
        self.entry = Some(Entry { queue, held_rate });
    }

    /// Takes the entry back, if there is one.
    pub(crate) fn leave(&mut self, queues: &[QueueLimit]) {
        if let Some(entry) = self.entry.take() {
            entry.withdraw_rate(queues);
            queues[entry.queue].sharers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Entry {
    fn withdraw_rate(&self, queues: &[QueueLimit]) {
        if let Some(rate) = self.held_rate {
            queues[self.queue].held.fetch_sub(1, Ordering::Relaxed);
            queues[self.queue]
                .held_rates
                .fetch_sub(rate, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_move_with_their_controller_and_leave_nothing_behind() {
        let queues = [QueueLimit::new(), QueueLimit::new()];
        let (mut one, mut two) = (Sharing::default(), Sharing::default());
        one.enter(&queues, 0, Some(1_000));
        two.enter(&queues, 0, None);
        assert_eq!((queues[0].sharers(), queues[0].mean_rate()), (2, 1_000));
        two.enter(&queues, 0, Some(3_000));
        assert_eq!((queues[0].sharers(), queues[0].mean_rate()), (2, 2_000));
        one.enter(&queues, 1, Some(500));
        assert_eq!((queues[0].sharers(), queues[0].mean_rate()), (1, 3_000));
        one.leave(&queues);
        one.leave(&queues);
        two.leave(&queues);
        for queue in &queues {
            assert_eq!((queue.sharers(), queue.mean_rate()), (0, 0));
        }
    }
}
