//! The three states of a session, and the one way between them.

use std::fmt;

use bevy_ecs::prelude::*;

use super::{ExpiresAt, Session};
use crate::ident::Tick;
use crate::tick::TickTime;

/// The session has no link and waits to be resumed until its [`ExpiresAt`].
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Disconnected(());

/// The session has a link and is in no zone.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Connected(());

/// The session has a link and is in a zone.
#[derive(Component, Debug)]
#[component(storage = "SparseSet")]
pub struct Active(());

/// The session has ended. Its entity stays for the game's systems of one more tick, so that they
/// can read its data, and is in no look-up.
#[derive(Component, Debug, Clone, Copy)]
pub struct Closing {
    pub(super) since: Tick,
}

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

/// Puts a session into a state. Nothing else inserts or removes the markers.
///
/// An observer of the game's may despawn the session at each step: then the rest is left out, and
/// settle buries it.
pub(crate) fn transition(world: &mut World, entity: Entity, to: SessionState) {
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    let from = SessionState::of(session.as_readonly());
    if from == Some(to) {
        return;
    }
    log(&session, from, Some(to));
    match from {
        Some(SessionState::Disconnected) => {
            session.remove::<(Disconnected, ExpiresAt)>();
        }
        Some(SessionState::Connected) => {
            session.remove::<Connected>();
        }
        Some(SessionState::Active) => {
            session.remove::<Active>();
        }
        None => {}
    }
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    match to {
        SessionState::Disconnected => session.insert(Disconnected(())),
        SessionState::Connected => session.insert(Connected(())),
        SessionState::Active => session.insert(Active(())),
    };
}

/// Takes a session out of all states: it has ended.
pub(super) fn retire(world: &mut World, entity: Entity, now: Tick) {
    let Ok(mut session) = world.get_entity_mut(entity) else { return };
    log(&session, SessionState::of(session.as_readonly()), None);
    session.insert(Closing { since: now });
    if let Ok(mut session) = world.get_entity_mut(entity) {
        session.remove::<(Disconnected, Connected, Active, ExpiresAt)>();
    }
}

/// Removes the entities of sessions whose end the game has read.
pub(super) fn despawn_closing(
    closing: Query<(Entity, &Closing)>,
    time: Res<TickTime>,
    mut commands: Commands,
) {
    for (entity, closing) in &closing {
        // Runs before the new tick is counted: the tick after the end is over.
        if time.tick() > closing.since {
            commands.entity(entity).despawn();
        }
    }
}

/// Whether an entity is a session that has ended.
pub(crate) fn is_closing(world: &World, entity: Entity) -> bool {
    world.get::<Closing>(entity).is_some()
}

fn log(session: &EntityWorldMut, from: Option<SessionState>, to: Option<SessionState>) {
    let Some(id) = session.get::<Session>() else {
        return;
    };
    let name = |state: Option<SessionState>| {
        state.map_or("none", |state| match state {
            SessionState::Disconnected => "Disconnected",
            SessionState::Connected => "Connected",
            SessionState::Active => "Active",
        })
    };
    tracing::debug!(target: "waystation::transitions", session = %id.id(), from = name(from), to = name(to));
}
