//! A stock and a governed sender, one after the other over the same path, side by side.

mod chart;
mod network;
mod picture;
mod progress;
mod side;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use self::network::UplinkOptions;
use self::network::{Network, NetworkKind};
use self::progress::Course;
use self::side::{Side, Summary};
use crate::args::{Base, SourceChoice, Switch};
use crate::report::{SenderReport, print_json};
use crate::source::Source;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The controller that works alone, and under the governor.
    pub base: Base,
    /// Where signals come from.
    pub source: SourceChoice,
    /// For how long each of the two sends.
    pub seconds: Duration,
    /// The path.
    pub uplink: UplinkOptions,
    /// Where to draw what happened.
    pub svg: Option<PathBuf>,
    /// Whether to print the result as one JSON object, too.
    pub json: bool,
}

/// The result for a machine.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    stock: &'a SenderReport,
    governed: &'a SenderReport,
    source: &'a str,
    network: NetworkKind,
    /// The round trip of the path with an empty queue, in microseconds.
    idle_rtt_us: u64,
    summary: Summaries,
}

/// The figures of the table.
#[derive(Debug, Serialize)]
struct Summaries {
    stock: Summary,
    governed: Summary,
}

/// Measures both and shows the result. Call it while the process has one thread: it may have to
/// move into a user namespace.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    // Nothing can be loaded from within a user namespace.
    let source = Source::choose(plan.source)?;
    crate::say!("{}", source.notice());
    let network = Network::lay(&plan.uplink)?;
    crate::say!("{network}");
    let runtime = tokio::runtime::Runtime::new()?;
    let mut course = Course::new(plan.seconds);
    let mut measure =
        |governor| side::measure(&network, &runtime, &source, plan, governor, &mut course);
    let stock = measure(Switch::Off)?;
    if stock.interrupted {
        return Ok(());
    }
    let governed = measure(Switch::On)?;
    let idle = Side::idle_round_trip([&stock, &governed]);
    let summaries = [&stock, &governed].map(|side| side.summary(idle));
    crate::say!("\n{}", table::of(&summaries, &source, network.kind()));
    crate::say!("{}", chart::of([&stock, &governed], &network));
    if let Some(file) = &plan.svg {
        picture::draw(file, [&stock, &governed], &network)?;
        crate::say!("drawn: {}", file.display());
    }
    if plan.json {
        let [in_stock, in_governed] = summaries;
        print_json(&Comparison {
            stock: &stock.report,
            governed: &governed.report,
            source: source.name(),
            network: network.kind(),
            idle_rtt_us: idle,
            summary: Summaries {
                stock: in_stock,
                governed: in_governed,
            },
        })?;
    }
    Ok(())
}
