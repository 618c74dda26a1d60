//! What is to change, for the next settle.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::session::EndCause;

/// Changes that wait for the next settle.
#[derive(Resource, Debug, Default)]
pub(crate) struct Changes {
    /// What could not be made in the tick in which it came, and goes first in the next.
    waiting: Vec<(Entity, Change)>,
    /// The others, each with its place among all frames that arrived.
    new: Vec<(u64, Entity, Change)>,
}

/// A change of one session's membership, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It asks to join the zone of that name.
    Join { request: u32, zone: String, payload: Bytes },
    /// It asks to leave its zone.
    Part { request: u32, payload: Bytes },
    /// It lost its link in a hard zone.
    Drop,
    /// The game puts it into a zone.
    Put { zone: Entity, from_zone_only: bool },
    /// The game takes it out of its zone.
    Take,
    /// The game says yes to what it asked for.
    Accept { ask: u64, payload: Bytes },
    /// The game says no to what it asked for.
    Refuse { ask: u64, detail: String },
    /// It ends; the words are for its client.
    End { cause: EndCause, detail: String },
}

impl Change {
    /// It ends, without words.
    pub(crate) fn end(cause: EndCause) -> Self {
        Self::End { cause, detail: String::new() }
    }
}

impl Changes {
    /// Queues a change that arrived as the `order`th frame of all.
    pub(crate) fn push(&mut self, order: u64, session: Entity, change: Change) {
        self.new.push((order, session, change));
    }

    /// Queues a change for the next settle, before all that comes until then.
    pub(super) fn wait(&mut self, session: Entity, change: Change) {
        self.waiting.push((session, change));
    }

    /// How many changes of a session wait from the last settle. While there are any, nothing more
    /// of its client is dispatched.
    pub(crate) fn waiting_count(&self, session: Entity) -> usize {
        self.waiting.iter().filter(|(waiting, _)| *waiting == session).count()
    }

    /// Takes what is queued, in order.
    pub(super) fn take(&mut self) -> Vec<(Entity, Change)> {
        self.new.sort_by_key(|(order, ..)| *order);
        let new = self.new.drain(..).map(|(_, session, change)| (session, change));
        self.waiting.drain(..).chain(new).collect()
    }
}

/// Before all frames of this tick: what agents sent in the last one.
pub(crate) const FIRST: u64 = 0;
/// After all frames of this tick: what the game commands.
pub(crate) const LAST: u64 = u64::MAX;
