//! What the governed connections of a process have in common.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ebpf_congestion_signals::{SignalSource, Watch, WatchError, WatchTarget, best_source};
use quinn_proto::VarInt;
use quinn_proto::congestion::CubicConfig;

use crate::config::{ConfigError, GovernorConfig};
use crate::factory::{BaseFactory, Factory};
use crate::receive::ReceiveGovernor;
use crate::report::GovernorReport;
use crate::shared::Shared;

/// Governs the connections of a process. Make one, and with it quinn's endpoints:
/// [`client`](Self::client), [`server`](Self::server) or [`endpoint`](Self::endpoint). Cheap to
/// clone; clones share everything.
///
/// Governed connections share one limit in each queue. This holds for all connections that use the
/// same source, also with different `Governors`.
#[derive(Clone)]
pub struct Governors {
    base: BaseFactory,
    signals: Signals,
}

/// Where the signals are from.
#[derive(Clone)]
enum Signals {
    Source(Arc<Shared>),
    /// There are none, and why.
    Absent(Arc<str>),
}

impl Governors {
    /// Governors with the best source of signals that works here ([`best_source`]), over quinn's
    /// Cubic. Never fails: without any source, connections run exactly as without this crate, and
    /// [`absence`](Self::absence) says why. The choice is logged once through `tracing`.
    ///
    /// Loads probes into the kernel where that is permitted, which takes up to a second: call it
    /// before the runtime starts, or where that may block.
    pub fn auto() -> Self {
        let base: BaseFactory = Arc::new(CubicConfig::default());
        let choice = best_source();
        match &choice.source {
            Some(source) => Self::over(Arc::clone(source), base, GovernorConfig::default()),
            None => Self {
                base,
                signals: Signals::Absent(choice.to_string().into()),
            },
        }
    }

    /// Governors over quinn's Cubic, with everything switched on.
    pub fn new(source: Arc<dyn SignalSource>) -> Self {
        let Builder {
            source,
            base,
            config,
        } = Self::builder(source);
        Self::over(source, base, config)
    }

    /// Governors over another base controller or with another configuration.
    pub fn builder(source: Arc<dyn SignalSource>) -> Builder {
        Builder {
            source,
            base: Arc::new(CubicConfig::default()),
            config: GovernorConfig::default(),
        }
    }

    /// Without signals, for a program that decides at run time: connections run under `base` alone.
    pub fn without_signals(base: BaseFactory) -> Self {
        let why = "switched off by the program";
        Self {
            base,
            signals: Signals::Absent(why.into()),
        }
    }

    /// A factory of controllers for endpoints with governed sockets: those that
    /// [`client`](Self::client), [`server`](Self::server), [`endpoint`](Self::endpoint),
    /// [`runtime`](Self::runtime) and [`wrap_socket`](Self::wrap_socket) make. With any other
    /// socket its controllers act as the base controller. [`govern`](Self::govern) sets it in a
    /// configuration.
    pub fn factory(&self) -> Arc<Factory> {
        let base = Arc::clone(&self.base);
        match &self.signals {
            Signals::Source(shared) => Factory::by_socket(base, Arc::clone(shared)),
            Signals::Absent(_) => Factory::ungoverned(base),
        }
    }

    /// A governor for all connections of a bound UDP socket of quinn's own, for programs that make
    /// endpoints without the functions above. Another call for the same socket shares its governor.
    ///
    /// The connections share the signals of the socket. Fails where the source cannot watch it;
    /// then use [`ungoverned`](Self::ungoverned).
    pub fn socket(&self, socket: &impl Socket) -> Result<Arc<Factory>, WatchError> {
        require_udp(socket)?;
        self.watch_target(WatchTarget::socket(socket).sharing())
    }

    /// A governor for the connections of a bound UDP socket of quinn's own with one remote address.
    /// After a migration of the peer, its connection runs under the base controller; so does that of a
    /// peer behind destination NAT on this host, of which no packet is observed.
    pub fn peer(
        &self,
        socket: &impl Socket,
        remote: SocketAddr,
    ) -> Result<Arc<Factory>, WatchError> {
        require_udp(socket)?;
        self.watch_target(WatchTarget::socket(socket).peer(remote).sharing())
    }

    /// A governor for a flow that is already watched, such as a mock's in a test.
    pub fn watch(&self, watch: Watch) -> Arc<Factory> {
        let base = Arc::clone(&self.base);
        match &self.signals {
            Signals::Source(shared) => {
                Factory::by_flow(base, Arc::clone(shared), shared.watched(watch))
            }
            Signals::Absent(_) => Factory::ungoverned(base),
        }
    }

    /// A factory of base controllers: its connections run exactly as without this crate.
    pub fn ungoverned(&self) -> Arc<Factory> {
        Factory::ungoverned(Arc::clone(&self.base))
    }

