//! The three states of a session, and the despawning of sessions that have ended.

use std::fmt;

use bevy_ecs::prelude::*;

use super::agenda::Agenda;
use super::mirror;
use crate::tick::TickTime;

/// Marks a session that has no link. It can be resumed until its [`ExpiresAt`](super::ExpiresAt).
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Disconnected(pub(super) ());

/// Marks a session that has a link and is in no zone.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Connected(pub(super) ());

/// Marks a session that has a link and is in a zone.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Active(pub(super) ());

/// Marks a session that has ended. Its entity stays for one more tick, so that the game's systems can read
/// its data. No look-up finds the session.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Closing(pub(super) ());

/// The state of a session, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// The session has no link and can be resumed: see [`Disconnected`].
    Disconnected,
    /// The session has a link and is in no zone: see [`Connected`].
    Connected,
    /// The session has a link and is in a zone: see [`Active`].
    Active,
}

impl SessionState {
    /// Returns the state of the session on an entity. Returns `None` if the entity is not a session, or if
    /// the session has ended.
    #[must_use]
    pub fn of(entity: EntityRef) -> Option<Self> {
        if entity.contains::<Active>() {
            Some(Self::Active)
        } else if entity.contains::<Connected>() {
            Some(Self::Connected)
        } else if entity.contains::<Disconnected>() {
            Some(Self::Disconnected)
        } else {
            None
        }
    }

    /// Returns the state of the session on an entity. Returns `None` if the entity does not exist or is not
    /// a session, or if the session has ended.
    #[must_use]
    pub fn at(world: &World, entity: Entity) -> Option<Self> {
        world.get_entity(entity).ok().and_then(Self::of)
    }

    /// Returns true if a session in this state has a link.
    #[must_use]
    pub fn is_linked(self) -> bool {
        self != Self::Disconnected
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "Disconnected",
            Self::Connected => "Connected",
            Self::Active => "Active",
        })
    }
}

/// Despawns ended sessions, after the game has had one tick to read of the end.
pub(super) fn despawn_closing(mut agenda: ResMut<Agenda>, time: Res<TickTime>, mut commands: Commands) {
    // This runs before the new tick is counted: `time` still holds the number of the last tick.
    let (over, still) = agenda.closing.drain(..).partition(|(since, _)| time.tick() > *since);
    agenda.closing = still;
    let over: Vec<_> = over;
    for (_, session) in over {
        commands.entity(session).try_despawn();
    }
}
