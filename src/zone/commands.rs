//! What the game may command of memberships.

use std::fmt;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::changes::{Change, Changes};
use super::{JoinRequested, Zones};
use crate::ident::SessionId;
use crate::session::{EndCause, LAST, SessionCore};
use crate::wire::v1::Reason;

/// Commands of a game to sessions and zones. They take effect when this tick settles, behind what
/// clients asked for before; one that cannot be carried out is answered by [`MembershipRefused`].
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::zone::{JoinRequested, MembershipCommands as _};
///
/// /// Whoever says the password may come in.
/// fn doorman(mut requests: MessageReader<JoinRequested>, mut commands: Commands) {
///     for request in requests.read() {
///         if request.payload == "swordfish" {
///             commands.accept_join(request);
///         } else {
///             commands.refuse_join(request, "that is not the word");
///         }
///     }
/// }
/// ```
pub trait MembershipCommands {
    /// Puts a session into a zone, out of the one that it may be in; a zone that asks is not asked.
    fn join_zone(&mut self, session: Entity, zone: Entity);

    /// Takes a session out of its zone. Works without a link too: the client learns of it later.
    fn part_zone(&mut self, session: Entity);

    /// As [`join_zone`](Self::join_zone), but only from another zone.
    fn move_zone(&mut self, session: Entity, zone: Entity);

    /// Lets a session in that asked, if there is room. An answer to an ask that is over is counted and
    /// does nothing; keep a clone of the request to answer later.
    fn accept_join(&mut self, request: &JoinRequested) {
        self.accept_join_with(request, Bytes::new());
    }

    /// The same, with a payload of the game's for its `Joined`, of at most [`PAYLOAD_MAX_BYTES`].
    fn accept_join_with(&mut self, request: &JoinRequested, payload: Bytes);

    /// Says no to a session that asked; the detail is for its player.
    fn refuse_join(&mut self, request: &JoinRequested, detail: &str);

    /// Parts all members of a zone as of ZONE_CLOSED and despawns it. Its name is free at once.
    fn close_zone(&mut self, zone: Entity);

    /// Ends a session; it cannot be resumed. The detail is for its player.
    fn kick(&mut self, session: Entity, detail: &str);
}

impl MembershipCommands for Commands<'_, '_> {
    fn join_zone(&mut self, session: Entity, zone: Entity) {
        change(self, session, Change::Put { zone, from_zone_only: false });
    }

    fn part_zone(&mut self, session: Entity) {
        change(self, session, Change::Take);
    }

    fn move_zone(&mut self, session: Entity, zone: Entity) {
        change(self, session, Change::Put { zone, from_zone_only: true });
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

/// A command of the game's that was not carried out.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
pub struct MembershipRefused {
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// The entity that the command named.
    pub entity: Entity,
    /// The zone that the command named, if it did.
    pub zone: Option<Entity>,
    /// Why.
    pub error: MembershipError,
}

/// Why a membership cannot change as the game, or a client, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MembershipError {
    /// The entity is no session, or one that has ended.
    #[error("the entity is no live session: it has ended, or never was one")]
    UnknownSession,
    /// The entity is no zone, or one that has closed.
    #[error("there is no such zone: it has closed, or never was one")]
    NoSuchZone,
    /// The zone has no room.
    #[error("the zone is full: raise its capacity, or wait until somebody parts")]
    Full,
    /// The session is in no zone.
    #[error("the session is in no zone")]
    NotInZone,
    /// Too much is commanded of the session at once.
    #[error("the session has too many changes ahead: command one a tick at most")]
    Busy,
    /// The payload does not fit a frame.
    #[error("the payload is too long: {PAYLOAD_MAX_BYTES} bytes fit a Joined")]
    Payload,
    /// The session has no link.
    #[error("the session has no link: wait until it is resumed")]
    Disconnected,
}

impl MembershipError {
    /// What a client is told, who asked for the same.
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

/// Tells the game that a command of its own was not carried out. What a client asked for is
/// answered to the client alone.
pub(super) fn refused(world: &mut World, entity: Entity, error: MembershipError, change: &Change) {
    let zone = match change {
        Change::Put { zone, .. } => Some(*zone),
        Change::Take | Change::Accept { .. } => None,
        Change::Refuse { .. } | Change::End { cause: EndCause::Kicked, .. } => None,
        Change::Join { .. } | Change::Part { .. } | Change::Drop | Change::End { .. } => return,
    };
    let session = world.get::<SessionCore>(entity).map(|core| core.id());
    write(world, MembershipRefused { session, entity, zone, error });
}

/// Tells the game that what it wants to close is no zone.
pub(super) fn refused_zone(world: &mut World, zone: Entity) {
    let error = MembershipError::NoSuchZone;
    write(world, MembershipRefused { session: None, entity: zone, zone: Some(zone), error });
}

fn write(world: &mut World, refused: MembershipRefused) {
    tracing::info!(target: "waystation::transitions", "{refused}");
    world.write_message(refused);
}

/// Longest payload of a `Joined`: with it, and with the members of the largest zone that announces,
/// the frame still fits.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;
/// Longest words on why a Join is refused, in characters: a line or two to show to a player.
const DETAIL_MAX_CHARS: usize = 256;
