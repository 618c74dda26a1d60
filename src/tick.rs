//! Runs the ticks of the server: their phases, clock, randomness, inputs and load.
//!
//! One `app.update()` is one tick, divided into the phases of [`TickSystems`]. Time comes from the
//! [`Clock`]. Random numbers come from generators that are seeded when the server starts: [`GameRng`] for the
//! game, and `SecretRng` for ids and tokens. A test can set the clock and the seeds; then a tick is a pure
//! function of its inputs. This module does no network I/O.
//!
//! Data flow: [`Clock`], [`UnixClock`], the [`runner`](run) and the proxies → [`TickInput`], gathered once
//! in `Begin` → [`TickTime`], [`Load`] and all systems of the tick. The runner measures each tick →
//! [`TickStats`], and [`TickCost`], which is an input of the next tick.

mod clock;
mod errors;
pub(crate) mod event;
mod input;
mod load;
mod random;
mod replay;
mod runner;
mod stats;
mod unix;
mod verdict;

use std::num::NonZeroU32;
use std::time::Duration;

use bevy_app::{App, First, Last, Plugin, PostStartup, PostUpdate, PreStartup, PreUpdate, Startup, Update};
use bevy_ecs::message::MessageUpdateSystems;
use bevy_ecs::prelude::*;
use bevy_ecs::schedule::SingleThreadedExecutor;
use bevy_time::Time;

use crate::settings::{Leaf, Value};

pub use clock::{Clock, TickTime};
pub use errors::ReturnedErrors;
pub(crate) use input::InputSources;
pub use input::{ProxyInput, Taken, TickInput};
pub(crate) use load::weigh;
pub use load::{Load, LoadCounts, LoadLevel, TickCost};
pub(crate) use random::SecretRng;
pub use random::{Drawn, GameRng};
pub use replay::{Recorder, Recording, Replay};
pub use runner::{Failure, StopHandle, StopRequested, run};
pub(crate) use runner::{PanicHooks, panic_text};
pub use stats::{TickStats, TickSummary};
pub use unix::UnixClock;
pub use verdict::{Answer, QuestionId, Verdict};

/// The phases of a tick, in order. The systems of a game belong to [`Simulate`](Self::Simulate), where
/// systems of `Update` run by default.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TickSystems {
    /// `First`: counts the tick, gathers its inputs, and publishes the news of the last tick.
    Begin,
    /// `PreUpdate`: takes the events of links and the verdicts of authenticators from the inputs.
    Receive,
    /// `PreUpdate`: applies link control, opens and resumes sessions, and takes lost links from sessions.
    Admit,
    /// `PreUpdate`: turns frames into calls and requests.
    Dispatch,
    /// `PreUpdate`: decides which zones tick.
    Pace,
    /// `Update`: runs the game.
    Simulate,
    /// `PostUpdate`: changes memberships and ends sessions. The game's messages are resolved before.
    Settle,
    /// `PostUpdate`: ends sessions and asks whose time has passed.
    Expire,
    /// `PostUpdate`: sends Members of announcing zones.
    Replicate,
    /// `PostUpdate`: hands each adapter one batch.
    Flush,
    /// `Last`: measures the tick, and checks the invariants in debug builds.
    Measure,
}

/// Tick rate of the server, from [`TICK_HZ_MIN`] to [`TICK_HZ_MAX`]. Default: 20 Hz.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickRate(NonZeroU32);

/// A tick rate outside the range from [`TICK_HZ_MIN`] to [`TICK_HZ_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tick rate of {0} Hz is out of range: choose one from {TICK_HZ_MIN} to {TICK_HZ_MAX} Hz")]
pub struct TickRateError(pub u32);

impl TickRate {
    /// Returns a rate of `hz` ticks per second.
    ///
    /// # Errors
    ///
    /// Returns [`TickRateError`] if `hz` is not in the range from [`TICK_HZ_MIN`] to [`TICK_HZ_MAX`].
    pub fn new(hz: u32) -> Result<Self, TickRateError> {
        match NonZeroU32::new(hz) {
            Some(rate) if (TICK_HZ_MIN..=TICK_HZ_MAX).contains(&hz) => Ok(Self(rate)),
            _ => Err(TickRateError(hz)),
        }
    }

    /// Returns the number of ticks per second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// Returns the time from one tick to the next.
    #[must_use]
    pub fn period(self) -> Duration {
        Duration::from_secs(1) / self.hz()
    }
}

