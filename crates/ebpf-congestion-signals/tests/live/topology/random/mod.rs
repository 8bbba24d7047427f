//! Topologies put together at random. At every step, what is reported of a flow is what `tc` and
//! the receivers say, or absent.
//!
//! `TOPOLOGY_SEED`, `TOPOLOGY_SECONDS` and `TOPOLOGY_ROUND` choose others than the fixed ones; what
//! a failed round prints repeats it.

mod parts;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{Direction, EbpfSource, SignalSource, Watch, WatchTarget};
use live_test::TestResult;

use self::parts::{Dice, Shaper, Topology};
use super::bed::{ON_WIRE, Qdisc, SEGMENTS, bind, ten};
use crate::source_with;
use crate::traffic::{send, send_batch, wait_until};
use crate::unseen::{Passes, Unseen};

const NEEDS: [&str; 4] = [
    "kfree_skb",
    "skb_drop_reason",
    "qdisc_enqueue",
    "qdisc_dequeue",
];

const SEED: u64 = 9;

/// Seconds after which no other round begins.
const SECONDS: u64 = 60;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_topologies_report_what_tc_and_receivers_say() -> TestResult {
    let source = source_with(&NEEDS)?;
    let seed = setting("TOPOLOGY_SEED").unwrap_or(SEED);
    let only = setting("TOPOLOGY_ROUND");
    let time = Duration::from_secs(setting("TOPOLOGY_SECONDS").unwrap_or(SECONDS));
    let start = Instant::now();
    let (mut round, mut held) = (only.unwrap_or(0), 0);
    while start.elapsed() < time && only.is_none_or(|only| only == round) {
        let mut dice = Dice::new(seed ^ (round << 32));
        let mut log = format!("TOPOLOGY_SEED={seed} TOPOLOGY_ROUND={round}:");
        match Round::new(source, &mut dice, &mut log) {
            Ok(mut made) => {
                if let Err(wrong) = made.run(&mut dice, &mut log) {
                    panic!("{log}\n{wrong}");
                }
                held += 1;
            }
            // A device or a queue discipline that this kernel lacks.
            Err(lack) => assert!(is_a_lack(&lack), "{log}\n{lack}"),
        }
        round += 1;
    }
    println!("{held} of {round} rounds");
    assert!(held > 0, "none of {round} rounds could be made");
    Ok(())
}

fn is_a_lack(error: &str) -> bool {
    [
        "Unknown",
        "unknown",
        "not found",
        "not supported",
        "No such",
    ]
    .iter()
    .any(|sign| error.contains(sign))
}

/// A socket that sends, and what it sent to each sink.
struct Sender {
    socket: UdpSocket,
    watch: Option<Watch>,
    /// Of the first sink.
    peer: Option<Watch>,
    sent: [u64; SINKS],
    /// Sends before it was watched.
    before: [u64; SINKS],
}

const SINKS: usize = 2;

struct Round<'a> {
    source: &'a EbpfSource,
    topology: Topology,
    shaper: Shaper,
    sinks: [UdpSocket; SINKS],
    to: [SocketAddr; SINKS],
    senders: Vec<Sender>,
    received: HashMap<(SocketAddr, usize), u64>,
    /// Whether a queue was thrown away with packets in it.
    thrown: bool,
    unseen: Unseen<'a>,
}

impl<'a> Round<'a> {
    fn new(source: &'a EbpfSource, dice: &mut Dice, log: &mut String) -> Result<Self, String> {
        let topology = Topology::new(dice)?;
        *log += &format!(" {:?}", topology.devices);
        let shaper = Shaper::new(dice, 1);
        *log += &format!(", {shaper:?}");
        shaper.put(topology.at_queue(), topology.shaped)?;
        let sinks = [(); SINKS].map(|()| bind(&topology.receiver, "10.9.1.2:0"));
        let to = [0, 1].map(|sink: usize| sinks[sink].local_addr().expect("it is bound"));
        let mut round = Self {
            source,
            topology,
            shaper,
            sinks,
            to,
            senders: Vec::new(),
            received: HashMap::new(),
            thrown: false,
            unseen: Unseen::start(source).map_err(|error| error.to_string())?,
        };
        // At least one that is watched; the last may be one that competes.
        let watched = dice.between(1, 3);
        for _ in 0..watched {
            round.add_sender(true, dice);
        }
        if dice.one_in(2) {
            round.add_sender(false, dice);
        }
        *log += &format!(", {watched} of {} watched", round.senders.len());
        Ok(round)
    }

