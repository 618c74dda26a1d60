//! Groups the plugins of a whole server.
//!
//! The group contains no proxies: attach one for each transport, with its adapter. In debug builds, the
//! invariants of the server are checked after each tick.
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

/// The plugins of a server, without its proxies and its game.
#[derive(Debug, Clone, Default)]
pub struct ServerPlugins {
    config: ServerConfig,
}

impl ServerPlugins {
    /// Returns the plugins of a server with this configuration.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self { config }
    }
}

impl PluginGroup for ServerPlugins {
    fn build(self) -> PluginGroupBuilder {
        let ServerConfig { rate, clock, seed, session, gate } = self.config;
        let plugins = PluginGroupBuilder::start::<Self>()
            .add(TickPlugin { rate, clock, seed })
            .add(ProxyPlugin)
            .add(SessionPlugin { config: session })
            .add(ZonePlugin)
            .add(GatePlugin { config: gate })
            .add(RpcPlugin);
        if cfg!(debug_assertions) { plugins.add(audit::AuditPlugin) } else { plugins }
    }
}
