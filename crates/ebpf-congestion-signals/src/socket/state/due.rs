//! When a socket's memory use is to be read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::SocketState;
use crate::sample::KernelTime;

/// Shortest time between two readings of a socket's memory use.
const READ_INTERVAL: Duration = Duration::from_micros(200);

/// After so long, a socket's memory is read although a thread is sending on it, in case one always is.
const LONGEST_SENDING: Duration = Duration::from_millis(5);

/// That a socket's memory use is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) enum Due {
    /// And to be taken over only if no thread was sending meanwhile.
    Quiet,
    /// And to be taken over although one may have been.
    InAnyCase,
}

impl SocketState {
    /// Whether to read its memory use now: not too soon after the last time, not while another thread
    /// is sending, and something was sent or was still there. The caller to whom it is due reads it.
    pub(in crate::socket) fn due(&self, now: KernelTime) -> Option<Due> {
        let read_at = self.read_at.load(Ordering::Relaxed);
        if now.since(KernelTime::from_nanos(read_at)) < READ_INTERVAL {
            return None;
        }
        let nothing_new =
            self.read_sequence.load(Ordering::Relaxed) == self.sequence.load(Ordering::Relaxed);
        if nothing_new && self.flow.own() == 0 {
            return None;
        }
        let due = if self.sends.any() {
            let put_off = self.put_off.load(Ordering::Relaxed);
            if put_off == 0 {
                self.put_off.store(now.as_nanos(), Ordering::Relaxed);
                return None;
            }
            if now.since(KernelTime::from_nanos(put_off)) < LONGEST_SENDING {
                return None;
            }
            Due::InAnyCase
        } else {
            Due::Quiet
        };
        self.read_at
            .compare_exchange(
                read_at,
                now.as_nanos(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
            .then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::queues::Queues;
    use crate::socket::state::tests::{at, holding, send, state};

    #[test]
    fn an_idle_socket_is_not_read() {
        let (state, queues) = (state(), Queues::new());
        assert_eq!(state.due(at(1000)), None);
        state.sent(&send(1), at(100), &queues);
        assert!(state.due(at(1000)).is_some());
        assert_eq!(state.due(at(1100)), None, "too soon");
        state.on_memory(&holding(1), state.sequence(), at(1001), &queues);
        assert!(state.due(at(1300)).is_some(), "something is still there");
        state.on_memory(&holding(0), state.sequence(), at(1301), &queues);
        assert_eq!(state.due(at(2000)), None);
    }

    #[test]
    fn a_socket_is_read_at_intervals_while_a_thread_sends_on_it() {
        let (state, queues) = (state(), Queues::new());
        state.on_memory(&holding(0), state.sequence(), at(1000), &queues);
        state.sent(&send(1), at(1100), &queues);
        state.sends.begins();
        assert_eq!(state.due(at(20_000)), None);
        assert_eq!(state.due(at(24_900)), None);
        assert_eq!(state.due(at(25_000)), Some(Due::InAnyCase));
        state.on_memory(&holding(0), state.sequence(), at(25_000), &queues);
        state.sent(&send(1), at(25_100), &queues);
        assert_eq!(state.due(at(25_300)), None);
        state.sends.ends();
        assert_eq!(state.due(at(25_300)), Some(Due::Quiet));
    }
}
