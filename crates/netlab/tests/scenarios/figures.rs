//! Figures against bounds.

use std::time::Duration;

use netlab::sim::scenarios::{self, Kind};
use netlab::sim::{Control, Outcome, Scenario};

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Within(f64, f64),
}

pub(crate) use Bound::{AtLeast, AtMost, Within};

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            AtMost(bound) => figure <= bound,
            AtLeast(bound) => figure >= bound,
            Within(low, high) => (low..=high).contains(&figure),
        }
    }

    fn text(self) -> String {
        match self {
            AtMost(bound) => format!("<= {bound:.3}"),
            AtLeast(bound) => format!(">= {bound:.3}"),
            Within(low, high) => format!("{low:.3} .. {high:.3}"),
        }
    }
}

/// A scenario's figures against its bounds.
pub(crate) struct Table {
    name: String,
    broken: Vec<String>,
}

impl Table {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            broken: Vec::new(),
        }
    }

    /// Something to know that has no bound.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        println!("{:<34} {}", self.name, text.as_ref());
    }

    /// What must hold.
    pub(crate) fn holds(&mut self, what: &str, figure: f64, bound: Bound) {
        self.report(what, figure, bound);
        let line = self.line(what, figure, bound);
        if bound.holds(figure) {
            println!("{line}  ok");
        } else {
            println!("{line}  BROKEN");
            self.broken.push(line);
        }
    }

    /// A goal that is not reached everywhere, and a bound that must hold.
    pub(crate) fn aims(&mut self, what: &str, figure: f64, goal: Bound, bound: Bound) {
        self.report(what, figure, goal);
        let verdict = if goal.holds(figure) { "met" } else { "MISSED" };
        println!("{}  {verdict}", self.line(what, figure, goal));
        if !bound.holds(figure) {
            let line = self.line(what, figure, bound);
            println!("{line}  BROKEN");
            self.broken.push(line);
        }
    }

    /// A row for a program to read, where all figures are wanted.
    fn report(&self, what: &str, figure: f64, bound: Bound) {
        if reports() {
            let (bound, holds) = (bound.text(), bound.holds(figure));
            println!("ROW\t{}\t{what}\t{figure:.3}\t{bound}\t{holds}", self.name);
        }
    }

    /// # Panics
    ///
    /// When something that must hold did not; not where the environment has `SCENARIOS_REPORT`,
    /// because all figures are wanted (an ablation).
    pub(crate) fn finish(self) {
        assert!(reports() || self.broken.is_empty(), "{:#?}", self.broken);
    }

    fn line(&self, what: &str, figure: f64, bound: Bound) -> String {
        format!(
            "{:<34} {what:<42} {figure:>9.3}  {:<16}",
            self.name,
            bound.text()
        )
    }
}

/// Whether all figures are wanted, as of an ablation.
pub(crate) fn reports() -> bool {
    std::env::var_os("SCENARIOS_REPORT").is_some()
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One number by another; 0 by 0 is 0.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}

/// Datagrams lost, by those that stock lost.
pub(crate) fn lost_ratio(governed: &Outcome, stock: &Outcome) -> f64 {
    ratio(governed.lost_packets() as f64, stock.lost_packets() as f64)
}

/// The median round trip of a scenario's path when nothing waits.
pub(crate) fn idle(scenario: &Scenario, control: Control) -> f64 {
    let mut idle = scenarios::idle(scenario, control);
    idle.egress.rate_changes.clear();
    idle.signals = Default::default();
    ms(idle.run().flows[0].rtt.p50)
}

/// What left the egress, by what could have.
pub(crate) fn use_of_link(outcome: &Outcome, rate: u64) -> f64 {
    let bits = outcome.links[0].sent_bytes as f64 * 8.0;
    bits / rate as f64 / outcome.duration.as_secs_f64()
}

/// A line on a run's first flow.
pub(crate) fn summary(who: &str, outcome: &Outcome) -> String {
    let flow = &outcome.flows[0];
    let base = flow.base_peak_window.unwrap_or(flow.peak_window);
    format!(
        "{who:<9} lost {:>6} of {:>6}  p50 {:>6.2} p99 {:>6.2} ms  {:>7.2} Mbit/s  \
         all {:>7.2}  base peak {:>6} kB  EAGAIN {}",
        outcome.lost_packets(),
        outcome
            .flows
            .iter()
            .map(|flow| flow.sent_packets)
            .sum::<u64>(),
        ms(flow.rtt.p50),
        ms(flow.rtt.p99),
        flow.goodput / 1e6,
        outcome.total_goodput() / 1e6,
        base / 1000,
        flow.blocked_sends,
    )
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Bucket, Kind::Device];

pub(crate) fn name(scenario: &str, detail: impl std::fmt::Debug) -> String {
    format!("{scenario} {detail:?}")
        .to_lowercase()
        .replace('"', "")
}
