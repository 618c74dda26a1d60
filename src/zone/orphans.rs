//! What the game despawned: sessions, and zones under their members. It is made good before
//! anything else settles.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::announce::note_id;
use super::ask::cancel_all;
use super::commands::refused_zone;
use super::settle::{connect, end, zone_of};
use super::{InZone, Orphan, Zone, Zones};
use crate::session::{
    self, AgentOf, EndCause, News, SessionState, SessionTable, Whose, announce, announce_of, is_closing, tell,
};
use crate::wire::v1::{Parted, Reason};

/// Ends the sessions whose entities are gone, as by a kick, and parts the members of zones that
/// are gone, as of ZONE_CLOSED.
pub(super) fn settle_orphans(world: &mut World) {
    for zone in std::mem::take(&mut world.resource_mut::<Zones>().closing) {
        if world.get::<Zone>(zone).is_some() {
            world.despawn(zone);
        } else {
            refused_zone(world, zone);
        }
    }
    for zone in std::mem::take(&mut world.resource_mut::<Zones>().closed) {
        cancel_all(world, Some(zone), Reason::NoSuchZone);
    }
    let mut zones = world.resource_mut::<Zones>();
    let orphans = std::mem::take(&mut zones.orphans);
    let left = std::mem::take(&mut zones.left);
    let asks = std::mem::take(&mut zones.dropped_asks);
    for gone in world.resource_mut::<SessionTable>().take_despawned() {
        let whose =
            || Whose { session: gone.session, entity: gone.entity, principal: gone.principal.clone() };
        if let Some((_, zone, zone_id)) = asks.iter().find(|(session, ..)| *session == gone.entity) {
            announce_of(
                world,
                whose(),
                News::JoinCancelled { zone: *zone, zone_id: *zone_id, reason: Reason::Cancelled },
            );
        }
        let orphaned = orphans.iter().find(|orphan| orphan.session == gone.entity);
        let orphaned = orphaned.map(|orphan| (orphan.zone, orphan.id));
        let was_in = left.iter().find(|(session, ..)| *session == gone.entity);
        if let Some((zone, zone_id)) = orphaned.or(was_in.map(|(_, zone, id)| (*zone, *id))) {
            note_id(world, zone, |roster| roster.parted.push(gone.session.0));
            announce_of(
                world,
                whose(),
                News::Parted { zone, zone_id, reason: Reason::Kicked, payload: Bytes::new() },
            );
        }
        session::bury(world, gone, EndCause::Kicked, "");
    }
    for orphan in orphans {
        part_orphan(world, orphan);
    }
}

/// A session whose zone is gone.
fn part_orphan(world: &mut World, Orphan { session, zone, id, name }: Orphan) {
    if SessionState::at(world, session).is_none() || zone_of(world, session).is_some() {
        return;
    }
    // The entity is there, but is no zone any more.
    if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.remove::<InZone>();
    }
    let parted = Parted { zone: name.to_string(), reason: Reason::ZoneClosed.into(), ..Parted::default() };
    tell(world, session, parted);
    connect(world, session);
    announce(
        world,
        session,
        News::Parted { zone, zone_id: id, reason: Reason::ZoneClosed, payload: Bytes::new() },
    );
}

/// An agent goes with its owner, in the same tick; and so do those that it owned.
pub(super) fn end_orphaned_agents(world: &mut World, agents: &mut QueryState<(Entity, &AgentOf)>) {
    let is_gone = |world: &World, owner: Entity| world.get_entity(owner).is_err() || is_closing(world, owner);
    loop {
        let orphaned: Vec<Entity> = agents
            .iter(world)
            .filter(|(agent, owner)| is_gone(world, owner.0) && !is_closing(world, *agent))
            .map(|(agent, _)| agent)
            .collect();
        if orphaned.is_empty() {
            return;
        }
        for agent in orphaned {
            end(world, agent, EndCause::Timeout, "");
        }
    }
}
