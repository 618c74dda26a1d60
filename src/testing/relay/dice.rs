//! Random numbers that depend only on given values.

use std::time::Duration;

/// A short sequence of random numbers, for one packet, one outage, or one rebinding or reset.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Returns the sequence for these values. Other values give an unrelated sequence.
    pub(super) fn new(values: [u64; 4]) -> Self {
        let mut dice = Self(0);
        for value in values {
            dice.0 ^= value;
            dice.0 = dice.next();
        }
        dice
    }

    /// Returns the next number of SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let bits = (self.next() >> 11) as f64;
        bits / (1_u64 << 53) as f64
    }

    /// Returns true with the probability `part`.
    pub(super) fn chance(&mut self, part: f64) -> bool {
        self.fraction() < part
    }

    /// Returns a duration from 0 to below `most`.
    pub(super) fn duration(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.fraction())
    }

    /// Returns the time to the next of events that occur every `every` on average: half of `every` to one and a half
    /// times `every`.
    pub(super) fn gap(&mut self, every: Duration) -> Duration {
        every / 2 + self.duration(every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_values_give_the_same_numbers_and_others_give_others() {
        let numbers = |values| {
            let mut dice = Dice::new(values);
            [dice.next(), dice.next(), dice.next()]
        };

        assert_eq!(numbers([1, 2, 3, 4]), numbers([1, 2, 3, 4]));
        for other in [[0, 2, 3, 4], [1, 0, 3, 4], [1, 2, 0, 4], [1, 2, 3, 0], [2, 1, 3, 4]] {
            assert_ne!(numbers([1, 2, 3, 4]), numbers(other));
        }
    }

    #[test]
    fn frequencies_over_many_packets_match_the_probabilities() {
        let hits = |part| (0..10_000).filter(|number| Dice::new([7, 0, 0, *number]).chance(part)).count();

        assert_eq!((hits(0.0), hits(1.0)), (0, 10_000));
        assert!(hits(0.2).abs_diff(2_000) < 150, "{}", hits(0.2));
        let gap = Dice::new([1, 1, 1, 1]).gap(Duration::from_secs(2));
        assert!(gap >= Duration::from_secs(1) && gap < Duration::from_secs(3), "{gap:?}");
    }
}
