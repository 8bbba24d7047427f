//! quinn's runtime, with sockets whose connections are governed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};

use crate::governors::Governors;

/// A runtime that makes each of an endpoint's sockets a governed one: the first, and those of
/// `Endpoint::rebind`.
#[derive(Debug)]
pub(crate) struct GovernedRuntime {
    pub(crate) inner: Arc<dyn Runtime>,
    pub(crate) governors: Governors,
}

impl Runtime for GovernedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.inner.new_timer(at)
    }

    #[track_caller]
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.inner.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.governors.wrap_socket(socket, &self.inner)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}
