//! The configuration of a server, composed of what its rooms ask for.

use crate::gate::GateConfig;
use crate::session::SessionConfig;
use crate::tick::{Clock, TickRate};
pub use crate::wire::ConfigError;

/// All that a server can be told. The default is a server on the machine's clock at 20 Hz.
///
/// ```
/// use waystation::config::ServerConfig;
/// use waystation::tick::TickRate;
///
/// let mut config = ServerConfig { rate: TickRate::new(30)?, ..ServerConfig::default() };
/// config.session.timeout = std::time::Duration::from_secs(60);
/// # Ok::<(), waystation::tick::TickRateError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// How fast the server ticks.
    pub rate: TickRate,
    /// Where time comes from.
    pub clock: Clock,
    /// The seed of ids, tokens and the game's dice. `None` is the operating system's; a given seed is for
    /// tests only.
    pub seed: Option<u64>,
    /// Timeouts and bounds of sessions.
    pub session: SessionConfig,
    /// Who is let in.
    pub gate: GateConfig,
}

impl ServerConfig {
    /// Checks that clients can get in and play with these values. The plugins of
    /// [`ServerPlugins`](crate::server::ServerPlugins) do it too, and panic.
    ///
    /// ```
    /// use std::time::Duration;
    /// use waystation::config::ServerConfig;
    ///
    /// let mut config = ServerConfig::default();
    /// config.session.link_timeout = Duration::ZERO;
    /// let error = config.check().expect_err("every link would be lost at once");
    /// assert_eq!(error.field, "SessionConfig::link_timeout");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field whose value lets no client play.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.session.check()?;
        self.gate.check()
    }
}
