//! Waits until a socket is writable.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{AsyncTimer, Runtime, UdpPoller};

use crate::binding::Binding;

/// How many times in a row a socket may be reported writable without being so before the report is
/// distrusted.
/// By chance, and where connections share a socket, it happens once.
const CONTRADICTIONS: u32 = 4;

/// Then it is tried again after this time.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts the sends that the kernel had no room for, by which a [`Poller`] knows whether a socket
/// that was called writable was.
#[derive(Clone, Debug, Default)]
pub(crate) struct FullBuffers(Arc<AtomicU64>);

impl FullBuffers {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits with the runtime's own poller, and takes back the binding of datagrams that wait with it.
///
/// tokio takes a socket to which the network has reported an error (an ICMP message, under
/// `IP_RECVERR`) for closed to writing, and calls it writable from then on even when its send
/// buffer is full: a task that waits for room would not wait at all, and keep a processor busy. So a
/// socket that is called writable and is not, several times in a row, is left alone for a while.
pub(crate) struct Poller {
    inner: Pin<Box<dyn UdpPoller>>,
    runtime: Arc<dyn Runtime>,
    full: FullBuffers,
    /// What `full` was when the socket was last called writable.
    seen: u64,
    contradictions: u32,
    /// A lock that is never taken: it makes the poller one that threads may share.
    pause: Mutex<Option<Pin<Box<dyn AsyncTimer>>>>,
}

impl Poller {
    pub(crate) fn new(
        inner: Pin<Box<dyn UdpPoller>>,
        runtime: Arc<dyn Runtime>,
        full: FullBuffers,
    ) -> Self {
        Self {
            inner,
            runtime,
            seen: full.so_far(),
            full,
            contradictions: 0,
            pause: Mutex::new(None),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pending = self.pause.get_mut();
        let paused = pending.is_some();
        if let Some(pause) = pending {
            ready!(pause.as_mut().poll(cx));
            *pending = None;
        }
        let writable = self.inner.as_mut().poll_writable(cx);
        let full = self.full.so_far();
        if writable.is_pending() || (full == self.seen && !paused) {
            self.contradictions = 0;
            return writable;
        }
        if paused {
            // Trusted once; if that is wrong too, the next pause comes at once.
            return writable;
        }
        self.seen = full;
        self.contradictions += 1;
        if self.contradictions < CONTRADICTIONS {
            return writable;
        }
        let mut pause = self.runtime.new_timer(self.runtime.now() + PAUSE);
        if pause.as_mut().poll(cx).is_ready() {
            return writable;
        }
        *self.pause.get_mut() = Some(pause);
        Poll::Pending
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writable = self.poll(cx);
        if writable.is_pending() {
            drop(Binding::take());
        }
        writable
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("inner", &self.inner)
            .field("contradictions", &self.contradictions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::TokioRuntime;

    use super::*;

    /// Calls its socket writable whatever happens.
    #[derive(Debug)]
    struct Always;

    impl UdpPoller for Always {
        fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn poller(full: &FullBuffers) -> Pin<Box<Poller>> {
        let poller = Poller::new(Box::pin(Always), Arc::new(TokioRuntime), full.clone());
        Box::pin(poller)
    }

    #[tokio::test]
    async fn a_socket_that_is_called_writable_and_is_full_is_not_tried_all_the_time() {
        let full = FullBuffers::default();
        let mut poller = poller(&full);
        let end = TokioRuntime.now() + Duration::from_millis(100);
        let mut attempts = 0;
        while TokioRuntime.now() < end {
            poll_fn(|cx| poller.as_mut().poll_writable(cx))
                .await
                .unwrap();
            full.count();
            attempts += 1;
        }
        assert!(attempts <= 104, "{attempts}");
    }

    #[tokio::test]
    async fn a_socket_that_takes_what_it_is_given_is_never_left_alone() {
        let full = FullBuffers::default();
        let mut poller = poller(&full);
        let mut polled = 0;
        for attempt in 0..1000 {
            poll_fn(|cx| {
                polled += 1;
                poller.as_mut().poll_writable(cx)
            })
            .await
            .unwrap();
            // Another connection finds the buffer full now and then.
            if attempt % 2 == 0 {
                full.count();
            }
        }
        assert_eq!(polled, 1000);
    }
}
