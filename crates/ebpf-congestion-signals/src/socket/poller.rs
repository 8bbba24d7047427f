//! Lists devices' queues off the path, while a socket of this program waits in one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::netlink::Netlink;
use super::shape::{Order, Shape};
use super::shared::Shared;
use super::state::{Due, SocketState};
use super::waker::Waker;
use crate::clock;
use crate::sample::KernelTime;

/// Interval between listings of a queue that a socket waits in: a Cubic sender's share of a queue
/// changes within few of them.
const QUEUE_INTERVAL: Duration = Duration::from_millis(1);

/// Listing the queues takes at most one in so many parts of this thread's time: the kernel lists
/// those of all devices, and some hosts have hundreds.
const IDLE_FACTOR: u32 = 50;

/// Interval between checks of which device a socket sends by, and of a queue whose answer was in
/// error.
const ROUTE_INTERVAL: Duration = Duration::from_secs(1);

/// A queue is sampled for this long after a socket was last seen waiting in it.
const ACTIVE: Duration = Duration::from_millis(100);

/// A waiting socket is sampled here if it has neither sent nor received for this long.
const STALE: Duration = Duration::from_millis(5);

/// Begins. The thread ends with the source.
pub(super) fn start(shared: Weak<Shared>, netlink: Netlink) -> std::io::Result<Waker> {
    let parked = Arc::new(AtomicBool::new(false));
    let poller = Poller {
        netns: netlink.netns(),
        netlink,
        parked: Arc::clone(&parked),
        routes: HashMap::new(),
        devices: Vec::new(),
    };
    let thread = thread::Builder::new().name("socket-signals".to_owned());
    let thread = thread.spawn(move || poller.run(&shared))?;
    Ok(Waker::new(thread.thread().clone(), parked))
}

struct Poller {
    netlink: Netlink,
    netns: Option<u64>,
    parked: Arc<AtomicBool>,
    /// Sockets whose device was updated up, by cookie, and when.
    routes: HashMap<u64, KernelTime>,
    devices: Vec<Device>,
}

/// A device that this program sends through.
struct Device {
    queue: usize,
    ifindex: u32,
    in_order: bool,
    updated: KernelTime,
}

impl Poller {
    fn run(mut self, shared: &Weak<Shared>) {
        loop {
            let Some(strong) = shared.upgrade() else {
                return;
            };
            let begin = Instant::now();
            let busy = self.update(&strong);
            if busy {
                drop(strong);
                thread::park_timeout(QUEUE_INTERVAL.max(begin.elapsed() * IDLE_FACTOR));
                continue;
            }
            self.forget(&strong);
            self.parked.store(true, Ordering::Release);
            // A socket that began to wait before this saw no parked thread.
            let begun = !active(&strong, clock::now()).is_empty();
            drop(strong);
            if begun {
                self.parked.store(false, Ordering::Release);
            } else {
                // A spurious wake-up is harmless: no socket waits, and the thread parks again.
                thread::park();
                self.parked.store(false, Ordering::Release);
            }
        }
    }

    /// Lists all queues that a socket waits in; `true` if there is any.
    fn update(&mut self, shared: &Shared) -> bool {
        let now = clock::now();
        let waiting = active(shared, now);
        if waiting.is_empty() {
            return false;
        }
        // Also those that do not wait, as far as known: they are competing traffic of others in
        // their queue.
        let sockets = shared.sockets(|socket| socket.is_observed() && socket.flow.own() > 0);
        let routes: Vec<_> = sockets
            .iter()
            .map(|socket| self.route(shared, socket, now))
            .collect();
        // After all answers, in one step: sockets in one queue appear in it together.
        for (socket, queue) in sockets.iter().zip(routes) {
            if let Some(queue) = queue {
                socket.moves_to(queue, &shared.queues);
            }
        }
        for socket in sockets {
            let is_stale = socket.read_at().is_none_or(|at| now.since(at) > STALE);
            if is_stale && let Some(descriptor) = socket.descriptor() {
                shared.read_memory(&socket, &descriptor, Due::InAnyCase);
            }
        }
        let mut queues: Vec<usize> = waiting.iter().map(|socket| socket.queue()).collect();
        queues.sort_unstable();
        queues.dedup();
        for queue in queues {
            self.queue(shared, queue, now);
        }
        true
    }

    /// Finds the queue of the device that a socket sends through; `None` if it was found recently.
    fn route(&mut self, shared: &Shared, socket: &SocketState, now: KernelTime) -> Option<usize> {
        let cookie = socket.identity.cookie;
        let known = self.routes.get(&cookie);
        if known.is_some_and(|at| now.since(*at) < ROUTE_INTERVAL) {
            return None;
        }
        self.routes.insert(cookie, now);
        let elsewhere = socket.identity.netns != self.netns;
        let destination = socket.last_destination().filter(|_| !elsewhere);
        let device = destination.and_then(|destination| {
            let address = destination.ip().to_canonical();
            self.netlink.device(address).ok()
        });
        Some(device.map_or(0, |device| shared.queues.of_device(device)))
    }

    fn queue(&mut self, shared: &Shared, queue: usize, now: KernelTime) {
        let Some(ifindex) = shared.queues.device(queue) else {
            return;
        };
        let is_known = |known: &Device| known.queue == queue && known.ifindex == ifindex;
        let known = self.devices.iter().position(is_known);
        let place = known.unwrap_or_else(|| {
            self.devices.push(Device {
                queue,
                ifindex,
                in_order: false,
                updated: KernelTime::default(),
            });
            self.devices.len() - 1
        });
        self.devices[place].update(&mut self.netlink, shared, now);
    }

    /// No socket waits: the backlog of others is unknown from now on.
    fn forget(&mut self, shared: &Shared) {
        for device in self.devices.drain(..) {
            shared.queues.get(device.queue).forget_others();
        }
        self.routes.clear();
    }
}

impl Device {
    fn update(&mut self, netlink: &mut Netlink, shared: &Shared, now: KernelTime) {
        if !self.in_order && now.since(self.updated) < ROUTE_INTERVAL {
            return;
        }
        self.updated = now;
        let queue = shared.queues.get(self.queue);
        let qdiscs = netlink.qdiscs(self.ifindex).unwrap_or_default();
        let shape = Shape::of(&qdiscs);
        self.in_order = shape
            .as_ref()
            .is_some_and(|shape| shape.order == Order::OfArrival);
        match &shape {
            Some(shape) => queue.on_shape(shape, now),
            None => queue.forget_others(),
        }
    }
}

/// Sockets that wait, or did a moment ago.
fn active(shared: &Shared, now: KernelTime) -> Vec<Arc<SocketState>> {
    shared.sockets(|socket| socket.is_observed() && now.since(socket.waited()) < ACTIVE)
}
