//! A run again, from the inputs of its ticks.
//!
//! A [`Recorder`] keeps the [`TickInput`] of each tick. A [`Replay`] drives another app by them: that has the
//! same plugins, game and configuration, needs no adapters and waits for no clock, and does in each tick what
//! the recorded app did. Both are put into an app when its plugins were added and before its first tick.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;

use super::{Dice, Secrets, TickInput, TickTime};

/// The inputs of a run, from its first tick on.
///
/// It has no token that the server has drawn, only hashes, and no seed of secrets. It does have what clients
/// have sent, as it came: names, passwords, tickets and the tokens by which sessions were resumed. Keep it as secret as
/// a capture of the decrypted traffic.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// The clock when the app was built.
    pub built_at: Duration,
    /// The seed of the game's [`Dice`].
    pub dice: u64,
    /// The inputs, by tick.
    pub ticks: Vec<TickInput>,
}

/// Records the inputs of an app's ticks.
///
/// ```
/// use bevy_app::App;
/// use waystation::server::ServerPlugins;
/// use waystation::tick::{Dice, Recorder, Replay};
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
/// assert_eq!(again.world().resource::<Dice>().seed(), live.world().resource::<Dice>().seed());
/// ```
#[derive(Resource, Debug)]
pub struct Recorder {
    recording: Recording,
    ticks_max: usize,
}

impl Recorder {
    /// Records up to `ticks_max` ticks of an app, from its first one on; further ones are not kept. A tick
    /// holds as much as its clients have sent, at most 16 MiB and 65,536 events a proxy.
    pub fn install(app: &mut App, ticks_max: usize) {
        let world = app.world_mut();
        let recording = Recording {
            built_at: world.resource::<TickTime>().now(),
            dice: world.resource::<Dice>().seed(),
            ticks: Vec::new(),
        };
        world.resource_mut::<Secrets>().record();
        world.insert_resource(Self { recording, ticks_max });
    }

    /// What was recorded; the recording ends. Empty if nothing is being recorded.
    pub fn take(app: &mut App) -> Recording {
        let world = app.world_mut();
        let Some(mut recorder) = world.remove_resource::<Self>() else { return Recording::default() };
        recorder.note_drawn(&mut world.resource_mut::<Secrets>());
        world.resource_mut::<Secrets>().stop_recording();
        recorder.recording
    }

    /// Notes the inputs of a tick that begins.
    pub(super) fn note(world: &mut World, input: &TickInput) {
        let Some(mut recorder) = world.remove_resource::<Self>() else { return };
        let mut secrets = world.resource_mut::<Secrets>();
        recorder.note_drawn(&mut secrets);
        if recorder.recording.ticks.len() < recorder.ticks_max {
            recorder.recording.ticks.push(input.clone());
        } else {
            secrets.stop_recording();
        }
        world.insert_resource(recorder);
    }

    /// Adds what was drawn since the last tick began to the inputs of that tick. What is drawn at startup
    /// waits for the first tick.
    fn note_drawn(&mut self, secrets: &mut Secrets) {
        if let Some(last) = self.recording.ticks.last_mut() {
            last.drawn.extend(secrets.take_drawn());
        }
    }
}

/// Drives an app by the inputs of another one's ticks, whatever clocks and adapters it has itself.
#[derive(Resource, Debug)]
pub struct Replay {
    ticks: VecDeque<TickInput>,
    now: Duration,
    has_begun: bool,
}

impl Replay {
    /// Drives this app by a recording, one recorded tick with each `app.update()`.
    pub fn install(app: &mut App, recording: Recording) {
        let Recording { built_at, dice, ticks } = recording;
        let mut ticks = VecDeque::from(ticks);
        // The first tick's draws include those at startup, which is before the tick.
        let drawn = ticks.front_mut().map(|first| std::mem::take(&mut first.drawn)).unwrap_or_default();
        let world = app.world_mut();
        world.resource_mut::<TickTime>().rebuild(built_at);
        world.insert_resource(Dice::new(dice));
        world.insert_resource(Secrets::recorded(drawn));
        world.insert_resource(Self { ticks, now: built_at, has_begun: false });
    }

    /// Ticks that are left. An app that goes on when none is left has ticks in which nothing happens and no
    /// time passes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.ticks.len()
    }

    /// The inputs of the next tick.
    pub(super) fn next(world: &mut World) -> TickInput {
        let mut replay = world.resource_mut::<Self>();
        let Some(input) = replay.ticks.pop_front() else {
            return TickInput { now: replay.now, ..TickInput::default() };
        };
        replay.now = input.now;
        // The first tick's draws are there since the installation.
        if std::mem::replace(&mut replay.has_begun, true) {
            world.resource_mut::<Secrets>().replay(&input.drawn);
        }
        input
    }
}