    fn add_sender(&mut self, watched: bool, dice: &mut Dice) {
        let mut sender = Sender {
            socket: bind(&self.topology.sender, "10.9.1.1:0"),
            watch: None,
            peer: None,
            sent: [0; SINKS],
            before: [0; SINKS],
        };
        if watched {
            self.watch(&mut sender, dice.one_in(2));
        }
        self.senders.push(sender);
    }

    fn watch(&self, sender: &mut Sender, with_peer: bool) {
        let target = || WatchTarget::socket(&sender.socket);
        let watch = self
            .source
            .watch(target().sharing())
            .expect("it is watched");
        let peer = with_peer.then(|| self.source.watch(target().peer(self.to[0])));
        let peer = peer.transpose().expect("the peer is watched");
        (sender.watch, sender.peer) = (Some(watch), peer);
        sender.before = sender.sent;
    }

    fn backlog(&self) -> u64 {
        let queue = Qdisc {
            namespace: self.topology.at_queue(),
            device: self.topology.shaped,
            handle: &self.shaper.handle(),
        };
        queue.told().backlog
    }

    fn run(&mut self, dice: &mut Dice, log: &mut String) -> Result<(), String> {
        for _ in 0..dice.between(6, 14) {
            match dice.index(10) {
                0..=5 => self.send(dice, log),
                6 | 7 => {
                    let pause = dice.between(1, 30);
                    *log += &format!("; {pause} ms");
                    thread::sleep(Duration::from_millis(pause));
                }
                8 => self.change(dice, log)?,
                _ => self.watch_another(dice, log),
            }
            self.compare()?;
        }
        self.settle()
    }

    fn send(&mut self, dice: &mut Dice, log: &mut String) {
        let index = dice.index(self.senders.len());
        let sink = dice.index(SINKS);
        let sender = &mut self.senders[index];
        let times = dice.between(1, 6);
        let sent = match dice.index(3) {
            0 => {
                for _ in 0..times {
                    ten(&sender.socket, self.to[sink], true).expect("it is sent");
                }
                times * SEGMENTS as u64
            }
            1 => {
                let segments = dice.between(2, 9);
                let count = usize::try_from(segments).expect("few");
                send_batch(&sender.socket, self.to[sink], count).expect("it is sent");
                segments
            }
            _ => {
                let count = usize::try_from(times * 5).expect("few");
                send(&sender.socket, self.to[sink], count).expect("it is sent");
                times * 5
            }
        };
        sender.sent[sink] += sent;
        *log += &format!("; {index} sends {sent} to {sink}");
    }

    /// The queue is another, or has other numbers.
    fn change(&mut self, dice: &mut Dice, log: &mut String) -> Result<(), String> {
        let shaper = self.shaper.changed(dice);
        *log += &format!("; {shaper:?}");
        match shaper.put(self.topology.at_queue(), self.topology.shaped) {
            Ok(()) => self.shaper = shaper,
            // The first command of several may have been done.
            Err(lack) if is_a_lack(&lack) => {
                self.shaper.major = shaper.major + 1;
                self.shaper
                    .put(self.topology.at_queue(), self.topology.shaped)?;
            }
            Err(error) => return Err(error),
        }
        self.thrown = true;
        Ok(())
    }

    /// One more socket is watched, or one is no longer.
    fn watch_another(&mut self, dice: &mut Dice, log: &mut String) {
        let watched = self.senders.iter().filter(|sender| sender.watch.is_some());
        if watched.count() > 1 && dice.one_in(2) {
            let last = self.senders.iter_mut().rev();
            let mut last = last.filter(|sender| sender.watch.is_some());
            if let Some(sender) = last.next() {
                (sender.watch, sender.peer) = (None, None);
                *log += "; one is released";
            }
        } else if self.senders.len() < 6 {
            self.add_sender(true, dice);
            *log += "; one more";
        }
    }

