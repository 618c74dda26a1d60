//! The gate: the single way in.
//!
//! A link is a guest in the [`Lobby`] until its Hello is accepted; then it is bound to a new
//! session or to the one that its token resumes. The gate authenticates, denies, takes over and
//! answers the open channel. It knows no games.
//!
//! Data flow: [`Arrivals`](crate::proxy::Arrivals) → `route` → a guest's Hello, or the inbox of the session that the link
//! is bound to → `admit`: Hellos by arrival, then lost links → the tick's dispatch.

mod admit;
mod hello;
mod lobby;
mod probe;
mod route;
mod stop;

use std::time::Duration;

use bevy_app::{App, Last, Plugin, PreUpdate};
use bevy_ecs::prelude::*;

use crate::session::watch;
use crate::tick::TickSystems;
use crate::wire;

pub use lobby::Lobby;
pub(crate) use probe::reply as reply_to_probe;
pub use stop::{Drain, DrainCommand};

/// Who is let in, and how long that may take.
#[derive(Resource, Debug, Clone, PartialEq, Eq)]
pub struct GateConfig {
    /// The server's name, shown to whoever asks for its status. Default `waystation`.
    pub name: String,
    /// The game and its version, as `name/version`. A client that names another is denied as
    /// VERSION; one that names none is let in. Default empty: any game fits.
    pub game: String,
    /// A link without an accepted Hello for this long is closed. Default 5 s.
    pub hello_timeout: Duration,
    /// Links without a session. Default 4,096; further ones are cut. Each may hold one frame of
    /// 4 KiB, so 16 MiB in all.
    pub max_guests: usize,
    /// Links without a session from one IPv4 address, or IPv6 network of 64 bits. Default 64: the
    /// players behind one address translation who connect at the same moment. Further ones are cut.
    pub max_guests_per_address: usize,
    /// Links that one address may open in a second. Default 32.
    pub max_connects_per_address: u32,
    /// Whether these two limits leave loopback alone. Default no: behind a relay on the same
    /// machine, everybody comes from there.
    pub exempt_loopback: bool,
    /// How long players may go on when the server is asked to stop; then all sessions end.
    /// Default 0. A supervisor must wait some ten seconds longer before it kills the server.
    pub drain: Duration,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            name: "waystation".to_owned(),
            game: String::new(),
            hello_timeout: wire::HELLO_TIMEOUT,
            max_guests: 4_096,
            max_guests_per_address: 64,
            max_connects_per_address: 32,
            exempt_loopback: false,
            drain: Duration::ZERO,
        }
    }
}

/// Adds the gate.
#[derive(Debug, Clone, Default)]
pub struct GatePlugin {
    /// Who is let in.
    pub config: GateConfig,
}

impl Plugin for GatePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.config.clone())
            .init_resource::<Lobby>()
            .init_resource::<Drain>()
            .add_systems(
                PreUpdate,
                (route::route, watch, stop::heed_stop, stop::end_all, admit::admit)
                    .chain()
                    .in_set(TickSystems::Admit),
            )
            .add_systems(Last, stop::finish_stop);
    }
}
