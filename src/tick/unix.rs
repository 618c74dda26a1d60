//! Provides Unix time, for what is signed and expires, and for certificates.
//!
//! The wall clock of a machine can be set at any time and in both directions: by hand, by NTP, or when a
//! virtual machine resumes after a pause. These are the rules:
//!
//! - What this server signs and checks itself uses [`UnixClock::now`]: connect tokens, tickets, and the
//!   tokens by which QUIC clients prove their address. This reading starts with the wall clock, advances
//!   with the monotonic clock and never goes back. So a change of the wall clock invalidates nothing at
//!   once.
//! - What a client checks by its own clock uses [`UnixClock::wall`]: certificates.
//! - Timers of sessions and links, Beacons and rates use the monotonic [`Clock`] alone.
//!
//! Tokens that another process mints, such as `waystation token` or a login server, carry the time of that
//! process. They are compared with [`UnixClock::now`]. A connect token is valid for 300 s. So the clock of
//! its minter may be behind this clock by up to 300 s, less the time until the client connects. If the
//! clock of the minter is ahead, the token is valid for longer.
//!
//! While the two readings differ, [`UnixClock::now`] runs faster or slower by a twentieth, until it has
//! reached the wall clock. While they differ by more than 10 s, a warning is logged once an hour. A
//! restarted server starts with the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bevy_ecs::prelude::*;

use super::Clock;

/// A source of Unix time, shared by its clones. All parts of a server use the same one. Systems do not read
/// it; they read [`TickInput::unix`](super::TickInput::unix).
///
/// ```
/// use std::time::Duration;
/// use waystation::tick::{Clock, UnixClock};
///
/// let clock = Clock::manual();
/// let unix = UnixClock::manual(clock.clone(), Duration::from_secs(1_700_000_000));
///
/// unix.set_wall(Duration::from_secs(1_600_000_000));
/// clock.advance(Duration::from_secs(10));
///
/// assert_eq!(unix.now(), Duration::from_millis(1_700_000_009_500)); // slower by a twentieth
/// assert_eq!(unix.wall(), Duration::from_secs(1_600_000_010));
/// ```
#[derive(Resource, Debug, Clone)]
pub struct UnixClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    wall: Wall,
    reading: Mutex<Reading>,
}

/// Source of the wall clock.
#[derive(Debug)]
enum Wall {
    System,
    /// Unix time at the zero of the [`Clock`], in microseconds.
    Manual(AtomicU64),
}

/// The last reading of [`UnixClock::now`].
#[derive(Debug)]
struct Reading {
    /// Monotonic time of the reading.
    at: Duration,
    unix: Duration,
    /// Monotonic time of the last warning about a difference.
    warned_at: Option<Duration>,
}

/// Difference of the wall clock from [`UnixClock::now`].
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    Ahead(Duration),
    Behind(Duration),
}

impl UnixClock {
    /// Returns the clock of this process. It starts with the wall clock of the machine at the first call.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: OnceLock<UnixClock> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::new(Clock::wall(), Wall::System)).clone()
    }

    /// Returns a clock for tests. It advances with `clock`. Its wall clock starts at `wall`, also advances
    /// with `clock`, and can be set by [`set_wall`](Self::set_wall).
    #[must_use]
    pub fn manual(clock: Clock, wall: Duration) -> Self {
        let at_zero = micros(wall.saturating_sub(clock.now()));
        Self::new(clock, Wall::Manual(AtomicU64::new(at_zero)))
    }

    fn new(clock: Clock, wall: Wall) -> Self {
        let at = clock.now();
        let reading = Mutex::new(Reading { at, unix: wall.read(at), warned_at: None });
        Self(Arc::new(Inner { clock, wall, reading }))
    }

    /// Returns Unix time for what this server signs and checks. It never goes back.
    #[must_use]
    pub fn now(&self) -> Duration {
        let Inner { clock, wall, reading } = &*self.0;
        let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock.now();
        let difference = reading.advance(at, wall.read(at));
        let unix = reading.unix;
        drop(reading);
        match difference {
            Some(Difference::Ahead(by)) => tracing::warn!(
                ahead_s = by.as_secs(),
                "the wall clock is ahead of the server's own clock: connect tokens and tickets from other \
                 processes are valid for longer until the server's clock has caught up; a restart of the \
                 server adopts the wall clock at once"
            ),
            Some(Difference::Behind(by)) => tracing::warn!(
                behind_s = by.as_secs(),
                "the wall clock is behind the server's own clock: connect tokens and tickets from other \
                 processes expire earlier until the wall clock has caught up; a restart of the server \
                 adopts the wall clock at once"
            ),
            None => {}
        }
        unix
    }

    /// Returns the wall clock in Unix time. It may go back.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.0.wall.read(self.0.clock.now())
    }

    /// Sets the wall clock of a [manual](Self::manual) clock. Does nothing to the clock of the machine.
    pub fn set_wall(&self, unix: Duration) {
        if let Wall::Manual(at_zero) = &self.0.wall {
            at_zero.store(micros(unix.saturating_sub(self.0.clock.now())), Ordering::Release);
        }
    }
}

