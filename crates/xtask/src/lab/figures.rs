//! What is measured of a run, and how several runs are summed up.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What is measured of the governed flows, or of the stock ones in their place. In the order of
/// the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Payload that arrived, by the time of sending.
    GoodputMbps,
    /// The same from the second second on, without what still waited at the end.
    SteadyGoodputMbps,
    /// Payload of the others on the same queue.
    OthersMbps,
    /// The flows' part of all payload.
    SharePercent,
    /// What left the bottleneck, headers included, by what could have.
    LinkUsePercent,
    /// Packets that loss recovery gave up.
    LostPackets,
    /// Drops of the bottleneck's queue, of all packets; a batch dropped whole is one.
    QueueDrops,
    /// These, and packets that it marked (ECN).
    DropsAndMarks,
    /// Datagrams that found no room in the receiver's socket.
    ReceiverDrops,
    RttP50Ms,
    RttP99Ms,
    WindowP50Kb,
    WindowMaxKb,
    /// Jain's index of the flows' goodput, all of them started.
    Fairness,
    BurstP50Ms,
    BurstMaxMs,
    /// Longest time in which nothing arrived.
    StallMs,
    /// Round trip from 10 to 20 idle round trips after the rate has fallen, the median.
    RttAfterFallMs,
    /// From the rise of the rate until nine tenths of it arrive, over half a second.
    RiseSeconds,
    /// Goodput since the probes are gone; of stock, in the same time.
    LaterGoodputMbps,
    /// Most packets lost within a second, since the probes are gone; of stock, at any time.
    WorstSecondLost,
    /// Time that a peer takes to connect, the median.
    ConnectMs,
    /// Round trip from two seconds after a disturbance on, the median.
    RecoveredRttMs,
    /// Packets lost from then on.
    RecoveredLost,
    /// Goodput from then on.
    RecoveredGoodputMbps,
    /// Reductions of the governor for what it took for a drop of the local queue.
    LocalReductions,
    /// Time that the window was under the base controller's, all flows together.
    CappedSeconds,
}

impl Figure {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::GoodputMbps => "goodput, Mbit/s",
            Self::SteadyGoodputMbps => "goodput from 1 s on, Mbit/s",
            Self::OthersMbps => "the others' goodput, Mbit/s",
            Self::SharePercent => "share of all goodput, %",
            Self::LinkUsePercent => "use of the link, %",
            Self::LostPackets => "packets lost",
            Self::QueueDrops => "drops of the queue",
            Self::DropsAndMarks => "drops and marks of the queue",
            Self::ReceiverDrops => "drops of the receiver",
            Self::RttP50Ms => "round trip p50, ms",
            Self::RttP99Ms => "round trip p99, ms",
            Self::WindowP50Kb => "window p50, kB",
            Self::WindowMaxKb => "window max, kB",
            Self::Fairness => "fairness (Jain)",
            Self::BurstP50Ms => "time of a burst p50, ms",
            Self::BurstMaxMs => "time of a burst max, ms",
            Self::StallMs => "longest stall, ms",
            Self::RttAfterFallMs => "round trip after the fall, ms",
            Self::RiseSeconds => "time to 90 % after the rise, s",
            Self::LaterGoodputMbps => "goodput without probes, Mbit/s",
            Self::WorstSecondLost => "lost in the worst second",
            Self::ConnectMs => "time to connect, ms",
            Self::RecoveredRttMs => "round trip afterwards, ms",
            Self::RecoveredLost => "lost afterwards",
            Self::RecoveredGoodputMbps => "goodput afterwards, Mbit/s",
            Self::LocalReductions => "reductions for local drops",
            Self::CappedSeconds => "window capped, s",
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::LostPackets
            | Self::QueueDrops
            | Self::DropsAndMarks
            | Self::ReceiverDrops
            | Self::WindowP50Kb
            | Self::WindowMaxKb
            | Self::StallMs
            | Self::WorstSecondLost
            | Self::RecoveredLost
            | Self::LocalReductions => 0,
            Self::Fairness => 3,
            Self::RiseSeconds | Self::CappedSeconds => 2,
            _ => 1,
        }
    }

    /// A value as the table shows it.
    pub(super) fn show(self, value: f64) -> String {
        format!("{value:.*}", self.decimals())
    }
}

