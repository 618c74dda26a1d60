//! Who came and went, told to the members of zones that announce.
//!
//! A zone's changes of a tick go into one `Members` message, sent when the tick is settled; a
//! newcomer's `Joined` lists all members.

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;

use super::{Members, Zone};
use crate::ident::SessionId;
use crate::session::{SessionCore, tell_all};
use crate::wire::v1;

/// What has changed in an announcing zone since it was last told.
#[derive(Component, Debug, Default)]
pub(super) struct Roster {
    pub(super) joined: Vec<u64>,
    pub(super) parted: Vec<u64>,
    pub(super) linked: Vec<u64>,
    pub(super) unlinked: Vec<u64>,
}

impl Roster {
    /// Returns the ids of all members, if the zone announces, with that of a session that is about to be
    /// one.
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

/// Notes a change for the zone's members.
pub(super) fn note(world: &mut World, zone: Entity, session: Entity, change: impl FnOnce(&mut Roster, u64)) {
    if let Some(SessionId(id)) = world.get::<SessionCore>(session).map(|core| core.id()) {
        note_id(world, zone, |roster| change(roster, id));
    }
}

/// Notes a change of a session whose entity may be gone.
pub(super) fn note_id(world: &mut World, zone: Entity, change: impl FnOnce(&mut Roster)) {
    if !world.get::<Zone>(zone).is_some_and(Zone::is_announcing) {
        return;
    }
    if let Some(mut roster) = world.get_mut::<Roster>(zone) {
        change(&mut roster);
    }
}

/// Tells the members of each zone what has changed.
pub(super) fn announce_members(
    world: &mut World,
    zones: &mut QueryState<(Entity, &mut Roster), Allow<Disabled>>,
) {
    let changed: Vec<(Entity, Roster)> = zones
        .iter_mut(world)
        .filter(|(_, roster)| !roster.is_empty())
        .map(|(zone, mut roster)| (zone, std::mem::take(&mut *roster)))
        .collect();
    for (zone, Roster { joined, parted, linked, unlinked }) in changed {
        let members: Vec<Entity> =
            world.get::<Members>(zone).into_iter().flat_map(Members::entities).collect();
        tell_all(world, &members, &v1::Members { joined, parted, linked, unlinked });
    }
}
