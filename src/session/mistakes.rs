//! Warns of mistakes of a game that would otherwise only show in the counts, once for each message id.
//!
//! Clients can cause two of the three warnings. So each has a bound, and [`SessionCounts`](super::SessionCounts)
//! counts all of them.

use std::collections::BTreeSet;

use bevy_ecs::prelude::*;

use crate::ident::MessageId;
use crate::wire::{Range, STRAY_MESSAGES_MAX};

/// The message ids of which the log has a warning.
#[derive(Resource, Debug, Default)]
pub(crate) struct Mistakes {
    unknown: BTreeSet<MessageId>,
    outside: BTreeSet<MessageId>,
    misdirected: BTreeSet<MessageId>,
}

impl Mistakes {
    /// Warns of a message that the game has not registered as a call. An id of the server's is the client's fault
    /// alone, so there is no warning.
    pub(crate) fn unknown_id(&mut self, id: MessageId) {
        if is_of_a_game(id) && is_new(&mut self.unknown, id) {
            tracing::warn!(
                %id,
                "a message was dropped because no call has its id: add it with `add_call`, unless its client is of \
                 another version; the {STRAY_MESSAGES_MAX}th ends a session as PROTOCOL"
            );
        }
    }

    /// Warns of a call of a session in no zone.
    pub(crate) fn outside_zone(&mut self, id: MessageId, message: &str) {
        if is_new(&mut self.outside, id) {
            tracing::warn!(
                message,
                "a call was dropped because its session is in no zone: a client joins a zone before it calls"
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
