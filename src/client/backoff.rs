//! Computes the pauses between tries to connect: exponential, with jitter.

use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

/// Computes pauses and counts the tries in a row that have failed.
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
            // The randomness is for jitter only, so a machine without entropy can use a fixed seed.
            None => StdRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| StdRng::seed_from_u64(0)),
        };
        Self { min: min.min(max), max, tries: tries.max(1), pauses: 0, failures: 0, rng }
    }

    /// Counts a failed try. Returns true if it was the last try that is allowed.
    pub(super) fn fail(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= self.tries
    }

    /// Returns the next pause. It is random between half and all of `min`·2ⁿ⁺¹, where n is the number of pauses
    /// since the last success, and it is within `min` and `max`. The jitter spreads the tries of clients that lost a
    /// server at the same time.
    pub(super) fn pause(&mut self) -> Duration {
        let doubled = 1u32.checked_shl(self.pauses.saturating_add(1)).unwrap_or(u32::MAX);
        self.pauses = self.pauses.saturating_add(1);
        let longest = self.min.saturating_mul(doubled).min(self.max);
        let shortest = (longest / 2).max(self.min);
        if shortest >= longest {
            return longest;
        }
        self.rng.random_range(shortest..=longest)
    }

    /// Returns the pause before another try while the session can still be resumed; `away` is the time since
    /// its link was lost. The pause does not lengthen later ones. It is short, so that the client tries in time if
    /// the network is back just before the session expires.
    pub(super) fn pause_in_window(&mut self, away: Duration) -> Duration {
        let longest = self.max.min(WINDOW_PAUSE_MAX.max(away / WINDOW_PAUSE_SHARE)).max(self.min);
        self.rng.random_range((longest / 2).max(self.min)..=longest)
    }

    /// Starts anew after a success.
    pub(super) fn reset(&mut self) {
        self.pauses = 0;
        self.failures = 0;
    }
}

/// The longest pause between two tries while the session can be resumed: a small part of the default window
/// of 5 s.
const WINDOW_PAUSE_MAX: Duration = Duration::from_millis(300);
/// The longest pause grows to the time without a link divided by this number. So the client of a session that can
/// be resumed for ten minutes does not dial three times a second for ten minutes.
const WINDOW_PAUSE_SHARE: u32 = 32;

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
    fn pauses_while_a_session_can_be_resumed_are_short_and_do_not_lengthen_later_ones() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max, 15, Some(1));

        for away_ms in (0..10_000).step_by(100) {
            let away = Duration::from_millis(away_ms);
            let pause = backoff.pause_in_window(away);
            assert!((min..=Duration::from_millis(313)).contains(&pause), "{pause:?} after {away:?}");
        }
        let long = backoff.pause_in_window(Duration::from_secs(3_600));

        assert!((max / 2..=max).contains(&long));
        assert!(backoff.pause() <= min * 2, "the first pause after the window");
        let mut at_once = Backoff::new(Duration::ZERO, Duration::ZERO, 1, None);
        assert_eq!(at_once.pause_in_window(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_last_failed_try_is_reported() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO, 3, None);

        assert!(!backoff.fail());
        assert!(!backoff.fail());
        assert!(backoff.fail());
        backoff.reset();
        assert!(!backoff.fail());
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
