//! Who sends.

use std::sync::Arc;
use std::thread;

use netlab::sim::{Control, Outcome, Process, Scenario, SharedFactory};
use quinn_governor::{GovernorConfig, Governors, Mechanism, Tuning};
use quinn_proto::congestion::{BbrConfig, CubicConfig, NewRenoConfig};

/// The law as it is; or what the environment says: `SCENARIOS_WITHOUT` one of its mechanisms, or with
/// a number changed by `SCENARIOS_NUMBER=name*factor`.
fn config() -> GovernorConfig {
    let mut config = GovernorConfig::default();
    if let Ok(name) = std::env::var("SCENARIOS_WITHOUT") {
        let mut all = Mechanism::ALL.iter();
        let mechanism = all.find(|mechanism| mechanism.name() == name);
        config.without(*mechanism.expect("a mechanism of the law"));
    }
    if let Ok(change) = std::env::var("SCENARIOS_NUMBER") {
        let (name, factor) = change.split_once('*').expect("name*factor");
        let factor = factor.parse().expect("a factor");
        let tuning = Tuning::scaled(name, factor).expect("a number of the law");
        config.tuning(Box::leak(Box::new(tuning)));
    }
    config
}

/// A base controller with its name.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) name: &'static str,
    factory: SharedFactory,
}

impl Base {
    pub(crate) fn cubic() -> Self {
        Self {
            name: "cubic",
            factory: Arc::new(CubicConfig::default()),
        }
    }

    pub(crate) fn new_reno() -> Self {
        Self {
            name: "newreno",
            factory: Arc::new(NewRenoConfig::default()),
        }
    }

    pub(crate) fn bbr() -> Self {
        Self {
            name: "bbr",
            factory: Arc::new(BbrConfig::default()),
        }
    }

    pub(crate) fn all() -> [Self; 3] {
        [Self::cubic(), Self::new_reno(), Self::bbr()]
    }

    /// Alone.
    pub(crate) fn stock(&self) -> Control {
        Control::Stock(Arc::clone(&self.factory))
    }

    /// Under a governor, all flows in one process.
    pub(crate) fn governed(&self) -> Control {
        let base = Arc::clone(&self.factory);
        let config = config();
        Control::Governed(Process::new(move |context| {
            let governors = Governors::builder(context.source())
                .config(config)
                .base(context.observed_base(Arc::clone(&base)))
                .build()
                .expect("the default configuration is valid");
            Box::new(move |watch| governors.watch(watch))
        }))
    }
}

/// The same scenario with either sender.
pub(crate) struct Pair {
    pub(crate) stock: Outcome,
    pub(crate) governed: Outcome,
}

impl Pair {
    /// Runs both, at the same time.
    pub(crate) fn run(base: &Base, scenario: impl Fn(Control) -> Scenario) -> Self {
        let (stock, governed) = (scenario(base.stock()), scenario(base.governed()));
        thread::scope(|scope| {
            let stock = scope.spawn(move || stock.run());
            let governed = governed.run();
            Self {
                stock: stock.join().expect("the run with stock ended"),
                governed,
            }
        })
    }
}
