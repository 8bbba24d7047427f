//! Pseudo-random numbers that are the same everywhere, and a digest of numbers.

/// A generator of pseudo-random numbers (SplitMix64, Steele and others 2014): small, the same on
/// every machine, and good enough for losses and jitter.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A stream of its own for each `purpose` of a seed, so that what one draws does not change
    /// what another gets.
    pub(super) fn new(seed: u64, purpose: &str, index: usize) -> Self {
        let mut digest = Digest::default();
        digest.add(seed);
        for byte in purpose.bytes() {
            digest.add(u64::from(byte));
        }
        digest.add(index as u64);
        let mut random = Self {
            state: digest.value(),
        };
        random.next();
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// From 0 to below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability. Draws nothing for 0, so that a link without loss is no part of
    /// the stream.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// A digest of numbers (FNV-1a over words): to tell traces apart, not to keep secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(super) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seed_purpose_and_index() {
        let draw = |seed, purpose, index| Random::new(seed, purpose, index).next();
        assert_eq!(draw(1, "loss", 0), draw(1, "loss", 0));
        let all = [
            draw(1, "loss", 0),
            draw(2, "loss", 0),
            draw(1, "jitter", 0),
            draw(1, "loss", 1),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
    }

    #[test]
    fn chances_and_bounds_are_kept() {
        let mut random = Random::new(1, "test", 0);
        let hits = (0..100_000).filter(|_| random.chance(0.01)).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
