//! Results, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use examples::table::Table;
use serde::Serialize;

use super::BOTH;
use super::check::{Measured, Verdict};
use super::choices::{BottleneckAt, Signals};
use super::figures::{Figure, Figures, Side, Summary, ratio, summarise};
use super::parameters::Parameters;
use super::scenarios::Scenario;

/// Everything that one call of the lab measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of the last minute before the start.
    pub(super) load_average: f64,
    pub(super) processors: usize,
    pub(super) kernel: String,
    /// Whether checks were held against wide bounds.
    pub(super) wide: bool,
    pub(super) scenarios: Vec<ScenarioReport>,
}

/// The figures that matter most in a picture.
const DRAWN: [Figure; 4] = [
    Figure::LostPackets,
    Figure::RttP50Ms,
    Figure::GoodputMbps,
    Figure::SharePercent,
];

/// What was before the first run of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Of this machine, in the last minute.
    pub(super) load_average: f64,
    /// Round trip of the idle path, the median.
    pub(super) idle_ms: f64,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// From 1.
    pub(super) round: u32,
    pub(super) side: Side,
    pub(super) figures: Figures,
}

/// A figure of both.
#[derive(Debug, Serialize)]
struct Comparison {
    stock: Option<Summary>,
    governed: Option<Summary>,
    /// Of those that are compared with these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    others: BTreeMap<Side, Summary>,
    /// Of the medians: governed by stock. Null where stock has 0 and governed has not.
    ratio: Option<f64>,
}

/// What came of a scenario.
#[derive(Debug, Serialize)]
pub(super) struct ScenarioReport {
    name: &'static str,
    about: &'static str,
    parameters: Parameters,
    /// Of the last minute before the first run.
    load_average: f64,
    /// Round trip of the idle path, the median.
    idle_ms: f64,
    figures: BTreeMap<Figure, Comparison>,
    checks: Vec<Verdict>,
    /// What makes figures doubtful.
    notes: Vec<String>,
    runs: Vec<Run>,
    /// Where it is drawn.
    pub(super) plot: Option<PathBuf>,
}

impl ScenarioReport {
    pub(super) fn new(
        scenario: &Scenario,
        parameters: Parameters,
        before: Before,
        runs: Vec<Run>,
        notes: Vec<String>,
        wide: bool,
    ) -> Self {
        let Before {
            load_average,
            idle_ms,
        } = before;
        let of = |side: Side| {
            let runs = runs.iter().filter(move |run| run.side == side);
            summarise(runs.map(|run| &run.figures))
        };
        let measured = Measured {
            stock: of(Side::Stock),
            governed: of(Side::Governed),
            idle_ms,
        };
        let others = runs.iter().map(|run| run.side);
        let others: BTreeSet<Side> = others.filter(|side| !BOTH.contains(side)).collect();
        let others = others.into_iter().map(|side| (side, of(side))).collect();
        let checks = (scenario.checks)(&parameters);
        let verdicts = checks
            .iter()
            .filter_map(|check| Verdict::of(check, &measured, wide));
        Self {
            name: scenario.name,
            about: scenario.about,
            parameters,
            load_average,
            idle_ms,
            checks: verdicts.collect(),
            figures: compare(&measured, &others),
            notes,
            runs,
            plot: None,
        }
    }

    pub(super) fn missed(&self) -> usize {
        self.checks.iter().filter(|check| check.fails()).count()
    }

    /// The run of a side that comes nearest to its medians, by the figures that a picture shows.
    pub(super) fn typical(&self, side: Side) -> Option<usize> {
        let distance = |run: &Run| -> f64 {
            let distances = DRAWN.iter().filter_map(|figure| {
                let compared = self.figures.get(figure)?;
                let summary = match side {
                    Side::Stock => compared.stock?,
                    Side::Governed => compared.governed?,
                    other => *compared.others.get(&other)?,
                };
                let apart = (run.figures.get(figure)? - summary.median).abs();
                // Relative, so that no unit weighs more than another.
                Some(apart / summary.median.max(1.0))
            });
            distances.sum()
        };
        let runs = self.runs.iter().enumerate();
        let of_side = runs.filter(|(_, run)| run.side == side);
        let nearest = of_side.min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
        nearest.map(|(index, _)| index)
    }

