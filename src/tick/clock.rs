//! Where time comes from: the machine, or a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;

use crate::ident::Tick;

/// A source of time, shared by the tick and the network threads. Time is a [`Duration`] since
/// the clock was made.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Wall(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's monotonic clock.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place where time enters")]
    pub fn wall() -> Self {
        Self(Source::Wall(Instant::now()))
    }

    /// A clock that stands still until it is [advanced](Self::advance).
    #[must_use]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    /// The time since the clock was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::Wall(start) => start.elapsed(),
            Source::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
        }
    }

    /// Moves a manual clock on, for all who share it. The machine's clock takes no orders.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::AcqRel);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::wall()
    }
}

/// The time of the current tick: one sample of the [`Clock`], alike for all its systems.
///
/// There are two readings. [`now`](Self::now) is the sample itself. [`steady`](Self::steady)
/// moves by at most [`TickTime::STEADY_STEP_MAX`] a tick: what expires goes by it, so that a
/// stalled server does not expire everybody at once.
#[derive(Resource, Debug)]
pub struct TickTime {
    clock: Clock,
    tick: Tick,
    now: Duration,
    steady: Duration,
    delta: Duration,
}

impl TickTime {
    /// Most that the steady reading moves in one tick.
    pub const STEADY_STEP_MAX: Duration = Duration::from_millis(250);

    /// Before the first tick.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let now = clock.now();
        Self { clock, tick: Tick(0), now, steady: Duration::ZERO, delta: Duration::ZERO }
    }

    /// Begins a tick at a reading of the clock, and counts it.
    pub(super) fn begin(&mut self, now: Duration) {
        self.delta = now.saturating_sub(self.now).min(Self::STEADY_STEP_MAX);
        self.steady += self.delta;
        self.now = now;
        self.tick.0 += 1;
    }

    /// As if it had been made at a reading of the clock. For a replay, before its first tick.
    pub(super) fn rebuild(&mut self, built_at: Duration) {
        debug_assert_eq!(self.tick, Tick(0), "a replay begins with the first tick");
        self.now = built_at;
    }

    /// The clock itself, for those who stamp things on other threads. No system of a tick reads it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Which tick it is.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// The clock, as sampled when the tick began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Time for timers: as [`now`](Self::now), less the stalls.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.steady
    }

    /// Where a sweep over `count` begins in this tick. Where a budget may run out in the middle of a sweep,
    /// each tick begins one further than the last, so that nobody is always the last to be served.
    #[must_use]
    pub fn turn(&self, count: usize) -> usize {
        let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.tick.0 % count).unwrap_or_default()
    }

    /// How far the steady reading moved with this tick.
    #[must_use]
    pub fn delta(&self) -> Duration {
        self.delta
    }

    /// The steady reading at which something happened that a network thread stamped `at`.
    #[must_use]
    pub fn steady_at(&self, at: Duration) -> Duration {
        self.steady.saturating_sub(self.now.saturating_sub(at).min(self.delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_moves_the_steady_time_by_one_capped_step() {
        let clock = Clock::manual();
        let mut time = TickTime::new(clock.clone());

        clock.advance(Duration::from_millis(50));
        time.begin(clock.now());
        clock.advance(Duration::from_secs(60));
        time.begin(clock.now());

        assert_eq!(time.tick(), Tick(2));
        assert_eq!((time.turn(3), time.turn(2), time.turn(0)), (2, 0, 0));
        assert_eq!(time.now(), Duration::from_millis(60_050));
        assert_eq!(time.steady(), Duration::from_millis(300));
        assert_eq!(time.steady_at(Duration::from_millis(60_030)), Duration::from_millis(280));
        assert_eq!(time.steady_at(Duration::from_millis(51)), Duration::from_millis(50));
    }
}
