//! How a program's own UDP socket reports to a source that learns from it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Takes reports of what a program's own UDP socket sends, and of the kernel's answers, for a
/// source that learns from them.
/// [`SignalSource::observe_socket`](crate::SignalSource::observe_socket) makes one for a socket;
/// the code that sends and receives on the socket owns it, and drops it with the socket.
///
/// Send through [`send`](trait.SocketObserver.html#method.send), which calls
/// [`on_send`](Self::on_send) and acts on its result. Several threads may call at the same time. A
/// call makes at most a few short system calls, and never waits.
pub trait SocketObserver: fmt::Debug + Send + Sync {
    /// Called before each attempt to send. While one is in progress, the kernel counts datagrams as
    /// unsent that do not wait in any queue.
    fn before_send(&self) {}

    /// Called after each attempt to send, with what the kernel answered.
    fn on_send(&self, send: SocketSend, outcome: SendOutcome<'_>) -> AfterSend;

    /// Called after each attempt to receive, whether or not something was there.
    ///
    /// A source may let the kernel report ICMP errors to the socket (`IP_RECVERR`). A receive then
    /// returns such an error instead of a datagram: pass it here and receive again. It is no
    /// failure of the socket.
    fn on_receive(&self, error: Option<&io::Error>);
}

impl dyn SocketObserver + '_ {
    /// Sends with `attempt` and reports the kernel's answer. Sends once more where the kernel
    /// returned an earlier datagram's error instead of sending this one.
    ///
    /// Returns the last attempt's result. [`WouldBlock`](io::ErrorKind::WouldBlock): try again when
    /// the socket is writable. Any other error: the kernel dropped some or all of the datagrams. A
    /// transport treats them as lost; the socket remains usable.
    pub fn send(
        &self,
        send: SocketSend,
        mut attempt: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        self.before_send();
        let result = attempt();
        match self.on_send(send, SendOutcome::of(&result)) {
            AfterSend::Done => result,
            AfterSend::Retry => {
                self.before_send();
                let result = attempt();
                // Whatever the answer is now, it is this datagram's own.
                let _ = self.on_send(send, SendOutcome::of(&result));
                result
            }
        }
    }
}

/// What was handed to the kernel in one call: a datagram, or a batch of datagrams (GSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSend {
    /// The peer.
    pub destination: SocketAddr,
    /// Payload bytes of all datagrams.
    pub bytes: usize,
    /// Payload bytes of each datagram but the last, which may be shorter; `None` for a single one.
    pub segment: Option<usize>,
}

impl SocketSend {
    /// Datagrams in the call; at least one.
    pub fn datagrams(&self) -> usize {
        match self.segment {
            Some(segment) if segment > 0 => self.bytes.div_ceil(segment).max(1),
            _ => 1,
        }
    }
}

/// What the kernel answered to a send.
#[derive(Clone, Copy, Debug)]
pub enum SendOutcome<'a> {
    /// It accepted the datagrams.
    Sent,
    /// The send buffer is full: nothing was sent, nothing dropped.
    WouldBlock,
    /// It refused the datagrams, or dropped them. With `IP_RECVERR`, `ENOBUFS` means that a queue
    /// of this host was full.
    Refused(&'a io::Error),
}

impl<'a> SendOutcome<'a> {
    /// The outcome that a result means.
    pub fn of(result: &'a io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::WouldBlock,
            Err(error) => Self::Refused(error),
        }
    }
}

/// What to do after a send was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AfterSend {
    /// Nothing: the result was this send's own.
    Done,
    /// Send again: the result was an earlier datagram's error, and nothing was sent.
    Retry,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Asks for another attempt whenever the kernel refused.
    #[derive(Debug, Default)]
    struct Retrying {
        reports: AtomicUsize,
    }

    impl SocketObserver for Retrying {
        fn on_send(&self, _send: SocketSend, outcome: SendOutcome<'_>) -> AfterSend {
            self.reports.fetch_add(1, Ordering::Relaxed);
            match outcome {
                SendOutcome::Refused(_) => AfterSend::Retry,
                _ => AfterSend::Done,
            }
        }

        fn on_receive(&self, _error: Option<&io::Error>) {}
    }

    fn send() -> SocketSend {
        SocketSend {
            destination: SocketAddr::from(([192, 0, 2, 1], 443)),
            bytes: 2500,
            segment: Some(1200),
        }
    }

    #[test]
    fn an_earlier_datagrams_error_costs_one_more_attempt_and_no_datagram() {
        let observer = Retrying::default();
        let mut answers = vec![
            Ok(()),
            Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        ];
        let result = (&observer as &dyn SocketObserver).send(send(), || answers.pop().unwrap());
        assert!(result.is_ok());
        assert_eq!(observer.reports.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_socket_that_refuses_for_good_is_tried_twice() {
        let observer = Retrying::default();
        let mut attempts = 0;
        let result = (&observer as &dyn SocketObserver).send(send(), || {
            attempts += 1;
            Err(io::Error::from(io::ErrorKind::NetworkUnreachable))
        });
        assert_eq!(
            result.map_err(|error| error.kind()),
            Err(io::ErrorKind::NetworkUnreachable)
        );
        assert_eq!(attempts, 2);
    }

    #[test]
    fn a_full_send_buffer_is_no_refusal() {
        let result = Err(io::Error::from(io::ErrorKind::WouldBlock));
        assert!(matches!(SendOutcome::of(&result), SendOutcome::WouldBlock));
    }

    #[test]
    fn a_batch_is_as_many_datagrams_as_it_has_segments() {
        let batch = send();
        assert_eq!(batch.datagrams(), 3);
        let one = SocketSend {
            segment: None,
            ..batch
        };
        assert_eq!(one.datagrams(), 1);
        let empty = SocketSend { bytes: 0, ..batch };
        assert_eq!(empty.datagrams(), 1);
    }
}
