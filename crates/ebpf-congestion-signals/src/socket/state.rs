//! What is known of one observed socket.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ebpf_congestion_signals_common::DropCounters;
use parking_lot::Mutex;

use super::books::{Books, Left, NOBODY, canonical};
use super::flow::{Flow, add};
use super::in_progress::InProgress;
use super::kernel::{Identity, Memory};
use super::ledger::Destination;
use super::pressure::Pressure;
use super::queues::Queues;
use super::truesize::Weight;
use crate::observer::SocketSend;
use crate::sample::{BufferSample, KernelTime};

mod due;

pub(super) use due::Due;

/// How long a send buffer that was not empty shows that there is a queue. Devices
/// that give packets back before they have sent them, such as loopback, show it empty, but for what a
/// thread is sending just then.
const QUEUE_SHOWN: Duration = Duration::from_secs(5);

/// A send buffer that was never seen empty for this long has a queue before it, not only what is on
/// its way to the device.
const STANDING: Duration = Duration::from_millis(2);

/// A socket that is watched or observed.
#[derive(Debug)]
pub(super) struct SocketState {
    pub(super) identity: Identity,
    /// All of the socket.
    pub(super) flow: Arc<Flow>,
    /// The observer's descriptor, while there is one.
    descriptor: Mutex<Weak<OwnedFd>>,
    observed: AtomicBool,
    books: Mutex<Books>,
    /// Copy of the ledger's, for those who do not hold the lock.
    sequence: AtomicU64,
    /// When its memory was last read, nanoseconds.
    read_at: AtomicU64,
    /// The ledger's sequence then.
    read_sequence: AtomicU64,
    /// When its send buffer was last seen not empty, nanoseconds; 0 before.
    backlogged: AtomicU64,
    /// Since when it was due and not read because of a send in progress, nanoseconds; 0: it is not.
    put_off: AtomicU64,
    /// Sends that are in progress.
    pub(super) sends: InProgress,
    /// When it was last seen empty, nanoseconds.
    emptied: AtomicU64,
    /// When it was last seen to wait in a queue, nanoseconds; 0 before.
    waited: AtomicU64,
    /// Index of the queue that it sends by.
    queue: AtomicUsize,
    send: AtomicU32,
    send_limit: AtomicU32,
    receive: AtomicU32,
    receive_limit: AtomicU32,
    /// Datagrams dropped because the receive buffer was full.
    receive_drops: AtomicU64,
    pub(super) send_pressure: Pressure,
    pub(super) receive_pressure: Pressure,
}

impl SocketState {
    pub(super) fn new(identity: Identity, flow: Arc<Flow>) -> Self {
        Self {
            identity,
            flow,
            descriptor: Mutex::default(),
            observed: AtomicBool::new(false),
            books: Mutex::default(),
            sequence: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            read_sequence: AtomicU64::new(0),
            backlogged: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            sends: InProgress::default(),
            emptied: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            queue: AtomicUsize::new(0),
            send: AtomicU32::new(0),
            send_limit: AtomicU32::new(0),
            receive: AtomicU32::new(0),
            receive_limit: AtomicU32::new(0),
            receive_drops: AtomicU64::new(0),
            send_pressure: Pressure::default(),
            receive_pressure: Pressure::default(),
        }
    }

    /// An observer begins.
    pub(super) fn observe(&self, descriptor: &Arc<OwnedFd>, memory: &Memory) {
        *self.descriptor.lock() = Arc::downgrade(descriptor);
        self.books.lock().kernel_drops = Some(memory.drops);
        self.keep(memory);
        self.observed.store(true, Ordering::Relaxed);
    }

    /// An observer ends: what it knew is of the past.
    pub(super) fn end(&self, descriptor: &Arc<OwnedFd>, queues: &Queues) {
        let mut current = self.descriptor.lock();
        if std::ptr::eq(current.as_ptr(), Arc::as_ptr(descriptor)) {
            *current = Weak::new();
            self.observed.store(false, Ordering::Relaxed);
            drop(current);
            let mut books = self.books.lock();
            let sequence = books.ledger.sequence();
            self.measured(&mut books, 0, sequence, queues);
        }
    }

