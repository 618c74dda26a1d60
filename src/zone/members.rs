//! The relationship between zones and their members.

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::relationship::{RelationshipHookMode, RelationshipSourceCollection as _};
use bevy_ecs::world::DeferredWorld;

use super::MemberList;
use crate::session::{SessionCore, mark_inconsistent};

/// The zone that a session is in. The server changes it when memberships settle. If a game removes or
/// replaces it, the server restores it. Use [`part_zone`](super::MembershipCommands::part_zone) to take a
/// session out of its zone.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
#[relationship(relationship_target = Members)]
#[component(on_insert = note_change, on_remove = note_removal)]
pub struct InZone(Entity);

impl InZone {
    /// Returns the zone's entity.
    #[must_use]
    pub fn zone(&self) -> Entity {
        self.0
    }
}

/// Notes the session as inconsistent if an inserted `InZone` differs from its core.
fn note_change(mut world: DeferredWorld, context: HookContext) {
    let zone = world.get::<InZone>(context.entity).map(InZone::zone);
    if zone != zone_of(&world, context.entity) {
        mark_inconsistent(&mut world, context.entity);
    }
}

/// Notes the session as inconsistent if its core requires the removed `InZone`. The game has removed it, or the
/// zone was despawned.
fn note_removal(mut world: DeferredWorld, context: HookContext) {
    let zone = world.get::<InZone>(context.entity).map(InZone::zone);
    if zone.is_some() && zone == zone_of(&world, context.entity) {
        mark_inconsistent(&mut world, context.entity);
    }
}

fn zone_of(world: &DeferredWorld, session: Entity) -> Option<Entity> {
    Some(world.get::<SessionCore>(session)?.membership()?.zone)
}

/// Adds a session to a zone's [`Members`], then inserts its [`InZone`]. Bevy does this in the opposite order
/// and adds the member by a command, which runs after observers of the game. Meanwhile these observers may have
/// despawned the session or the zone.
pub(super) fn put_in(world: &mut World, session: Entity, zone: Entity) {
    let is_agent = world.get::<SessionCore>(session).is_some_and(|core| core.is_agent());
    let Ok(mut entity) = world.get_entity_mut(zone) else { return };
    if let Some(mut members) = entity.get_mut::<Members>() {
        members.add(session, is_agent);
    } else {
        let mut members = Members::default();
        members.add(session, is_agent);
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

/// Removes a session from a zone's [`Members`]. Its [`InZone`] is not changed.
pub(super) fn take_out(world: &mut World, session: Entity, zone: Entity) {
    let Ok(mut entity) = world.get_entity_mut(zone) else { return };
    let Some(mut members) = entity.get_mut::<Members>() else { return };
    members.0.remove(session);
    if members.count() == 0 {
        entity.remove::<Members>();
    }
}

/// The sessions that are in a zone. A zone without members does not have this component: query for
/// `Option<&Members>`, or treat a failed query as an empty zone.
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
/// Removing a member takes constant time.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = InZone)]
pub struct Members(MemberList);

impl Members {
    /// Returns the members' entities, in an order that depends only on which members joined and left.
    pub fn entities(&self) -> impl ExactSizeIterator<Item = Entity> + '_ {
        self.0.iter()
    }

    /// Returns true if a session is a member.
    #[must_use]
    pub fn contains(&self, session: Entity) -> bool {
        self.0.contains(session)
    }

    /// Returns the number of members, agents included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of members that are agents.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.0.agent_count()
    }

    fn add(&mut self, session: Entity, is_agent: bool) {
        if is_agent {
            self.0.add_agent(session);
        } else {
            self.0.add(session);
        }
    }
}
