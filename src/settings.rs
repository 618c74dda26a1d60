//! Loads a configuration: one file, environment variables and flags set its fields.
//!
//! [`settings!`](crate::settings!) defines a configuration. The doc of a field is written once: it is both the rustdoc
//! and the comment in the shown file. [`load`] takes a file in TOML, environment variables and flags, and returns
//! the configuration, or all mistakes at once. Flags are stronger than variables, and variables are stronger than
//! the file. Only the strongest value of a key is read. A weaker value of a wrong type is not reported.
//!
//! This module reads neither files nor the environment. Its caller passes their contents.
//!
//! Data flow: file, variables and flags → [`load`] → [`Loaded`] → the configuration, the source of each value, and
//! [`Loaded::show`].
//!
//! ```
//! use std::time::Duration;
//! use waystation::settings::{Inputs, load};
//!
//! waystation::settings! {
//!     /// How the doors of a town work.
//!     #[derive(Debug, Clone)]
//!     pub struct DoorConfig {
//!         /// Time for which a door stays open. Default: 5 s.
//!         pub open_time: Duration = Duration::from_secs(5),
//!         /// Number of doors. Default: 1.
//!         pub count: u32 = 1,
//!     }
//! }
//!
//! let file = Some(("town.toml", "open_time = \"250ms\"\ncount = 2\n"));
//! let variables = vec![("WAYSTATION_COUNT".into(), "3".into())];
//! let inputs = Inputs { file, variables, ..Inputs::default() };
//! let loaded = load(inputs, |_: &DoorConfig| Vec::new())?;
//! assert_eq!(loaded.value.open_time, Duration::from_millis(250));
//! assert_eq!(loaded.source("open_time").to_string(), "town.toml:1");
//! assert_eq!(loaded.value.count, 3);
//!
//! let file = Some(("town.toml", "opentime = \"1s\"\ncount = -1\n"));
//! let mistakes = load(Inputs { file, ..Inputs::default() }, |_: &DoorConfig| Vec::new()).expect_err("two mistakes");
//! assert_eq!(
//!     mistakes.to_string(),
//!     "town.toml:1: unknown key `opentime`; did you mean `open_time`?\n\
//!      town.toml:2: count is -1, and must be a whole number from 0 to 4294967295; WAYSTATION_COUNT overrides it",
//! );
//! # Ok::<(), waystation::settings::Mistakes>(())
//! ```

#![cfg_attr(not(feature = "server"), allow(dead_code, reason = "clients load no file"))]

mod config_error;
mod define;
#[cfg(feature = "server")]
mod file;
mod game;
mod keys;
mod leaf;
#[cfg(feature = "server")]
mod load;
mod mistake;
mod nearest;
#[cfg(feature = "server")]
mod show;
#[cfg(all(test, feature = "server"))]
mod tests;
mod units;
mod value;
mod walk;

/// The version of serde that [`settings!`](crate::settings!) uses.
pub use serde;

pub use self::config_error::ConfigError;
pub(crate) use self::config_error::{at_least, failures, first, within};
pub use self::define::{Content, Field, Setting, Settings, deserialize};
#[cfg(feature = "server")]
pub use self::file::FILE_MAX_BYTES;
pub use self::game::GameTable;
pub use self::keys::{Key, PREFIX, keys};
pub use self::leaf::{Choice, Leaf, from_text};
#[cfg(feature = "server")]
pub use self::load::{Flag, Inputs, Loaded, load};
pub use self::mistake::{MISTAKES_MAX, Mistake, Mistakes, Source};
pub use self::value::{Entry, Value};
