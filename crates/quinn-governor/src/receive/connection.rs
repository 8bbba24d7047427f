//! Limits what a governed connection receives while its socket overflows.

use std::time::Duration;

use ebpf_congestion_signals::FlowId;
use quinn::Connection;
use quinn_proto::VarInt;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::ReceiveGuard;
use crate::controller::GovernedController;
use crate::governors::Governors;

/// A connection may have changed its socket (`Endpoint::rebind`): seen within this time.
const SOCKET_CHECK: Duration = Duration::from_millis(500);

/// Governs what a connection receives, until dropped. Made by [`Governors::receive`].
#[must_use = "what the connection receives is governed until this is dropped"]
#[derive(Debug)]
pub struct ReceiveWindow {
    task: Option<AbortHandle>,
}

impl Governors {
    /// Holds back the peer of a connection while the receive buffer of its socket overflows;
    /// continues with the new socket after a rebind.
    ///
    /// Needs [`GovernorConfig::receive_window`](crate::GovernorConfig::receive_window), a
    /// connection whose transport was [governed](Self::govern), and a tokio runtime; does nothing
    /// without signals. The connection is kept open until this is dropped or the peer closes it.
    pub fn receive(&self, connection: &Connection) -> ReceiveWindow {
        let window = self
            .shared()
            .and_then(|shared| shared.config.receive_window);
        let task = window.map(|window| {
            let connection = connection.clone();
            tokio::spawn(govern(connection, window)).abort_handle()
        });
        ReceiveWindow { task }
    }
}

impl Drop for ReceiveWindow {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Uses the connection's current socket, until the connection is closed.
async fn govern(connection: Connection, window: VarInt) {
    let mut socket: Option<(FlowId, ReceiveGuard)> = None;
    let mut check = interval(SOCKET_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = connection.closed() => return,
            _ = check.tick() => {}
        }
        let Some(controller) = GovernedController::of(&connection) else {
            return;
        };
        let Some(flow) = controller.socket_flow() else {
            continue;
        };
        let id = flow.watch.id();
        if socket.as_ref().is_none_or(|(known, _)| *known != id) {
            let governor = (flow.receiving).governor(&flow.watch, &flow.sums, window);
            socket = Some((id, governor.govern(connection.clone())));
        }
    }
}
