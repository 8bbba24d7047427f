//! An end asked for from outside.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::error::ValidateError;

/// Ctrl-C, SIGTERM and a terminal that goes away. From its making on, none of them ends the
/// process by itself.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: [Signal; 3],
    seen: bool,
}

impl Interrupt {
    /// Must be called within a runtime.
    pub(crate) fn listen() -> Result<Self, ValidateError> {
        let on = |kind| signal(kind).map_err(ValidateError::Runtime);
        Ok(Self {
            signals: [
                on(SignalKind::interrupt())?,
                on(SignalKind::terminate())?,
                on(SignalKind::hangup())?,
            ],
            seen: false,
        })
    }

    /// Whether an end was asked for.
    pub(crate) fn seen(&self) -> bool {
        self.seen
    }

    /// Sleeps; true when that was cut short, now or before, because an end was asked for.
    pub(crate) async fn cuts_short(&mut self, time: Duration) -> bool {
        let [interrupt, terminate, hangup] = &mut self.signals;
        if !self.seen {
            tokio::select! {
                biased;
                _ = interrupt.recv() => self.seen = true,
                _ = terminate.recv() => self.seen = true,
                _ = hangup.recv() => self.seen = true,
                () = sleep(time) => {}
            }
        }
        self.seen
    }
}
