//! Sessions: the server's state of each client, kept across all its links.
//!
//! A session is an entity with [`Session`] and exactly one of the markers [`Disconnected`], [`Connected`] and
//! [`Active`]. The session core, a private value, holds everything that outlives a link: the counts of both
//! directions, the unacknowledged frames, and the resume tokens. The components that a game reads are copies
//! of parts of the core. This module does not decide which clients get a session (the gate does). It does not
//! depend on zones or on the names of transports.
//!
//! Data flow: frames of the bound link → the core's inbox → dispatch, which calls the function that a module
//! has registered for the message id; sent frames → the core's outbox or its link → `flush` → the link's
//! proxy. Each change of a session is noted in the [`Journal`] and published as a message that the game's
//! systems read in the next tick.

mod agenda;
pub mod agent;
mod arrivals;
mod bound_link;
mod cause;
mod check;
mod config;
mod core;
mod delivery;
mod dispatch;
mod due;
mod effects;
mod inbox;
pub(crate) mod journal;
mod life;
mod link;
mod meter;
mod mirror;
mod mistakes;
mod outbox;
mod record;
mod state;
mod table;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bevy_app::{App, First, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::prelude::*;

use crate::ident::{Epoch, SessionId};
use crate::tick::{self, TickSystems};

pub(crate) use self::core::{Core, Membership, Rebind};
pub(crate) use agenda::Agenda;
pub use agent::{Agent, AgentOf, Delivered, SpawnAgent};
pub(crate) use arrivals::{Arrivals, prefetch_controls};
pub use bound_link::BoundLink;
pub use cause::{EndCause, LossCause};
pub use config::{SessionConfig, SessionCounts};
pub use delivery::LinkRoom;
pub(crate) use delivery::{Delivery, EncodedMessage, PREFETCH_COUNT, send, send_all};
pub(crate) use dispatch::{
    Dispatch, Endings, FIRST, LAST, Next, Offence, Sent, control, dispatch as dispatch_frames,
};
pub(crate) use due::{Overdue, find_expired, watch};
pub(crate) use inbox::Inbound;
pub use journal::{
    Entry, Journal, News, SessionClosed, SessionDisconnected, SessionExpired, SessionRegistered,
    SessionResumed, SessionUnregistered,
};
pub(crate) use journal::{add_news, add_news_of};
pub(crate) use life::{edit, end, end_despawned, lose, open, resume, set_membership};
pub use link::{Latency, LinkState};
pub(crate) use mirror::{SessionCore, mark_inconsistent, repair, update as update_mirrors};
pub(crate) use mistakes::{Mistakes, is_of_a_game};
pub(crate) use outbox::ResumePoint;
pub use record::{RecordError, SessionRecord};
pub use state::{Active, Closing, Connected, Disconnected, SessionState};
pub use table::{SessionTable, UnknownSession};
pub(crate) use token::TokenHash;

/// Marks an entity as a session and holds its id and epoch.
///
/// The state itself is private to the server. This component, [`Principal`](crate::identity::Principal),
/// [`LinkState`], [`BoundLink`], [`ExpiresAt`], the markers and [`InZone`](crate::zone::InZone) are copies of parts of that
/// state. If a game removes or replaces one of them, the server restores it in the same tick. If a game
/// despawns the entity, the session ends as if it were kicked. `Disabled` hides a session from the game's
/// queries and has no other effect. Do not put a disabling component of your own on a session: the server's
/// queries would miss the session.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Session {
    id: SessionId,
    epoch: Epoch,
}

impl Session {
    /// Returns the id, which is the same for the whole life of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns how many times the session was bound to a link. It is 1 for an agent.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// The time at which a session without a link expires, as a reading of
/// [`TickTime::steady`](crate::tick::TickTime::steady). Only [`Disconnected`] sessions have this component.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct ExpiresAt(pub(in crate::session) Duration);

impl ExpiresAt {
    /// Returns the reading of the steady clock at which the session expires.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.0
    }
}

/// The time for which a session lives without a link. The server inserts [`SessionConfig::timeout`] when the
/// session opens. A game may change the value at any time; it applies to the next loss of a link. If it is
/// zero, the session cannot be resumed.
///
/// ```
/// use std::time::Duration;
/// use bevy_ecs::prelude::*;
/// use waystation::session::{ResumeTimeout, SessionRegistered};
///
/// /// Gives each player two minutes to come back.
/// fn be_patient(mut registered: MessageReader<SessionRegistered>, mut commands: Commands) {
///     for news in registered.read() {
///         commands.entity(news.entity).insert(ResumeTimeout(Duration::from_secs(120)));
///     }
/// }
/// ```
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeTimeout(pub Duration);

/// A hook that runs once each time a session loses its link, takeovers included. The server inserts
/// [`SessionConfig::on_disconnect`] when the session opens, if it is not `None`. Insert another hook to replace
/// it for one session.
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
    /// Creates a hook from a function. The function receives the session's entity and the cause of the loss.
    /// When the hook runs, the session still has the marker that it had before the loss, and no frame can be
    /// sent on the lost link. In a takeover, the new link is already bound.
    pub fn new(hook: impl Fn(&mut EntityWorldMut, LossCause) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    fn run(&self, session: &mut EntityWorldMut, cause: LossCause) {
        (self.0)(session, cause);
    }
}

impl PartialEq for OnDisconnect {
    /// Returns true if both are clones of the same hook.
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

/// Adds sessions: their look-ups, messages, Beacons, dispatch and flush.
///
/// # Panics
///
/// Panics with the text of the error when the plugin is added, if the configuration does not pass
/// [`SessionConfig::check`].
#[derive(Debug, Clone, Default)]
pub struct SessionPlugin {
    /// Timeouts and bounds of all sessions.
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
            .init_resource::<Agenda>()
            .init_resource::<Overdue>()
            .init_resource::<Endings>()
            .init_resource::<Mistakes>()
            .init_resource::<delivery::DeliveryState>();
        mirror::watch_principals(app.world_mut());
        journal::add(app);
        dispatch::register(&mut app.world_mut().get_resource_or_init::<Dispatch>());
        app.add_systems(
            First,
            (
                state::despawn_closing.before(tick::begin),
                (journal::publish, agenda::read_limits).chain().after(tick::weigh),
            )
                .in_set(TickSystems::Begin),
        )
        .add_systems(
            PreUpdate,
            mirror::write_link_states.before(TickSystems::Admit).after(TickSystems::Receive),
        )
        .add_systems(PreUpdate, dispatch_frames.in_set(TickSystems::Dispatch))
        .add_systems(
            PostUpdate,
            (delivery::flush, due::bound_memory)
                .chain()
                .in_set(TickSystems::Flush)
                .before(crate::proxy::flush_batches),
        );
    }
}
