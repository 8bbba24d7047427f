//! The queue that holds a flow.

use ebpf_congestion_signals_common::{FLOW_QUEUES, FlowSlot, InQueue, QDISC_NAME_BYTES, QueueSlot};

use super::{FlowIndex, Load, Slots, load};
use crate::sample::{QdiscName, QueueId, QueueLimit, QueueSample, QueueState};

impl Slots {
    /// What the queue is that holds most of the flow.
    pub(in crate::ebpf) fn queue_state(&self, flow: FlowIndex) -> Option<QueueState> {
        let held = self.held(self.flow(flow))?;
        let queue = held.queue;
        let mut name = [0; QDISC_NAME_BYTES];
        for (place, byte) in name.iter_mut().enumerate() {
            *byte = load!(queue, kind[place]);
        }
        let kind = QdiscName::new(name);
        Some(QueueState {
            ifindex: load!(queue, ifindex),
            handle: load!(queue, handle),
            kind,
            packets: load!(queue, packets),
            limit: QueueLimit::of(first_word(queue), load!(queue, child), load!(queue, limit)),
        })
    }

    /// The queue that holds most of the flow: the one that it entered last, where others hold no
    /// more.
    #[inline]
    pub(in crate::ebpf) fn held(&self, slot: *const FlowSlot) -> Option<Held> {
        let last = load!(slot, queue).checked_sub(1)? as usize;
        // SAFETY: an array inside the mapping.
        let queues: *const InQueue = unsafe { &raw const (*slot).queues }.cast();
        let used = |place: usize| {
            // SAFETY: an element of the array.
            let record = unsafe { queues.add(place) };
            u32::from(load!(record, queue) != 0)
        };
        if last >= FLOW_QUEUES || (0..FLOW_QUEUES).map(used).sum::<u32>() > used(last) {
            return self.held_of_several(slot, last);
        }
        // Most flows are in one queue.
        // SAFETY: an element of the array.
        let record = unsafe { queues.add(last) };
        let index = load!(record, queue).checked_sub(1)?;
        Some(Held {
            own: self.in_queue(record, index)?,
            id: QueueId::with_generation(index as usize, load!(record, generation))?,
            queue: self.queue_slot(index)?,
            elsewhere: 0,
            is_last: true,
            shares: load!(record, shared) != 0,
            counted: load!(slot, uncounted) == 0,
        })
    }

    /// The same, of a flow that is in more queues than the one it entered last.
    #[cold]
    fn held_of_several(&self, slot: *const FlowSlot, last: usize) -> Option<Held> {
        let mut everywhere = 0;
        let mut most: Option<(*const InQueue, usize, u32, u64)> = None;
        // SAFETY: an array inside the mapping.
        let queues: *const InQueue = unsafe { &raw const (*slot).queues }.cast();
        for place in 0..FLOW_QUEUES {
            // SAFETY: an element of the array.
            let record = unsafe { queues.add(place) };
            // Most records are unused.
            let number = load!(record, queue);
            if number == 0 {
                continue;
            }
            let Some(own) = self.in_queue(record, number - 1) else {
                continue;
            };
            everywhere += own;
            let is_more = |most: u64| own > most || (own == most && place == last);
            if most.is_none_or(|(_, _, _, most)| is_more(most)) {
                most = Some((record, place, number - 1, own));
            }
        }
        let (record, place, index, own) = most?;
        Some(Held {
            id: QueueId::with_generation(index as usize, load!(record, generation))?,
            queue: self.queue_slot(index)?,
            own,
            elsewhere: everywhere - own,
            is_last: place == last,
            shares: load!(record, shared) != 0,
            counted: load!(slot, uncounted) == 0,
        })
    }

    /// What the flow has in a queue; `None` where that is another by now than the flow entered.
    #[inline]
    fn in_queue(&self, record: *const InQueue, index: u32) -> Option<u64> {
        let queue = self.queue_slot(index)?;
        if load!(queue, generation) != load!(record, generation) {
            return None;
        }
        let entered = load!(record, entered);
        let own = inside(entered, load!(record, left));
        let is_current = load!(queue, drained) == load!(record, drained);
        Some(if is_current { own } else { 0 })
    }
}

/// The queue that a flow is in, or the one of several that holds most of it.
#[derive(Clone, Copy)]
pub(in crate::ebpf) struct Held {
    pub(in crate::ebpf) id: QueueId,
    pub(in crate::ebpf) queue: *const QueueSlot,
    /// Bytes of the flow in it.
    own: u64,
    /// Bytes of the flow in other queues.
    elsewhere: u64,
    /// Whether the flow entered it last.
    is_last: bool,
    /// Whether the flow counts as sharing there.
    shares: bool,
    /// Whether the flow is counted in every queue that it enters.
    counted: bool,
}

impl Held {
    /// Whether the flow is in no other queue, nor has entered one since.
    pub(in crate::ebpf) fn is_only(&self) -> bool {
        self.is_last && self.elsewhere == 0
    }

    /// What left is read after what entered, so that a packet in between is not counted twice.
    #[inline]
    pub(super) fn sample(self) -> QueueSample {
        let queue = self.queue;
        let shared_entered = load!(queue, shared_entered);
        let shared = inside(shared_entered, load!(queue, shared_left));
        let total = load!(queue, backlog);
        let own = self.own.min(total);
        let elsewhere = self.elsewhere;
        let others = if self.shares { elsewhere } else { 0 };
        QueueSample {
            id: self.id,
            own: self.counted.then_some(own + elsewhere),
            shared: self.counted.then_some(shared.min(total) + others),
            total: Some(total + elsewhere),
            drained: Some(load!(queue, drained)),
            limit: limit_in_bytes(queue),
        }
    }
}

/// The queue's limit where it counts bytes. Read at every sample, so names are compared as words.
#[inline]
fn limit_in_bytes(queue: *const QueueSlot) -> Option<u64> {
    QueueLimit::in_bytes(first_word(queue), load!(queue, child), load!(queue, limit))
}

/// The first bytes of the queue discipline's name.
#[inline]
fn first_word(queue: *const QueueSlot) -> u64 {
    // SAFETY: the name lies in the mapping, is twice as long, and aligned as the slot's numbers are.
    Load::load(unsafe { (&raw const (*queue).kind).cast::<u64>() })
}

/// The difference of two counters, `entered` and `left`; 0 where more left than entered.
#[inline]
fn inside(entered: u64, left: u64) -> u64 {
    let inside = entered.wrapping_sub(left);
    if inside.cast_signed() < 0 { 0 } else { inside }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn more_left_than_entered_is_zero() {
        assert_eq!(inside(100, 70), 30);
        assert_eq!(inside(70, 100), 0);
        assert_eq!(inside(5, u64::MAX), 6, "counters may wrap");
    }
}
