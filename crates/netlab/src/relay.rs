//! The relay: two threads that move packets between two doors, one a direction.

use std::{
    io::ErrorKind,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{eventfd::EventFd, prctl, time::TimeSpec},
    time::{ClockId, clock_gettime},
};

pub use crate::delay_line::Impairment;
use crate::{
    delay_line::{Admission, DelayLine},
    door::Door,
    error::Error,
};

/// After moving packets a thread rests this long, so that at high rates it moves several at a
/// time; it bounds the wake-ups to 10,000 a second, and by as much a packet may be late.
const REST: Duration = Duration::from_micros(100);

/// The relay is the wire: it goes before whatever else the machine does, or it drops packets while
/// the sender hogs the processors. Not a real-time class, which starves the ends of the path.
const NICENESS: libc::c_int = -15;

/// Packets read before those that are due are sent.
const READ_BATCH: usize = 64;

/// The delay, jitter and loss of a path, one set a direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayConfig {
    /// From the sender to the receiver.
    pub forward: Impairment,
    /// From the receiver to the sender.
    pub backward: Impairment,
    /// Fixes which packets are lost and how long each is held.
    pub seed: u64,
    /// Packets that may be in flight in each direction. Meant never to be reached;
    /// [`DirectionStats::overflowed`] reports it. Memory is taken as it is needed.
    pub capacity: usize,
}

impl RelayConfig {
    /// A path that holds each packet for `one_way_delay` in either direction and loses none: the
    /// base round trip is twice that.
    #[must_use]
    pub fn symmetric(one_way_delay: Duration) -> Self {
        let impairment = Impairment {
            delay: one_way_delay,
            ..Impairment::default()
        };
        Self {
            forward: impairment,
            backward: impairment,
            seed: 1,
            // 1 Gbit/s of full packets for 0.8 s.
            capacity: 1 << 16,
        }
    }
}

/// What the relay did, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// From the sender to the receiver.
    pub forward: DirectionStats,
    /// From the receiver to the sender.
    pub backward: DirectionStats,
}

/// What the relay did in one direction since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectionStats {
    /// Packets read.
    pub received: u64,
    /// Packets written on the far side.
    pub forwarded: u64,
    /// Packets dropped at random, as configured.
    pub lost: u64,
    /// Packets dropped because [`RelayConfig::capacity`] were in flight: the relay was a
    /// bottleneck, and figures taken over it are void.
    pub overflowed: u64,
    /// Packets that the far device refused.
    pub refused: u64,
    /// Packets that the kernel dropped because the relay did not read them in time: it was a
    /// bottleneck, as with `overflowed`.
    pub missed: u64,
    /// The most packets ever in flight.
    pub peak: u64,
    /// The most that a packet was written after its time.
    pub worst_lateness: Duration,
    /// Processor time of this direction's thread, the receiving stack's work included.
    pub cpu_time: Duration,
}

impl DirectionStats {
    /// Packets that vanished although no configured loss took them.
    #[must_use]
    pub fn unintended_drops(&self) -> u64 {
        self.overflowed + self.refused + self.missed
    }
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    forwarded: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
    refused: AtomicU64,
    peak: AtomicU64,
    worst_lateness_ns: AtomicU64,
    cpu_time_ns: AtomicU64,
}

impl Counters {
    fn read(&self) -> DirectionStats {
        DirectionStats {
            received: self.received.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            lost: self.lost.load(Relaxed),
            overflowed: self.overflowed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            missed: 0,
            peak: self.peak.load(Relaxed),
            worst_lateness: Duration::from_nanos(self.worst_lateness_ns.load(Relaxed)),
            cpu_time: Duration::from_nanos(self.cpu_time_ns.load(Relaxed)),
        }
    }
}

/// A running relay between two doors; stops when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: Arc<EventFd>,
    forward: Arc<Counters>,
    backward: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts relaying between the sender's and the receiver's door, packets of up to `mtu`.
    pub(crate) fn start(
        config: &RelayConfig,
        mtu: u32,
        (near, far): (Door, Door),
    ) -> Result<Self, Error> {
        let stop = EventFd::new()
            .map_err(|e| Error::system("make an eventfd", e, "raise the limit on open files"))?;
        let mut relay = Self {
            stop: Arc::new(stop),
            forward: Arc::default(),
            backward: Arc::default(),
            threads: Vec::new(),
        };
        let (near, far) = (Arc::new(near), Arc::new(far));
        let line = |impairment, salt| {
            let size = usize::try_from(mtu).unwrap_or(usize::MAX);
            DelayLine::new(impairment, config.seed ^ salt, size, config.capacity)
        };
        let forward = Direction {
            input: Arc::clone(&near),
            output: Arc::clone(&far),
            line: line(config.forward, 0),
            counters: Arc::clone(&relay.forward),
            stop: Arc::clone(&relay.stop),
        };
        let backward = Direction {
            input: far,
            output: near,
            line: line(config.backward, u64::MAX),
            counters: Arc::clone(&relay.backward),
            stop: Arc::clone(&relay.stop),
        };
        for (name, direction) in [("netlab-forward", forward), ("netlab-backward", backward)] {
            let thread = thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || direction.run())
                .map_err(|e| Error::system("start a thread", e, "raise the limit on threads"))?;
            relay.threads.push(thread);
        }
        Ok(relay)
    }

    /// The counters so far, without what the devices dropped.
    pub(crate) fn stats(&self) -> RelayStats {
        RelayStats {
            forward: self.forward.read(),
            backward: self.backward.read(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Fails only when the counter would overflow, and then the threads are woken already.
        let _ = self.stop.write(1);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("a relay thread panicked: the path was dead from then on");
            }
        }
    }
}

