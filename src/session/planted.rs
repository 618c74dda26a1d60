//! Bugs on purpose: what the model and the invariants must find.
//!
//! A test inserts one as a resource; without it, and in a build without the feature `planted`,
//! none of this is there.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::core::Binding;
use super::inbox::Inbound;
use super::{SessionCore, life};

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
    keeps_timer: bool,
    keeps_frames: bool,
    replays_twice: bool,
    expires_at: Option<Duration>,
    stale: VecDeque<Inbound>,
}

impl Sabotage {
    /// Before the bind.
    pub(super) fn of(world: &mut World, entity: Entity) -> Self {
        let mut sabotage = Self {
            keeps_timer: is_planted(world, Planted::TimerNotCancelled),
            keeps_frames: is_planted(world, Planted::StaleEpochAccepted),
            replays_twice: is_planted(world, Planted::ReplayTwice),
            expires_at: None,
            stale: VecDeque::new(),
        };
        if let Some(mut core) = world.get_mut::<SessionCore>(entity) {
            sabotage.expires_at = core.expires_at().filter(|_| sabotage.keeps_timer);
            if let Some(player) = core.player_mut().filter(|_| sabotage.keeps_frames) {
                sabotage.stale = player.inbox.take_all();
            }
        }
        sabotage
    }

    /// After the bind, behind its Welcome.
    pub(super) fn apply(self, world: &mut World, entity: Entity) {
        life::edit(world, entity, |core| {
            core.planted_expiry = self.expires_at;
            let Some(player) = core.player_mut() else { return };
            player.inbox.put_back(self.stale);
            if let Binding::Linked(link) = &mut player.binding
                && self.replays_twice
            {
                link.replay(&player.outbox);
            }
        });
    }
}
