//! Opens and resumes sessions: decides what each new link may do.
//!
//! A link is a guest in the [`Guests`] until its Hello is accepted. Then the link is bound to a new session,
//! or to the session that its token resumes. For a new session, the gate checks the client's proof, or
//! sends a question to an [`Authenticator`] and waits for the verdict. The gate also answers Probes, and
//! drains the server before it stops. It does not depend on the game.
//!
//! Data flow: [`TickInput`](crate::tick::TickInput) → `route` → a guest's Hello, or the inbox of the
//! session that the link is bound to → `admit`: verdicts, then Hellos and link control in order of arrival,
//! then lost links → the dispatch of the tick. If there are too many guests, the surplus is cut after the
//! Hellos were answered.

mod admit;
mod auth;
mod authenticator;
mod check;
mod guests;
mod hello;
mod new_sessions;
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
pub use guests::Guests;
pub use policy::GatePolicy;
pub use stop::{Drain, DrainCommand, ServerStopping};

crate::settings! {
    /// The configuration of the gate: who may open a session, the limits by network, and the timeouts.
    #[derive(Resource, Debug, Clone)]
    pub struct GateConfig {
        /// Name of the server, which the reply to a `status` Probe contains. Default: `waystation`.
        pub name: String = "waystation".to_owned(),
        /// The game and its version, as `name/version`. A client that names another game or version is denied as
        /// VERSION. A client that names no game is accepted. Default: empty, which accepts every game.
        pub game: String = String::new(),
        /// Who may open a new session: `open` for every client, `identified` for clients with a proof, or `custom` for
        /// those that an authenticator accepts. Default: `open`. For a server that strangers can reach, choose
        /// [`identified`](GatePolicy::Identified), and add tickets or an [`Authenticator`].
        pub policy: GatePolicy = GatePolicy::default(),
        /// Key that opens the tickets in Hellos. Derive it from the same key as
        /// [`HttpConfig::tickets`](crate::admin::HttpConfig::tickets). Default: `None`, which ignores tickets. If there
        /// is a key, a Hello with a bad ticket is denied under every policy. The gate stores used tickets until they
        /// expire, which takes at most 3 MiB of memory.
        pub tickets: Option<TicketKey> = None => skipped,
        /// Source of the Unix time by which tickets expire. Default: the clock of this process, which
        /// [`HttpConfig`](crate::admin::HttpConfig) also uses to mint tickets.
        pub unix: UnixClock = UnixClock::system() => skipped,
        /// Time after which a link without an accepted Hello is closed. Range: 0.5 s to 60 s. Default: 5 s.
        pub hello_timeout: Duration = wire::HELLO_TIMEOUT,
        /// Maximum number of links without a session. Minimum: 16. Default: 4,096. Each link may hold one frame of
        /// 4 KiB, so the default allows 16 MiB in total. If there are more links, the gate cuts the surplus. It always
        /// cuts the oldest link of the [network](Network) that has the most of these links.
        pub max_guests: usize = 4_096,
        /// Maximum number of sessions of one [network](Network), including sessions without a link. A further Hello for
        /// a new session is denied as THROTTLED. A resume is never denied because of this limit. Minimum: 1. Default:
        /// none, which allows a quarter of
        /// [`SessionConfig::max_sessions`](crate::session::SessionConfig::max_sessions), but at least 32 and at most
        /// 512 sessions. 512 are enough for a school behind one address. If all players connect through a relay that is
        /// not trusted, or that relays UDP, set it to the number of players.
        pub max_sessions_per_network: Option<usize> = None,
        /// Number of sessions that one network may open at once after a quiet time. A further Hello is denied as
        /// THROTTLED. Minimum: 1. Default: 512, so that all players of a school can come back after a restart of the
        /// server.
        pub sessions_burst_per_network: u32 = 512,
        /// Number of sessions that one network may open per second in the long run. Minimum: 1. Default: 32, which
        /// restores the default burst in 16 s.
        pub sessions_per_second_per_network: u32 = 32,
        /// If true, the limits by network do not apply to loopback addresses. Default: false, because all players
        /// behind a relay on the same machine have a loopback address. The `dev` profile of the binary sets it to true.
        pub exempt_loopback: bool = false,
        /// Time from a request to stop the server until all sessions end. Range: 0 s to 24 h. Default: 0 s. A
        /// supervisor must wait about ten seconds longer than this before it kills the server.
        pub drain: Duration = Duration::ZERO,
    }
}

/// Adds the gate.
///
/// # Panics
///
/// Panics with the text of the error when the plugin is added, if the configuration does not pass
/// [`GateConfig::check`].
#[derive(Debug, Clone, Default)]
pub struct GatePlugin {
    /// Configuration of the gate.
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
            .init_resource::<Guests>()
            .init_resource::<Authenticators>()
            .init_resource::<route::Controls>()
            .init_resource::<new_sessions::NewSessionRates>()
            .init_resource::<Drain>()
            .add_message::<ServerStopping>()
            .add_systems(
                PreUpdate,
                (
                    route::route,
                    stop::begin_drain_on_stop,
                    stop::end_all,
                    admit::apply_inputs,
                    auth::send,
                    watch,
                    admit::apply_losses,
                )
                    .chain()
                    .in_set(TickSystems::Admit),
            )
            .add_systems(PreUpdate, auth::receive.in_set(TickSystems::Receive))
            .add_systems(Last, stop::finish_stop);
    }
}
