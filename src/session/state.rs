//! The three states of a session, and the one way between them.

use std::fmt;

use bevy_ecs::prelude::*;

use super::agenda::Agenda;
use super::mirror;
use crate::tick::TickTime;

/// The session has no link and waits to be resumed until its [`ExpiresAt`](super::ExpiresAt).
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Disconnected(pub(super) ());

/// The session has a link and is in no zone.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Connected(pub(super) ());

/// The session has a link and is in a zone.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Active(pub(super) ());

/// The session has ended. Its entity stays for the game's systems of one more tick, so that they
/// can read its data, and is in no look-up.
#[derive(Component, Debug, PartialEq, Eq)]
#[component(storage = "SparseSet", immutable, clone_behavior = Ignore)]
#[component(on_insert = mirror::inserted::<Self>, on_remove = mirror::removed::<Self>)]
pub struct Closing(pub(super) ());

/// The state of a session, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// See [`Disconnected`].
    Disconnected,
    /// See [`Connected`].
    Connected,
    /// See [`Active`].
    Active,
}

impl SessionState {
    /// The state of an entity; `None` if it is no session or has ended.
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

    /// The state of an entity that may not even exist.
    #[must_use]
    pub fn at(world: &World, entity: Entity) -> Option<Self> {
        world.get_entity(entity).ok().and_then(Self::of)
    }

    /// Whether a session in this state has a link.
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

/// Despawns the sessions of whose end the game has read.
pub(super) fn despawn_closing(mut agenda: ResMut<Agenda>, time: Res<TickTime>, mut commands: Commands) {
    // Runs before the new tick is counted: the tick after the end is over.
    let (over, still) = agenda.closing.drain(..).partition(|(since, _)| time.tick() > *since);
    agenda.closing = still;
    let over: Vec<_> = over;
    for (_, session) in over {
        commands.entity(session).try_despawn();
    }
}
