//! The configuration of a server, composed of what its rooms ask for.

use crate::gate::GateConfig;
use crate::session::SessionConfig;
use crate::tick::{Clock, TickRate};

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
    /// Where chance comes from: `None` is the operating system; a seed is for tests only.
    pub seed: Option<u64>,
    /// Timeouts and bounds of sessions.
    pub session: SessionConfig,
    /// Who is let in.
    pub gate: GateConfig,
}
