//! Provides the time of the server, from the machine or from a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;

use crate::ident::Tick;

/// A source of time that the tick and the threads of adapters share. Time is a [`Duration`] since the clock
/// was made.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Wall(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Returns the monotonic clock of the machine.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the only place that starts a clock")]
    pub fn wall() -> Self {
        Self(Source::Wall(Instant::now()))
    }

    /// Returns a clock that stands still until [`advance`](Self::advance) is called.
    #[must_use]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    /// Returns the time since the clock was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::Wall(start) => start.elapsed(),
            Source::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
        }
    }

    /// Advances a manual clock and all its clones. Does nothing to the clock of the machine.
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

/// The time of the current tick: one sample of the [`Clock`], which all systems of the tick share.
///
/// There are two readings. [`now`](Self::now) is the sample itself. [`steady`](Self::steady) advances by at
/// most [`TickTime::STEADY_STEP_MAX`] per tick. Timeouts of sessions use the steady reading, so that a
/// stall of the server does not expire all sessions at once.
#[derive(Resource, Debug)]
pub struct TickTime {
    clock: Clock,
    tick: Tick,
    now: Duration,
    steady: Duration,
    delta: Duration,
}

impl TickTime {
    /// Longest step of the steady reading in one tick: 250 ms.
    pub const STEADY_STEP_MAX: Duration = Duration::from_millis(250);

    /// Returns the time before the first tick.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let now = clock.now();
        Self { clock, tick: Tick(0), now, steady: Duration::ZERO, delta: Duration::ZERO }
    }

    /// Counts a tick that begins at a reading of the clock.
    pub(super) fn begin(&mut self, now: Duration) {
        self.delta = now.saturating_sub(self.now).min(Self::STEADY_STEP_MAX);
        self.steady += self.delta;
        self.now = now;
        self.tick.0 += 1;
    }

    /// Sets the time at which the app was built. A replay calls this before its first tick.
    pub(super) fn rebuild(&mut self, built_at: Duration) {
        debug_assert_eq!(self.tick, Tick(0), "a replay must be installed before the first tick");
        self.now = built_at;
    }

    /// Returns the clock, for code that stamps events on other threads. No system of a tick reads it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the number of the current tick.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Returns the reading of the clock when the tick began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns the steady reading, for timers: [`now`](Self::now) without the time of stalls.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.steady
    }

    /// Returns the index at which a loop over `count` items begins in this tick. It grows by one per tick.
    /// If a budget runs out in the middle of such loops, a different item comes last each time.
    #[must_use]
    pub fn turn(&self, count: usize) -> usize {
        let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.tick.0 % count).unwrap_or_default()
    }

    /// Returns how far the steady reading advanced with this tick.
    #[must_use]
    pub fn delta(&self) -> Duration {
        self.delta
    }

    /// Returns the steady reading for an event that an adapter stamped with the clock reading `at`.
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
