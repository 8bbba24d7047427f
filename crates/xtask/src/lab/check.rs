//! What must hold of a scenario's figures.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::figures::{Figure, Summary, ratio};

/// What a quantity must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Within(f64, f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Within(low, high) => (low..=high).contains(&value),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::Within(low, high) => write!(f, "{low} to {high}"),
        }
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is held against a bound: medians over the rounds, and what is made of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quantity {
    /// As the governed flows have it.
    Governed(Figure),
    /// As the governed flows have it, by what stock has.
    Ratio(Figure),
    /// What the governed flows have above the idle path's round trip, ms.
    OverIdle(Figure),
    /// Between the spreads of the two, by stock's median: 0 where they overlap.
    Gap(Figure),
    /// What the governed flows have above stock's.
    More(Figure),
    /// The governed flows' greatest by stock's least: under 1 where it is less for sure.
    Surely(Figure),
}

impl Quantity {
    fn figure(self) -> Figure {
        match self {
            Self::Governed(figure)
            | Self::Ratio(figure)
            | Self::OverIdle(figure)
            | Self::Gap(figure)
            | Self::More(figure)
            | Self::Surely(figure) => figure,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.figure().label();
        match self {
            Self::Governed(_) => write!(f, "{label}: governed"),
            Self::Ratio(_) => write!(f, "{label}: governed by stock"),
            Self::OverIdle(_) => write!(f, "{label}: governed, above the idle path's"),
            Self::More(_) => write!(f, "{label}: governed less stock"),
            Self::Gap(_) => write!(f, "{label}: between the spreads, by stock's median"),
            Self::Surely(_) => write!(f, "{label}: governed at its most by stock at its least"),
        }
    }
}

/// A quantity and its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Check {
    pub(super) quantity: Quantity,
    /// The goal.
    pub(super) goal: Bound,
    /// What holds on a machine that is busy with other things; `None` for what may be anything
    /// there.
    pub(super) wide: Option<Bound>,
    /// What holds where the goal is known to be missed.
    pub(super) known: Option<Bound>,
}

/// A check without wide bounds.
pub(super) const fn check(quantity: Quantity, goal: Bound) -> Check {
    Check {
        quantity,
        goal,
        wide: None,
        known: None,
    }
}

impl Check {
    /// A goal that is known to be missed: it is shown as missed, and `--check` applies this bound.
    pub(super) const fn known_to_miss(self, bound: Bound) -> Self {
        Self {
            known: Some(bound),
            ..self
        }
    }

    /// With these bounds where the machine is busy.
    pub(super) const fn or(self, wide: Bound) -> Self {
        Self {
            wide: Some(wide),
            ..self
        }
    }
}

/// What was measured, summed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) stock: BTreeMap<Figure, Summary>,
    pub(super) governed: BTreeMap<Figure, Summary>,
    /// Round trip of the idle path, the median; ms.
    pub(super) idle_ms: f64,
}

/// A check against figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    what: String,
    figure: Figure,
    /// The quantity; null if it is infinite, or was not measured.
    value: f64,
    stock: Option<f64>,
    governed: Option<f64>,
    bound: Bound,
    pub(super) holds: bool,
    /// What holds where the goal is known to be missed.
    known: Option<Bound>,
}

impl Verdict {
    /// `None` where this check has no bound to hold against. What was not measured does not hold.
    pub(super) fn of(check: &Check, measured: &Measured, wide: bool) -> Option<Self> {
        let bound = if wide { check.wide? } else { check.goal };
        let figure = check.quantity.figure();
        let (stock, governed) = (measured.stock.get(&figure), measured.governed.get(&figure));
        let median = |summary: Option<&Summary>| summary.map(|summary| summary.median);
        let value = || {
            Some(match check.quantity {
                Quantity::Governed(_) => median(governed)?,
                Quantity::Ratio(_) => ratio(median(governed)?, median(stock)?),
                Quantity::OverIdle(_) => median(governed)? - measured.idle_ms,
                Quantity::More(_) => median(governed)? - median(stock)?,
                Quantity::Surely(_) => ratio(governed?.max, stock?.min),
                Quantity::Gap(_) => {
                    let (stock, governed) = (stock?, governed?);
                    let apart = (governed.min - stock.max).max(stock.min - governed.max);
                    ratio(apart.max(0.0), stock.median)
                }
            })
        };
        let value = value().unwrap_or(f64::NAN);
        Some(Self {
            what: check.quantity.to_string(),
            figure,
            value,
            stock: median(stock),
            governed: median(governed),
            bound,
            holds: bound.holds(value),
            known: check.known,
        })
    }