struct Direction {
    input: Arc<Door>,
    output: Arc<Door>,
    line: DelayLine,
    counters: Arc<Counters>,
    stop: Arc<EventFd>,
}

impl Direction {
    fn run(mut self) {
        be_punctual();
        loop {
            let Ok(moved) = self.transfer() else { return };
            self.count_cpu_time();
            let stopped = if moved {
                self.sleep(Some(REST), false)
            } else {
                let due = self.line.next_due();
                let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
                self.sleep(timeout, true)
            };
            if stopped {
                return;
            }
        }
    }

    /// Takes in what waits at the input and gives out what is due, until there is neither.
    /// Whether anything moved; an error when a device is gone.
    fn transfer(&mut self) -> Result<bool, std::io::Error> {
        let mut moved = false;
        loop {
            let more = self.take_in(&mut moved)?;
            self.give_out(&mut moved);
            if !more {
                return Ok(moved);
            }
        }
    }

    /// Whether there may be more to take in.
    fn take_in(&mut self, moved: &mut bool) -> Result<bool, std::io::Error> {
        for _ in 0..READ_BATCH {
            let mut buffer = self.line.buffer();
            let length = match self.input.read(&mut buffer) {
                Ok(length) => length,
                Err(e) => {
                    self.line.recycle(buffer);
                    return match e.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                        _ => Err(e),
                    };
                }
            };
            *moved = true;
            self.counters.received.fetch_add(1, Relaxed);
            match self.line.offer(Instant::now(), buffer, length) {
                Admission::Held => {
                    let held = u64::try_from(self.line.len()).unwrap_or(u64::MAX);
                    self.counters.peak.fetch_max(held, Relaxed);
                }
                Admission::Lost => {
                    self.counters.lost.fetch_add(1, Relaxed);
                }
                Admission::Overflowed => {
                    self.counters.overflowed.fetch_add(1, Relaxed);
                }
            }
        }
        Ok(true)
    }

    fn give_out(&mut self, moved: &mut bool) {
        let now = Instant::now();
        while let Some(packet) = self.line.pop_due(now) {
            *moved = true;
            let late = now.saturating_duration_since(packet.due).as_nanos();
            let late = u64::try_from(late).unwrap_or(u64::MAX);
            self.counters.worst_lateness_ns.fetch_max(late, Relaxed);
            // Counted first: the receiver of the packet finds it counted.
            self.counters.forwarded.fetch_add(1, Relaxed);
            if self.output.write(packet.bytes()).is_err() {
                self.counters.forwarded.fetch_sub(1, Relaxed);
                self.counters.refused.fetch_add(1, Relaxed);
            }
            self.line.release(packet);
        }
    }

    /// Sleeps until `timeout`, or for ever, or until there is something to read if
    /// `until_readable`. Whether the relay has been stopped.
    fn sleep(&self, timeout: Option<Duration>, until_readable: bool) -> bool {
        let mut descriptors = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
        ];
        let watched = if until_readable { 2 } else { 1 };
        match ppoll(
            &mut descriptors[..watched],
            timeout.map(TimeSpec::from),
            None,
        ) {
            Ok(_) => descriptors[0].any().unwrap_or(true),
            Err(Errno::EINTR) => false,
            Err(e) => panic!("cannot wait for packets: {e}"),
        }
    }

    fn count_cpu_time(&self) {
        if let Ok(used) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            let nanoseconds = Duration::from(used).as_nanos();
            let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
            self.counters.cpu_time_ns.store(nanoseconds, Relaxed);
        }
    }
}

/// Makes the calling thread wake up close to its time. Failure costs precision, nothing else, and
/// shows in [`DirectionStats::worst_lateness`].
fn be_punctual() {
    // The default slack of 50 us would add to each packet's delay.
    let _ = prctl::set_timerslack(1);
    // SAFETY: takes no pointer, and 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