    /// A line about the figures that matter most, for a plot.
    pub(super) fn headline(&self) -> String {
        let part = |figure: &Figure| {
            let compared = self.figures.get(figure)?;
            let (stock, governed) = (compared.stock?, compared.governed?);
            let [stock, governed] = [stock, governed].map(|summary| figure.show(summary.median));
            Some(format!("{}: {stock} / {governed}", figure.label()))
        };
        let parts: Vec<_> = DRAWN.iter().filter_map(part).collect();
        parts.join("  ·  ")
    }
}

fn compare(
    measured: &Measured,
    others: &BTreeMap<Side, BTreeMap<Figure, Summary>>,
) -> BTreeMap<Figure, Comparison> {
    let both = measured.stock.keys().chain(measured.governed.keys());
    let compared = both.map(|&figure| {
        let stock = measured.stock.get(&figure).copied();
        let governed = measured.governed.get(&figure).copied();
        let ratio = governed
            .zip(stock)
            .map(|(governed, stock)| ratio(governed.median, stock.median))
            .filter(|ratio| ratio.is_finite());
        let comparison = Comparison {
            stock,
            governed,
            others: others
                .iter()
                .filter_map(|(&side, figures)| Some((side, *figures.get(&figure)?)))
                .collect(),
            ratio,
        };
        (figure, comparison)
    });
    compared.collect()
}

