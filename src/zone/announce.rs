//! Announcements: the Members messages of announcing zones.
//!
//! All changes of a zone in one tick go into one `Members` message, which is sent after the tick has settled.
//! A newcomer's `Joined` lists all members.

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::{Members, Zone};
use crate::ident::SessionId;
use crate::session::{SessionCore, send_all};
use crate::wire::v1;

/// The changes in an announcing zone since its last `Members` message, as session ids.
#[derive(Component, Debug, Default)]
pub(super) struct MemberChanges {
    pub(super) joined: Vec<u64>,
    pub(super) parted: Vec<u64>,
    pub(super) linked: Vec<u64>,
    pub(super) unlinked: Vec<u64>,
}

impl MemberChanges {
    /// Returns the ids of all members, including a newcomer that is about to become a member. Returns an empty list
    /// if the zone does not announce.
    pub(super) fn members(world: &World, zone: Entity, newcomer: Entity) -> Vec<u64> {
        if !world.get::<Zone>(zone).is_some_and(Zone::is_announcing) {
            return Vec::new();
        }
        let members = world.get::<Members>(zone);
        let is_missing = !members.is_some_and(|members| members.contains(newcomer));
        let all = members.into_iter().flat_map(Members::entities).chain(is_missing.then_some(newcomer));
        all.filter_map(|member| world.get::<SessionCore>(member)).map(|core| core.id().0).collect()
    }

    fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.parted.is_empty() && self.linked.is_empty() && self.unlinked.is_empty()
    }
}

/// Notes a change of a session for the members of a zone.
pub(super) fn note(
    world: &mut World,
    zone: Entity,
    session: Entity,
    change: impl FnOnce(&mut MemberChanges, u64),
) {
    if let Some(SessionId(id)) = world.get::<SessionCore>(session).map(|core| core.id()) {
        note_id(world, zone, |changes| change(changes, id));
    }
}

/// Notes a change for the members of a zone. The entity of the changed session may be gone.
pub(super) fn note_id(world: &mut World, zone: Entity, change: impl FnOnce(&mut MemberChanges)) {
    if !world.get::<Zone>(zone).is_some_and(Zone::is_announcing) {
        return;
    }
    if let Some(mut changes) = world.get_mut::<MemberChanges>(zone) {
        change(&mut changes);
    }
}

/// Sends the changes of each zone to its members.
pub(super) fn announce_members(
    world: &mut World,
    zones: &mut QueryState<(Entity, &mut MemberChanges), Allow<Disabled>>,
) {
    let changed: Vec<(Entity, MemberChanges)> = zones
        .iter_mut(world)
        .filter(|(_, changes)| !changes.is_empty())
        .map(|(zone, mut changes)| (zone, std::mem::take(&mut *changes)))
        .collect();
    for (zone, MemberChanges { joined, parted, linked, unlinked }) in changed {
        let members: Vec<Entity> =
            world.get::<Members>(zone).into_iter().flat_map(Members::entities).collect();
        send_all(world, &members, &v1::Members { joined, parted, linked, unlinked });
    }
}