impl Default for UnixClock {
    /// Returns the clock of this process.
    fn default() -> Self {
        Self::system()
    }
}

impl Wall {
    /// Returns Unix time when the monotonic clock reads `at`. Returns zero before 1970.
    #[allow(clippy::disallowed_methods, reason = "the only place where the server reads the wall clock")]
    fn read(&self, at: Duration) -> Duration {
        match self {
            Self::System => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            Self::Manual(at_zero) => Duration::from_micros(at_zero.load(Ordering::Acquire)) + at,
        }
    }
}

impl Reading {
    /// Advances to `at` of the monotonic clock, and towards `wall`. Returns the remaining difference if it
    /// is time to log it.
    fn advance(&mut self, at: Duration, wall: Duration) -> Option<Difference> {
        let elapsed = at.saturating_sub(self.at);
        self.at = at.max(self.at);
        self.unix += elapsed;
        let slew = elapsed / SLEW;
        let difference = if wall >= self.unix {
            self.unix += slew.min(wall - self.unix);
            Difference::Ahead(wall - self.unix)
        } else {
            self.unix -= slew.min(self.unix - wall);
            Difference::Behind(self.unix - wall)
        };
        let (Difference::Ahead(by) | Difference::Behind(by)) = &difference;
        let is_due = self.warned_at.is_none_or(|warned| self.at.saturating_sub(warned) >= WARN_EVERY);
        if *by <= WARN_ABOVE || !is_due {
            return None;
        }
        self.warned_at = Some(self.at);
        Some(difference)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The reading approaches the wall clock by one part in this many. So a token of 300 s is valid for 285 s
/// to 316 s, and a difference of 10 minutes takes 200 minutes to disappear.
const SLEW: u32 = 20;
/// Differences up to this one are not logged: NTP corrects them every day.
const WARN_ABOVE: Duration = Duration::from_secs(10);
/// Interval of the warnings about a difference that remains.
const WARN_EVERY: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_700_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    /// A second, 10 minutes, 2 hours and a year.
    const STEPS_S: [u64; 4] = [1, 600, 7_200, 365 * 86_400];

    fn clocks() -> (Clock, UnixClock) {
        let clock = Clock::manual();
        // The process has run for 5,000 s, so the wall clock can be set back by any step.
        clock.advance(Duration::from_secs(5_000));
        (clock.clone(), UnixClock::manual(clock, START))
    }

    #[test]
    fn a_step_of_the_wall_clock_neither_moves_the_time_nor_turns_it_back() {
        for step in STEPS_S.map(Duration::from_secs) {
            for wall in [START + step, START - step] {
                let (clock, unix) = clocks();

                unix.set_wall(wall);
                let at_once = unix.now();
                let mut last = at_once;
                for _ in 0..300 {
                    clock.advance(SECOND);
                    let now = unix.now();
                    assert!(now > last, "the time stands still or goes back after a step to {wall:?}");
                    last = now;
                }

                assert_eq!(at_once, START);
                let took = last - START;
                assert!((285..=315).contains(&took.as_secs()), "{took:?} in 300 s, wall clock {wall:?}");
                assert_eq!(unix.wall(), wall + 300 * SECOND);
            }
        }
    }

    #[test]
    fn the_time_approaches_the_wall_clock_and_then_follows_it() {
        for wall in [START + 600 * SECOND, START - 600 * SECOND] {
            let (clock, unix) = clocks();
            unix.set_wall(wall);

            for _ in 0..12_000 {
                clock.advance(SECOND);
                let _ = unix.now();
            }
            assert_eq!(unix.now(), unix.wall());

            clock.advance(1_000 * SECOND);
            assert_eq!(unix.now(), unix.wall());
        }
    }

    #[test]
    fn a_stall_of_the_process_passes_in_unix_time() {
        let (clock, unix) = clocks();

        for stall in [1, 3, 10, 60] {
            let before = unix.now();
            clock.advance(stall * SECOND);
            assert_eq!(unix.now(), before + stall * SECOND);
        }
    }

    #[test]
    fn a_difference_is_logged_once_an_hour_while_it_is_large() {
        let mut reading = Reading { at: Duration::ZERO, unix: START, warned_at: None };
        let minute = |minute: u64| Duration::from_secs(60 * minute);

        assert_eq!(reading.advance(minute(0), START + 9 * SECOND), None);
        let large = START + 7_200 * SECOND;
        assert_eq!(reading.advance(minute(0), large), Some(Difference::Ahead(7_200 * SECOND)));
        let count =
            (1..=120).filter(|at| reading.advance(minute(*at), large + minute(*at)).is_some()).count();
        assert_eq!(count, 2);
        let back = reading.advance(minute(180), START - 3_600 * SECOND);
        assert!(matches!(back, Some(Difference::Behind(_))), "{back:?}");
    }

    #[test]
    fn all_parts_of_a_process_share_one_clock() {
        assert!(Arc::ptr_eq(&UnixClock::system().0, &UnixClock::default().0));
        assert!(UnixClock::system().now() > START);
    }
}
