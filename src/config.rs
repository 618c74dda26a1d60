//! The configuration of a server, composed of the configurations of its modules.

mod game;

use crate::gate::GateConfig;
use crate::session::SessionConfig;
pub use crate::settings::ConfigError;
use crate::settings::first;
use crate::tick::{Clock, TickRate};

pub use self::game::AppGameConfig;
#[cfg(feature = "app")]
pub(crate) use self::game::{GameConfig, GameReload};

crate::settings! {
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
    #[derive(Debug, Clone)]
    pub struct ServerConfig {
        /// Tick rate of the server, in ticks per second. Range: 4 to 240. Default: 20.
        pub rate: TickRate = TickRate::default(),
        /// Source of time. Default: the monotonic clock of the machine.
        pub clock: Clock = Clock::default() => skipped,
        /// Seed of session ids, tokens and the game's random numbers. For tests only: from a known seed, all tokens can
        /// be predicted. Default: none. The operating system then provides the seeds.
        pub seed: Option<u64> = None,
        /// Timeouts and limits of sessions.
        pub session: SessionConfig = SessionConfig::default(),
        /// Who may open a session, and the limits for links without a session.
        pub gate: GateConfig = GateConfig::default(),
    }
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
        first(self.check_all())
    }

    /// Returns an error for each field whose value would let no client play.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        [self.session.check_all(), self.gate.check_all()].concat()
    }
}
