//! How much of its time the server spends ticking, and what it leaves out when that is too much.
//!
//! A server that cannot keep up does less, in a declared order, and never by losing what players
//! sent: first zones tick at half their rate, and so send half of their snapshots; then games send
//! half of those, and nobody new is let in. Whoever has a session keeps it, and may resume it.
//!
//! Data flow: the [`runner`](super::run) measures a tick → [`TickCost`] → [`TickInput::cost`] →
//! `weigh`, at the beginning of the next one → [`Load`] → whoever leaves something out, which is
//! counted in [`Shed`].

use std::fmt;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::{TickInput, TickRate, TickTime};

/// How long the last tick took. Whoever calls `app.update()` writes it: [`run`](super::run) does,
/// from the machine's clock, and the test harness, from the manual one. Zero if nobody measures.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickCost(pub Duration);

/// How much is left out. Each level leaves out what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LoadLevel {
    /// Nothing: ticks take less than three quarters of their time.
    #[default]
    Normal,
    /// Every second tick of each zone, and with it what a game sends at each tick.
    Busy,
    /// Every second snapshot that is left, in games that go by [`Load::snapshot_divisor`]; new
    /// sessions, and Joins of those who are in no zone: all of that did not help enough.
    Overloaded,
}

/// The load of the server, and what follows from it. Read it to send less when there is too much
/// to do:
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::tick::Load;
/// use waystation::zone::ZoneTicked;
///
/// fn send_snapshots(mut ticks: MessageReader<ZoneTicked>, load: Res<Load>) {
///     for tick in ticks.read().filter(|tick| tick.frame.is_multiple_of(load.snapshot_divisor())) {
///         // Broadcast where everybody is in `tick.zone`.
///         # let _ = tick;
///     }
/// }
/// ```
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    level: LoadLevel,
    mean: Duration,
    /// Ticks since the level changed.
    held: u32,
}

/// What was left out since the start because there was too much to do.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shed {
    /// Ticks of zones.
    pub zone_tick_count: u64,
    /// Hellos denied and Joins refused, as THROTTLED.
    pub newcomer_count: u64,
}

impl Load {
    /// How much is left out.
    #[must_use]
    pub fn level(&self) -> LoadLevel {
        self.level
    }

    /// What a tick takes, as a mean that forgets within seconds.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// Of how many ticks that a zone is due, it makes one.
    #[must_use]
    pub fn zone_divisor(&self) -> u32 {
        match self.level {
            LoadLevel::Normal => 1,
            LoadLevel::Busy | LoadLevel::Overloaded => 2,
        }
    }

    /// At how many ticks of its zone a game should send one snapshot: a zone at 20 Hz sends 20 a
    /// second, 10 when it ticks half as often, and 5 when that is not enough.
    #[must_use]
    pub fn snapshot_divisor(&self) -> u64 {
        match self.level {
            LoadLevel::Normal | LoadLevel::Busy => 1,
            LoadLevel::Overloaded => 2,
        }
    }

    /// Whether new sessions are denied, and Joins of those who are in no zone refused.
    #[must_use]
    pub fn refuses_newcomers(&self) -> bool {
        self.level == LoadLevel::Overloaded
    }

    /// Takes in what a tick took. Whether the level changed.
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

/// Judges the load by what the last tick took.
pub(crate) fn weigh(mut load: ResMut<Load>, input: Res<TickInput>, rate: Res<TickRate>, time: Res<TickTime>) {
    if load.weigh(input.cost, *rate) {
        tracing::warn!(level = %load.level, tick_mean = ?load.mean, tick = %time.tick(), "the load has changed");
    }
}

/// What the mean of tick times goes back over, in seconds: a burst of some ticks is no overload.
const MEAN_OVER_S: u32 = 1;
/// A longer tick counts as this many periods, so that one stall, however long, adds a tenth of a
/// period to the mean at 20 Hz, and half of one at 4 Hz.
const COST_MAX_PERIODS: u32 = 2;
/// A level lasts this long at least, in seconds: by then the mean has seen six sevenths of what
/// the last change did to it.
const HOLD_S: u32 = 2;
/// Busy from this mean on, in percent of the period. Above it, what varies from tick to tick begins
/// to make ticks late.
const BUSY_FROM: u32 = 75;
/// Busy until the mean is below this. Zones then tick half as often, so a game that costs less than
/// this now costs less than twice of it at the full rate, which must not be [`BUSY_FROM`] again.
const BUSY_UNTIL: u32 = 35;
/// Overloaded from this mean on: what was left out did not help, and ticks are about to be late.
const OVERLOADED_FROM: u32 = 95;
/// Overloaded until the mean is below this: twice of it, if all of it is snapshots, must not be
/// [`OVERLOADED_FROM`] again.
const OVERLOADED_UNTIL: u32 = 45;

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    /// The levels that ticks of a percentage of their period lead to, one after the other, for so
    /// many seconds.
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
    fn a_game_that_is_relieved_stays_so_instead_of_swinging() {
        for (percent, level) in [(80, LoadLevel::Busy), (130, LoadLevel::Busy), (195, LoadLevel::Overloaded)]
        {
            let mut load = Load::default();
            let (mut frame, mut change_count) = (0, 0);

            // A game that costs that much of a period for each snapshot, and nothing else.
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
    fn each_level_is_held_until_its_effect_shows() {
        let mut load = Load::default();
        let mut ticks = 0;
        while load.level() != LoadLevel::Overloaded {
            load.weigh(PERIOD * 2, TickRate::default());
            ticks += 1;
        }

        assert_eq!(ticks, 2 * 20 * HOLD_S);
    }
}
