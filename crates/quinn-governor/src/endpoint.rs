//! quinn endpoints whose connections are governed.

use std::io;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, Runtime, ServerConfig};
use quinn_proto::TransportConfig;

use crate::fallback::Fallback;
use crate::governors::Governors;
use crate::runtime::GovernedRuntime;
use crate::socket::GovernedSocket;

impl Governors {
    /// As [`quinn::Endpoint::client`], governed: an endpoint for outgoing connections.
    ///
    /// Connections are governed if their [`TransportConfig`] comes from
    /// [`Governors::client_config`] or [`Governors::transport`], or was passed to
    /// [`Governors::govern`]. Fails exactly where quinn's function does.
    ///
    /// ```no_run
    /// # fn client(client_config: quinn::ClientConfig) -> Result<(), Box<dyn std::error::Error>> {
    /// use quinn_governor::Governors;
    ///
    /// let governors = Governors::auto();
    /// let mut endpoint = governors.client("[::]:0".parse()?)?;
    /// endpoint.set_default_client_config(governors.client_config(client_config));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn client(&self, addr: SocketAddr) -> io::Result<Endpoint> {
        use socket2::{Domain, Protocol, Socket, Type};

        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6()
            && let Err(error) = socket.set_only_v6(false)
        {
            tracing::debug!(%error, "the socket takes IPv6 alone");
        }
        socket.bind(&addr.into())?;
        self.endpoint(
            EndpointConfig::default(),
            None,
            socket.into(),
            default_runtime()?,
        )
    }

    /// As [`quinn::Endpoint::server`], governed: an endpoint for incoming and outgoing connections.
    ///
    /// Incoming connections are governed, each peer as a flow of its own where the source
    /// distinguishes peers. To do so this changes `config.transport`; if that is shared with
    /// another `Arc`, call [`Governors::govern`] on it before. Fails exactly where quinn's function
    /// does.
    ///
    /// ```no_run
    /// # fn server(server_config: quinn::ServerConfig) -> Result<(), Box<dyn std::error::Error>> {
    /// use quinn_governor::Governors;
    ///
    /// let governors = Governors::auto();
    /// let endpoint = governors.server(server_config, "[::]:4433".parse()?)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn server(&self, config: ServerConfig, addr: SocketAddr) -> io::Result<Endpoint> {
        self.endpoint(
            EndpointConfig::default(),
            Some(config),
            UdpSocket::bind(addr)?,
            default_runtime()?,
        )
    }

    /// As [`quinn::Endpoint::new`], governed. `server` is changed as by [`Governors::server`].
    pub fn endpoint(
        &self,
        config: EndpointConfig,
        server: Option<ServerConfig>,
        socket: UdpSocket,
        runtime: Arc<dyn Runtime>,
    ) -> io::Result<Endpoint> {
        let server = server.map(|server| self.govern_server(server, &*runtime));
        let runtime = self.runtime(runtime);
        Endpoint::new(config, server, socket, runtime)
    }

    /// A runtime for [`quinn::Endpoint::new`] that makes governed sockets, also of those passed to
    /// [`Endpoint::rebind`]. `inner` does everything else.
    pub fn runtime(&self, inner: Arc<dyn Runtime>) -> Arc<dyn Runtime> {
        if self.shared().is_none() {
            return inner;
        }
        Arc::new(GovernedRuntime {
            inner,
            governors: self.clone(),
        })
    }

    /// A socket for [`quinn::Endpoint::new_with_abstract_socket`] and
    /// [`Endpoint::rebind_abstract`]. `runtime` does the waiting.
    ///
    /// Where it cannot be governed, it is `runtime`'s own socket; fails where that cannot be made.
    pub fn wrap_socket(
        &self,
        socket: UdpSocket,
        runtime: &Arc<dyn Runtime>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let Some(shared) = self.shared() else {
            return runtime.wrap_udp_socket(socket);
        };
        let governed = socket.try_clone().and_then(|again| {
            let inner = runtime.wrap_udp_socket(again)?;
            let runtime = Arc::clone(runtime);
            GovernedSocket::new(Arc::new(socket.try_clone()?), inner, runtime, shared)
        });
        match governed {
            Ok(governed) => Ok(Arc::new(governed)),
            Err(error) => {
                shared.note(runtime.now(), Fallback::SocketNotWatched, &error);
                runtime.wrap_udp_socket(socket)
            }
        }
    }

    /// quinn's default transport configuration, governed.
    pub fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        self.govern(&mut transport);
        transport
    }

    /// A client's configuration, governed. It gets quinn's default transport configuration: to use
    /// one of your own, call [`govern`](Self::govern) on that instead.
    pub fn client_config(&self, mut config: ClientConfig) -> ClientConfig {
        config.transport_config(Arc::new(self.transport()));
        config
    }

    /// Governs this transport's connections: sets its congestion controller factory. The base
    /// controller is that of [`Builder::base`], not the one that was set in `transport` before.
    ///
    /// [`Builder::base`]: crate::Builder::base
    pub fn govern<'a>(&self, transport: &'a mut TransportConfig) -> &'a mut TransportConfig {
        if let Some(window) = self
            .shared()
            .and_then(|shared| shared.config.receive_window)
        {
            transport.receive_window(window);
        }
        transport.congestion_controller_factory(self.factory())
    }

    fn govern_server(&self, mut server: ServerConfig, runtime: &dyn Runtime) -> ServerConfig {
        match Arc::get_mut(&mut server.transport) {
            Some(transport) => {
                self.govern(transport);
            }
            None => {
                if let Some(shared) = self.shared() {
                    let cause = "Arc::get_mut of ServerConfig::transport";
                    shared.note(runtime.now(), Fallback::TransportShared, &cause);
                }
            }
        }
        server
    }
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
fn default_runtime() -> io::Result<Arc<dyn Runtime>> {
    quinn::default_runtime().ok_or_else(|| io::Error::other("no async runtime found"))
}
