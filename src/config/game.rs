//! Reads the table `[game]` of the configuration into resources of the game, at the start and after a reload.
//!
//! Data flow: [`GameTable`] → [`AppGameConfig::game_config`] → a resource of the game. After a reload: another thread →
//! [`GameReload`] → [`TickInput::game`], as an input of a tick → the resource.

#[cfg(any(feature = "app", test))]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bevy_app::{App, First};
use bevy_ecs::prelude::*;
use serde::de::DeserializeOwned;

use crate::settings::{GameTable, Mistake};
#[cfg(any(feature = "app", test))]
use crate::tick::InputSources;
use crate::tick::{TickInput, TickSystems};

/// An extension of [`App`] that reads a game's own settings.
pub trait AppGameConfig {
    /// Reads the table `[game]` of the configuration into a resource. Without a table, the resource has the defaults
    /// of its type. After a reload of the configuration, the resource is replaced at the beginning of a tick.
    ///
    /// A game has one type for its table: with two types, each would refuse the keys of the other.
    ///
    /// With `#[serde(default, deny_unknown_fields)]`, missing keys have defaults and unknown keys are mistakes. A
    /// launched game reports a mistake with its line, and does not start. If a reloaded table has a mistake, the server
    /// logs a warning and keeps the resource.
    ///
    /// ```
    /// use bevy_app::App;
    /// use bevy_ecs::prelude::*;
    /// use serde::Deserialize;
    /// use waystation::config::AppGameConfig as _;
    ///
    /// /// Settings of the game, as in `[game]` with `speed = 3.0`.
    /// #[derive(Resource, Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct Tuning {
    ///     /// Speed of a player in metres per second. Default: 2.
    ///     speed: f32,
    /// }
    ///
    /// impl Default for Tuning {
    ///     fn default() -> Self {
    ///         Self { speed: 2.0 }
    ///     }
    /// }
    ///
    /// let mut app = App::new();
    /// app.game_config::<Tuning>();
    /// assert_eq!(app.world().resource::<Tuning>().speed, 2.0);
    /// ```
    fn game_config<T: Resource + DeserializeOwned + Default>(&mut self) -> &mut Self;
}

impl AppGameConfig for App {
    fn game_config<T: Resource + DeserializeOwned + Default>(&mut self) -> &mut Self {
        let world = self.world_mut();
        let table = world.get_resource_or_init::<GameConfig>().table.clone();
        let value = table.read::<T>().unwrap_or_else(|mistake| {
            world.resource_mut::<GameConfig>().mistakes.push(mistake);
            T::default()
        });
        world.insert_resource(value);
        world.resource_mut::<GameConfig>().is_read = true;
        self.add_systems(First, replace::<T>.after(TickSystems::Begin))
    }
}

/// The table of the game, and the mistakes that were found when it was read.
#[derive(Resource, Debug, Default)]
pub(crate) struct GameConfig {
    pub(crate) table: GameTable,
    pub(crate) mistakes: Vec<Mistake>,
    /// True if a plugin has read the table.
    pub(crate) is_read: bool,
}

/// Replaces the table of a running game. All clones belong to the same game.
#[cfg(any(feature = "app", test))]
#[derive(Resource, Debug, Clone, Default)]
pub(crate) struct GameReload(Arc<Mutex<Option<GameTable>>>);

#[cfg(any(feature = "app", test))]
impl GameReload {
    /// Makes new tables an input of the app's ticks.
    pub(crate) fn install(app: &mut App) -> Self {
        let reload = Self::default();
        app.insert_resource(reload.clone());
        app.world_mut().get_resource_or_init::<InputSources>().0.push(|world, input| {
            input.game = world.resource::<Self>().lock().take();
        });
        reload
    }

    /// Replaces the table from the next tick on.
    pub(crate) fn send(&self, table: GameTable) {
        *self.lock() = Some(table);
    }

    fn lock(&self) -> MutexGuard<'_, Option<GameTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the game's resource after a reload. A table with a mistake changes nothing.
fn replace<T: Resource + DeserializeOwned>(input: Res<TickInput>, mut commands: Commands) {
    let Some(table) = &input.game else { return };
    match table.read::<T>() {
        Ok(read) => {
            commands.insert_resource(read);
            tracing::info!("the table [game] was reloaded");
        }
        Err(mistake) => {
            tracing::warn!(%mistake, "the table [game] was not reloaded: mend it and reload again")
        }
    }
}

#[cfg(test)]
mod tests {
    use bevy_app::Update;
    use serde::Deserialize;

    use super::*;
    use crate::settings::{Inputs, load};
    use crate::tick::{Recorder, Replay, TickPlugin};

    crate::settings! {
        /// A configuration that consists of the game's table.
        #[derive(Debug)]
        struct OnlyGame {
            /// The game.
            game: GameTable = GameTable::default(),
        }
    }

    #[derive(Resource, Debug, Clone, PartialEq, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Tuning {
        speed: u32,
    }

    /// The speed that the game has read in each tick.
    #[derive(Resource, Debug, Default)]
    struct Seen(Vec<u32>);

    fn table(text: &str) -> GameTable {
        let inputs = Inputs { file: Some(("waystation.toml", text)), ..Inputs::default() };
        load::<OnlyGame>(inputs, |_| Vec::new()).expect("no mistakes").value.game
    }

    fn game(text: &str) -> App {
        let mut app = App::new();
        app.insert_resource(GameConfig { table: table(text), ..GameConfig::default() })
            .add_plugins(TickPlugin::default())
            .init_resource::<Seen>()
            .game_config::<Tuning>()
            .add_systems(Update, |tuning: Res<Tuning>, mut seen: ResMut<Seen>| seen.0.push(tuning.speed));
        app
    }

    #[test]
    fn a_reload_is_an_input_of_a_tick_and_is_replayed() {
        let text = "[game]\nspeed = 2\n";
        let mut live = game(text);
        let reload = GameReload::install(&mut live);
        Recorder::install(&mut live, 10);

        live.update();
        reload.send(table("[game]\nspeed = 3\n"));
        live.update();
        reload.send(table("[game]\nspeed = \"fast\"\n"));
        live.update();
        let mut again = game(text);
        Replay::install(&mut again, Recorder::take(&mut live));
        (0..3).for_each(|_| again.update());

        assert_eq!(live.world().resource::<Seen>().0, [2, 3, 3], "a table with a mistake changes nothing");
        assert_eq!(again.world().resource::<Seen>().0, [2, 3, 3]);
    }

    #[test]
    fn a_mistake_is_kept_for_the_launch_and_the_game_has_its_defaults() {
        let app = game("[game]\n\nsped = 2\n");

        let config = app.world().resource::<GameConfig>();
        assert_eq!(config.mistakes.len(), 1);
        assert_eq!(
            config.mistakes[0].to_string(),
            "waystation.toml:3: unknown key `game.sped`; did you mean `speed`?"
        );
        assert_eq!(*app.world().resource::<Tuning>(), Tuning::default());
    }
}
