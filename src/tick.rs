//! The tick: its phases, its clock, its randomness, and the loop that runs it.
//!
//! One `app.update()` is one tick, divided into the phases of [`TickSystems`]. Time enters
//! through the [`Clock`]. Random numbers come from generators that are seeded when the server starts:
//! the game's from [`Dice`], ids and tokens from `Secrets`. A test can set both, and then a tick is a
//! pure function of its inputs. This module does not know the network.
//!
//! Data flow: [`Clock`], [`UnixClock`], the [`runner`](run) and the proxies → [`TickInput`], gathered once in
//! `Begin` → [`TickTime`], [`Load`] and every system of the tick. The runner measures each tick →
//! [`TickStats`], and [`TickCost`], an input of the next one.

mod clock;
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

pub use clock::{Clock, TickTime};
pub(crate) use input::InputSources;
pub use input::{ProxyInput, Taken, TickInput};
pub(crate) use load::weigh;
pub use load::{Load, LoadLevel, Shed, TickCost};
pub(crate) use random::Secrets;
pub use random::{Dice, Drawn};
pub use replay::{Recorder, Recording, Replay};
pub use runner::{Failure, StopHandle, StopRequested, run};
pub(crate) use runner::{LastWords, panic_text};
pub use stats::{TickStats, TickSummary};
pub use unix::UnixClock;
pub use verdict::{Answer, QuestionId, Verdict};

/// The phases of a tick, in this order. A game's systems belong in [`Simulate`](Self::Simulate),
/// which is where systems of `Update` run if they say nothing else.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TickSystems {
    /// `First`: the tick is counted, its inputs are gathered, news of the last tick is published.
    Begin,
    /// `PreUpdate`: what happened to links is taken from the inputs.
    Receive,
    /// `PreUpdate`: sessions are opened, resumed and disconnected.
    Admit,
    /// `PreUpdate`: frames become calls.
    Dispatch,
    /// `PreUpdate`: it is decided which zones tick.
    Pace,
    /// `Update`: the game.
    Simulate,
    /// `PostUpdate`: sends are resolved, membership changes take effect.
    Settle,
    /// `PostUpdate`: timers.
    Expire,
    /// `PostUpdate`: state is turned into messages.
    Replicate,
    /// `PostUpdate`: one batch a proxy leaves.
    Flush,
    /// `Last`: the tick is measured, and checked in debug builds.
    Measure,
}

/// How fast the server ticks.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickRate(NonZeroU32);

/// A tick rate that the server does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} Hz is no tick rate: choose one from {TICK_HZ_MIN} to {TICK_HZ_MAX}")]
pub struct TickRateError(pub u32);

impl TickRate {
    /// A rate in ticks a second, [`TICK_HZ_MIN`] to [`TICK_HZ_MAX`].
    ///
    /// # Errors
    ///
    /// [`TickRateError`] outside that range.
    pub fn new(hz: u32) -> Result<Self, TickRateError> {
        match NonZeroU32::new(hz) {
            Some(rate) if (TICK_HZ_MIN..=TICK_HZ_MAX).contains(&hz) => Ok(Self(rate)),
            _ => Err(TickRateError(hz)),
        }
    }

    /// Ticks a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// The time from one tick to the next.
    #[must_use]
    pub fn period(self) -> Duration {
        Duration::from_secs(1) / self.hz()
    }
}

impl Default for TickRate {
    /// 20 Hz.
    fn default() -> Self {
        Self(TICK_HZ_DEFAULT)
    }
}

/// Adds the phases, the clock and the randomness.
///
/// It inserts bevy's `Time` and advances it by each tick's delta; do not add bevy's `TimePlugin`
/// beside it, which would read the system's clock.
#[derive(Debug, Clone, Default)]
pub struct TickPlugin {
    /// How fast the server ticks; [`run`] and the zones' pace go by it.
    pub rate: TickRate,
    /// Where time comes from.
    pub clock: Clock,
    /// The seed of ids, tokens and [`Dice`]. Default: `None`, and the operating system gives both
    /// seeds. A seed that is given tells every token, so it is for tests only. To repeat the dice of a
    /// run, insert [`Dice`] with the seed from its log.
    pub seed: Option<u64>,
}

impl Plugin for TickPlugin {
    fn build(&self, app: &mut App) {
        use TickSystems::{
            Admit, Begin, Dispatch, Expire, Flush, Measure, Pace, Receive, Replicate, Settle, Simulate,
        };

        // The order of systems that say nothing about their order is part of what a seed
        // reproduces, so no tick depends on how threads were scheduled.
        single_threaded(app, (PreStartup, Startup, PostStartup));
        single_threaded(app, (First, PreUpdate, Update));
        single_threaded(app, (PostUpdate, Last, Last));
        let dice = self.seed.map_or_else(Dice::system, Dice::beside);
        tracing::info!(dice = dice.seed(), "the game's dice are seeded");
        app.insert_resource(self.rate)
            .insert_resource(TickTime::new(self.clock.clone()))
            .insert_resource(self.seed.map_or_else(Secrets::system, Secrets::seeded))
            .insert_resource(dice)
            .init_resource::<TickInput>()
            .init_resource::<InputSources>()
            .init_resource::<UnixClock>()
            .init_resource::<TickStats>()
            .init_resource::<TickCost>()
            .init_resource::<Load>()
            .init_resource::<Shed>()
            .init_resource::<StopRequested>()
            .init_resource::<Failure>()
            .init_resource::<LastWords>()
            .init_resource::<Time>()
            .configure_sets(First, Begin.after(MessageUpdateSystems))
            .configure_sets(PreUpdate, (Receive, Admit, Dispatch, Pace).chain())
            .configure_sets(Update, Simulate)
            .configure_sets(PostUpdate, (Settle, Expire, Replicate, Flush).chain())
            .configure_sets(Last, Measure)
            .add_systems(First, (begin, weigh).chain().in_set(Begin));
    }
}

/// The system that begins a tick; what else happens in `Begin` runs after it.
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

/// Slowest tick rate: below it, a beacon's echo would wait longer than it travelled.
pub const TICK_HZ_MIN: u32 = 4;
/// Fastest tick rate: at 4 ms a tick the operating system's timers are still exact enough.
pub const TICK_HZ_MAX: u32 = 240;
const TICK_HZ_DEFAULT: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
