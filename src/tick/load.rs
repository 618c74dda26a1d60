//! Measures how much of its time the server spends in ticks, and decides what it leaves out under load.
//!
//! An overloaded server leaves out work in a fixed order, and never the calls of players. First, zones tick
//! at half their rate, so they send half as many snapshots. Then games send every second of the remaining
//! snapshots, and the server accepts no new sessions. Existing sessions go on and can be resumed.
//!
//! Data flow: the [`runner`](super::run) measures a tick → [`TickCost`] → [`TickInput::cost`] → `weigh`, at
//! the beginning of the next tick → [`Load`] → the modules and games that leave something out → [`LoadCounts`]
//! counts it.

use std::fmt;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::{TickInput, TickRate, TickTime};

/// Duration of the last tick. The code that calls `app.update()` sets it: [`run`](super::run) from the
/// clock of the machine, and the test harness from the manual clock. Zero if nothing sets it.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickCost(pub Duration);

/// How much work is left out. Each level also leaves out what the levels before it leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LoadLevel {
    /// Nothing is left out.
    #[default]
    Normal,
    /// Every second tick of each zone is left out, and with it what a game sends at each tick of the zone.
    Busy,
    /// Every second of the remaining snapshots is left out, in games that follow
    /// [`Load::snapshot_divisor`]. New sessions are denied, and Joins of players who are in no zone are
    /// refused, as THROTTLED.
    Overloaded,
}

/// The load of the server. Games read it to send fewer snapshots under load:
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::tick::Load;
/// use waystation::zone::ZoneTicked;
///
/// fn send_snapshots(mut ticks: MessageReader<ZoneTicked>, load: Res<Load>) {
///     for tick in ticks.read().filter(|tick| tick.frame.is_multiple_of(load.snapshot_divisor())) {
///         // Broadcast the places of all members of `tick.zone`.
///         # let _ = tick;
///     }
/// }
/// ```
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    level: LoadLevel,
    mean: Duration,
    /// Number of ticks since the level changed.
    held: u32,
}

/// The work that was left out under load, counted since the start.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadCounts {
    /// Number of ticks of zones that were left out.
    pub zone_tick_count: u64,
    /// Number of Hellos that were denied and Joins that were refused as THROTTLED.
    pub refused_count: u64,
}

impl Load {
    /// Returns the level of the load.
    #[must_use]
    pub fn level(&self) -> LoadLevel {
        self.level
    }

    /// Returns the mean duration of recent ticks: an exponential mean with a time constant of 1 s.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// Returns a number n: a zone makes one of n ticks that are due.
    #[must_use]
    pub fn zone_divisor(&self) -> u32 {
        match self.level {
            LoadLevel::Normal => 1,
            LoadLevel::Busy | LoadLevel::Overloaded => 2,
        }
    }

    /// Returns a number n: a game should send one snapshot per n ticks of its zone. A zone at 20 Hz then
    /// sends 20 snapshots per second, 10 when it is busy and ticks half as often, and 5 when the server is
    /// overloaded.
    #[must_use]
    pub fn snapshot_divisor(&self) -> u64 {
        match self.level {
            LoadLevel::Normal | LoadLevel::Busy => 1,
            LoadLevel::Overloaded => 2,
        }
    }

    /// Returns true if new sessions are denied, and Joins of players who are in no zone are refused.
    #[must_use]
    pub fn refuses_new_sessions(&self) -> bool {
        self.level == LoadLevel::Overloaded
    }

    /// Adds the duration of a tick to the mean. Returns true if the level changes.
    fn weigh(&mut self, cost: Duration, rate: TickRate) -> bool {
        let (period, ticks) = (rate.period(), rate.hz() * MEAN_OVER_S);
        self.mean = (self.mean * (ticks - 1) + cost.min(period * COST_MAX_PERIODS)) / ticks;
        self.held = self.held.saturating_add(1);
        if self.held < rate.hz() * HOLD_S {
            return false;
        }
        let is_above = |percent: u32| self.mean * 100 >= period * percent;
        let level = match self.level {
            LoadLevel::Normal if is_above(BUSY_FROM) => LoadLevel::Busy,
            LoadLevel::Busy if is_above(OVERLOADED_FROM) => LoadLevel::Overloaded,
            LoadLevel::Busy if !is_above(BUSY_UNTIL) => LoadLevel::Normal,
            LoadLevel::Overloaded if !is_above(OVERLOADED_UNTIL) => LoadLevel::Busy,
            same => same,
        };
        if level == self.level {
            return false;
        }
        (self.level, self.held) = (level, 0);
        true
    }
}

