//! Sessions: what a client is to the server, across all its links.
//!
//! A session is an entity with [`Session`] and exactly one of the markers [`Disconnected`],
//! [`Connected`], [`Active`]. What must outlive a link is in its core, a private value: the counts and the
//! unacknowledged frames of both directions, and the tokens that resume it. The components that a game
//! sees repeat the core. This module does not decide who gets in (the gate does), and knows no zone and no
//! transport by name.
//!
//! Data flow: frames of the bound link → the core's inbox → dispatch, by a table in which modules register;
//! what is sent → the core's outbox, or its link → `flush` → the link's proxy. What becomes of a session is noted
//! in the [`Journal`], and published as a message that the game's systems read in the next tick.

mod agenda;
pub mod agent;
mod arrivals;
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
pub(crate) use arrivals::{Arrivals, warm};
pub use cause::{EndCause, LossCause};
pub use config::{SessionConfig, SessionCounts};
pub use delivery::LinkRoom;
pub(crate) use delivery::{Delivery, Parcel, WARM_COUNT, tell, tell_all};
pub(crate) use dispatch::{
    Dispatch, Endings, FIRST, LAST, Next, Offence, Sent, control, dispatch as dispatch_frames,
};
pub(crate) use due::{Overdue, find_expired, watch};
pub(crate) use inbox::Inbound;
pub use journal::{
    Entry, Journal, News, SessionClosed, SessionDisconnected, SessionExpired, SessionRegistered,
    SessionResumed, SessionUnregistered,
};
pub(crate) use journal::{announce, announce_of};
pub(crate) use life::{bury, edit, end, lose, open, resume, set_membership};
pub use link::{Latency, LinkState};
pub(crate) use mirror::{SessionCore, go_astray, repair, update as update_mirrors};
pub(crate) use outbox::ResumePoint;
pub use record::{RecordError, SessionRecord};
pub use state::{Active, Closing, Connected, Disconnected, SessionState};
pub use table::{SessionTable, UnknownSession};
pub(crate) use token::TokenHash;

/// Marks an entity as a session and holds its id and epoch.
///
/// The session itself is private to the server. This component, [`Principal`](crate::identity::Principal), [`LinkState`],
/// [`ExpiresAt`], the markers and [`InZone`](crate::zone::InZone) repeat what a game may see of it: if a game
/// removes or replaces one of them, it is put back in the same tick. A game that despawns the
/// entity ends the session, as by a kick. `Disabled` hides a session from the game's queries and changes
/// nothing else; do not put a disabling component of your own on a session, which the server does not know.
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

    /// Returns how many times the session was bound to a link.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// When a session without a link expires: a reading of
/// [`TickTime::steady`](crate::tick::TickTime::steady). Only on [`Disconnected`] ones.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
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

/// What a session does when it has lost its link: once a loss, takeovers included. Starts as [`SessionConfig::on_disconnect`]; insert another for one session.
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
    /// Does this. The session's marker is still the one of before the loss. The link takes nothing any more,
    /// and in a takeover the next one is bound already.
    pub fn new(hook: impl Fn(&mut EntityWorldMut, LossCause) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    fn run(&self, session: &mut EntityWorldMut, cause: LossCause) {
        (self.0)(session, cause);
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
            .init_resource::<Agenda>()
            .init_resource::<Overdue>()
            .init_resource::<Endings>()
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
                .before(crate::proxy::depart),
        );
    }
}
