//! Logs warnings about mistakes of a game, once for each message id. Without them, a mistake would show only in the
//! counts.
//!
//! Clients can also cause the warnings about calls. So the number of warnings of each kind is limited.
//! [`SessionCounts`](super::SessionCounts) counts all mistakes.

use std::collections::BTreeSet;

use bevy_ecs::prelude::*;

use crate::ident::MessageId;
use crate::wire::{Range, STRAY_MESSAGES_MAX};

/// The message ids about which a warning was logged.
#[derive(Resource, Debug, Default)]
pub(crate) struct Mistakes {
    unknown: BTreeSet<MessageId>,
    outside: BTreeSet<MessageId>,
    misdirected: BTreeSet<MessageId>,
}

impl Mistakes {
    /// Warns of a message that the game has not registered as a call. An id that is reserved for the server is a fault
    /// of the client only, so it causes no warning.
    pub(crate) fn unknown_id(&mut self, id: MessageId) {
        if is_of_a_game(id) && is_new(&mut self.unknown, id) {
            tracing::warn!(
                %id,
                "a message was dropped because no call has its id: add the call with `add_call`, unless the client has \
                 another version; the {STRAY_MESSAGES_MAX}th message of this kind ends its session as PROTOCOL"
            );
        }
    }

    /// Warns of a call of a session in no zone.
    pub(crate) fn outside_zone(&mut self, id: MessageId, message: &str) {
        if is_new(&mut self.outside, id) {
            tracing::warn!(
                message,
                "a call was dropped because its session is in no zone: a client must join a zone before it sends calls"
            );
        }
    }

    /// Warns of a message of the game to an entity that exists and is no session.
    pub(crate) fn no_session(&mut self, id: MessageId, entity: Entity) {
        if is_new(&mut self.misdirected, id) {
            tracing::warn!(
                %id, %entity,
                "a message was not sent because its recipient is no session: send it to the entity of a session, or \
                 broadcast it to a zone"
            );
        }
    }

    /// Warns of a broadcast to an entity that exists and is no zone.
    pub(crate) fn no_zone(&mut self, id: MessageId, entity: Entity) {
        if is_new(&mut self.misdirected, id) {
            tracing::warn!(
                %id, %entity,
                "a message was not broadcast because its entity is no zone: broadcast it to the entity of a `Zone`"
            );
        }
    }
}

/// Returns true if games may use the id.
pub(crate) fn is_of_a_game(id: MessageId) -> bool {
    matches!(id.range(), Range::GameReliable | Range::GameUnreliable)
}

/// Adds an id. Returns true if it is new and there is room for it.
fn is_new(ids: &mut BTreeSet<MessageId>, id: MessageId) -> bool {
    ids.len() < IDS_MAX && ids.insert(id)
}

/// Maximum number of ids in the warnings of one kind. A client can send any ids, and must not flood the log.
const IDS_MAX: usize = 32;
