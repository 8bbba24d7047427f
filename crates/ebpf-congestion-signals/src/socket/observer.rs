//! What a program's socket reports, turned into signals.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::error_queue;
use super::flow::Flow;
use super::shared::Shared;
use super::state::SocketState;
use crate::clock;
use crate::event::{DropEvent, Event};
use crate::observer::{AfterSend, SendOutcome, SocketObserver, SocketSend};
use crate::sample::{Direction, DropClass, KernelTime};

/// The observer of one socket. It lives as long as the socket's owner keeps it.
pub(super) struct Observer {
    shared: Arc<Shared>,
    state: Arc<SocketState>,
    descriptor: Arc<OwnedFd>,
}

impl Observer {
    pub(super) fn new(
        shared: Arc<Shared>,
        state: Arc<SocketState>,
        descriptor: Arc<OwnedFd>,
    ) -> Self {
        Self {
            shared,
            state,
            descriptor,
        }
    }

    /// Reads the socket's memory use, if it is time to.
    fn read_memory_if_due(&self, now: KernelTime) {
        let Some(due) = self.state.due(now) else {
            return;
        };
        self.shared.read_memory(&self.state, &self.descriptor, due);
        // What others of the program have in the queue is old where they have not reported since.
        for other in self.shared.competing(&self.state) {
            if let Some(due) = other.due(now)
                && let Some(descriptor) = other.descriptor()
            {
                self.shared.read_memory(&other, &descriptor, due);
            }
        }
    }

    fn dropped(&self, send: &SocketSend, reason: &'static str, class: DropClass, now: KernelTime) {
        self.state.dropped(send, |flow: &Flow| match class {
            DropClass::Policy => flow.policy.count(send),
            _ => {
                // It came to a device before it was dropped.
                flow.count_sent(send);
                flow.queue_full.count(send);
            }
        });
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.shared.events.publish(Event::Drop(DropEvent {
            time: now,
            flow: Some(self.state.flow.id),
            reason: Arc::from(reason),
            class,
            direction: Direction::Egress,
            packets: count(send.datagrams()),
            bytes: count(send.bytes),
            location: 0,
        }));
    }
}

impl SocketObserver for Observer {
    fn before_send(&self) {
        self.state.sends.begins();
    }

    fn on_send(&self, send: SocketSend, outcome: SendOutcome<'_>) -> AfterSend {
        self.state.sends.ends();
        let now = clock::now();
        let error = match outcome {
            SendOutcome::Sent => {
                self.state.sent(&send, now, &self.shared.queues);
                self.read_memory_if_due(now);
                return AfterSend::Done;
            }
            SendOutcome::WouldBlock => {
                self.read_memory_if_due(now);
                return AfterSend::Done;
            }
            SendOutcome::Refused(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => {
                self.dropped(&send, QUEUE_FULL, DropClass::QueueFull, now);
                self.read_memory_if_due(now);
                AfterSend::Done
            }
            Some(libc::EPERM) => {
                self.dropped(&send, RULE, DropClass::Policy, now);
                AfterSend::Done
            }
            _ => {
                let errors = &self.shared.network_errors;
                let reported = error_queue::drain(self.descriptor.as_fd(), errors);
                if reported > 0 || error_queue::may_be_reported(error) {
                    AfterSend::Retry
                } else {
                    AfterSend::Done
                }
            }
        }
    }

    fn on_receive(&self, error: Option<&io::Error>) {
        if error.is_some_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            error_queue::drain(self.descriptor.as_fd(), &self.shared.network_errors);
        }
        self.read_memory_if_due(clock::now());
    }
}

/// What a full queue's drops are called.
pub(super) const QUEUE_FULL: &str = "ENOBUFS";

/// What a rule's are called.
pub(super) const RULE: &str = "EPERM";

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("flow", &self.state.flow)
            .finish_non_exhaustive()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.state.end(&self.descriptor, &self.shared.queues);
    }
}
