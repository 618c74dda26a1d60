//! Which values of a [`GateConfig`] let clients in.

use std::time::Duration;

use super::GateConfig;
use crate::wire::{ConfigError, at_least, within};

impl GateConfig {
    /// Checks that clients can get in with these values. [`GatePlugin`](super::GatePlugin) does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field whose value lets no client in.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "GateConfig::hello_timeout",
            &self.hello_timeout,
            HELLO_TIMEOUT_MIN..=HELLO_TIMEOUT_MAX,
            "a Hello takes a round trip to arrive, and a silent link keeps a place until then; 5 s is the default",
        )?;
        at_least(
            "GateConfig::max_guests",
            &self.max_guests,
            &GUESTS_MIN,
            "a link without a session is put out when there are more, before its Hello has arrived; 4,096 is the \
             default",
        )?;
        at_least(
            "GateConfig::max_sessions_per_network",
            &self.max_sessions_per_network.unwrap_or(1),
            &1,
            "otherwise every Hello is denied as THROTTLED; None is the default",
        )?;
        let cure = "otherwise every Hello is denied as THROTTLED; leave the default if in doubt";
        at_least("GateConfig::sessions_burst_per_network", &self.sessions_burst_per_network, &1, cure)?;
        at_least(
            "GateConfig::sessions_per_second_per_network",
            &self.sessions_per_second_per_network,
            &1,
            cure,
        )?;
        within(
            "GateConfig::drain",
            &self.drain,
            Duration::ZERO..=DRAIN_MAX,
            "a supervisor kills a server that does not end; 0 is the default",
        )
    }
}

/// The shortest time for a Hello: a round trip of a slow network, beside a tick.
const HELLO_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// The longest time for a Hello.
const HELLO_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The fewest guests. With fewer, a few clients that connect at the same moment put each other out.
const GUESTS_MIN: usize = 16;
/// The longest drain: a day.
const DRAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
