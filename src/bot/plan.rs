//! Decides when a bot cuts its link, and how.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::client::Cut;

/// A way to cut a bot's link. A bot uses the three kinds in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutKind {
    /// The link falls silent, and the bot resumes at once. The server still has the old link.
    Takeover,
    /// The bot closes the link without a Bye, and resumes after 0.1 to 4 s.
    Close,
    /// The link falls silent, and the bot resumes after 6 to 8.5 s. By then, the link timeout of the server has
    /// passed.
    Silent,
}

impl CutKind {
    /// All kinds, in the order of their turns.
    pub const ALL: [Self; 3] = [Self::Takeover, Self::Close, Self::Silent];
}

/// The cuts of one bot.
#[derive(Debug)]
pub(super) struct CutPlan {
    every: Duration,
    next_at: Duration,
    until: Duration,
    turn: usize,
    rng: StdRng,
}

impl CutPlan {
    /// Returns a plan of cuts that are `every` apart on average, until `until`. Bots begin with different kinds and
    /// at different times.
    pub(super) fn new(every: Duration, until: Duration, index: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ (index as u64).wrapping_mul(SPREAD));
        Self {
            next_at: every.mul_f64(rng.random_range(0.2..=1.2)),
            every,
            until,
            turn: index % CutKind::ALL.len(),
            rng,
        }
    }

    /// Returns the cut that is due, if any, and plans the next one.
    pub(super) fn due(&mut self, now: Duration) -> Option<(CutKind, Cut)> {
        if now < self.next_at || now >= self.until {
            return None;
        }
        self.next_at = now + self.every.mul_f64(self.rng.random_range(0.5..=1.5));
        let kind = CutKind::ALL[self.turn];
        self.turn = (self.turn + 1) % CutKind::ALL.len();
        let cut = match kind {
            CutKind::Takeover => Cut::Silent { hold: Duration::ZERO },
            CutKind::Close => Cut::Close { hold: Duration::from_millis(self.rng.random_range(100..=4_000)) },
            CutKind::Silent => {
                Cut::Silent { hold: Duration::from_millis(self.rng.random_range(6_000..=8_500)) }
            }
        };
        Some((kind, cut))
    }

    /// Records a resume. The next cut comes one second later at the earliest.
    pub(super) fn resumed(&mut self, now: Duration) {
        self.next_at = self.next_at.max(now + SETTLE);
    }
}

/// Returns when the cuts of a run end: early enough for the slowest kind to resume.
pub(super) fn cuts_until(duration: Duration) -> Duration {
    duration.saturating_sub(QUIET_MAX.min(duration / 3))
}

/// Returns true if the run is long enough for each kind of cut.
pub(super) fn every_kind_is_due(every: Duration, duration: Duration, clients: usize) -> bool {
    let turns = if clients >= CutKind::ALL.len() { 1 } else { CutKind::ALL.len() as u32 };
    cuts_until(duration) > START + (every.mul_f64(1.5) + SLOWEST) * turns
}

/// A factor that makes the seeds of neighbouring bots differ in many bits.
pub(super) const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// The longest time without cuts at the end of a run: a silent cut takes 8.5 s, and a try or two.
const QUIET_MAX: Duration = Duration::from_secs(12);
/// The shortest time between a resume and the next cut.
const SETTLE: Duration = Duration::from_secs(1);
/// The time that all bots need to connect and join.
const START: Duration = Duration::from_secs(3);
/// The longest time from a cut to the resume.
const SLOWEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_take_turns_at_the_given_rate_until_the_end() {
        let every = Duration::from_secs(5);
        let until = cuts_until(Duration::from_secs(612));
        assert_eq!(until, Duration::from_secs(600));
        let mut plan = CutPlan::new(every, until, 1, 42);

        let mut kinds = Vec::new();
        for tenth in 0..7_000 {
            if let Some((kind, _)) = plan.due(Duration::from_millis(100) * tenth) {
                kinds.push(kind);
            }
        }

        assert!((100..=140).contains(&kinds.len()), "{}", kinds.len());
        assert_eq!(kinds[..4], [CutKind::Close, CutKind::Silent, CutKind::Takeover, CutKind::Close]);
    }

    #[test]
    fn every_kind_is_due_only_if_the_run_is_long_enough() {
        let every = Duration::from_secs(5);

        assert!(every_kind_is_due(every, Duration::from_secs(60), 200));
        assert!(!every_kind_is_due(every, Duration::from_secs(60), 1));
        assert!(every_kind_is_due(every, Duration::from_secs(90), 1));
        assert!(!every_kind_is_due(every, Duration::from_secs(10), 200));
    }
}