/// The figures of one run.
pub(super) type Figures = BTreeMap<Figure, f64>;

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    #[serde(skip)]
    rounds: usize,
}

impl Summary {
    /// `None` of nothing. The median of an even number is the mean of the two in the middle.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values = Vec::from_iter(values);
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let upper = *values.get(half)?;
        let lower = values[values.len() - 1 - half];
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: values[0],
            max: values[values.len() - 1],
            rounds: values.len(),
        })
    }

    /// As a cell of the table: the median and, of several rounds, the spread.
    pub(super) fn show(&self, figure: Figure) -> String {
        let median = figure.show(self.median);
        if self.rounds < 2 {
            return median;
        }
        let spread = [self.min, self.max].map(|end| figure.show(end));
        format!("{median} ({})", spread.join(".."))
    }
}

/// Every figure that was measured in some of these runs.
pub(super) fn summarise<'a>(
    runs: impl IntoIterator<Item = &'a Figures>,
) -> BTreeMap<Figure, Summary> {
    let mut values: BTreeMap<Figure, Vec<f64>> = BTreeMap::new();
    for (&figure, &value) in runs.into_iter().flatten() {
        values.entry(figure).or_default().push(value);
    }
    values
        .into_iter()
        .filter_map(|(figure, values)| Some((figure, Summary::of(values)?)))
        .collect()
}

/// One figure by another; nothing by nothing is 0.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    Stock,
    Governed,
    /// Governed by the socket source, beside those that probes govern.
    BySocket,
    /// Stock, with a small send buffer.
    SmallBuffer,
    /// Stock, with a send buffer that follows the measured rate.
    Gate,
    /// quinn paced at the bottleneck's rate, which has to be known.
    FixedRate,
    TcpCubic,
    TcpBbr,
}

impl Side {
    /// All, in the order of a table: both sources first, what a client does instead, TCP in its
    /// place.
    pub(super) const ALL: [Self; 8] = [
        Self::Stock,
        Self::Governed,
        Self::BySocket,
        Self::SmallBuffer,
        Self::Gate,
        Self::FixedRate,
        Self::TcpCubic,
        Self::TcpBbr,
    ];

    /// As the kernel names the congestion control of TCP; `None` of QUIC.
    pub(super) fn tcp(self) -> Option<&'static str> {
        match self {
            Self::TcpCubic => Some("cubic"),
            Self::TcpBbr => Some("bbr"),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Governed => "governed",
            Self::BySocket => "governed, socket source",
            Self::SmallBuffer => "small SO_SNDBUF",
            Self::Gate => "SO_SNDBUF of 2 ms",
            Self::FixedRate => "fixed rate",
            Self::TcpCubic => "TCP Cubic",
            Self::TcpBbr => "TCP BBR",
        }
    }

    pub(super) fn is_governed(self) -> bool {
        matches!(self, Self::Governed | Self::BySocket)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_at_the_ends() {
        let odd = Summary::of([5.0, 1.0, 3.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 3.0, 5.0));
        let even = Summary::of([4.0, 1.0, 2.0, 8.0]).unwrap();
        assert_eq!((even.min, even.median, even.max), (1.0, 3.0, 8.0));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn a_single_round_has_no_spread_to_show() {
        let show = |values: &[f64]| {
            let summary = Summary::of(values.iter().copied()).unwrap();
            summary.show(Figure::RttP50Ms)
        };
        assert_eq!(show(&[21.27]), "21.3");
        assert_eq!(show(&[21.27, 20.0, 23.0]), "21.3 (20.0..23.0)");
    }

    #[test]
    fn a_figure_is_summed_up_over_the_runs_that_have_it() {
        let runs = [
            Figures::from([(Figure::LostPackets, 3.0), (Figure::StallMs, 40.0)]),
            Figures::from([(Figure::LostPackets, 5.0)]),
        ];
        let summaries = summarise(&runs);
        assert_eq!(summaries[&Figure::LostPackets].median, 4.0);
        assert_eq!(summaries[&Figure::StallMs].median, 40.0);
    }

    #[test]
    fn nothing_by_nothing_is_nothing_and_something_by_nothing_is_infinite() {
        assert_eq!(ratio(0.0, 0.0), 0.0);
        assert_eq!(ratio(1.0, 0.0), f64::INFINITY);
    }
}
