//! The queues of this host's devices, as rtnetlink lists them without privilege.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use super::shape::{Order, Shape};
use crate::sample::{KernelTime, QdiscName, QueueId, QueueLimit, QueueState};

/// How long others' bytes are valid: many times the interval between listings. A machine
/// that is too busy to list knows nothing of them.
const BACKLOG_VALID: Duration = Duration::from_millis(250);

/// How long it is known that there are none to wait for.
const ORDER_VALID: Duration = Duration::from_secs(3);

/// Others' bytes are not known.
const UNKNOWN: u64 = u64::MAX;

/// The queues that flows leave by. The first is that of all flows whose device is not known.
#[derive(Debug)]
pub(super) struct Queues {
    slots: Vec<Queue>,
    /// Devices by the index of their slot, from the second on.
    devices: Mutex<Vec<u32>>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..QueueId::COUNT).map(|_| Queue::default()).collect(),
            devices: Mutex::default(),
        }
    }

    /// The queue of this index; of one that does not exist, that of unknown devices.
    pub(super) fn get(&self, index: usize) -> &Queue {
        self.slots.get(index).unwrap_or(&self.slots[0])
    }

    /// Index of a device's queue. A new device gets a free slot, else the slot of a queue in which
    /// this program has nothing, else the slot of unknown devices.
    pub(super) fn of_device(&self, ifindex: u32) -> usize {
        let mut devices = self.devices.lock();
        if let Some(place) = devices.iter().position(|device| *device == ifindex) {
            return place + 1;
        }
        if devices.len() + 1 < self.slots.len() {
            devices.push(ifindex);
            return devices.len();
        }
        let unused = self
            .slots
            .iter()
            .skip(1)
            .position(|queue| queue.program() == 0);
        let Some(place) = unused else { return 0 };
        devices[place] = ifindex;
        self.slots[place + 1].begin_anew();
        place + 1
    }

    /// The device of a queue.
    pub(super) fn device(&self, index: usize) -> Option<u32> {
        self.devices.lock().get(index.checked_sub(1)?).copied()
    }
}

/// One queue. Bytes are on the wire.
#[derive(Debug)]
pub(super) struct Queue {
    /// Devices that had this slot before.
    generation: AtomicU32,
    /// Of all observed sockets of this program. Gauge.
    program: AtomicU64,
    /// Of flows watched as sharing. Gauge.
    shared: AtomicU64,
    /// Bytes of others that a flow of this program waits behind, at the last sample; or [`UNKNOWN`].
    others: AtomicU64,
    /// Until when that is valid, nanoseconds.
    valid_until: AtomicU64,
    drained: AtomicU64,
    /// Bytes that it holds; 0 where that is not known.
    limit: AtomicU64,
    root: Seen,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            generation: AtomicU32::new(0),
            program: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            others: AtomicU64::new(UNKNOWN),
            valid_until: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            root: Seen::default(),
        }
    }
}

