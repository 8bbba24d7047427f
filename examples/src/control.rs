//! Which congestion controller a connection gets, and who watches its packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context;
use ebpf_congestion_signals::{SignalSource, Watch, WatchTarget};
use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use quinn_governor::{BaseFactory, DecisionLog, GovernorConfig, GovernorReport, Governors};

use crate::args::{Base, Common, Switch};
use crate::endpoint;
use crate::source::Source;

/// Makes endpoints and controllers as the options say.
#[derive(Clone)]
pub struct Control {
    base: Base,
    source: Source,
    governor: Switch,
    governors: Governors,
}

impl Control {
    /// Chooses the source, and makes the governors over it.
    pub fn new(options: &Common) -> anyhow::Result<Self> {
        let source = Source::choose(options.source)?;
        Self::over(source, options.base, options.governor)
    }

    /// Makes the governors over a source that is there already.
    pub fn over(source: Source, base: Base, governor: Switch) -> anyhow::Result<Self> {
        let signals = source.signals().filter(|_| governor == Switch::On);
        let governor = match signals {
            Some(_) => Switch::On,
            None => Switch::Off,
        };
        Ok(Self {
            base,
            governors: governors(signals, factory(base))?,
            source,
            governor,
        })
    }

    /// The controller that works alone, or under the governor.
    pub fn base(&self) -> Base {
        self.base
    }

    /// Where signals come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether flows are governed: it takes a governor switched on and signals.
    pub fn governor(&self) -> Switch {
        self.governor
    }

    /// What governs the connections; without signals, governors that do nothing.
    pub fn governors(&self) -> &Governors {
        &self.governors
    }

    /// What the governors did, all flows together.
    pub fn report(&self) -> GovernorReport {
        self.governors.report()
    }

    /// An endpoint over a socket, whose connections are governed where anything is.
    pub fn endpoint(
        &self,
        server: Option<ServerConfig>,
        socket: UdpSocket,
    ) -> anyhow::Result<Endpoint> {
        let config = EndpointConfig::default();
        self.governors
            .endpoint(config, server, socket, Arc::new(TokioRuntime))
            .context("cannot make a QUIC endpoint of the socket")
    }

    /// A transport configuration whose connections are governed; the decisions of the next one are
    /// written to `log`.
    pub fn transport(&self, log: Option<&DecisionLog>) -> TransportConfig {
        let mut transport = endpoint::transport();
        self.governors.govern(&mut transport);
        if let Some(log) = log {
            transport.congestion_controller_factory(self.governors.factory().logged(log));
            let mut config = log.config();
            config.title(Some("upload".to_owned()));
            transport.qlog_stream(config.into_stream());
        }
        transport
    }

    /// The same for a server, whose clients' certificates are not asked for.
    pub fn server_config(&self, mut config: ServerConfig) -> ServerConfig {
        config.transport_config(Arc::new(self.transport(None)));
        config
    }

    /// Watches a socket, or one peer of it, so that signals are shown beside what is done with
    /// them. `None` without a source, and where the source cannot: a program goes on without.
    pub fn watch(&self, socket: &UdpSocket, peer: Option<SocketAddr>) -> Option<Watch> {
        let target = WatchTarget::socket(socket);
        let target = match peer {
            Some(peer) => target.peer(peer),
            None => target,
        };
        let watched = self.source.signals()?.watch(target);
        watched
            .inspect_err(|error| tracing::warn!(%error, "a flow is not watched"))
            .ok()
    }
}

fn governors(
    signals: Option<Arc<dyn SignalSource>>,
    base: BaseFactory,
) -> anyhow::Result<Governors> {
    let Some(signals) = signals else {
        return Ok(Governors::without_signals(base));
    };
    let mut config = GovernorConfig::default();
    config.receive_window(endpoint::RECEIVE_WINDOW.into());
    Ok(Governors::builder(signals)
        .base(base)
        .config(config)
        .build()?)
}

fn factory(base: Base) -> BaseFactory {
    match base {
        Base::Cubic => Arc::new(CubicConfig::default()),
        Base::NewReno => Arc::new(NewRenoConfig::default()),
        Base::Bbr => Arc::new(BbrConfig::default()),
    }
}
