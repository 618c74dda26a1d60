//! The queue of changes for the next settle.

use bevy_ecs::entity::EntityHashMap;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use crate::session::{EndCause, Endings};

/// The changes of memberships that wait for the next settle.
#[derive(Resource, Debug, Default)]
pub(crate) struct Changes {
    /// Changes that an earlier settle has postponed. The next settle makes them first.
    waiting: Vec<(Entity, Change)>,
    /// Number of waiting changes of each session.
    waiting_counts: EntityHashMap<usize>,
    /// New changes, each with its position among all frames that have arrived.
    new: Vec<(u64, Entity, Change)>,
}

/// A change of one session's membership, or the end of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The client or agent asks to join the zone with this name.
    Join { request: u32, zone: String, payload: Bytes },
    /// The client or agent asks to leave its zone.
    Part { request: u32, payload: Bytes },
    /// The session has lost its link in a hard zone.
    Drop,
    /// The game puts the session into a zone.
    JoinByGame { zone: Entity, from_zone_only: bool },
    /// The game takes the session out of its zone.
    PartByGame,
    /// The game accepts an ask of the session.
    Accept { ask: u64, payload: Bytes },
    /// The game refuses an ask of the session.
    Refuse { ask: u64, detail: String },
    /// The session ends. The client gets `detail` in its Closed.
    End { cause: EndCause, detail: String },
}

impl Change {
    /// Returns the end of a session without a detail.
    pub(crate) fn end(cause: EndCause) -> Self {
        Self::End { cause, detail: String::new() }
    }
}

impl Changes {
    /// Queues a change whose position among all frames is `order`.
    pub(crate) fn push(&mut self, order: u64, session: Entity, change: Change) {
        self.new.push((order, session, change));
    }

    /// Queues a change for the next settle, ahead of all new changes. Returns the change as an error if too
    /// many changes of this session wait.
    pub(super) fn wait(&mut self, session: Entity, change: Change) -> Result<(), Change> {
        let count = self.waiting_counts.entry(session).or_default();
        if *count >= WAITING_MAX {
            return Err(change);
        }
        *count += 1;
        self.waiting.push((session, change));
        Ok(())
    }

    /// Takes all changes in order, including the ends of sessions. Postponed changes come first. Also returns the
    /// sessions of the postponed changes.
    pub(super) fn take(&mut self, endings: &mut Endings) -> (Vec<Entity>, Vec<(Entity, Change)>) {
        let endings = endings.take().into_iter();
        self.new.extend(endings.map(|(order, session, cause)| (order, session, Change::end(cause))));
        self.new.sort_by_key(|(order, ..)| *order);
        let new = self.new.drain(..).map(|(_, session, change)| (session, change));
        let waited = self.waiting_counts.drain().map(|(session, _)| session).collect();
        (waited, self.waiting.drain(..).chain(new).collect())
    }
}

/// Maximum number of waiting changes of one session. The game gets `MembershipRefused` for further commands.
const WAITING_MAX: usize = 16;