impl Queue {
    /// Another device has this slot from now on.
    fn begin_anew(&self) {
        self.forget_others();
        self.limit.store(0, Ordering::Relaxed);
        self.root.forget();
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn program(&self) -> u64 {
        self.program.load(Ordering::Relaxed)
    }

    pub(super) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Of all others that a flow of this program waits behind; `None` where that is not known, or no
    /// longer.
    pub(super) fn others(&self, now: KernelTime) -> Option<u64> {
        let others = self.others.load(Ordering::Relaxed);
        let valid = now.as_nanos() <= self.valid_until.load(Ordering::Relaxed);
        (others != UNKNOWN && valid).then_some(others)
    }

    /// Bytes that it holds before it drops; `None` where that is not known, or not counted in
    /// bytes.
    pub(super) fn limit_in_bytes(&self) -> Option<u64> {
        match self.limit.load(Ordering::Relaxed) {
            0 => None,
            bytes => Some(bytes),
        }
    }

    /// Times it ran empty.
    pub(super) fn drained(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }

    /// The root, at the last sample.
    pub(super) fn state(&self) -> Option<QueueState> {
        self.root.load()
    }

    pub(super) fn enters(&self, bytes: u64, shared: u64) {
        self.program.fetch_add(bytes, Ordering::Relaxed);
        self.shared.fetch_add(shared, Ordering::Relaxed);
    }

    /// Takes out what has left; the queue ran empty if nothing of others is left either, as far as
    /// known.
    pub(super) fn leaves(&self, bytes: u64, shared: u64) {
        self.shared.fetch_sub(shared, Ordering::Relaxed);
        let before = self.program.fetch_sub(bytes, Ordering::Relaxed);
        let others = self.others.load(Ordering::Relaxed);
        if bytes > 0 && before == bytes && matches!(others, 0 | UNKNOWN) {
            self.drained.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes out what another queue has from now on.
    pub(super) fn moves(&self, bytes: u64, shared: u64) {
        self.shared.fetch_sub(shared, Ordering::Relaxed);
        self.program.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes over what the device's disciplines amount to, at another listing. One writer at a
    /// time.
    pub(super) fn on_shape(&self, shape: &Shape, now: KernelTime) {
        let root = &shape.root;
        let limit = match shape.limit {
            Some(QueueLimit::Bytes(bytes)) => bytes.into(),
            _ => 0,
        };
        self.limit.store(limit, Ordering::Relaxed);
        self.root.store(&QueueState {
            ifindex: root.ifindex,
            handle: root.handle & 0xffff_0000,
            kind: root.kind,
            packets: root.packets.into(),
            limit: shape.limit,
        });
        let (others, valid) = match shape.order {
            Order::OfArrival if root.backlog > MOST_BACKLOG => (UNKNOWN, BACKLOG_VALID),
            Order::OfArrival => {
                let others = u64::from(root.backlog).saturating_sub(self.program());
                (others, BACKLOG_VALID)
            }
            Order::Apart => (0, ORDER_VALID),
            Order::Unknown => (UNKNOWN, ORDER_VALID),
        };
        self.others.store(others, Ordering::Relaxed);
        let until = Duration::from_nanos(now.as_nanos()) + valid;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.valid_until.store(until, Ordering::Relaxed);
    }

    /// Listing has ended.
    pub(super) fn forget_others(&self) {
        self.others.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// A larger backlog has run below zero: on Linux 5.10, tbf was seen to take more out of its count
/// than it had put in when it split batches.
const MOST_BACKLOG: u32 = i32::MAX.cast_unsigned();

/// Words of a [`QueueState`] in memory.
const WORDS: usize = 6;

/// A state that one writer replaces while readers copy it. A reader that meets the writer tries
/// again, and gives up after some times.
#[derive(Debug, Default)]
struct Seen {
    /// Odd while it is being written, 0 before the first time.
    version: AtomicU32,
    words: [AtomicU64; WORDS],
}

/// Attempts to read before a reader gives up.
const ATTEMPTS: usize = 4;

impl Seen {
    fn store(&self, state: &QueueState) {
        let (unit, limit) = match state.limit {
            None => (0, 0),
            Some(QueueLimit::Bytes(bytes)) => (1, bytes),
            Some(QueueLimit::Packets(packets)) => (2, packets),
        };
        let [first, second] = state.kind.words();
        let words = [
            state.ifindex.into(),
            state.handle.into(),
            first,
            second,
            state.packets,
            unit << 32 | u64::from(limit),
        ];
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.version
            .store(version.wrapping_add(2).max(2), Ordering::Release);
    }

    fn forget(&self) {
        self.version.store(0, Ordering::Relaxed);
    }

    #[expect(clippy::cast_possible_truncation, reason = "as they were stored")]
    fn load(&self) -> Option<QueueState> {
        for _ in 0..ATTEMPTS {
            let version = self.version.load(Ordering::Acquire);
            if version == 0 {
                return None;
            }
            let words: [u64; WORDS] =
                std::array::from_fn(|place| self.words[place].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && version == self.version.load(Ordering::Relaxed) {
                let limit = words[5] as u32;
                return Some(QueueState {
                    ifindex: words[0] as u32,
                    handle: words[1] as u32,
                    kind: QdiscName::from_words([words[2], words[3]]),
                    packets: words[4],
                    limit: match words[5] >> 32 {
                        1 => Some(QueueLimit::Bytes(limit)),
                        2 => Some(QueueLimit::Packets(limit)),
                        _ => None,
                    },
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::netlink::Qdisc;

    const ROOT: u32 = u32::MAX;

    fn qdisc(kind: &str, handle: u32, parent: u32, limit: u32) -> Qdisc {
        Qdisc {
            ifindex: 7,
            handle,
            parent,
            kind: QdiscName::from_name(kind),
            limit: (limit > 0).then_some(limit),
            backlog: 5000,
            packets: 4,
            drops: 3,
        }
    }

    #[test]
    fn others_have_what_the_program_has_not() {
        let queue = Queue::default();
        let root = qdisc("tbf", 0x8001_0000, ROOT, 150_000);
        let shape = Shape::of(std::slice::from_ref(&root)).unwrap();
        let now = KernelTime::from_nanos(1_000_000_000);
        assert_eq!((queue.others(now), queue.state()), (None, None));
        queue.enters(2000, 1500);
        queue.on_shape(&shape, now);
        assert_eq!((queue.others(now), queue.shared()), (Some(3000), 1500));
        let later = KernelTime::from_nanos(1_300_000_000);
        assert_eq!(queue.others(later), None, "not sampled since");
        let state = queue.state().unwrap();
        assert_eq!((state.ifindex, state.handle), (7, 0x8001_0000));
        assert_eq!((state.kind.as_str(), state.packets), ("tbf", 4));
        assert_eq!(state.limit, Some(QueueLimit::Bytes(150_000)));
        queue.leaves(2000, 1500);
        assert_eq!(queue.drained(), 0, "others are still there");
        let below_zero = Qdisc {
            backlog: 0u32.wrapping_sub(3_726),
            ..root
        };
        queue.on_shape(&Shape::of(&[below_zero]).unwrap(), now);
        assert_eq!(queue.others(now), None, "the kernel's count is wrong");
        queue.forget_others();
        queue.enters(100, 0);
        queue.leaves(100, 0);
        assert_eq!((queue.others(now), queue.drained()), (None, 1));
    }

    #[test]
    fn every_device_has_a_queue_of_its_own_while_there_are_slots() {
        let queues = Queues::new();
        let (first, second) = (queues.of_device(3), queues.of_device(9));
        assert_eq!((first, second, queues.of_device(3)), (1, 2, 1));
        assert_eq!((queues.device(2), queues.device(0)), (Some(9), None));
        for queue in 1..QueueId::COUNT {
            queues.get(queue).enters(1, 0);
        }
        for device in 100..200 {
            queues.of_device(device);
        }
        assert_eq!(queues.of_device(1000), 0, "all are in use");
        queues.get(second).leaves(1, 0);
        assert_eq!(queues.of_device(1000), second);
        assert_eq!(queues.device(second), Some(1000));
        assert_eq!(
            (
                queues.get(first).generation(),
                queues.get(second).generation()
            ),
            (0, 1)
        );
    }
}
