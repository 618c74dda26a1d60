//! What the game despawned: sessions, and zones under their members. It is made good before
//! anything else settles.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::ask::cancel_all;
use super::settle::{connect, zone_of};
use super::{Change, Changes, FIRST, Orphan, ZoneParted, Zones};
use crate::session::lifecycle::{announce, announce_of};
use crate::session::{self, AgentOf, EndCause, SessionState, SessionTable, is_closing, tell};
use crate::wire::v1::{Parted, Reason};

/// Ends the sessions whose entities are gone, as by a kick, and parts the members of zones that
/// are gone, as of ZONE_CLOSED.
pub(super) fn settle_orphans(world: &mut World, agents: &mut QueryState<(Entity, &AgentOf)>) {
    end_orphaned_agents(world, agents);
    for zone in std::mem::take(&mut world.resource_mut::<Zones>().closing) {
        // A zone that is not there any more has closed already.
        world.try_despawn(zone).ok();
    }
    let mut zones = world.resource_mut::<Zones>();
    let orphans = std::mem::take(&mut zones.orphans);
    let left = std::mem::take(&mut zones.left);
    for zone in std::mem::take(&mut zones.closed) {
        cancel_all(world, Some(zone), Reason::NoSuchZone);
    }
    for gone in world.resource_mut::<SessionTable>().take_despawned() {
        let whose = (gone.session, gone.entity, gone.principal.clone());
        let was_in = left.iter().find(|(session, ..)| *session == gone.entity);
        if let Some((_, zone, zone_id)) = was_in {
            announce_of(world, whose, |of| {
                ZoneParted::new(of, *zone, *zone_id, Reason::Kicked, Bytes::new())
            });
        }
        session::bury(world, gone, EndCause::Kicked, "");
    }
    for Orphan { session, zone, id, name } in orphans {
        if SessionState::at(world, session).is_none() || zone_of(world, session).is_some() {
            continue;
        }
        tell(
            world,
            session,
            Parted { zone: name.to_string(), reason: Reason::ZoneClosed.into(), ..Parted::default() },
        );
        connect(world, session);
        announce(world, session, |of| ZoneParted::new(of, zone, id, Reason::ZoneClosed, Bytes::new()));
    }
}

/// An agent goes with its owner, in the same tick.
fn end_orphaned_agents(world: &mut World, agents: &mut QueryState<(Entity, &AgentOf)>) {
    let is_gone = |owner: Entity| world.get_entity(owner).is_err() || is_closing(world, owner);
    let orphaned: Vec<Entity> =
        agents.iter(world).filter(|(_, owner)| is_gone(owner.0)).map(|(agent, _)| agent).collect();
    let mut changes = world.resource_mut::<Changes>();
    for agent in orphaned {
        changes.push(FIRST, agent, Change::end(EndCause::Timeout));
    }
}
