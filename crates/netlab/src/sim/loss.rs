//! Loss on the way that no queue has to do with.

use super::random::Random;

/// How a link loses packets besides by its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// It does not.
    #[default]
    None,
    /// Each packet by itself, with this probability.
    Random(f64),
    /// In bursts: a chain of two states that moves with every packet (Gilbert 1960, Elliott
    /// 1963).
    Burst {
        /// Probability that a burst begins at a packet.
        begin: f64,
        /// Probability that it ends at a packet; the mean length of a burst is its inverse.
        end: f64,
        /// Probability that a packet within a burst is lost.
        inside: f64,
    },
}

impl Loss {
    /// Bursts of this mean length that lose everything, so that a share of `rate` of all packets
    /// is lost.
    pub fn bursts(rate: f64, mean_length: f64) -> Self {
        let end = 1.0 / mean_length.max(1.0);
        Self::Burst {
            begin: end * rate / (1.0 - rate),
            end,
            inside: 1.0,
        }
    }
}

/// A link's loss at work.
#[derive(Debug)]
pub(super) struct LossState {
    loss: Loss,
    in_burst: bool,
    random: Random,
}

impl LossState {
    pub(super) fn new(loss: Loss, random: Random) -> Self {
        Self {
            loss,
            in_burst: false,
            random,
        }
    }

    /// Whether the next packet is lost.
    pub(super) fn takes(&mut self) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(rate) => self.random.chance(rate),
            Loss::Burst { begin, end, inside } => {
                let turn = if self.in_burst { end } else { begin };
                if self.random.chance(turn) {
                    self.in_burst = !self.in_burst;
                }
                self.in_burst && self.random.chance(inside)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(loss: Loss) -> Vec<bool> {
        let mut state = LossState::new(loss, Random::new(7, "loss", 0));
        (0..200_000).map(|_| state.takes()).collect()
    }

    fn rate(pattern: &[bool]) -> f64 {
        pattern.iter().filter(|lost| **lost).count() as f64 / pattern.len() as f64
    }

    #[test]
    fn bursts_are_as_long_and_as_many_as_asked_for() {
        let pattern = pattern(Loss::bursts(0.02, 5.0));
        assert!((0.017..0.023).contains(&rate(&pattern)));
        let bursts = pattern.windows(2).filter(|pair| pair == &[false, true]);
        let lost = pattern.iter().filter(|lost| **lost).count();
        let length = lost as f64 / bursts.count() as f64;
        assert!((4.5..5.5).contains(&length), "{length}");
    }

    #[test]
    fn random_loss_takes_its_share() {
        assert!((0.009..0.011).contains(&rate(&pattern(Loss::Random(0.01)))));
        assert_eq!(rate(&pattern(Loss::None)), 0.0);
    }
}
