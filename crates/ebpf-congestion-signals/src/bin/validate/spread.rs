//! Figures that spread: their middle, and how sure that is.

use serde::Serialize;

/// The middle of some figures, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Where the median of all that could have been measured lies, with 95% probability; `None`
    /// for too few figures to say.
    pub(crate) sure: Option<[f64; 2]>,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        let sure =
            sure_rank(sorted.len()).map(|rank| [sorted[rank], sorted[sorted.len() - 1 - rank]]);
        Some(Self {
            median,
            min,
            max,
            sure,
        })
    }

    /// Rounded to so many decimals: more would be noise.
    pub(crate) fn rounded(self, decimals: i32) -> Self {
        Self {
            median: rounded(self.median, decimals),
            min: rounded(self.min, decimals),
            max: rounded(self.max, decimals),
            sure: self.sure.map(|ends| ends.map(|end| rounded(end, decimals))),
        }
    }
}

/// How many of so many sorted figures lie outside of the 95% confidence interval of their median,
/// at either end. Each figure lies over the median or under it with a probability of one half,
/// whatever its distribution: the ranks are those of the binomial distribution, here in the normal
/// approximation (1.96 times half the square root of the number), which is never narrower.
fn sure_rank(figures: usize) -> Option<usize> {
    let figures = figures as f64;
    let rank = (figures / 2.0 - 0.98 * figures.sqrt()).floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1, and less than the number of figures"
    )]
    (rank >= 1.0).then(|| rank as usize - 1)
}

/// Rounds to so many decimals. A zero has no sign then.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_any_order() {
        let spread = Spread::of(&[3.0, -1.0, 2.0]).unwrap();
        let expected = Spread {
            median: 2.0,
            min: -1.0,
            max: 3.0,
            sure: None,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_rounded_zero_has_no_sign() {
        assert!(rounded(-0.0001, 2).is_sign_positive());
        assert_eq!(rounded(1.2345, 2), 1.23);
    }

    #[test]
    fn eight_figures_are_the_fewest_that_say_how_sure_they_are() {
        let figures: Vec<f64> = (1..=8).map(f64::from).collect();
        assert_eq!(Spread::of(&figures[..7]).unwrap().sure, None);
        assert_eq!(Spread::of(&figures).unwrap().sure, Some([1.0, 8.0]));
    }

    #[test]
    fn more_figures_are_surer() {
        let figures: Vec<f64> = (1..=100).map(f64::from).collect();
        // Ranks 40 and 61 of the binomial distribution.
        assert_eq!(Spread::of(&figures).unwrap().sure, Some([40.0, 61.0]));
    }
}
