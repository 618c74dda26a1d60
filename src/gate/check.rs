//! Checks the values of a [`GateConfig`].

use std::time::Duration;

use super::GateConfig;
use crate::settings::{ConfigError, at_least, failures, first, within};

impl GateConfig {
    /// Checks that each value is in its range. [`GatePlugin`](super::GatePlugin) calls this method too.
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
        let throttled =
            "with 0, the server denies every new session as THROTTLED; if in doubt, use the default";
        failures([
            within(
                "GateConfig::hello_timeout",
                &self.hello_timeout,
                HELLO_TIMEOUT_MIN..=HELLO_TIMEOUT_MAX,
                "a Hello takes a round trip to arrive, and a silent link takes a place for this time; the default \
                 is 5 s",
            ),
            at_least(
                "GateConfig::max_guests",
                &self.max_guests,
                &GUESTS_MIN,
                "surplus links are cut, possibly before their Hello has arrived; the default is 4,096",
            ),
            at_least(
                "GateConfig::max_sessions_per_network",
                &self.max_sessions_per_network.unwrap_or(1),
                &1,
                "with 0, the server denies every new session as THROTTLED; by default the limit follows from max_sessions",
            ),
            at_least(
                "GateConfig::sessions_burst_per_network",
                &self.sessions_burst_per_network,
                &1,
                throttled,
            ),
            at_least(
                "GateConfig::sessions_per_second_per_network",
                &self.sessions_per_second_per_network,
                &1,
                throttled,
            ),
            within(
                "GateConfig::drain",
                &self.drain,
                Duration::ZERO..=DRAIN_MAX,
                "a supervisor kills a server that does not exit in time; the default is 0",
            ),
        ])
    }
}

/// Shortest time for a Hello: one round trip of a slow network, and one tick.
const HELLO_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// Longest time for a Hello.
const HELLO_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Smallest limit of guests. With a smaller one, a few clients that connect at the same moment could cause
/// each other to be cut.
const GUESTS_MIN: usize = 16;
/// Longest drain: one day.
const DRAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