    pub(super) fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
    }

    pub(super) fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.descriptor.lock().upgrade()
    }

    /// Begins to count a peer by itself.
    pub(super) fn add_peer(&self, peer: SocketAddr, flow: &Arc<Flow>) {
        let mut books = self.books.lock();
        books.last_destination += 1;
        let destination = books.last_destination;
        books.peers.insert(canonical(peer), destination);
        books.flows.insert(destination, Arc::clone(flow));
    }

    /// Ends that.
    pub(super) fn remove_peer(&self, peer: SocketAddr, queues: &Queues) {
        let mut books = self.books.lock();
        if let Some(destination) = books.peers.remove(&canonical(peer))
            && let Some(flow) = books.flows.remove(&destination)
            && flow.is_sharing()
        {
            queues.get(self.queue()).leaves(0, flow.own());
        }
    }

    /// Calls `each` for the socket and for every peer that is watched alone.
    pub(super) fn each_flow(&self, mut each: impl FnMut(&Flow)) {
        each(&self.flow);
        for flow in self.books.lock().flows.values() {
            each(flow);
        }
    }

    /// A flow of this socket is watched as sharing.
    pub(super) fn share(&self, flow: &Flow, queues: &Queues) {
        let _books = self.books.lock();
        if !flow.is_sharing() {
            flow.share();
            queues.get(self.queue()).enters(0, flow.own());
        }
    }

    /// The kernel accepted a send.
    pub(super) fn sent(&self, send: &SocketSend, now: KernelTime, queues: &Queues) {
        let weight = Weight::of(send);
        let mut books = self.books.lock();
        if self.flow.own() == 0 {
            self.emptied.store(now.as_nanos(), Ordering::Relaxed);
        }
        let destination = books.destination(send.destination);
        let mut shared = 0;
        self.flows(&books, destination, |flow| {
            flow.count_sent(send);
            flow.enters(weight.wire);
            shared += if flow.is_sharing() { weight.wire } else { 0 };
        });
        let queue = queues.get(self.queue());
        queue.enters(weight.wire, shared);
        let mut left = Left::default();
        let Books { ledger, flows, .. } = &mut *books;
        ledger.sent(destination, weight, &mut |destination, bytes| {
            left.count(&self.flow, flows.get(&destination), bytes);
        });
        queue.leaves(left.all, left.shared);
        self.sequence
            .store(books.ledger.sequence(), Ordering::Relaxed);
        books.sent_to = Some(send.destination);
    }

    /// The kernel dropped a send whole: `count` says for which reason.
    pub(super) fn dropped(&self, send: &SocketSend, count: impl Fn(&Flow)) {
        let books = self.books.lock();
        let destination = books.peers.get(&canonical(send.destination));
        self.flows(&books, destination.copied().unwrap_or(NOBODY), |flow| {
            count(flow);
        });
    }

    /// Calls `each` for the socket and, where it is watched alone, the destination.
    fn flows(&self, books: &Books, destination: Destination, mut each: impl FnMut(&Flow)) {
        each(&self.flow);
        if let Some(flow) = books.flows.get(&destination) {
            each(flow);
        }
    }

    /// Sends so far. Read it before the kernel's memory use.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Updates the socket's memory use, as the kernel reported it after `sequence` sends. Returns whether
    /// the socket waits in a queue.
    pub(super) fn on_memory(
        &self,
        memory: &Memory,
        sequence: u64,
        now: KernelTime,
        queues: &Queues,
    ) -> bool {
        let mut books = self.books.lock();
        self.read_at.store(now.as_nanos(), Ordering::Relaxed);
        self.read_sequence.store(sequence, Ordering::Relaxed);
        self.put_off.store(0, Ordering::Relaxed);
        self.measured(&mut books, memory.send.into(), sequence, queues);
        let before = books.kernel_drops.replace(memory.drops);
        let drops = memory.drops.wrapping_sub(before.unwrap_or(memory.drops));
        add(&self.receive_drops, drops.into());
        self.keep(memory);
        self.send_pressure.note(memory.send, memory.send_limit, now);
        self.receive_pressure
            .note(memory.receive, memory.receive_limit, now);
        if memory.send == 0 {
            self.emptied.store(now.as_nanos(), Ordering::Relaxed);
            return false;
        }
        self.backlogged.store(now.as_nanos(), Ordering::Relaxed);
        let emptied = KernelTime::from_nanos(self.emptied.load(Ordering::Relaxed));
        let waits = now.since(emptied) >= STANDING;
        if waits {
            self.waited.store(now.as_nanos(), Ordering::Relaxed);
        }
        waits
    }

    /// The kernel would not say. A backlog that is not measured could only grow, so it is unknown
    /// until the kernel reports it again.
    pub(super) fn unreadable(&self, queues: &Queues) {
        let mut books = self.books.lock();
        let sequence = books.ledger.sequence();
        self.measured(&mut books, 0, sequence, queues);
        self.backlogged.store(0, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
    }

    fn measured(&self, books: &mut Books, truesize: u64, sequence: u64, queues: &Queues) {
        let mut left = Left::default();
        let Books { ledger, flows, .. } = books;
        ledger.measured(truesize, sequence, &mut |destination, bytes| {
            left.count(&self.flow, flows.get(&destination), bytes);
        });
        queues.get(self.queue()).leaves(left.all, left.shared);
    }

    fn keep(&self, memory: &Memory) {
        self.send.store(memory.send, Ordering::Relaxed);
        self.send_limit.store(memory.send_limit, Ordering::Relaxed);
        self.receive.store(memory.receive, Ordering::Relaxed);
        self.receive_limit
            .store(memory.receive_limit, Ordering::Relaxed);
    }

    /// Index of the queue that it sends by.
    pub(super) fn queue(&self) -> usize {
        self.queue.load(Ordering::Relaxed)
    }

    /// It sends by another queue from now on.
    pub(super) fn moves_to(&self, index: usize, queues: &Queues) {
        let books = self.books.lock();
        let before = self.queue();
        if before == index {
            return;
        }
        let peers = books.flows.values().map(AsRef::as_ref);
        let shared = std::iter::once(&*self.flow)
            .chain(peers)
            .filter(|flow| flow.is_sharing())
            .map(Flow::own)
            .sum();
        queues.get(before).moves(self.flow.own(), shared);
        queues.get(index).enters(self.flow.own(), shared);
        self.queue.store(index, Ordering::Relaxed);
    }

    /// Where the last send went.
    pub(super) fn last_destination(&self) -> Option<SocketAddr> {
        self.books.lock().sent_to
    }

    /// When it was last seen to wait in a queue.
    pub(super) fn waited(&self) -> KernelTime {
        KernelTime::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// When its memory was last read; `None` before the first time.
    pub(super) fn read_at(&self) -> Option<KernelTime> {
        match self.read_at.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(KernelTime::from_nanos(nanos)),
        }
    }

    /// Whether its send buffer has shown a queue of late.
    pub(super) fn shows_queue(&self) -> bool {
        let backlogged = KernelTime::from_nanos(self.backlogged.load(Ordering::Relaxed));
        let read_at = KernelTime::from_nanos(self.read_at.load(Ordering::Relaxed));
        backlogged > KernelTime::default() && read_at.since(backlogged) < QUEUE_SHOWN
    }

    /// Datagrams dropped because the receive buffer was full.
    pub(super) fn receive_drops(&self) -> DropCounters {
        let packets = self.receive_drops.load(Ordering::Relaxed);
        DropCounters {
            skbs: packets,
            packets,
            bytes: 0,
        }
    }

    pub(super) fn buffers(&self) -> BufferSample {
        let wmem = self.send.load(Ordering::Relaxed);
        BufferSample {
            wmem,
            sndbuf: self.send_limit.load(Ordering::Relaxed),
            wmem_payload: None,
            rmem: self.receive.load(Ordering::Relaxed),
            rcvbuf: self.receive_limit.load(Ordering::Relaxed),
            rmem_payload: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::flow_id::FlowId;

    pub(super) fn state() -> SocketState {
        let identity = Identity {
            cookie: 1,
            netns: None,
            is_ipv6: false,
        };
        SocketState::new(identity, Arc::new(Flow::new(FlowId::from_u64(0))))
    }

    pub(super) fn send(port: u16) -> SocketSend {
        SocketSend {
            destination: SocketAddr::from(([192, 0, 2, 1], port)),
            bytes: 1200,
            segment: None,
        }
    }

    pub(super) fn at(micros: u64) -> KernelTime {
        KernelTime::from_nanos(micros * 1000)
    }

    pub(super) fn holding(datagrams: u32) -> Memory {
        Memory {
            send: datagrams * 2304,
            send_limit: 212_992,
            ..Memory::default()
        }
    }

    #[test]
    fn a_peers_part_is_what_was_sent_to_it_last() {
        let (state, queues) = (state(), Queues::new());
        let peers = [1, 2].map(|port| {
            let flow = Arc::new(Flow::new(FlowId::from_u64(port)));
            let port = u16::try_from(port).unwrap();
            state.add_peer(send(port).destination, &flow);
            flow
        });
        for port in [1, 1, 2, 3] {
            state.sent(&send(port), at(100), &queues);
        }
        assert_eq!((peers[0].own(), peers[1].own()), (2 * 1242, 1242));
        let waits = state.on_memory(&holding(2), state.sequence(), at(500), &queues);
        assert!(!waits, "not for long");
        assert_eq!((peers[0].own(), peers[1].own()), (0, 1242));
        assert_eq!((state.flow.own(), queues.get(0).program()), (2484, 2484));
        state.on_memory(&holding(0), state.sequence(), at(800), &queues);
        assert_eq!((peers[1].own(), queues.get(0).program()), (0, 0));
        assert_eq!(queues.get(0).drained(), 1);
    }

    #[test]
    fn sharing_flows_are_summed_in_the_queue_that_they_send_by() {
        let (state, queues) = (state(), Queues::new());
        state.sent(&send(1), at(100), &queues);
        state.share(&state.flow, &queues);
        state.share(&state.flow, &queues);
        assert_eq!(queues.get(0).shared(), 1242);
        state.moves_to(3, &queues);
        assert_eq!((queues.get(0).shared(), queues.get(0).program()), (0, 0));
        assert_eq!(
            (queues.get(3).shared(), queues.get(3).program()),
            (1242, 1242)
        );
        assert_eq!(queues.get(0).drained(), 0);
    }

    #[test]
    fn a_peer_that_is_no_longer_watched_leaves_the_sum_of_those_that_share() {
        let (state, queues) = (state(), Queues::new());
        let flow = Arc::new(Flow::new(FlowId::from_u64(1)));
        state.add_peer(send(1).destination, &flow);
        state.share(&flow, &queues);
        state.sent(&send(1), at(100), &queues);
        assert_eq!(queues.get(0).shared(), 1242);
        state.remove_peer(send(1).destination, &queues);
        assert_eq!(queues.get(0).shared(), 0);
        state.on_memory(&holding(0), state.sequence(), at(500), &queues);
        assert_eq!((queues.get(0).shared(), state.flow.own()), (0, 0));
    }

    #[test]
    fn a_send_buffer_that_is_always_empty_shows_no_queue() {
        let (state, queues) = (state(), Queues::new());
        state.sent(&send(1), at(100), &queues);
        state.on_memory(&holding(0), state.sequence(), at(500), &queues);
        assert!(!state.shows_queue());
        state.sent(&send(1), at(100), &queues);
        state.on_memory(&holding(1), state.sequence(), at(1000), &queues);
        assert!(state.shows_queue());
        state.on_memory(&holding(0), state.sequence(), at(6_000_000), &queues);
        assert!(!state.shows_queue(), "long ago");
    }

    #[test]
    fn a_socket_waits_whose_send_buffer_is_not_seen_empty_for_a_while() {
        let (state, queues) = (state(), Queues::new());
        state.sent(&send(1), at(100), &queues);
        let read = |datagrams, micros| {
            state.on_memory(&holding(datagrams), state.sequence(), at(micros), &queues)
        };
        assert!(!read(1, 1000));
        assert!(read(1, 2200));
        assert!(!read(0, 2500));
        assert!(!read(1, 3000));
        assert_eq!(state.waited(), at(2200));
    }

    #[test]
    fn receive_drops_go_on_where_the_kernels_count_wraps() {
        let (state, queues) = (state(), Queues::new());
        for (kernel, counted) in [(u32::MAX - 1, 0), (3, 5), (4, 6)] {
            let memory = Memory {
                drops: kernel,
                ..Memory::default()
            };
            state.on_memory(&memory, 0, at(500), &queues);
            assert_eq!(state.receive_drops().packets, counted);
        }
    }
}