impl fmt::Display for ScenarioReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.about)?;
        writeln!(
            f,
            "{}; idle path {:.1} ms, load average {:.1}",
            self.parameters, self.idle_ms, self.load_average
        )?;
        let labels = self.figures.keys().map(|figure| figure.label());
        let width = labels.map(str::len).max().unwrap_or(0);
        let others = self
            .figures
            .values()
            .flat_map(|figure| figure.others.keys());
        let others: BTreeSet<Side> = others.copied().collect();
        let mut columns = vec!["", "stock", "governed", "ratio"];
        columns.extend(others.iter().map(|side| side.name()));
        let mut table = Table::new(columns);
        for (figure, compared) in &self.figures {
            let cell = |summary: Option<Summary>| {
                summary.map_or_else(|| "-".to_owned(), |summary| summary.show(*figure))
            };
            let ratio = compared.ratio.map(|ratio| format!("{ratio:.3}"));
            let mut row = vec![
                format!("{:width$}", figure.label()),
                cell(compared.stock),
                cell(compared.governed),
                ratio.unwrap_or_else(|| "-".into()),
            ];
            row.extend(
                others
                    .iter()
                    .map(|side| cell(compared.others.get(side).copied())),
            );
            table.row(row);
        }
        write!(f, "{table}")?;
        for check in &self.checks {
            writeln!(f, "  {check}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        if let Some(plot) = &self.plot {
            writeln!(f, "  plot: {}", plot.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base {:?}", self.base)?;
        match self.source {
            Signals::Ebpf => {}
            Signals::Socket => write!(f, ", governed by the socket source")?,
            source => write!(f, ", source {}", source.name())?,
        }
        match self.bottleneck {
            BottleneckAt::SameHost => write!(f, ", over loopback")?,
            place => {
                let at = match place {
                    BottleneckAt::Remote => "one hop on",
                    _ => "in the own host",
                };
                write!(
                    f,
                    ", {} Mbit/s and {} kB of queue {at}, a round trip of {} ms",
                    self.rate_mbps, self.queue_kb, self.delay_ms
                )?;
            }
        }
        if let Some(tree) = self.tree {
            write!(f, ", {tree:?} for the token bucket")?;
        }
        if let Some(rate) = self.next_hop_mbps {
            write!(
                f,
                ", then {rate} Mbit/s and {} kB one hop on",
                self.next_hop_kb
            )?;
        }
        let mut also = |there: bool, what: String| {
            if there { write!(f, ", {what}") } else { Ok(()) }
        };
        also(
            self.jitter_ms > 0.0,
            format!("{} ms of jitter", self.jitter_ms),
        )?;
        also(
            self.loss_percent > 0.0,
            format!("{} % lost on the path", self.loss_percent),
        )?;
        also(
            self.policy_percent > 0.0,
            format!("{} % dropped by a filter", self.policy_percent),
        )?;
        if let Some(step) = self.step_mbps {
            also(true, format!("{step} Mbit/s in the middle third"))?;
        }
        also(
            self.flows > 1,
            format!("{} flows, {} s apart", self.flows, self.stagger_s),
        )?;
        also(
            self.peers > 0,
            format!("{} peers of one socket", self.peers),
        )?;
        also(self.tcp > 0, format!("beside {} TCP", self.tcp))?;
        also(
            self.rivals > 0,
            format!("beside {} stock QUIC", self.rivals),
        )?;
        if let Some(buffer) = self.receive_buffer_kb {
            also(true, format!("{buffer} kB to receive"))?;
        }
        also(
            self.busy > 0,
            format!("{} threads keep processors busy", self.busy),
        )?;
        if let Some(burst) = self.burst_kb {
            also(
                true,
                format!("bursts of {burst} kB, {} ms between", self.pause_ms),
            )?;
        }
        if let Some(share) = self.detach {
            also(
                true,
                format!("probes gone after {} s", share * self.seconds),
            )?;
        }
        let rounds = if self.rounds == 1 { "round" } else { "rounds" };
        write!(f, "; {} s, {} {rounds} of each", self.seconds, self.rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stock: &[f64], governed: &[f64]) -> ScenarioReport {
        let of = |side, values: &[f64]| -> Vec<Run> {
            let run = |(&lost, round)| Run {
                round,
                side,
                figures: Figures::from([
                    (Figure::LostPackets, lost),
                    (Figure::GoodputMbps, 46.0),
                    (Figure::RttP50Ms, 21.5),
                    (Figure::RttP99Ms, 22.5),
                    (Figure::LinkUsePercent, 99.0),
                ]),
            };
            values.iter().zip(1..).map(run).collect()
        };
        let mut runs = of(Side::Stock, stock);
        runs.extend(of(Side::Governed, governed));
        let scenario = Scenario::named("local-queue").unwrap();
        let before = Before {
            load_average: 0.5,
            idle_ms: 20.5,
        };
        ScenarioReport::new(scenario, scenario.own(), before, runs, Vec::new(), false)
    }

    #[test]
    fn the_table_shows_medians_spreads_ratios_and_verdicts() {
        let shown = report(&[300.0, 340.0, 350.0], &[0.0, 1.0, 2.0]).to_string();
        for part in [
            "idle path 20.5 ms, load average 0.5",
            "340 (300..350)",
            "1 (0..2)",
            "0.003",
            "holds   packets lost: governed by stock: 0.003, must be at most 0.01",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("MISSED"), "{shown}");
    }

    #[test]
    fn what_is_missed_is_counted_and_shown() {
        let report = report(&[100.0], &[50.0]);
        assert_eq!(report.missed(), 1);
        assert_eq!(report.to_string().matches("MISSED").count(), 1);
    }

    #[test]
    fn the_run_nearest_to_the_medians_is_typical() {
        let report = report(&[300.0, 340.0, 350.0], &[7.0, 1.0, 0.0]);
        assert_eq!(report.typical(Side::Stock), Some(1));
        assert_eq!(report.typical(Side::Governed), Some(4));
    }

    #[test]
    fn json_names_figures_and_leaves_out_what_is_infinite() {
        let report = report(&[0.0], &[50.0]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["figures"]["lost_packets"]["stock"]["median"], 0.0);
        assert_eq!(
            json["figures"]["lost_packets"]["ratio"],
            serde_json::Value::Null
        );
        assert_eq!(json["checks"][0]["value"], serde_json::Value::Null);
        assert_eq!(json["checks"][0]["holds"], false);
        assert_eq!(json["runs"][1]["side"], "governed");
    }
}
