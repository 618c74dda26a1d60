//! Which values of a [`ClientConfig`] let a client play.

use std::time::Duration;

use super::ClientConfig;
use crate::wire::{ConfigError, FRAME_MAX_BEFORE_WELCOME, at_least, within};

impl ClientConfig {
    /// Checks that a client can play with these values. [`Client::new`](super::Client::new) does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value the client could not connect, would lose each
    /// link, or would ask a server without a pause.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "ClientConfig::link_timeout",
            &self.link_timeout,
            LINK_TIMEOUT_MIN..=LINK_TIMEOUT_MAX,
            "the server sends a Beacon each second, and keeps a silent link for 5 s; 5 s is the default",
        )?;
        within(
            "ClientConfig::dial_timeout",
            &self.dial_timeout,
            DIAL_TIMEOUT_MIN..=DIAL_TIMEOUT_MAX,
            "a link takes a few round trips to open; leave the default if in doubt",
        )?;
        within(
            "ClientConfig::backoff_min",
            &self.backoff_min,
            PAUSE_MIN..=PAUSE_MAX,
            "without a pause a server that refuses is asked in a tight loop; 100 ms is the default",
        )?;
        within(
            "ClientConfig::backoff_max",
            &self.backoff_max,
            self.backoff_min..=PAUSE_MAX,
            "the longest pause is no shorter than backoff_min, and a player waits for it; 5 s is the default",
        )?;
        at_least(
            "ClientConfig::tries",
            &self.tries,
            &1,
            "otherwise the client stops before it has connected; 15 is the default",
        )?;
        within(
            "ClientConfig::game",
            &self.game.len(),
            0..=GAME_MAX_BYTES,
            "these are bytes of the name, which must fit into a Hello of 4 KiB beside the credentials",
        )
    }

    /// The configuration, if a client can play with it.
    pub(super) fn checked(self) -> Self {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        self
    }
}

/// The shortest link timeout: a Beacon each second, of which one is late.
const LINK_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest link timeout.
const LINK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The shortest time for a link to open: two round trips of a wired network.
const DIAL_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The longest time for a link to open.
const DIAL_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The shortest pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// The longest name of a game, in bytes: a quarter of a Hello.
const GAME_MAX_BYTES: usize = FRAME_MAX_BEFORE_WELCOME / 4;
