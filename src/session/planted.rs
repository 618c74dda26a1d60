//! Bugs on purpose: what the model and the invariants must find.
//!
//! A test inserts one as a resource; without it, and in a build without the feature `planted`,
//! none of this is there.

use std::collections::VecDeque;

use bevy_ecs::prelude::*;

use super::{ExpiresAt, Inbound, Inbox, Outbox, Uplink};

/// A bug that a test plants into a server.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planted {
    /// A resume leaves the expiry timer of the session armed.
    TimerNotCancelled,
    /// Whoever leaves a zone is announced as parted twice.
    DoublePart,
    /// What an older link delivered is dispatched after another link has taken over.
    StaleEpochAccepted,
    /// A session that ends stays among the members of its zone.
    MembersLeak,
    /// A resume replays what is unacknowledged twice.
    ReplayTwice,
    /// A token stays valid after its client has the next one.
    TokenNotRotated,
}

/// Whether a bug is planted.
pub(crate) fn is_planted(world: &World, bug: Planted) -> bool {
    world.get_resource::<Planted>() == Some(&bug)
}

/// What a bind is going to cancel, discard and queue once, kept to undo it.
pub(super) struct Sabotage {
    expires: Option<ExpiresAt>,
    stale: VecDeque<Inbound>,
    replays_twice: bool,
}

impl Sabotage {
    /// Before the bind.
    pub(super) fn of(world: &mut World, entity: Entity) -> Self {
        let timer = is_planted(world, Planted::TimerNotCancelled);
        let epoch = is_planted(world, Planted::StaleEpochAccepted);
        let mut inbox = world.get_mut::<Inbox>(entity).filter(|_| epoch);
        let stale = inbox.as_mut().map(|inbox| inbox.take_all()).unwrap_or_default();
        Self {
            expires: world.get::<ExpiresAt>(entity).copied().filter(|_| timer),
            stale,
            replays_twice: is_planted(world, Planted::ReplayTwice),
        }
    }

    /// After the bind, behind its Welcome.
    pub(super) fn apply(self, world: &mut World, entity: Entity) {
        let mut session = world.entity_mut(entity);
        if let Some(expires) = self.expires {
            session.insert(expires);
        }
        if let Some(mut inbox) = session.get_mut::<Inbox>() {
            inbox.put_back(self.stale);
        }
        if self.replays_twice
            && let Ok((outbox, mut uplink)) = session.get_components_mut::<(&mut Outbox, &mut Uplink)>()
        {
            uplink.control.extend(outbox.frames().cloned());
        }
    }
}
