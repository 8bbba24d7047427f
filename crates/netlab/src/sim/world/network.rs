//! The way of packets between the ends.

use ebpf_congestion_signals::DropCounters;

use super::{Actor, Destination, Event, World};
use crate::sim::link;
use crate::sim::packet::{Batch, Body, Owner};
use crate::sim::time::SimTime;

impl World<'_> {
    /// A batch comes to a link.
    pub(super) fn enter(&mut self, link: usize, batch: Batch) {
        if link == 0 && self.is_singled_out(batch.owner) {
            let (first, rest) = batch.split_first();
            self.dropped(link, &first);
            if let Some(rest) = rest {
                self.enter(link, rest);
            }
            return;
        }
        let (owner, wire) = (batch.owner, batch.wire);
        let size = u64::from(batch.truesize());
        match self.links[link].offer(self.now, batch) {
            Ok(()) => {
                if link == 0 {
                    match owner {
                        Owner::Quic(flow) => {
                            let socket = self.flows[flow].socket;
                            self.sockets[socket].occupied += size;
                        }
                        Owner::Tcp(tcp) => self.tcps[tcp].on_enqueue(wire),
                    }
                    if self.links[0].has_queue() {
                        let watch = self.watch_of(owner);
                        self.signals.on_enqueue(self.now, watch, u64::from(wire));
                    }
                }
                self.pump(link);
            }
            Err(batch) => self.dropped(link, &batch),
        }
    }

    /// Whether the scenario wants the next datagram of this flow dropped; once.
    fn is_singled_out(&mut self, owner: Owner) -> bool {
        let Owner::Quic(flow) = owner else {
            return false;
        };
        let now = self.now;
        let drop_at = &mut self.flows[flow].spec.drop_at;
        drop_at.take_if(|at| now >= SimTime::from(*at)).is_some()
    }

    pub(super) fn watch_of(&self, owner: Owner) -> Option<usize> {
        match owner {
            Owner::Quic(flow) => Some(self.flows[flow].watch),
            Owner::Tcp(_) => None,
        }
    }

    /// A queue dropped a batch.
    pub(super) fn dropped(&mut self, link: usize, batch: &Batch) {
        match batch.owner {
            Owner::Quic(index) => {
                let flow = &mut self.flows[index];
                if link == 0 {
                    flow.counts.local_drops += u64::from(batch.packets);
                    let dropped = dropped(batch);
                    self.signals.on_queue_drop(self.now, flow.watch, dropped);
                } else {
                    flow.counts.remote_drops += u64::from(batch.packets);
                }
            }
            Owner::Tcp(tcp) => {
                let local = link == 0 && self.tcps[tcp].spec.hop == 0;
                self.tcps[tcp].on_drop(local);
            }
        }
    }

    /// Lets a link do what it can now.
    pub(super) fn pump(&mut self, link: usize) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.links[link].pump(self.now, &mut outcomes);
        for outcome in outcomes.drain(..) {
            self.on_outcome(link, outcome);
        }
        self.outcomes = outcomes;
    }

    pub(super) fn on_outcome(&mut self, link: usize, outcome: link::Outcome) {
        let observed = link == 0 && self.links[0].has_queue();
        match outcome {
            link::Outcome::Dequeued { owner, wire } => {
                if observed {
                    let watch = self.watch_of(owner);
                    self.signals.on_dequeue(self.now, watch, u64::from(wire));
                }
                if let (0, Owner::Tcp(tcp)) = (link, owner) {
                    self.tcps[tcp].on_dequeue(wire);
                    self.wake(Actor::Tcp(tcp));
                }
            }
            link::Outcome::Drained => {
                if observed {
                    self.signals.on_drained(self.now);
                }
            }
            link::Outcome::DroppedInside(batch) => {
                if observed {
                    let watch = self.watch_of(batch.owner);
                    let wire = u64::from(batch.wire);
                    self.signals.on_dequeue(self.now, watch, wire);
                }
                if link == 0 {
                    if let Owner::Tcp(tcp) = batch.owner {
                        self.tcps[tcp].on_dequeue(batch.wire);
                    }
                    self.released(batch.owner, batch.truesize());
                }
                self.dropped(link, &batch);
            }
            link::Outcome::Released { owner, truesize } => {
                if link == 0 {
                    self.released(owner, truesize);
                }
            }
            link::Outcome::Arrives { at, packet } => {
                let back = self.links.len() - 1;
                let (destination, last) = match link {
                    link if link == back => (Destination::Sender, true),
                    link if link + 1 == back => (Destination::Receiver, true),
                    link => (Destination::Link(link + 1), false),
                };
                let at = match packet.owner {
                    Owner::Quic(flow) if last => at + self.flows[flow].spec.extra_delay,
                    _ => at,
                };
                self.schedule(at, Event::Arrive(destination, packet));
            }
            link::Outcome::Lost { owner } => {
                if let Owner::Quic(flow) = owner {
                    self.flows[flow].counts.path_losses += 1;
                }
            }
            link::Outcome::Wake(at) => self.schedule(at, Event::LinkReady(link)),
        }
    }

    /// A batch of a socket has left the host.
    pub(super) fn released(&mut self, owner: Owner, truesize: u32) {
        let Owner::Quic(flow) = owner else { return };
        let socket = &mut self.sockets[self.flows[flow].socket];
        socket.occupied -= u64::from(truesize);
        // `sock_writeable` in Linux: waiting senders are woken when half is free.
        if socket.occupied < self.scenario.host.send_buffer / 2 {
            for flow in std::mem::take(&mut socket.waiting) {
                self.flows[flow].blocked = false;
                self.wake(Actor::Sender(flow));
            }
        }
    }

    pub(super) fn arrive(&mut self, destination: Destination, packet: Batch) {
        let outage = self.scenario.host.outage;
        if destination == Destination::Sender
            && outage.is_some_and(|outage| outage.deaf && outage.is_on(self.now))
        {
            return;
        }
        match (destination, packet.owner) {
            (Destination::Link(link), _) => self.enter(link, packet),
            (Destination::Sender, Owner::Quic(flow)) => self.deliver(Actor::Sender(flow), packet),
            (Destination::Receiver, Owner::Quic(flow)) => {
                let (ready, next) = self.flows[flow].receiving_socket.arrive(self.now, packet);
                if let Some(next) = next {
                    self.schedule(next, Event::Read(flow));
                }
                if let Some(packet) = ready {
                    self.deliver(Actor::Receiver(flow), packet);
                }
            }
            (Destination::Sender | Destination::Receiver, Owner::Tcp(tcp)) => {
                match packet.body {
                    Body::TcpData(number) => {
                        if let Some(ack) = self.tcps[tcp].receive(self.now, number) {
                            self.enter(self.links.len() - 1, ack);
                        }
                    }
                    Body::TcpAck(largest) => self.tcps[tcp].on_ack(self.now, largest),
                    Body::Quic(_) => {}
                }
                self.wake(Actor::Tcp(tcp));
            }
        }
    }
}

/// What is counted for a batch that was dropped.
pub(super) fn dropped(batch: &Batch) -> DropCounters {
    DropCounters {
        skbs: 1,
        packets: u64::from(batch.packets),
        bytes: u64::from(batch.wire),
    }
}