impl Default for TickRate {
    /// Returns 20 Hz.
    fn default() -> Self {
        Self(TICK_HZ_DEFAULT)
    }
}

impl Leaf for TickRate {
    fn read(value: &Value) -> Result<Self, String> {
        let expected = |_| format!("a whole number from {TICK_HZ_MIN} to {TICK_HZ_MAX}");
        u32::read(value).and_then(|hz| Self::new(hz).map_err(|error| error.to_string())).map_err(expected)
    }

    fn write(&self) -> Value {
        self.hz().write()
    }
}

/// Adds the phases of a tick, the clock and the randomness.
///
/// The plugin inserts bevy's `Time` and advances it by [`TickTime::delta`] in each tick. Do not add bevy's
/// `TimePlugin`, which would read the clock of the system.
#[derive(Debug, Clone, Default)]
pub struct TickPlugin {
    /// Tick rate of the server. Default: 20 Hz.
    pub rate: TickRate,
    /// Source of time. Default: the monotonic clock of the machine.
    pub clock: Clock,
    /// Seed of ids, tokens and [`GameRng`], for tests only, because it determines all tokens. Default: `None`,
    /// which takes two seeds from the operating system. To repeat the random numbers of a run, insert [`GameRng`] with
    /// the seed that the run logged.
    pub seed: Option<u64>,
}

impl Plugin for TickPlugin {
    fn build(&self, app: &mut App) {
        use TickSystems::{
            Admit, Begin, Dispatch, Expire, Flush, Measure, Pace, Receive, Replicate, Settle, Simulate,
        };

        // The order of systems without an explicit order is part of what a seed reproduces. A
        // single-threaded executor keeps this order independent of how threads are scheduled.
        single_threaded(app, (PreStartup, Startup, PostStartup));
        single_threaded(app, (First, PreUpdate, Update));
        single_threaded(app, (PostUpdate, Last, Last));
        let rng = self.seed.map_or_else(GameRng::system, GameRng::beside);
        tracing::info!(game_seed = rng.seed(), "seed of the game's random numbers");
        errors::install(app.world_mut());
        app.insert_resource(self.rate)
            .insert_resource(TickTime::new(self.clock.clone()))
            .insert_resource(self.seed.map_or_else(SecretRng::system, SecretRng::seeded))
            .insert_resource(rng)
            .init_resource::<TickInput>()
            .init_resource::<InputSources>()
            .init_resource::<UnixClock>()
            .init_resource::<TickStats>()
            .init_resource::<TickCost>()
            .init_resource::<Load>()
            .init_resource::<LoadCounts>()
            .init_resource::<StopRequested>()
            .init_resource::<Failure>()
            .init_resource::<PanicHooks>()
            .init_resource::<Time>()
            .configure_sets(First, Begin.after(MessageUpdateSystems))
            .configure_sets(PreUpdate, (Receive, Admit, Dispatch, Pace).chain())
            .configure_sets(Update, Simulate)
            .configure_sets(PostUpdate, (Settle, Expire, Replicate, Flush).chain())
            .configure_sets(Last, Measure)
            .add_systems(First, (begin, weigh).chain().in_set(Begin))
            .add_systems(Last, errors::report.after(Measure).ambiguous_with_all());
    }
}

/// The system that begins a tick. The other systems in `Begin` run after it.
pub fn begin(world: &mut World) {
    let input = input::gather(world);
    let mut time = world.resource_mut::<TickTime>();
    time.begin(input.now);
    let delta = time.delta();
    world.resource_mut::<Time>().advance_by(delta);
    world.resource_mut::<StopRequested>().0 |= input.stop;
    world.insert_resource(input);
}

fn single_threaded<A, B, C>(app: &mut App, (a, b, c): (A, B, C))
where
    A: bevy_ecs::schedule::ScheduleLabel,
    B: bevy_ecs::schedule::ScheduleLabel,
    C: bevy_ecs::schedule::ScheduleLabel,
{
    let set = |schedule: &mut Schedule| {
        schedule.set_executor(SingleThreadedExecutor::new());
    };
    app.edit_schedule(a, set).edit_schedule(b, set).edit_schedule(c, set);
}

/// Slowest tick rate, in Hz. At lower rates a Ping would wait longer for a tick than it travels.
pub const TICK_HZ_MIN: u32 = 4;
/// Fastest tick rate, in Hz. The timers of the operating system are exact enough for its period of 4 ms.
pub const TICK_HZ_MAX: u32 = 240;
const TICK_HZ_DEFAULT: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
