//! The receiving law: stock senders, and a receiver that is the bottleneck.

use std::sync::Arc;
use std::time::Duration;

use netlab::sim::scenarios;
use netlab::sim::{Control, Outcome, Scenario, SharedFactory, WindowControl};
use quinn_governor::{ReceiveGovernor, ReceiveTuning};
use quinn_proto::congestion::{BbrConfig, CubicConfig};

use super::measure::{Figure, Subject, Variation};
use super::window;

/// A governor of windows with these numbers.
pub(crate) struct Receiving(&'static ReceiveTuning);

impl Subject for Receiving {
    type Control = WindowControl;

    fn control(&self) -> WindowControl {
        let tuning = self.0;
        window::governed(move |watch, window| ReceiveGovernor::with_tuning(watch, window, tuning))
    }
}

/// The standard, and then each number halved and doubled.
pub(crate) fn variations() -> Vec<Variation<Receiving>> {
    let mut variations = vec![Variation::standard(Receiving(&ReceiveTuning::STANDARD))];
    for name in ReceiveTuning::NAMES {
        for factor in [0.5, 2.0] {
            let tuning = ReceiveTuning::scaled(name, factor).expect("its own name");
            variations.push(Variation {
                name: (*name).to_owned(),
                value: ReceiveTuning::STANDARD.text(name).expect("its own name"),
                subject: Receiving(Box::leak(Box::new(tuning))),
            });
        }
    }
    variations
}

/// What is measured. How full the datagrams are that a held back sender sends is a matter of luck,
/// so drops and goodput are means of several runs.
pub(crate) fn figures() -> Vec<Figure<WindowControl>> {
    let mean = |name, unit, matters, scenario, measure| Figure {
        runs: 4,
        ..Figure::of_one_run(name, unit, matters, scenario, measure)
    };
    vec![
        mean("Cubic drops", "", 10.0, cubic, drops),
        mean("Cubic goodput", "Mbit/s", 0.2, cubic, goodput),
        Figure::of_one_run("Cubic recovers", "s", 0.5, cubic_recovers, recovery),
        mean("BBR drops", "", 20.0, bbr, drops),
        mean("BBR goodput", "Mbit/s", 0.3, bbr, goodput),
        Figure::of_one_run("BBR recovers", "s", 0.5, bbr_recovers, recovery),
    ]
}

fn cubic(control: WindowControl) -> Scenario {
    governed(
        scenarios::slow_receiver,
        Arc::new(CubicConfig::default()),
        control,
    )
}

fn bbr(control: WindowControl) -> Scenario {
    governed(
        scenarios::slow_receiver,
        Arc::new(BbrConfig::default()),
        control,
    )
}

fn cubic_recovers(control: WindowControl) -> Scenario {
    governed(recovering, Arc::new(CubicConfig::default()), control)
}

fn bbr_recovers(control: WindowControl) -> Scenario {
    governed(recovering, Arc::new(BbrConfig::default()), control)
}

fn governed(
    scenario: fn(Control) -> Scenario,
    base: SharedFactory,
    control: WindowControl,
) -> Scenario {
    let mut scenario = scenario(Control::Stock(base));
    scenario.window_control = Some(control);
    scenario
}

fn recovering(control: Control) -> Scenario {
    let mut scenario = scenarios::receiver_recovers(control);
    scenario.trace_interval = Some(STEP);
    scenario
}

/// Resolution of the time of a recovery.
const STEP: Duration = Duration::from_millis(100);

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn drops(outcome: &Outcome) -> f64 {
    outcome.flows[0].receive_drops as f64
}

fn goodput(outcome: &Outcome) -> f64 {
    outcome.total_goodput() / 1e6
}

/// Seconds from when the receiver reads faster until nine tenths of what it can take arrive for a
/// second; the rest of the run if they never do.
fn recovery(outcome: &Outcome) -> f64 {
    let (span, goal) = (
        Duration::from_secs(1),
        0.9 * scenarios::RECOVERED_RATE as f64,
    );
    let mut from = scenarios::RECEIVER_RECOVERS;
    while from + span < outcome.duration && outcome.trace.goodput(0, from, from + span) < goal {
        from += STEP;
    }
    (from - scenarios::RECEIVER_RECOVERS).as_secs_f64()
}
