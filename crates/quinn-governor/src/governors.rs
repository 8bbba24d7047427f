//! All governors of a process.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use ebpf_congestion_signals::{QueueId, SignalSource, Watch, WatchError, WatchTarget};
use parking_lot::Mutex;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::{ClientConfig, ServerConfig, TransportConfig, VarInt};

use crate::config::{ConfigError, GovernorConfig};
use crate::governor::{BaseFactory, Governed, Governor};
use crate::queue_limit::QueueLimit;
use crate::receive::ReceiveGovernor;
use crate::report::{Counters, GovernorReport};

/// All governors of a process that share a source of signals: make one, and from it a
/// [`Governor`] for each socket or peer. Cheap to clone; clones are the same.
///
/// They must come from one `Governors`: governed connections hold back for one another in the
/// queues they share, and it is here that they know of each other.
#[derive(Clone)]
pub struct Governors {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn SignalSource>,
    base: BaseFactory,
    config: GovernorConfig,
    queues: Arc<[QueueLimit]>,
    sums: Arc<Counters>,
    flows: Mutex<Vec<Weak<Governed>>>,
}

impl Governors {
    /// Governors over quinn's Cubic, with everything switched on.
    pub fn new(source: Arc<dyn SignalSource>) -> Self {
        let GovernorsBuilder {
            source,
            base,
            config,
        } = Self::builder(source);
        Self::assemble(source, base, config)
    }

    /// Governors over another base controller or with another configuration.
    pub fn builder(source: Arc<dyn SignalSource>) -> GovernorsBuilder {
        GovernorsBuilder {
            source,
            base: Arc::new(CubicConfig::default()),
            config: GovernorConfig::default(),
        }
    }

    /// A governor for all connections of a bound UDP socket.
    ///
    /// The connections share what is known of the socket. What of its backlog is a connection's
    /// own is worked out from what each sent; which connection's datagram was dropped is not
    /// known, and one of them reduces. Where peers differ much, [`Governors::peer`] knows better.
    pub fn socket(&self, socket: &impl Socket) -> Result<Arc<Governor>, WatchError> {
        self.target(WatchTarget::socket(socket))
    }

    /// A governor for the connection of a bound UDP socket with one remote address. Not for an
    /// address that moves: after a migration its connection runs as base.
    pub fn peer(
        &self,
        socket: &impl Socket,
        remote: SocketAddr,
    ) -> Result<Arc<Governor>, WatchError> {
        self.target(WatchTarget::socket(socket).peer(remote))
    }

    /// A governor for a flow that is watched already. A flow watched as
    /// [sharing](WatchTarget::sharing), or a mock's in a test.
    pub fn watch(&self, watch: Watch) -> Arc<Governor> {
        let inner = &*self.inner;
        let governed = Governed::new(
            inner.config,
            Arc::clone(&inner.source),
            watch,
            Arc::clone(&inner.queues),
            Arc::clone(&inner.sums),
        );
        let governor = Governor::new(Arc::clone(&inner.base), governed);
        let mut flows = inner.flows.lock();
        flows.retain(|flow| flow.strong_count() > 0);
        flows.extend(governor.governed().map(Arc::downgrade));
        governor
    }

    /// What holds back the peers of a bound UDP socket while its receive buffer overflows. `window`
    /// (bytes) is each connection's [`receive_window`](TransportConfig::receive_window), to which
    /// the transport's configuration must be set: without it quinn has no limit, and credit that
    /// was given cannot be taken back.
    pub fn receiving(
        &self,
        socket: &impl Socket,
        window: VarInt,
    ) -> Result<ReceiveGovernor, WatchError> {
        let watch = self.inner.source.watch(WatchTarget::socket(socket))?;
        Ok(ReceiveGovernor::new(watch, window))
    }

    /// A governor that uses no signals, over the same base: its connections run exactly as they
    /// would without this crate.
    pub fn ungoverned(&self) -> Arc<Governor> {
        Governor::ungoverned(Arc::clone(&self.inner.base))
    }

    /// A client's configuration for one connection with `remote`, governed as its own flow: pass
    /// it to `Endpoint::connect_with`. The transport's factory of congestion controllers is set
    /// here, the rest of `transport` stays as it is.
    pub fn client_config(
        &self,
        socket: &impl Socket,
        remote: SocketAddr,
        mut client_config: ClientConfig,
        mut transport: TransportConfig,
    ) -> Result<ClientConfig, WatchError> {
        transport.congestion_controller_factory(self.peer(socket, remote)?);
        client_config.transport_config(Arc::new(transport));
        Ok(client_config)
    }

    /// A server's configuration for one connection from `remote`, governed as its own flow: pass
    /// it to `Incoming::accept_with`. The transport's factory of congestion controllers is set
    /// here, the rest of `transport` stays as it is.
    pub fn server_config(
        &self,
        socket: &impl Socket,
        remote: SocketAddr,
        mut server_config: ServerConfig,
        mut transport: TransportConfig,
    ) -> Result<Arc<ServerConfig>, WatchError> {
        transport.congestion_controller_factory(self.peer(socket, remote)?);
        server_config.transport_config(Arc::new(transport));
        Ok(Arc::new(server_config))
    }

    /// The source of the signals.
    pub fn source(&self) -> &Arc<dyn SignalSource> {
        &self.inner.source
    }

    /// What all of them did so far, also those that are gone.
    pub fn report(&self) -> GovernorReport {
        let flows = self.inner.flows.lock();
        let ages = flows
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|flow| flow.report().observation_age);
        GovernorReport {
            source: Some(self.inner.source.kind()),
            observation_age: ages.min(),
            ..self.inner.sums.report()
        }
    }

    fn target(&self, target: WatchTarget<'_>) -> Result<Arc<Governor>, WatchError> {
        let watch = self.inner.source.watch(target.sharing())?;
        Ok(self.watch(watch))
    }

    fn assemble(source: Arc<dyn SignalSource>, base: BaseFactory, config: GovernorConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                source,
                base,
                config,
                queues: (0..QueueId::COUNT).map(|_| QueueLimit::new()).collect(),
                sums: Arc::default(),
                flows: Mutex::default(),
            }),
        }
    }
}

impl fmt::Debug for Governors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governors")
            .field("source", &self.inner.source)
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// Sets up [`Governors`].
pub struct GovernorsBuilder {
    source: Arc<dyn SignalSource>,
    base: BaseFactory,
    config: GovernorConfig,
}

impl GovernorsBuilder {
    /// The controller whose window is capped: any of quinn's or your own. Cubic by default.
    #[must_use]
    pub fn base(mut self, base: BaseFactory) -> Self {
        self.base = base;
        self
    }

    /// Which parts of the law work, and within what bounds.
    #[must_use]
    pub fn config(mut self, config: GovernorConfig) -> Self {
        self.config = config;
        self
    }

    /// Checks the configuration.
    pub fn build(self) -> Result<Governors, ConfigError> {
        self.config.validate()?;
        Ok(Governors::assemble(self.source, self.base, self.config))
    }
}

impl fmt::Debug for GovernorsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GovernorsBuilder")
            .field("source", &self.source)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A socket that can be watched: whatever has a file descriptor, such as `std::net::UdpSocket`.
#[cfg(unix)]
pub trait Socket: std::os::fd::AsFd {}
#[cfg(unix)]
impl<T: std::os::fd::AsFd> Socket for T {}

/// A socket that can be watched: on this system none can, and every source says so.
#[cfg(not(unix))]
pub trait Socket {}
#[cfg(not(unix))]
impl<T> Socket for T {}
