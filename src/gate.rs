//! The gate: the single way in.
//!
//! A link is a guest in the [`Lobby`] until its Hello is accepted; then it is bound to a new
//! session or to the one that its token resumes. The gate checks what a new session is proved by, or asks
//! an [`Authenticator`] and waits for its verdict; it denies, takes over and answers the open channel. It
//! knows no games.
//!
//! Data flow: [`TickInput`](crate::tick::TickInput) → `route` → a guest's Hello, or the inbox of the session that the link
//! is bound to → `admit`: verdicts, Hellos by arrival, then lost links → the tick's dispatch. Guests that are too many
//! are put out after the Hellos.

mod admit;
mod auth;
mod authenticator;
mod check;
mod hello;
mod lobby;
mod newcomers;
mod policy;
mod probe;
mod route;
mod stop;
mod surplus;
mod ticket;

use std::time::Duration;

use bevy_app::{App, Last, Plugin, PreUpdate};
use bevy_ecs::prelude::*;

#[cfg(doc)]
use crate::proxy::Network;
use crate::session::{Dispatch, Offence, watch};
use crate::tick::{InputSources, TickSystems, UnixClock};
use crate::wire::ticket::TicketKey;
use crate::wire::v1::Hello;
use crate::wire::{self, WireMessage as _};

pub use auth::{AuthPort, Authenticators, QUESTIONS_MAX, QUESTIONS_PER_NETWORK, Question, VERDICT_TIMEOUT};
pub use authenticator::{AddAuthenticator, Authenticator, BLOCKING_THREADS, serve_authenticator};
pub use lobby::Lobby;
pub use policy::GatePolicy;
pub use stop::{Drain, DrainCommand};

/// Who is let in, and how long that may take.
#[derive(Resource, Debug, Clone)]
pub struct GateConfig {
    /// The server's name, shown to whoever asks for its status. Default `waystation`.
    pub name: String,
    /// The game and its version, as `name/version`. A client that names another is denied as
    /// VERSION; one that names none is let in. Default empty: any game fits.
    pub game: String,
    /// Who may open a new session. Default: everybody, so a server that strangers reach sets
    /// [`GatePolicy::Identified`], and [`tickets`](Self::tickets) or an [`Authenticator`].
    pub policy: GatePolicy,
    /// What the tickets in Hellos are opened with: derived from the same key as
    /// [`HttpConfig::tickets`](crate::admin::HttpConfig::tickets). Default: none, and tickets are ignored.
    /// With a key, a ticket that is shown has to be good under each policy. Used tickets are
    /// remembered until they expire, in 3 MiB at most.
    pub tickets: Option<TicketKey>,
    /// The Unix time by which tickets expire. Default: the clock of this process, which is also that of
    /// [`HttpConfig`](crate::admin::HttpConfig), where tickets are minted.
    pub unix: UnixClock,
    /// A link without an accepted Hello for this long is closed. Default 5 s.
    pub hello_timeout: Duration,
    /// Links without a session. Default 4,096. Each may hold one frame of 4 KiB, so 16 MiB in all. When
    /// there are more, the longest silent ones of the [network](Network) that has most of them are cut.
    pub max_guests: usize,
    /// Sessions that one [network](Network) may have, those without a link included; a further Hello is
    /// denied as THROTTLED. Default `None`: 512, the players of a school behind one address, but no more
    /// than a quarter of [`SessionConfig::max_sessions`](crate::session::SessionConfig::max_sessions), and
    /// at least 32. Where all players come through a relay that is not trusted, or that relays UDP, give as
    /// many as there are players. A resume is never denied for it.
    pub max_sessions_per_network: Option<usize>,
    /// Sessions that one network may open at once after it was quiet. Default 512: all players of a school
    /// come back at once after a restart of the server. A further Hello is denied as THROTTLED.
    pub sessions_burst_per_network: u32,
    /// Sessions that one network may open in a second, in the long run. Default 32, at which the burst is
    /// whole again after 16 s.
    pub sessions_per_second_per_network: u32,
    /// Whether the limits by network leave loopback alone. Default false: behind a relay on the same
    /// machine, all players come from there. The dev profile of the binary sets it.
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
            policy: GatePolicy::default(),
            tickets: None,
            unix: UnixClock::system(),
            hello_timeout: wire::HELLO_TIMEOUT,
            max_guests: 4_096,
            max_sessions_per_network: None,
            sessions_burst_per_network: 512,
            sessions_per_second_per_network: 32,
            exempt_loopback: false,
            drain: Duration::ZERO,
        }
    }
}

/// Adds the gate. Panics with the text of the error if its configuration does not pass
/// [`GateConfig::check`].
#[derive(Debug, Clone, Default)]
pub struct GatePlugin {
    /// Who is let in.
    pub config: GateConfig,
}

impl Plugin for GatePlugin {
    fn build(&self, app: &mut App) {
        if let Err(error) = self.config.check() {
            panic!("{error}");
        }
        app.world_mut().get_resource_or_init::<InputSources>().0.push(auth::gather);
        let mut dispatch = app.world_mut().get_resource_or_init::<Dispatch>();
        probe::register(&mut dispatch);
        dispatch.register(Hello::ID, |_, _| Err(Offence::SecondHello));
        app.insert_resource(ticket::Tickets::new(&self.config))
            .insert_resource(self.config.unix.clone())
            .insert_resource(self.config.clone())
            .init_resource::<Lobby>()
            .init_resource::<Authenticators>()
            .init_resource::<route::Controls>()
            .init_resource::<newcomers::Newcomers>()
            .init_resource::<Drain>()
            .add_systems(
                PreUpdate,
                (
                    route::route,
                    stop::heed_stop,
                    stop::end_all,
                    admit::take_effect,
                    auth::send,
                    watch,
                    admit::lose_links,
                )
                    .chain()
                    .in_set(TickSystems::Admit),
            )
            .add_systems(PreUpdate, auth::receive.in_set(TickSystems::Receive))
            .add_systems(Last, stop::finish_stop);
    }
}
