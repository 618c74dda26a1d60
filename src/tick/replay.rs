//! Records the inputs of ticks, and replays a run from them.
//!
//! A [`Recorder`] keeps the [`TickInput`] of each tick. A [`Replay`] drives another app with these inputs.
//! That app has the same plugins, game and configuration. It needs no adapters and waits for no clock. In
//! each tick it does what the recorded app did. Install both after the plugins of an app and before its
//! first tick.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;

use super::{GameRng, SecretRng, TickInput, TickTime};

/// The inputs of a run, from its first tick on.
///
/// A recording contains hashes of the tokens that the server has drawn, but neither the tokens nor the seed
/// of `SecretRng`. It contains the frames of clients as they arrived: names, passwords, tickets, and the
/// tokens by which sessions were resumed. Keep it as secret as a capture of the decrypted traffic.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Reading of the clock when the app was built.
    pub built_at: Duration,
    /// Seed of the game's [`GameRng`].
    pub game_seed: u64,
    /// Inputs of the ticks, in order.
    pub ticks: Vec<TickInput>,
}

/// Records the inputs of the ticks of an app.
///
/// ```
/// use bevy_app::App;
/// use waystation::server::ServerPlugins;
/// use waystation::tick::{GameRng, Recorder, Replay};
///
/// let mut live = App::new();
/// live.add_plugins(ServerPlugins::default());
/// Recorder::install(&mut live, 100);
/// live.update();
/// let recording = Recorder::take(&mut live);
/// assert_eq!(recording.ticks.len(), 1);
///
/// let mut again = App::new();
/// again.add_plugins(ServerPlugins::default());
/// Replay::install(&mut again, recording);
/// again.update();
/// assert_eq!(again.world().resource::<GameRng>().seed(), live.world().resource::<GameRng>().seed());
/// ```
#[derive(Resource, Debug)]
pub struct Recorder {
    recording: Recording,
    ticks_max: usize,
}

impl Recorder {
    /// Records up to `ticks_max` ticks of an app, from its first tick on. Further ticks are not recorded.
    /// The input of a tick contains what clients have sent: at most 16 MiB and 65,536 events per proxy.
    pub fn install(app: &mut App, ticks_max: usize) {
        let world = app.world_mut();
        let recording = Recording {
            built_at: world.resource::<TickTime>().now(),
            game_seed: world.resource::<GameRng>().seed(),
            ticks: Vec::new(),
        };
        world.resource_mut::<SecretRng>().record();
        world.insert_resource(Self { recording, ticks_max });
    }

    /// Ends the recording and returns it. Returns an empty recording if the app records nothing.
    pub fn take(app: &mut App) -> Recording {
        let world = app.world_mut();
        let Some(mut recorder) = world.remove_resource::<Self>() else { return Recording::default() };
        recorder.note_drawn(&mut world.resource_mut::<SecretRng>());
        world.resource_mut::<SecretRng>().stop_recording();
        recorder.recording
    }

    /// Records the inputs of a tick that begins.
    pub(super) fn note(world: &mut World, input: &TickInput) {
        let Some(mut recorder) = world.remove_resource::<Self>() else { return };
        let mut secrets = world.resource_mut::<SecretRng>();
        recorder.note_drawn(&mut secrets);
        if recorder.recording.ticks.len() < recorder.ticks_max {
            recorder.recording.ticks.push(input.clone());
        } else {
            secrets.stop_recording();
        }
        world.insert_resource(recorder);
    }

    /// Adds what was drawn since the last tick began to the inputs of that tick. The draws at startup are
    /// added to the first tick.
    fn note_drawn(&mut self, secrets: &mut SecretRng) {
        if let Some(last) = self.recording.ticks.last_mut() {
            last.drawn.extend(secrets.take_drawn());
        }
    }
}

/// Drives an app with the inputs of a recording, instead of its own clocks and adapters.
#[derive(Resource, Debug)]
pub struct Replay {
    ticks: VecDeque<TickInput>,
    now: Duration,
    has_begun: bool,
}

impl Replay {
    /// Drives this app with a recording. Each `app.update()` replays one recorded tick.
    pub fn install(app: &mut App, recording: Recording) {
        let Recording { built_at, game_seed, ticks } = recording;
        let mut ticks = VecDeque::from(ticks);
        // The draws of the first tick include those at startup, which happen before the tick.
        let drawn = ticks.front_mut().map(|first| std::mem::take(&mut first.drawn)).unwrap_or_default();
        let world = app.world_mut();
        world.resource_mut::<TickTime>().rebuild(built_at);
        world.insert_resource(GameRng::new(game_seed));
        world.insert_resource(SecretRng::recorded(drawn));
        world.insert_resource(Self { ticks, now: built_at, has_begun: false });
    }

    /// Returns the number of recorded ticks that are left. After the last one, no events happen and no time
    /// passes in further ticks.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.ticks.len()
    }

    /// Returns the inputs of the next tick.
    pub(super) fn next(world: &mut World) -> TickInput {
        let mut replay = world.resource_mut::<Self>();
        let Some(input) = replay.ticks.pop_front() else {
            return TickInput { now: replay.now, ..TickInput::default() };
        };
        replay.now = input.now;
        // `install` has already supplied the draws of the first tick.
        if std::mem::replace(&mut replay.has_begun, true) {
            world.resource_mut::<SecretRng>().replay(&input.drawn);
        }
        input
    }
}
