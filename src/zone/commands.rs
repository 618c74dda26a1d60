//! Commands of the game that change memberships.

use std::fmt;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::changes::{Change, Changes};
use super::{JoinRequested, Zones};
use crate::ident::SessionId;
use crate::session::{EndCause, LAST, SessionCore};
use crate::wire::v1::Reason;

/// Commands with which a game changes memberships, closes zones, and ends sessions. They take effect when the
/// current tick settles, after the Joins and Parts of clients. A tick makes one change of membership per session;
/// further changes wait for the next ticks. The game gets a [`MembershipRefused`] for a command that cannot be
/// carried out.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::zone::{JoinRequested, MembershipCommands as _};
///
/// /// Accepts the sessions that send the password.
/// fn doorman(mut requests: MessageReader<JoinRequested>, mut commands: Commands) {
///     for request in requests.read() {
///         if request.payload == "swordfish" {
///             commands.accept_join(request);
///         } else {
///             commands.refuse_join(request, "wrong password");
///         }
///     }
/// }
/// ```
pub trait MembershipCommands {
    /// Puts a session into a zone. The session leaves the zone that it is in, if any. No ask is opened, even
    /// if the zone asks.
    fn join_zone(&mut self, session: Entity, zone: Entity);

    /// Takes a session out of its zone. This also works while the session has no link: the client receives
    /// Parted after its resume.
    fn part_zone(&mut self, session: Entity);

    /// Moves a session from its zone into another one, as [`join_zone`](Self::join_zone) does. If the session
    /// is in no zone, nothing changes, and the game gets [`MembershipError::NotInZone`].
    fn move_zone(&mut self, session: Entity, zone: Entity);

    /// Accepts an ask. The session joins the zone if there is room; otherwise the client gets Refused(FULL).
    /// An answer to an ask that has ended has no effect and is counted as
    /// [`late_answer_count`](crate::session::SessionCounts::late_answer_count). To answer later, keep a clone
    /// of the request.
    fn accept_join(&mut self, request: &JoinRequested) {
        self.accept_join_with(request, Bytes::new());
    }

    /// Accepts an ask, and sends `payload` to the client in its Joined. If the payload is longer than
    /// [`PAYLOAD_MAX_BYTES`], the ask stays open, and the game gets [`MembershipError::Payload`].
    fn accept_join_with(&mut self, request: &JoinRequested, payload: Bytes);

    /// Refuses an ask. The client gets Refused with the first 256 characters of `detail`.
    fn refuse_join(&mut self, request: &JoinRequested, detail: &str);

    /// Closes a zone: its members leave with the reason ZONE_CLOSED, and its entity is despawned. The name is
    /// free at once.
    fn close_zone(&mut self, zone: Entity);

    /// Ends a session. The client gets Closed with the first 256 characters of `detail`, and cannot resume
    /// the session.
    fn kick(&mut self, session: Entity, detail: &str);
}

impl MembershipCommands for Commands<'_, '_> {
    fn join_zone(&mut self, session: Entity, zone: Entity) {
        change(self, session, Change::JoinByGame { zone, from_zone_only: false });
    }

    fn part_zone(&mut self, session: Entity) {
        change(self, session, Change::PartByGame);
    }

    fn move_zone(&mut self, session: Entity, zone: Entity) {
        change(self, session, Change::JoinByGame { zone, from_zone_only: true });
    }

    fn accept_join_with(&mut self, request: &JoinRequested, payload: Bytes) {
        change(self, request.entity, Change::Accept { ask: request.ask, payload });
    }

    fn refuse_join(&mut self, request: &JoinRequested, detail: &str) {
        let detail = detail.chars().take(DETAIL_MAX_CHARS).collect();
        change(self, request.entity, Change::Refuse { ask: request.ask, detail });
    }

    fn close_zone(&mut self, zone: Entity) {
        self.queue(move |world: &mut World| world.resource_mut::<Zones>().close(zone));
    }

    fn kick(&mut self, session: Entity, detail: &str) {
        change(self, session, Change::End { cause: EndCause::Kicked, detail: detail.to_owned() });
    }
}

fn change(commands: &mut Commands, session: Entity, change: Change) {
    commands.queue(move |world: &mut World| world.resource_mut::<Changes>().push(LAST, session, change));
}

/// A command of the game that was not carried out.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
pub struct MembershipRefused {
    /// The id of the session, or `None` if the entity is not a session.
    pub session: Option<SessionId>,
    /// The entity that the command named.
    pub entity: Entity,
    /// The zone that the command named, or `None` if it named no zone.
    pub zone: Option<Entity>,
    /// Reason why the command was not carried out.
    pub error: MembershipError,
}

/// The reason why a membership cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MembershipError {
    /// The entity is not a session, or the session has ended.
    #[error("the entity is not a live session: the session has ended or never existed")]
    UnknownSession,
    /// The entity is not a zone, or the zone has closed.
    #[error("there is no such zone: it has closed or never existed")]
    NoSuchZone,
    /// The zone has no room.
    #[error("the zone is full: raise its capacity, or wait until a member leaves")]
    Full,
    /// The session is in no zone.
    #[error("the session is in no zone: it has no zone to leave or to move from")]
    NotInZone,
    /// Sixteen changes of the session already wait for the next ticks.
    #[error("too many changes of the session wait: command at most one per tick")]
    Busy,
    /// The payload is longer than [`PAYLOAD_MAX_BYTES`].
    #[error("the payload is too long: a Joined carries at most {PAYLOAD_MAX_BYTES} bytes")]
    Payload,
    /// The session has no link.
    #[error("the session has no link: wait until it is resumed")]
    Disconnected,
}

impl MembershipError {
    /// Returns the reason that a client gets in its Refused for the same error.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::UnknownSession | Self::NotInZone => Reason::NotInZone,
            Self::NoSuchZone => Reason::NoSuchZone,
            Self::Full => Reason::Full,
            Self::Busy | Self::Payload => Reason::Refused,
            Self::Disconnected => Reason::Disconnected,
        }
    }
}

impl fmt::Display for MembershipRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MembershipRefused entity={} error={:?}", self.entity, self.error)
    }
}

/// Sends the game a [`MembershipRefused`] for a command. Does nothing for a change that a client or an agent has
/// requested.
pub(super) fn refused(world: &mut World, entity: Entity, error: MembershipError, change: &Change) {
    let zone = match change {
        Change::JoinByGame { zone, .. } => Some(*zone),
        Change::PartByGame | Change::Accept { .. } => None,
        Change::Refuse { .. } | Change::End { cause: EndCause::Kicked, .. } => None,
        Change::Join { .. } | Change::Part { .. } | Change::Drop | Change::End { .. } => return,
    };
    let session = world.get::<SessionCore>(entity).map(|core| core.id());
    write(world, MembershipRefused { session, entity, zone, error });
}

/// Sends the game a [`MembershipRefused`] for a `close_zone` with an entity that is not a zone.
pub(super) fn refused_zone(world: &mut World, zone: Entity) {
    let error = MembershipError::NoSuchZone;
    write(world, MembershipRefused { session: None, entity: zone, zone: Some(zone), error });
}

fn write(world: &mut World, refused: MembershipRefused) {
    tracing::info!(target: "waystation::transitions", "{refused}");
    world.write_message(refused);
}

/// Maximum length of the payload of a `Joined`, in bytes. A frame has room for it and for the members of the
/// largest announcing zone.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;
/// Maximum length of the detail of a Refused, in characters: one or two lines for a player.
const DETAIL_MAX_CHARS: usize = 256;