    /// The reported backlogs of all flows add up to no more than the queue holds, and to all of it
    /// without other senders.
    fn compare(&self) -> Result<(), String> {
        let sum = || {
            let watches = self
                .senders
                .iter()
                .filter_map(|sender| sender.watch.as_ref());
            let own = watches.map(|watch| watch.congestion().queue.map_or(Some(0), |q| q.own));
            own.sum::<Option<u64>>()
        };
        let before = sum();
        let backlog = self.backlog();
        let after = sum();
        let (Some(before), Some(after)) = (before, after) else {
            return Ok(());
        };
        // A batch may be entering or leaving the queue.
        let slack = ON_WIRE * SEGMENTS as u64;
        if after > backlog.max(before) + slack {
            return Err(format!("own {before} and {after} of {backlog}"));
        }
        let all_watched = self.senders.iter().all(|sender| {
            sender.watch.is_some() && sender.before.iter().all(|packets| *packets == 0)
        });
        if all_watched && !self.thrown && before.max(after) + slack < backlog {
            return Err(format!("own {before} and {after}, but {backlog}"));
        }
        Ok(())
    }

    fn unseen(&self) -> Passes {
        self.unseen.passes().expect("passes are counted")
    }

    fn wait_empty(&self) {
        wait_until("the queue runs empty", || self.backlog() == 0);
        thread::sleep(Duration::from_millis(20));
    }

    /// Sends what puts a count right where the kernel ran no probe for a dequeue.
    fn heal(&mut self) {
        for _ in 0..5 {
            self.wait_empty();
            if self.unseen().dequeues == 0 {
                return;
            }
            let mut healed = true;
            for sender in &mut self.senders {
                let queue = sender.watch.as_ref().and_then(|w| w.congestion().queue);
                if queue
                    .and_then(|queue| queue.own)
                    .is_some_and(|own| own != 0)
                {
                    healed = false;
                    send(&sender.socket, self.to[0], 1).expect("it is sent");
                    sender.sent[0] += 1;
                }
            }
            if healed {
                return;
            }
        }
    }

    /// What did not arrive was dropped, and the queue is empty.
    fn settle(&mut self) -> Result<(), String> {
        self.heal();
        let mut buffer = [0; 2048];
        for (index, sink) in self.sinks.iter().enumerate() {
            sink.set_nonblocking(true).expect("O_NONBLOCK");
            while let Ok((_, from)) = sink.recv_from(&mut buffer) {
                *self.received.entry((from, index)).or_default() += 1;
            }
        }
        for (index, sender) in self.senders.iter().enumerate() {
            let from = sender.socket.local_addr().expect("it is bound");
            let received = |sink| self.received.get(&(from, sink)).copied().unwrap_or(0);
            if sender.before.iter().any(|packets| *packets > 0) {
                continue;
            }
            let sent: u64 = sender.sent.iter().sum();
            let lost = sent - received(0) - received(1);
            if let Some(watch) = &sender.watch {
                self.assert_told(watch, sent, lost)
                    .map_err(|wrong| format!("sender {index}: {wrong}"))?;
            }
            if let Some(peer) = &sender.peer {
                self.assert_told(peer, sender.sent[0], sender.sent[0] - received(0))
                    .map_err(|wrong| format!("peer of {index}: {wrong}"))?;
            }
        }
        Ok(())
    }

    fn assert_told(&self, watch: &Watch, sent: u64, lost: u64) -> Result<(), String> {
        let sample = watch.sample();
        let reasons = || self.source.drops_by_reason(Some(watch.id()));
        if let Some(told) = sample.sent_packets {
            // What an upper device's queue drops never comes to the device that is counted at.
            let most = if self.topology.is_stacked() {
                sent - lost
            } else {
                sent
            };
            let least = most.saturating_sub(self.unseen().sends);
            if told < least || told > most {
                return Err(format!("{told} of {most} seen"));
            }
        }
        if let Some(drops) = sample.drops {
            let [leaving, arriving] = [Direction::Egress, Direction::Ingress]
                .map(|direction| drops.direction(direction).packets);
            if (leaving, arriving) != (lost, 0) {
                return Err(format!(
                    "{lost} lost, reported {leaving} and {arriving}: {:?}",
                    reasons()
                ));
            }
        }
        let own = sample.congestion.queue.and_then(|queue| queue.own);
        if own.is_some_and(|own| own != 0) {
            return Err(format!("own {own:?} of an empty queue"));
        }
        Ok(())
    }
}
