//! The configuration of a server, composed of the configurations of its modules.

use crate::gate::GateConfig;
use crate::session::SessionConfig;
use crate::tick::{Clock, TickRate};
pub use crate::wire::ConfigError;

/// The configuration of a server. The default is a server on the clock of the machine at 20 Hz.
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
    /// Tick rate of the server. Default: 20 Hz.
    pub rate: TickRate,
    /// Source of time. Default: the monotonic clock of the machine.
    pub clock: Clock,
    /// Seed of session ids, tokens and the game's dice, for tests only. Default: `None`, which takes seeds
    /// from the operating system.
    pub seed: Option<u64>,
    /// Timeouts and limits of sessions.
    pub session: SessionConfig,
    /// Who may open a session, and the limits for links without a session.
    pub gate: GateConfig,
}

impl ServerConfig {
    /// Checks that clients can connect and play with these values. The plugins of
    /// [`ServerPlugins`](crate::server::ServerPlugins) run the same checks and panic on an error.
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
    /// Returns [`ConfigError`] for the first field whose value would let no client play.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.session.check()?;
        self.gate.check()
    }
}
