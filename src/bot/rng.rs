//! The random numbers of bots.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The random number generator of a bot.
///
/// [`BotOptions::seed`](super::BotOptions::seed) and the bot's index determine all draws.
#[derive(Debug)]
pub struct BotRng(StdRng);

impl BotRng {
    /// Returns the generator of the bot with this index. Its draws are not those of the plan of cuts.
    pub(super) fn new(seed: u64, index: usize) -> Self {
        Self(StdRng::seed_from_u64(!seed ^ (index as u64).wrapping_mul(super::plan::SPREAD)))
    }

    /// Returns a uniformly distributed number from 0 to `count - 1`. Returns 0 if `count` is 0.
    pub fn below(&mut self, count: u32) -> u32 {
        if count == 0 { 0 } else { self.0.random_range(0..count) }
    }

    /// Returns a uniformly distributed number from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f32 {
        self.0.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_the_index_determine_the_draws() {
        let draws = |seed, index| {
            let mut rng = BotRng::new(seed, index);
            (rng.below(1_000_000), rng.unit().to_bits())
        };

        assert_eq!(draws(1, 4), draws(1, 4));
        assert_ne!(draws(1, 4), draws(1, 5));
        assert_ne!(draws(1, 4), draws(2, 4));
        assert_eq!(BotRng::new(1, 0).below(0), 0);
    }
}