    /// A governor that holds back the peers of a bound UDP socket while its receive buffer
    /// overflows. `window` (bytes) is each connection's [`receive_window`], which the transport
    /// configuration must set to the same value: quinn's default is unlimited, and credit cannot be
    /// withdrawn once granted. `None` without signals.
    ///
    /// [`receive_window`]: quinn_proto::TransportConfig::receive_window
    pub fn receiving(
        &self,
        socket: &impl Socket,
        window: VarInt,
    ) -> Result<Option<ReceiveGovernor>, WatchError> {
        let Signals::Source(shared) = &self.signals else {
            return Ok(None);
        };
        let watch = shared.state.source.watch(WatchTarget::socket(socket))?;
        Ok(Some(ReceiveGovernor::new(watch, window)))
    }

    /// Turns governing off or on for all connections at run time. When off, they run under their
    /// base controllers: caps are released as when signals are stale, growing by a sixteenth a
    /// round trip.
    pub fn set_enabled(&self, on: bool) {
        if let Signals::Source(shared) = &self.signals {
            shared.set_enabled(on);
        }
    }

    /// The source of the signals; `None` without one.
    pub fn source(&self) -> Option<&Arc<dyn SignalSource>> {
        match &self.signals {
            Signals::Source(shared) => Some(&shared.state.source),
            Signals::Absent(_) => None,
        }
    }

    /// Why there are no signals; `None` where there are.
    pub fn absence(&self) -> Option<&str> {
        match &self.signals {
            Signals::Source(_) => None,
            Signals::Absent(why) => Some(why),
        }
    }

    /// What the governors of all connections did so far, including closed connections.
    pub fn report(&self) -> GovernorReport {
        let Signals::Source(shared) = &self.signals else {
            return GovernorReport::default();
        };
        let ages = shared.live_flows().into_iter();
        GovernorReport {
            source: Some(shared.state.source.kind()),
            observation_age: ages.filter_map(|flow| flow.observation_age()).min(),
            fallbacks: shared.fallbacks.counts(),
            ..shared.sums.report()
        }
    }

    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        match &self.signals {
            Signals::Source(shared) => Some(shared),
            Signals::Absent(_) => None,
        }
    }

    fn watch_target(&self, target: WatchTarget<'_>) -> Result<Arc<Factory>, WatchError> {
        let base = Arc::clone(&self.base);
        match &self.signals {
            Signals::Source(shared) => {
                let flow = shared.flow(target)?;
                Ok(Factory::by_flow(base, Arc::clone(shared), flow))
            }
            Signals::Absent(_) => Ok(Factory::ungoverned(base)),
        }
    }

    fn over(source: Arc<dyn SignalSource>, base: BaseFactory, config: GovernorConfig) -> Self {
        Self {
            base,
            signals: Signals::Source(Shared::new(source, config)),
        }
    }
}

impl fmt::Debug for Governors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Governors");
        match &self.signals {
            Signals::Source(shared) => f.field("shared", shared),
            Signals::Absent(why) => f.field("absence", why),
        }
        .finish_non_exhaustive()
    }
}

/// Sets up [`Governors`].
pub struct Builder {
    source: Arc<dyn SignalSource>,
    base: BaseFactory,
    config: GovernorConfig,
}

impl Builder {
    /// The controller whose window is capped: any of quinn's or your own. Cubic by default.
    #[must_use]
    pub fn base(mut self, base: BaseFactory) -> Self {
        self.base = base;
        self
    }

    /// Which parts of the control law are active, and within what bounds.
    #[must_use]
    pub fn config(mut self, config: GovernorConfig) -> Self {
        self.config = config;
        self
    }

    /// Checks the configuration.
    pub fn build(self) -> Result<Governors, ConfigError> {
        self.config.validate()?;
        Ok(Governors::over(self.source, self.base, self.config))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("source", &self.source)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Sources can watch more than QUIC is sent by.
#[cfg(unix)]
fn require_udp(socket: &impl Socket) -> Result<(), WatchError> {
    let found = match socket2::SockRef::from(socket).r#type() {
        Ok(socket2::Type::DGRAM) => return Ok(()),
        Ok(socket2::Type::STREAM) => "a stream, such as TCP",
        Ok(_) => "a socket of another type",
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => "no socket at all",
        Err(source) => {
            return Err(WatchError::Socket {
                operation: "SO_TYPE",
                source,
            });
        }
    };
    Err(WatchError::WrongProtocol {
        found: found.to_owned(),
    })
}

#[cfg(not(unix))]
fn require_udp(_socket: &impl Socket) -> Result<(), WatchError> {
    Ok(())
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
