//! Waits until a socket is writable.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{AsyncTimer, Runtime, UdpPoller};

use crate::binding::Binding;

/// After so many wrong reports in a row that the socket is writable, the poller pauses. Where
/// connections share a socket, a single wrong report is normal.
const WRONG_REPORTS: u32 = 4;

/// How long the poller pauses then.
const PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// The last send of this thread found the socket's buffer full. quinn then polls the same
    /// connection's poller at once, with no other connection in between: so each connection counts
    /// its own failed sends alone, however many share the socket.
    static IS_FULL: Cell<bool> = const { Cell::new(false) };
}

/// This thread's last send failed with EAGAIN.
pub(crate) fn on_full_buffer() {
    IS_FULL.set(true);
}

/// Waits with the runtime's own poller, and takes back the binding of datagrams that wait with it.
///
/// After a socket error (an ICMP message, under `IP_RECVERR`) tokio takes the socket for closed to
/// writing, and reports it writable from then on even while its send buffer is full: a task that
/// waits for room would spin. So after several wrong reports in a row the poller waits for a timer.
pub(crate) struct Poller {
    inner: Pin<Box<dyn UdpPoller>>,
    runtime: Arc<dyn Runtime>,
    wrong_reports: u32,
    /// The lock is never taken: it is what makes the poller `Sync`.
    pause: Mutex<Option<Pin<Box<dyn AsyncTimer>>>>,
}

impl Poller {
    pub(crate) fn new(inner: Pin<Box<dyn UdpPoller>>, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            inner,
            runtime,
            wrong_reports: 0,
            pause: Mutex::new(None),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was_full = IS_FULL.take();
        let pending = self.pause.get_mut();
        let paused = pending.is_some();
        if let Some(pause) = pending {
            ready!(pause.as_mut().poll(cx));
            *pending = None;
        }
        let writable = self.inner.as_mut().poll_writable(cx);
        if writable.is_pending() || (!was_full && !paused) {
            self.wrong_reports = 0;
            return writable;
        }
        if paused {
            // Trusted once; if it is wrong again, the next pause follows at once.
            return writable;
        }
        self.wrong_reports += 1;
        if self.wrong_reports < WRONG_REPORTS {
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
            drop(Binding::take_sending());
        }
        writable
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("inner", &self.inner)
            .field("wrong_reports", &self.wrong_reports)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::TokioRuntime;

    use super::*;

    /// Always reports its socket writable.
    #[derive(Debug)]
    struct Always;

    impl UdpPoller for Always {
        fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn poller() -> Pin<Box<Poller>> {
        Box::pin(Poller::new(Box::pin(Always), Arc::new(TokioRuntime)))
    }

    #[tokio::test]
    async fn a_full_socket_that_is_reported_writable_is_not_polled_in_a_busy_loop() {
        let mut poller = poller();
        let end = TokioRuntime.now() + Duration::from_millis(100);
        let mut attempts = 0;
        while TokioRuntime.now() < end {
            poll_fn(|cx| poller.as_mut().poll_writable(cx))
                .await
                .unwrap();
            on_full_buffer();
            attempts += 1;
        }
        assert!(attempts <= 104, "{attempts}");
    }

    #[tokio::test]
    async fn a_connection_whose_sends_succeed_does_not_wait_for_others_failed_sends() {
        let (mut ours, mut others) = (poller(), poller());
        let mut polled = 0;
        for _ in 0..1000 {
            poll_fn(|cx| {
                let _ = others.as_mut().poll_writable(cx);
                on_full_buffer();
                let _ = others.as_mut().poll_writable(cx);
                Poll::Ready(())
            })
            .await;
            poll_fn(|cx| {
                polled += 1;
                ours.as_mut().poll_writable(cx)
            })
            .await
            .unwrap();
        }
        assert_eq!(polled, 1000);
    }
}
