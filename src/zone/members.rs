//! Who is in a zone.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;

use super::{Zone, Zones};

/// The zone that a session is in. Only `settle` and `expire` change it.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[relationship(relationship_target = Members)]
#[component(on_remove = note_leaver)]
pub struct InZone(Entity);

impl InZone {
    pub(super) fn new(zone: Entity) -> Self {
        Self(zone)
    }

    /// The zone's entity.
    #[must_use]
    pub fn zone(&self) -> Entity {
        self.0
    }
}

/// Notes who ceases to be in a zone, for the case that its entity is being despawned.
fn note_leaver(mut world: DeferredWorld, context: HookContext) {
    let Some(zone) = world.get::<InZone>(context.entity).map(InZone::zone) else { return };
    let Some(id) = world.get::<Zone>(zone).map(Zone::id) else { return };
    if let Some(mut zones) = world.get_resource_mut::<Zones>() {
        zones.left.push((context.entity, zone, id));
    }
}

/// The sessions that are in a zone; a zone without members has no such component, so ask for
/// `Option<&Members>`, or take a query's miss for nobody.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::session::Principal;
/// use waystation::zone::Members;
///
/// fn names_in(zone: Entity, zones: Query<&Members>, names: Query<&Principal>) -> Vec<String> {
///     let members = zones.get(zone).into_iter().flat_map(Members::entities);
///     members.filter_map(|member| Some(names.get(member).ok()?.name().to_owned())).collect()
/// }
/// ```
///
/// A hash set: leaving costs the same however many there are (0.1 µs, where a list searches).
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = InZone)]
pub struct Members(EntityHashSet);

impl Members {
    /// The members' entities, in an order that depends only on who came and went.
    pub fn entities(&self) -> impl ExactSizeIterator<Item = Entity> + '_ {
        self.0.iter().copied()
    }

    /// Whether a session is a member.
    #[must_use]
    pub fn contains(&self, session: Entity) -> bool {
        self.0.contains(&session)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