impl fmt::Display for LoadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
        })
    }
}

/// Updates the load with the duration of the last tick.
pub(crate) fn weigh(mut load: ResMut<Load>, input: Res<TickInput>, rate: Res<TickRate>, time: Res<TickTime>) {
    if load.weigh(input.cost, *rate) {
        tracing::warn!(level = %load.level, tick_mean = ?load.mean, tick = %time.tick(), "the load level has changed");
    }
}

/// Time constant of the mean, in seconds. A burst of a few ticks is no overload.
const MEAN_OVER_S: u32 = 1;
/// A longer tick counts as this many periods. So one stall, however long, adds a tenth of a period to the
/// mean at 20 Hz, and half a period at 4 Hz.
const COST_MAX_PERIODS: u32 = 2;
/// Shortest time that a level lasts, in seconds. By then the mean shows six sevenths of the effect of the
/// last change.
const HOLD_S: u32 = 2;
/// The server becomes busy when the mean reaches this percentage of the period. Above it, the variation
/// between ticks begins to make some ticks late.
const BUSY_FROM: u32 = 75;
/// The server stops being busy when the mean falls below this percentage of the period. Zones then tick
/// twice as often, and the doubled mean must stay below [`BUSY_FROM`].
const BUSY_UNTIL: u32 = 35;
/// The server becomes overloaded when it is busy and the mean reaches this percentage of the period: ticks
/// are about to be late.
const OVERLOADED_FROM: u32 = 95;
/// The server stops being overloaded when the mean falls below this percentage of the period. If snapshots
/// take all of the time, the mean then doubles, and it must stay below [`OVERLOADED_FROM`].
const OVERLOADED_UNTIL: u32 = 45;

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    /// Weighs ticks that take a percentage of their period, for some seconds. Returns the levels that
    /// follow, one after the other.
    fn levels(load: &mut Load, percent: u32, seconds: u32) -> Vec<LoadLevel> {
        let mut seen = Vec::new();
        for _ in 0..seconds * 20 {
            if load.weigh(PERIOD * percent / 100, TickRate::default()) {
                seen.push(load.level());
            }
        }
        seen
    }

    #[test]
    fn levels_rise_one_by_one_and_fall_again() {
        let mut load = Load::default();

        assert_eq!(levels(&mut load, 70, 60), []);
        assert_eq!(levels(&mut load, 80, 60), [LoadLevel::Busy]);
        assert_eq!(levels(&mut load, 120, 60), [LoadLevel::Overloaded]);
        assert_eq!(levels(&mut load, 50, 60), []);
        assert_eq!(levels(&mut load, 40, 60), [LoadLevel::Busy]);
        assert_eq!(levels(&mut load, 30, 60), [LoadLevel::Normal]);
    }

    #[test]
    fn one_stall_however_long_is_no_overload() {
        for hz in [4, 20, 240] {
            let rate = TickRate::new(hz).expect("a rate");
            let mut load = Load::default();
            for _ in 0..hz * 10 {
                load.weigh(rate.period() / 5, rate);
            }

            load.weigh(Duration::from_secs(60), rate);
            for _ in 0..hz * 10 {
                load.weigh(rate.period() / 5, rate);
                assert_eq!(load.level(), LoadLevel::Normal, "{hz} Hz");
            }
        }
    }

    #[test]
    fn the_level_does_not_oscillate() {
        for (percent, level) in [(80, LoadLevel::Busy), (130, LoadLevel::Busy), (195, LoadLevel::Overloaded)]
        {
            let mut load = Load::default();
            let (mut frame, mut change_count) = (0, 0);

            // A game whose snapshots take this percentage of a period each, and that does nothing else.
            for tick in 0..20 * 120 {
                let is_due = tick % load.zone_divisor() == 0;
                frame += u64::from(is_due);
                let sends = is_due && frame.is_multiple_of(load.snapshot_divisor());
                let cost = if sends { PERIOD * percent / 100 } else { Duration::ZERO };
                change_count += u32::from(load.weigh(cost, TickRate::default()));
            }

            assert_eq!((load.level(), change_count), (level, level as u32), "{percent} %");
        }
    }

    #[test]
    fn each_level_lasts_until_its_effect_shows() {
        let mut load = Load::default();
        let mut ticks = 0;
        while load.level() != LoadLevel::Overloaded {
            load.weigh(PERIOD * 2, TickRate::default());
            ticks += 1;
        }

        assert_eq!(ticks, 2 * 20 * HOLD_S);
    }
}
