//! How long to wait before another try: exponentially longer, with jitter.

use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

/// The pauses between tries, and how many tries in a row have failed.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
    /// Pauses taken since the last success.
    pauses: u32,
    /// Tries that failed since the last success.
    failures: u32,
    rng: StdRng,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, tries: u32, seed: Option<u64>) -> Self {
        let rng = match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            // Only jitter rests on it, so a machine without entropy still gets a client.
            None => StdRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| StdRng::seed_from_u64(0)),
        };
        Self {
            min: min.min(max),
            max,
            tries: tries.max(1),
            pauses: 0,
            failures: 0,
            rng,
        }
    }

    /// Counts a failed try; true if there is none left.
    pub(super) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= self.tries
    }

    /// The next pause: uniform between half and whole of `min`·2ⁿ⁺¹, within `min` and `max`. Half
    /// of it is chance, so that clients which lost a server together do not come back together.
    pub(super) fn pause(&mut self) -> Duration {
        let doubled = 1u32
            .checked_shl(self.pauses.saturating_add(1))
            .unwrap_or(u32::MAX);
        self.pauses = self.pauses.saturating_add(1);
        let longest = self.min.saturating_mul(doubled).min(self.max);
        let shortest = (longest / 2).max(self.min);
        if shortest >= longest {
            return longest;
        }
        self.rng.random_range(shortest..=longest)
    }

    /// A try succeeded.
    pub(super) fn reset(&mut self) {
        self.pauses = 0;
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds_and_differ_from_client_to_client() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut first = Backoff::new(min, max, 15, Some(1));
        let mut second = Backoff::new(min, max, 15, Some(2));

        let pauses: Vec<_> = (0..40).map(|_| first.pause()).collect();

        assert!(pauses.iter().all(|pause| (min..=max).contains(pause)));
        assert!(pauses[0] <= min * 2);
        assert!(pauses[3] >= min * 8);
        assert!(pauses[39] >= max / 2);
        assert_ne!(pauses, (0..40).map(|_| second.pause()).collect::<Vec<_>>());
        first.reset();
        assert!(first.pause() <= min * 2);
    }

    #[test]
    fn after_the_last_try_there_is_none_left() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO, 3, None);

        assert!(!backoff.fail());
        assert!(!backoff.fail());
        assert!(backoff.fail());
        backoff.reset();
        assert!(!backoff.fail());
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