    /// Whether it is worse than the goal, and than what is known.
    pub(super) fn fails(&self) -> bool {
        !self.holds && !self.known.is_some_and(|known| known.holds(self.value))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "holds " } else { "MISSED" };
        let both = [self.stock, self.governed].map(|median| {
            median.map_or_else(|| "not measured".into(), |median| self.figure.show(median))
        });
        write!(
            f,
            "{verdict}  {}: {:.3}, must be {} (stock {}, governed {})",
            self.what, self.value, self.bound, both[0], both[1]
        )?;
        match self.known {
            Some(known) if !self.holds => write!(f, "; known, and {known} has to hold"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bound::{AtLeast, AtMost, Within};
    use super::*;

    fn measured(stock: &[f64], governed: &[f64]) -> Measured {
        let summary = |values: &[f64]| {
            let summary = Summary::of(values.iter().copied()).unwrap();
            BTreeMap::from([(Figure::LostPackets, summary)])
        };
        Measured {
            stock: summary(stock),
            governed: summary(governed),
            idle_ms: 20.0,
        }
    }

    fn holds(quantity: Quantity, bound: Bound, measured: &Measured) -> bool {
        let verdict = Verdict::of(&check(quantity, bound), measured, false);
        verdict.unwrap().holds
    }

    #[test]
    fn bounds_include_their_ends() {
        for (bound, inside, outside) in [
            (AtMost(2.0), 2.0, 2.1),
            (AtLeast(2.0), 2.0, 1.9),
            (Within(1.0, 2.0), 1.0, 2.1),
        ] {
            assert!(bound.holds(inside) && !bound.holds(outside), "{bound}");
            assert!(!bound.holds(f64::NAN), "{bound}");
        }
    }

    #[test]
    fn quantities_are_made_of_medians() {
        let lost = Figure::LostPackets;
        let measured = measured(&[300.0, 400.0, 350.0], &[35.0, 21.0, 22.0]);
        assert!(holds(
            Quantity::Governed(lost),
            Within(22.0, 22.0),
            &measured
        ));
        assert!(holds(
            Quantity::Ratio(lost),
            Within(0.0628, 0.0629),
            &measured
        ));
        assert!(holds(Quantity::OverIdle(lost), Within(2.0, 2.0), &measured));
        let surely = Quantity::Surely(lost);
        assert!(holds(surely, Within(0.116, 0.117), &measured));
        let gap = (300.0 - 35.0) / 350.0;
        assert!(holds(Quantity::Gap(lost), Within(gap, gap), &measured));
    }

    #[test]
    fn spreads_that_overlap_have_no_gap() {
        let measured = measured(&[10.0, 20.0], &[19.0, 30.0]);
        let gap = Quantity::Gap(Figure::LostPackets);
        assert!(holds(gap, AtMost(0.0), &measured));
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let measured = Measured::default();
        for bound in [AtMost(1e9), AtLeast(-1e9)] {
            assert!(!holds(
                Quantity::Governed(Figure::StallMs),
                bound,
                &measured
            ));
        }
    }

    #[test]
    fn wide_bounds_replace_goals() {
        let measured = measured(&[100.0], &[40.0]);
        let narrow = check(Quantity::Ratio(Figure::LostPackets), AtMost(0.01));
        assert!(!Verdict::of(&narrow, &measured, false).unwrap().holds);
        assert_eq!(Verdict::of(&narrow, &measured, true), None);
        let both = narrow.or(AtMost(0.5));
        assert!(Verdict::of(&both, &measured, true).unwrap().holds);
    }

    #[test]
    fn what_is_known_to_be_missed_may_not_get_worse() {
        let verdict = |value: f64| {
            let goal = check(Quantity::Governed(Figure::LostPackets), AtMost(4.0));
            let check = goal.known_to_miss(AtMost(5.0));
            Verdict::of(&check, &measured(&[9.0], &[value]), false).unwrap()
        };
        let [good, known, bad] = [3.0, 4.5, 5.5].map(verdict);
        assert!(good.holds && !good.fails());
        assert!(!known.holds && !known.fails());
        assert!(known.to_string().starts_with("MISSED"));
        assert!(
            known
                .to_string()
                .ends_with("known, and at most 5 has to hold")
        );
        assert!(bad.fails());
    }

    #[test]
    fn a_verdict_shows_both_figures() {
        let measured = measured(&[345.0], &[12.0]);
        let check = check(Quantity::Ratio(Figure::LostPackets), AtMost(0.01));
        let shown = Verdict::of(&check, &measured, false).unwrap().to_string();
        for part in [
            "MISSED",
            "0.035",
            "at most 0.01",
            "stock 345",
            "governed 12",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
