//! When a bot loses its link on purpose, and how.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::client::Cut;

/// The three ways in which a bot is cut, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutKind {
    /// Silent, and back at once: the server still has the old link.
    Takeover,
    /// The transport closes without a Bye; back after 0.1 to 4 s.
    Close,
    /// Silent, and back after 6 to 8.5 s: the server has noticed by its link timeout.
    Silent,
}

impl CutKind {
    /// All of them, in turn.
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
    /// Cuts every `every` on average, none after `until`. Bots start at different kinds and times.
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

    /// The cut that is due, if any.
    pub(super) fn due(&mut self, now: Duration) -> Option<(CutKind, Cut)> {
        if now < self.next_at || now >= self.until {
            return None;
        }
        self.next_at = now + self.every.mul_f64(self.rng.random_range(0.5..=1.5));
        let kind = CutKind::ALL[self.turn];
        self.turn = (self.turn + 1) % CutKind::ALL.len();
        let cut = match kind {
            CutKind::Takeover => Cut::Silent { hold: Duration::ZERO },
            CutKind::Close => Cut::Close {
                hold: Duration::from_millis(self.rng.random_range(100..=4_000)),
            },
            CutKind::Silent => Cut::Silent {
                hold: Duration::from_millis(self.rng.random_range(6_000..=8_500)),
            },
        };
        Some((kind, cut))
    }

    /// The session is back: it gets a moment before it is cut again.
    pub(super) fn resumed(&mut self, now: Duration) {
        self.next_at = self.next_at.max(now + SETTLE);
    }
}

/// When the last cut of a run may be: early enough for the slowest kind to come back.
pub(super) fn cuts_until(duration: Duration) -> Duration {
    duration.saturating_sub(QUIET_MAX.min(duration / 3))
}

/// Whether each kind had its turn if all went well.
pub(super) fn every_kind_is_due(every: Duration, duration: Duration, clients: usize) -> bool {
    let turns = if clients >= CutKind::ALL.len() {
        1
    } else {
        CutKind::ALL.len() as u32
    };
    cuts_until(duration) > START + (every.mul_f64(1.5) + SLOWEST) * turns
}

/// An odd number with bits all over: neighbours get unlike seeds.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// A silent cut takes 8.5 s, and a try or two.
const QUIET_MAX: Duration = Duration::from_secs(12);
/// A second of play between cuts, however often they are asked for.
const SETTLE: Duration = Duration::from_secs(1);
/// Until all bots are connected and have joined.
const START: Duration = Duration::from_secs(3);
/// What a cut may take from its turn to the next.
const SLOWEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_take_turns_and_cuts_come_every_so_often_until_the_end() {
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
        assert_eq!(
            kinds[..4],
            [CutKind::Close, CutKind::Silent, CutKind::Takeover, CutKind::Close]
        );
    }

    #[test]
    fn a_kind_is_missed_only_if_there_was_time_for_it() {
        let every = Duration::from_secs(5);

        assert!(every_kind_is_due(every, Duration::from_secs(60), 200));
        assert!(!every_kind_is_due(every, Duration::from_secs(60), 1));
        assert!(every_kind_is_due(every, Duration::from_secs(90), 1));
        assert!(!every_kind_is_due(every, Duration::from_secs(10), 200));
    }
}
