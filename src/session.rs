//! Sessions: what a client is to the server, across all its links.
//!
//! A session is an entity with [`Session`] and exactly one of the markers [`Disconnected`],
//! [`Connected`], [`Active`]. It owns what must outlive a link: the counts and the unacknowledged
//! frames of both directions, the tokens that resume it, and the game's own components. This
//! room does not decide who gets in (the gate does), knows no zone and no transport by name.
//!
//! Data flow: frames of the bound link → [`Inbox`] → dispatch; whoever sends → [`Outbox`] and
//! [`Uplink`] → `flush` → the link's proxy. Each change of state is noted in the
//! [`Journal`], and published as a message that the game's systems read in the next tick.

pub mod agent;
mod cause;
mod check;
mod config;
mod flow;
mod inbox;
pub(crate) mod journal;
mod meter;
mod outbox;
mod overdue;
#[cfg(feature = "planted")]
pub(crate) mod planted;
mod state;
mod table;
mod token;
mod traffic;
mod uplink;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bevy_app::{App, First, Plugin, PostUpdate};
use bevy_ecs::prelude::*;

use crate::ident::{Epoch, SessionId};
use crate::tick::{self, TickSystems};

pub use agent::{Agent, AgentOf, Delivered, SpawnAgent};
pub use cause::{EndCause, LossCause};
pub use config::{SessionConfig, SessionCounts};
pub(crate) use flow::{Despawned, Rebind, bind, bury, close, confirm, disconnect, register};
pub use inbox::Inbox;
pub(crate) use inbox::{DispatchQueue, Inbound};
pub use journal::{
    Entry, Journal, News, SessionClosed, SessionDisconnected, SessionExpired, SessionRegistered,
    SessionResumed, SessionUnregistered,
};
pub(crate) use journal::{Whose, announce, announce_of};
pub use outbox::Outbox;
pub(crate) use outbox::ResumePoint;
pub(crate) use overdue::{Overdue, find_expired, watch};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use state::{Active, Closing, Connected, Disconnected, SessionState};
pub(crate) use state::{is_closing, transition};
pub use table::{SessionTable, UnknownSession};
pub(crate) use token::TokenHash;
pub use token::Tokens;
pub(crate) use traffic::{put, tell, tell_all};
pub use uplink::{Latency, LinkState, Uplink};

/// Which session an entity is. A game that despawns the entity ends the session, as by a kick.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(on_remove = flow::despawned)]
pub struct Session {
    id: SessionId,
    epoch: Epoch,
}

impl Session {
    /// The id, the same for the whole life of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// How many times it was bound to a link.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// When a session without a link expires: a reading of
/// [`TickTime::steady`](crate::tick::TickTime::steady). Only on [`Disconnected`] ones.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiresAt(pub(in crate::session) Duration);

impl ExpiresAt {
    /// The reading of the steady clock at which it expires.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.0
    }
}

/// How long a session lives without a link. Starts as [`SessionConfig::timeout`]; the game may
/// change it at any time, and the next loss of a link goes by it. Zero: no resumption.
///
/// ```
/// use std::time::Duration;
/// use bevy_ecs::prelude::*;
/// use waystation::session::{ResumeTimeout, SessionRegistered};
///
/// /// In this game one may fetch a coffee.
/// fn be_patient(mut registered: MessageReader<SessionRegistered>, mut commands: Commands) {
///     for news in registered.read() {
///         commands.entity(news.entity).insert(ResumeTimeout(Duration::from_secs(120)));
///     }
/// }
/// ```
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeTimeout(pub Duration);

/// What a session does whenever it loses its link, just before it does: once a loss, takeovers
/// included. Starts as [`SessionConfig::on_disconnect`]; insert another for one session.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::session::OnDisconnect;
///
/// #[derive(Component)]
/// struct Asleep;
///
/// let hook = OnDisconnect::new(|session, _cause| {
///     session.insert(Asleep);
/// });
/// # let _ = hook;
/// ```
#[derive(Component, Clone)]
pub struct OnDisconnect(Arc<Hook>);

type Hook = dyn Fn(&mut EntityWorldMut, LossCause) + Send + Sync;

impl OnDisconnect {
    /// Does this. The session still has its link, which no longer takes anything; the hook may
    /// change the session's components, but must not despawn it.
    pub fn new(hook: impl Fn(&mut EntityWorldMut, LossCause) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl PartialEq for OnDisconnect {
    /// Whether it is the very same hook.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OnDisconnect {}

impl fmt::Debug for OnDisconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDisconnect(..)")
    }
}

/// Who a session belongs to, as far as the gate could tell. Cheap to clone.
#[derive(Component, Debug, Clone, PartialEq, Eq)]
pub struct Principal(Who);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Anonymous(Arc<str>),
    Named(Arc<str>),
}

impl Principal {
    /// Nobody in particular; the name is for show and proves nothing.
    #[must_use]
    pub fn anonymous(name: &str) -> Self {
        Self(Who::Anonymous(name.into()))
    }

    /// Somebody whose name was authenticated.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Who::Named(name.into()))
    }

    /// The name, to show.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Who::Anonymous(name) | Who::Named(name) => name,
        }
    }

    /// Whether the name was authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        matches!(self.0, Who::Named(_))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Who::Anonymous(name) => write!(f, "~{name}"),
            Who::Named(name) => f.write_str(name),
        }
    }
}

/// Adds sessions: their table, messages, beacons and flush. Panics with the text of the error if its
/// configuration does not pass [`SessionConfig::check`].
#[derive(Debug, Clone, Default)]
pub struct SessionPlugin {
    /// Timeouts and bounds.
    pub config: SessionConfig,
}

impl Plugin for SessionPlugin {
    fn build(&self, app: &mut App) {
        if let Err(error) = self.config.check() {
            panic!("{error}");
        }
        app.insert_resource(self.config.clone())
            .init_resource::<SessionTable>()
            .init_resource::<SessionCounts>()
            .init_resource::<Overdue>()
            .init_resource::<DispatchQueue>();
        journal::add(app);
        app.add_systems(First, state::despawn_closing.in_set(TickSystems::Begin).before(tick::begin))
            .add_systems(First, journal::publish.in_set(TickSystems::Begin).after(tick::weigh))
            .add_systems(
                PostUpdate,
                (traffic::send_beacons, traffic::flush, overdue::bound_memory)
                    .chain()
                    .in_set(TickSystems::Flush)
                    .before(crate::proxy::depart),
            );
    }
}
