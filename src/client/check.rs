//! Checks the values of a [`ClientConfig`].

use std::time::Duration;

use super::ClientConfig;
use crate::settings::{ConfigError, at_least, failures, first, within};
use crate::wire::FRAME_MAX_BEFORE_WELCOME;

impl ClientConfig {
    /// Checks that each value is in its range. [`Client::new`](super::Client::new) calls this
    /// method too.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for the first field whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        first(self.check_all())
    }

    /// Returns an error for each field whose value is out of range.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        failures([
            within(
                "ClientConfig::link_timeout",
                &self.link_timeout,
                LINK_TIMEOUT_MIN..=LINK_TIMEOUT_MAX,
                "the server sends a Beacon each second and closes a link after 5 s of silence; the default is 5 s",
            ),
            within(
                "ClientConfig::dial_timeout",
                &self.dial_timeout,
                DIAL_TIMEOUT_MIN..=DIAL_TIMEOUT_MAX,
                "a link takes a few round trips to open; the default is 2.5 s",
            ),
            within(
                "ClientConfig::backoff_min",
                &self.backoff_min,
                PAUSE_MIN..=PAUSE_MAX,
                "without a pause the client asks a refusing server in a tight loop; the default is 100 ms",
            ),
            within(
                "ClientConfig::backoff_max",
                &self.backoff_max,
                self.backoff_min..=PAUSE_MAX,
                "it must be at least backoff_min, and at most as long as a player would wait; the default is 5 s",
            ),
            at_least(
                "ClientConfig::tries",
                &self.tries,
                &1,
                "with 0 tries the client could not connect; the default is 15",
            ),
            within(
                "ClientConfig::game",
                &self.game.len(),
                0..=GAME_MAX_BYTES,
                "this is the length of the name in bytes; name and credentials must fit into a Hello of 4 KiB",
            ),
        ])
    }

    /// Returns the configuration, or panics if it does not pass [`check`](Self::check).
    pub(super) fn checked(self) -> Self {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        self
    }
}

/// The shortest link timeout: the interval of the Beacons.
const LINK_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest link timeout.
const LINK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The shortest time for a link to open: at least two round trips of a wired network.
const DIAL_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The longest time for a link to open.
const DIAL_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The shortest pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// The longest name of a game, in bytes: a quarter of a Hello.
const GAME_MAX_BYTES: usize = FRAME_MAX_BEFORE_WELCOME / 4;
