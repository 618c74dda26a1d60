//! The table of the game. The server passes it to the game and does not interpret its keys.

mod deserializer;
#[cfg(all(test, feature = "server"))]
mod tests;

use serde::de::DeserializeOwned;

use self::deserializer::Reader;
use super::define::{Content, Setting};
use super::keys::variable;
use super::mistake::{Mistake, Source};
use super::value::{Entry, Value};

/// The table `[game]` of the file, for the game to deserialise. A field of this type must be named `game`.
///
/// ```
/// use serde::Deserialize;
/// use waystation::settings::{GameTable, Inputs, load};
///
/// waystation::settings! {
///     /// A server.
///     #[derive(Debug)]
///     pub struct Settings {
///         /// The settings of the game.
///         pub game: GameTable = GameTable::default(),
///     }
/// }
///
/// #[derive(Debug, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct DoorGame {
///     speed: f64,
/// }
/// impl Default for DoorGame {
///     fn default() -> Self {
///         Self { speed: 1.0 }
///     }
/// }
///
/// let read = |text| {
///     let inputs = Inputs { file: Some(("town.toml", text)), ..Inputs::default() };
///     load(inputs, |_: &Settings| Vec::new()).expect("no mistake").value.game.read::<DoorGame>()
/// };
/// assert_eq!(read("[game]\nspeed = 1.5\n")?.speed, 1.5);
/// let mistake = read("[game]\n\nsped = 1.5\n").expect_err("an unknown key");
/// assert_eq!(mistake.to_string(), "town.toml:3: unknown key `game.sped`; did you mean `speed`?");
/// # Ok::<(), waystation::settings::Mistake>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GameTable {
    pub(super) entries: Vec<Entry>,
}

impl GameTable {
    /// Deserialises the table. The type decides whether unknown keys are mistakes
    /// (`#[serde(deny_unknown_fields)]`) and which defaults missing keys have (`#[serde(default)]`). The text of a
    /// variable or a flag is read as the type that the field expects.
    ///
    /// # Errors
    ///
    /// Returns the first mistake, with its key and its line.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Mistake> {
        T::deserialize(Reader(&Value::Table(self.entries.clone()))).map_err(|error| {
            let path: Vec<&str> = std::iter::once(GAME).chain(error.path()).collect();
            let path = path.join(".");
            let is_on_top = error.path().count() == 1;
            let stronger = match error.source() {
                Source::File { .. } if is_on_top && !error.is_unknown() => vec![variable(&path)],
                _ => Vec::new(),
            };
            let text = error.text(&path);
            Mistake { source: error.source().clone(), key: Some(path), text, stronger }
        })
    }
}

impl Setting for GameTable {
    fn content(&self) -> Content<'_> {
        Content::Game(self)
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let Value::Table(entries) = value else { return Err("a table".to_owned()) };
        self.entries.clone_from(entries);
        Ok(())
    }
}

/// The key of the game's table.
const GAME: &str = "game";
