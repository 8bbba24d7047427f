//! What the ends of QUIC flows send and get.

use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, Endpoint};

use super::{Actor, TURN, World, network};
use crate::sim::packet::{Batch, Body};
use crate::sim::quic::{self, End};

impl World<'_> {
    /// Sends what a sender's connection has, as far as its socket takes it.
    pub(super) fn transmit(&mut self, index: usize) {
        let host = &self.scenario.host;
        let now = self.clock.instant(self.now);
        let mut sent = 0;
        loop {
            self.signals.sync(self.now, self.flows[index].watch);
            let flow = &mut self.flows[index];
            if flow.blocked {
                return;
            }
            let Some(end) = &mut flow.sender else { return };
            let batch = match flow.buffered.take() {
                Some(batch) => batch,
                None => {
                    if sent >= TURN {
                        self.wake(Actor::Sender(index));
                        return;
                    }
                    let Some(batch) = poll(end, index, now, host.max_segments, &mut self.buffer)
                    else {
                        return;
                    };
                    sent += batch.packets;
                    batch
                }
            };
            let socket = &mut self.sockets[flow.socket];
            if socket.occupied >= host.send_buffer {
                flow.buffered = Some(batch);
                flow.blocked = true;
                flow.counts.blocked_sends += 1;
                socket.waiting.push_back(index);
                return;
            }
            self.leave_socket(index, batch);
        }
    }

    /// A batch of a flow goes from its socket towards the device.
    pub(super) fn leave_socket(&mut self, index: usize, batch: Batch) {
        if let Some(outage) = self.scenario.host.outage
            && outage.is_on(self.now)
            && batch.segment() > outage.passes
        {
            self.flows[index].counts.refused += u64::from(batch.packets);
            return;
        }
        let flow = &mut self.flows[index];
        if self.policy.chance(self.scenario.host.policy_loss) {
            flow.counts.policy_drops += u64::from(batch.packets);
            let dropped = network::dropped(&batch);
            self.signals.on_policy_drop(self.now, flow.watch, dropped);
            return;
        }
        let (packets, payload) = (u64::from(batch.packets), u64::from(batch.payload()));
        self.signals.on_sent(self.now, flow.watch, packets, payload);
        let mut rest = Some(batch);
        while let Some(batch) = rest.take() {
            if self.links[0].splits(&batch) {
                let (first, more) = batch.split_first();
                rest = more;
                self.enter(0, first);
            } else {
                self.enter(0, batch);
            }
        }
    }

    /// Sends what a receiver's connection has.
    pub(super) fn answer(&mut self, index: usize) {
        let now = self.clock.instant(self.now);
        let max_segments = self.scenario.host.max_segments;
        let back = self.links.len() - 1;
        loop {
            let Some(end) = &mut self.flows[index].receiver else {
                return;
            };
            let Some(batch) = poll(end, index, now, max_segments, &mut self.buffer) else {
                return;
            };
            self.enter(back, batch);
        }
    }

    /// A datagram comes to one end of a flow.
    pub(super) fn deliver(&mut self, to: Actor, packet: Batch) {
        let now = self.clock.instant(self.now);
        let (Actor::Sender(index) | Actor::Receiver(index), Body::Quic(payload)) =
            (to, packet.body)
        else {
            return;
        };
        let flow = &mut self.flows[index];
        let (endpoint, remote) = match to {
            Actor::Sender(_) => {
                self.signals.sync(self.now, flow.watch);
                let endpoint = &mut self.sockets[flow.socket].endpoint;
                (endpoint, quic::receiver_address(index))
            }
            _ => (
                &mut flow.receiving_endpoint,
                quic::sender_address(flow.socket),
            ),
        };
        self.buffer.clear();
        let event = endpoint.handle(now, remote, None, packet.ecn, payload, &mut self.buffer);
        match event {
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.buffer.clear();
                match endpoint.accept(incoming, now, &mut self.buffer, None) {
                    Ok((handle, connection)) => {
                        flow.receiver = Some(End {
                            handle,
                            connection,
                            timer: None,
                        });
                    }
                    Err(error) => flow.error = Some(error.cause.to_string()),
                }
            }
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let end = match to {
                    Actor::Sender(_) => &mut flow.sender,
                    _ => &mut flow.receiver,
                };
                if let Some(end) = end.as_mut().filter(|end| end.handle == handle) {
                    end.connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.wake(to);
    }
}

/// The next batch that a connection has to send.
fn poll(
    end: &mut End,
    flow: usize,
    now: Instant,
    max_segments: usize,
    buffer: &mut Vec<u8>,
) -> Option<Batch> {
    buffer.clear();
    let transmit = end.connection.poll_transmit(now, max_segments, buffer)?;
    let payload = BytesMut::from(&buffer[..transmit.size]);
    let segment = transmit.segment_size.unwrap_or(transmit.size);
    let mut batch = Batch::quic(flow, payload, segment);
    batch.ecn = transmit.ecn;
    Some(batch)
}

/// Exchanges events between a connection and its endpoint; whether the connection got
/// any.
pub(super) fn exchange(end: &mut End, endpoint: &mut Endpoint) -> bool {
    let mut handled = false;
    while let Some(event) = end.connection.poll_endpoint_events() {
        if let Some(event) = endpoint.handle_event(end.handle, event) {
            end.connection.handle_event(event);
            handled = true;
        }
    }
    handled
}
