//! The names that nearly every game uses: types and traits of this crate, and those of bevy.
//!
//! ```
//! use waystation::prelude::*;
//!
//! struct DicePlugin;
//!
//! impl Plugin for DicePlugin {
//!     fn build(&self, app: &mut App) {
//!         app.add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("table")));
//!     }
//! }
//! ```
//!
//! This module contains all names of [`bevy_ecs::prelude`]. The derives of bevy need `bevy_ecs` as a direct dependency
//! of the game, in the version that this crate uses.

#![deny(ambiguous_glob_reexports)]

pub use bevy_ecs::prelude::*;
pub use own::*;

/// The names in addition to those of [`bevy_ecs::prelude`]. Both sets are exported by globs, so that the compiler
/// rejects a name that is in both.
mod own {
    pub use bevy_app::{App, Plugin, Startup, Update};

    #[cfg(feature = "app")]
    pub use crate::app::launch;
    pub use crate::config::AppGameConfig;
    pub use crate::identity::Principal;
    pub use crate::proxy::AddListener;
    pub use crate::rpc::{AppRpc, Call, Sender};
    pub use crate::server::ServerPlugins;
    pub use crate::session::{
        Active, Agent, Connected, Delivered, Disconnected, Session, SessionDisconnected, SessionExpired,
        SessionRegistered, SessionResumed, SessionUnregistered, SpawnAgent,
    };
    pub use crate::tick::{GameRng, TickTime};
    pub use crate::wire::WireMessage;
    pub use crate::zone::{
        InZone, JoinRequested, MemberDisconnected, MemberResumed, Members, MembershipCommands, Zone,
        ZoneJoined, ZoneParted, ZoneTicked, Zones,
    };
}
