//! Receivers that set their windows of flow control.

use quinn_proto::VarInt;

use super::{Actor, Event, World};
use crate::sim::receiver::{Receiver, ReceiverConfig};
use crate::sim::window::{ReceiverState, WindowControl};

impl World<'_> {
    /// A flow's receiving socket, and what sets its connection's window.
    pub(super) fn receiver(config: ReceiverConfig, control: Option<&WindowControl>) -> Receiver {
        let mut receiver = Receiver::new(config);
        if let Some(control) = control {
            let watch = receiver.watch();
            receiver.windows = Some(control.start(watch, config.window));
        }
        receiver
    }

    /// It is time to ask what the window is to be.
    pub(super) fn set_window(&mut self, index: usize) {
        let flow = &mut self.flows[index];
        flow.receiving_socket.tell(self.now);
        if let (Some(end), Some(windows)) = (&mut flow.receiver, &mut flow.receiving_socket.windows)
        {
            let stats = end.connection.stats();
            let state = ReceiverState {
                now: self.clock.instant(self.now),
                received: stats.udp_rx.bytes,
                round_trip: end.connection.rtt(),
                datagram: stats.path.current_mtu,
            };
            if let Some(window) = windows(&state) {
                let window = VarInt::from_u64(window).unwrap_or(VarInt::MAX);
                end.connection.set_receive_window(window);
                self.wake(Actor::Receiver(index));
            }
        }
        if let Some(control) = &self.scenario.window_control {
            self.schedule(self.now + control.interval, Event::Window(index));
        }
    }
}
