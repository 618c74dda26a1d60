//! What is to change, for the next settle.

use bevy_ecs::entity::EntityHashMap;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::session::{EndCause, Endings};

/// Changes that wait for the next settle.
#[derive(Resource, Debug, Default)]
pub(crate) struct Changes {
    /// What could not be made in the tick in which it came, and goes first in the next.
    waiting: Vec<(Entity, Change)>,
    /// How many of these each session has.
    waiting_counts: EntityHashMap<usize>,
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

    /// Queues a change for the next settle, before all that comes until then. Returns the change if too
    /// many of this session wait.
    pub(super) fn wait(&mut self, session: Entity, change: Change) -> Result<(), Change> {
        let count = self.waiting_counts.entry(session).or_default();
        if *count >= WAITING_MAX {
            return Err(change);
        }
        *count += 1;
        self.waiting.push((session, change));
        Ok(())
    }

    /// Takes what is queued, and the sessions that end, in order. The sessions whose changes waited come
    /// first.
    pub(super) fn take(&mut self, endings: &mut Endings) -> (Vec<Entity>, Vec<(Entity, Change)>) {
        let endings = endings.take().into_iter();
        self.new.extend(endings.map(|(order, session, cause)| (order, session, Change::end(cause))));
        self.new.sort_by_key(|(order, ..)| *order);
        let new = self.new.drain(..).map(|(_, session, change)| (session, change));
        let waited = self.waiting_counts.drain().map(|(session, _)| session).collect();
        (waited, self.waiting.drain(..).chain(new).collect())
    }
}

/// Changes of one session that wait: a game that commands more than one a tick is told.
const WAITING_MAX: usize = 16;
