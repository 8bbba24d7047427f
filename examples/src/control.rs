//! Which congestion controller a connection gets, and who watches its packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context;
use ebpf_congestion_signals::{Watch, WatchTarget};
use quinn::TransportConfig;
use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn_governor::{
    BaseFactory, DecisionLog, Governor, GovernorReport, Governors, ReceiveGovernor,
};

use crate::args::{Base, Common, Switch};
use crate::endpoint;
use crate::source::Source;

/// Makes controllers as the options say.
#[derive(Clone)]
pub struct Control {
    base: Base,
    source: Source,
    /// `None` when switched off, or when there are no signals to govern by.
    governors: Option<Governors>,
}

/// The controller of one flow.
pub struct Controlled {
    factory: BaseFactory,
    governor: Option<Arc<Governor>>,
    watch: Option<Watch>,
}

impl Control {
    /// Chooses the source, and makes the governors over it.
    pub fn new(options: &Common) -> anyhow::Result<Self> {
        let source = Source::choose(options.source)?;
        Self::over(source, options.base, options.governor)
    }

    /// Makes the governors over a source that is there already.
    pub fn over(source: Source, base: Base, governor: Switch) -> anyhow::Result<Self> {
        let governors = source
            .signals()
            .filter(|_| governor == Switch::On)
            .map(|signals| Governors::builder(signals).base(factory(base)).build())
            .transpose()?;
        Ok(Self {
            base,
            source,
            governors,
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
        match self.governors {
            Some(_) => Switch::On,
            None => Switch::Off,
        }
    }

    /// What the governors did, all flows together.
    pub fn report(&self) -> GovernorReport {
        self.governors
            .as_ref()
            .map(Governors::report)
            .unwrap_or_default()
    }

    /// For the one connection of a socket of its own.
    pub fn socket(&self, socket: &UdpSocket) -> anyhow::Result<Controlled> {
        self.flow(socket, None)
    }

    /// For one peer of a socket that has many.
    pub fn peer(&self, socket: &UdpSocket, remote: SocketAddr) -> anyhow::Result<Controlled> {
        self.flow(socket, Some(remote))
    }

    /// For what the connections of a socket receive; `None` where nothing is governed.
    pub fn receiving(&self, socket: &UdpSocket) -> anyhow::Result<Option<ReceiveGovernor>> {
        let window = endpoint::RECEIVE_WINDOW.into();
        let receiving = |governors: &Governors| governors.receiving(socket, window);
        let receiving = self.governors.as_ref().map(receiving).transpose();
        receiving.context("cannot watch the socket")
    }

    /// The base controller for a connection that cannot be watched.
    pub fn unwatched(&self) -> Controlled {
        Controlled {
            factory: factory(self.base),
            governor: None,
            watch: None,
        }
    }

    fn flow(&self, socket: &UdpSocket, peer: Option<SocketAddr>) -> anyhow::Result<Controlled> {
        if let Some(governors) = &self.governors {
            let governor = match peer {
                Some(peer) => governors.peer(socket, peer),
                None => governors.socket(socket),
            }
            .context("cannot watch the flow")?;
            let watch = governor.watch().cloned();
            return Ok(Controlled {
                factory: Arc::clone(&governor) as BaseFactory,
                governor: Some(governor),
                watch,
            });
        }
        // Not governed, but watched, so that signals are shown beside what the base does.
        let watch = self
            .source
            .signals()
            .map(|signals| {
                let target = WatchTarget::socket(socket);
                signals.watch(match peer {
                    Some(peer) => target.peer(peer),
                    None => target,
                })
            })
            .transpose()
            .context("cannot watch the flow")?;
        Ok(Controlled {
            factory: factory(self.base),
            governor: None,
            watch,
        })
    }
}

impl Controlled {
    /// A transport configuration with this controller.
    pub fn transport(&self) -> TransportConfig {
        let mut transport = endpoint::transport();
        transport.congestion_controller_factory(Arc::clone(&self.factory));
        transport
    }

    /// The same, for a connection whose qlog is written.
    pub fn logged_transport(&self, log: &DecisionLog, title: &str) -> TransportConfig {
        let mut transport = self.transport();
        if let Some(governor) = &self.governor {
            transport.congestion_controller_factory(governor.logged(log));
        }
        let mut config = log.config();
        config.title(Some(title.to_owned()));
        transport.qlog_stream(config.into_stream());
        transport
    }

    /// What governs the flow, if it is governed.
    pub fn governor(&self) -> Option<&Arc<Governor>> {
        self.governor.as_ref()
    }

    /// The flow as the source watches it; `None` without a source.
    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }
}

fn factory(base: Base) -> BaseFactory {
    match base {
        Base::Cubic => Arc::new(CubicConfig::default()),
        Base::NewReno => Arc::new(NewRenoConfig::default()),
        Base::Bbr => Arc::new(BbrConfig::default()),
    }
}
