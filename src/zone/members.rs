//! Who is in a zone.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::{RelationshipHookMode, RelationshipSourceCollection as _};
use bevy_ecs::world::DeferredWorld;

use super::MemberList;
use crate::session::{SessionCore, go_astray};

/// The zone that a session is in. It changes when memberships settle, and is put back if a game removes
/// or replaces it: a game commands [`part_zone`](super::MembershipCommands::part_zone) instead.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[relationship(relationship_target = Members)]
#[component(on_insert = note_change, on_remove = note_removal)]
pub struct InZone(Entity);

impl InZone {
    /// The zone's entity.
    #[must_use]
    pub fn zone(&self) -> Entity {
        self.0
    }
}

/// Notes a session that the game puts into another zone than its core says.
fn note_change(mut world: DeferredWorld, context: HookContext) {
    let zone = world.get::<InZone>(context.entity).map(InZone::zone);
    if zone != zone_of(&world, context.entity) {
        go_astray(&mut world, context.entity);
    }
}

/// Notes a session that is taken out of the zone that its core says: by the game, or with the zone.
fn note_removal(mut world: DeferredWorld, context: HookContext) {
    let zone = world.get::<InZone>(context.entity).map(InZone::zone);
    if zone.is_some() && zone == zone_of(&world, context.entity) {
        go_astray(&mut world, context.entity);
    }
}

fn zone_of(world: &DeferredWorld, session: Entity) -> Option<Entity> {
    Some(world.get::<SessionCore>(session)?.membership()?.zone)
}

/// Puts a session into a zone's [`Members`], then the zone into its [`InZone`]. Bevy does it the other way round,
/// by a command that observers of the game's are ahead of: they may have despawned either entity by then.
pub(super) fn put_in(world: &mut World, session: Entity, zone: Entity) {
    let Ok(mut entity) = world.get_entity_mut(zone) else { return };
    if let Some(mut members) = entity.get_mut::<Members>() {
        members.0.add(session);
    } else {
        let mut members = Members::default();
        members.0.add(session);
        entity.insert(members);
    }
    let is_there = world.get_entity(zone).is_ok();
    if let (true, Ok(mut entity)) = (is_there, world.get_entity_mut(session)) {
        entity.insert_with_relationship_hook_mode(InZone(zone), RelationshipHookMode::Skip);
    }
    if world.get::<InZone>(session).map(InZone::zone) != Some(zone) {
        take_out(world, session, zone);
    }
}

/// Takes a session that is gone out of a zone's [`Members`].
pub(super) fn take_out(world: &mut World, session: Entity, zone: Entity) {
    let Ok(mut entity) = world.get_entity_mut(zone) else { return };
    let Some(mut members) = entity.get_mut::<Members>() else { return };
    members.0.remove(session);
    if members.count() == 0 {
        entity.remove::<Members>();
    }
}

/// The sessions that are in a zone; a zone without members has no such component, so ask for
/// `Option<&Members>`, or take a query's miss for nobody.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::identity::Principal;
/// use waystation::zone::Members;
///
/// fn names_in(zone: Entity, zones: Query<&Members>, names: Query<&Principal>) -> Vec<String> {
///     let members = zones.get(zone).into_iter().flat_map(Members::entities);
///     members.filter_map(|member| Some(names.get(member).ok()?.name().to_owned())).collect()
/// }
/// ```
///
/// A session that leaves costs the same however many members there are.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = InZone)]
pub struct Members(MemberList);

impl Members {
    /// The members' entities, in an order that depends only on who came and went.
    pub fn entities(&self) -> impl ExactSizeIterator<Item = Entity> + '_ {
        self.0.iter()
    }

    /// Whether a session is a member.
    #[must_use]
    pub fn contains(&self, session: Entity) -> bool {
        self.0.contains(session)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
