//! A whole server: the plugins of all rooms, in one group.
//!
//! Proxies are not among them: attach those you want, each with an adapter that speaks to its
//! port. In debug builds, the invariants that the rooms promise are checked after each tick.
//!
//! ```
//! use bevy_app::App;
//! use waystation::config::ServerConfig;
//! use waystation::proxy::{self, loopback::Loopback};
//! use waystation::server::ServerPlugins;
//!
//! let mut app = App::new();
//! app.add_plugins(ServerPlugins::new(ServerConfig::default()));
//! let loopback = Loopback::new(proxy::attach(&mut app, "loopback"));
//! let link = loopback.connect(proxy::LinkInfo::default());
//! app.update();
//! assert!(!link.is_closed());
//! ```

pub mod audit;

use bevy_app::{PluginGroup, PluginGroupBuilder};

use crate::config::ServerConfig;
use crate::gate::GatePlugin;
use crate::proxy::ProxyPlugin;
use crate::rpc::RpcPlugin;
use crate::session::SessionPlugin;
use crate::tick::TickPlugin;
use crate::zone::ZonePlugin;

/// All that a server needs but its proxies and its game.
#[derive(Debug, Clone, Default)]
pub struct ServerPlugins {
    config: ServerConfig,
}

impl ServerPlugins {
    /// The plugins of a server with that configuration.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self { config }
    }
}

impl PluginGroup for ServerPlugins {
    fn build(self) -> PluginGroupBuilder {
        let ServerConfig {
            rate,
            clock,
            seed,
            session,
            gate,
        } = self.config;
        let plugins = PluginGroupBuilder::start::<Self>()
            .add(TickPlugin { rate, clock, seed })
            .add(ProxyPlugin)
            .add(SessionPlugin { config: session })
            .add(ZonePlugin)
            .add(GatePlugin { config: gate })
            .add(RpcPlugin);
        if cfg!(debug_assertions) {
            plugins.add(audit::AuditPlugin)
        } else {
            plugins
        }
    }
}
