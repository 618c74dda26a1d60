//! Repairs what the game has changed in sessions and zones without commands: despawned sessions, despawned
//! zones with members, and components that the game removed or replaced.

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::announce::note_id;
use super::ask::{DroppedAsk, cancel_all};
use super::changes::{Change, Changes};
use super::commands::refused_zone;
use super::members::{put_in, take_out};
use super::membership::{leave, membership, refuse, send_parted};
use super::settle::end;
use super::{InZone, Members, Zone, Zones};
use crate::session::{
    self, AgentOf, Core, EndCause, FIRST, News, SessionCore, SessionTable, add_news, add_news_of,
    update_mirrors,
};
use crate::wire::v1::Reason;

/// Repairs the changes of the game, ahead of a phase that relies on a consistent state. Observers of the game
/// may make further changes meanwhile, so this repeats until there are no changes left, up to [`ROUNDS_MAX`]
/// times. A session that the game still changes after that is ended as INTERNAL.
pub(super) fn repair(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let orphans = forget_zones(world);
        let asks = std::mem::take(&mut world.resource_mut::<Zones>().dropped_asks);
        let despawned = world.resource_mut::<SessionTable>().take_despawned();
        let mut inconsistent = session::repair(world);
        inconsistent.extend(orphans);
        if asks.is_empty() && despawned.is_empty() && inconsistent.is_empty() {
            return;
        }
        for (entity, core) in despawned {
            end_despawned(world, entity, core, &asks);
        }
        for ask in asks {
            cancel_dropped(world, &ask);
        }
        for session in inconsistent {
            restore_membership(world, session);
        }
    }
    for session in session::repair(world) {
        tracing::error!(
            %session,
            "the game removes or replaces a component of this session each time the server restores it; the \
             session is ended; do not write the components of sessions, only read them"
        );
        end(world, session, EndCause::Internal, "the game broke this session");
    }
}

/// Closes the zones for which the game has called `close_zone`.
pub(super) fn close_zones(world: &mut World) {
    for zone in std::mem::take(&mut world.resource_mut::<Zones>().closing) {
        if world.get::<Zone>(zone).is_some() {
            world.despawn(zone);
        } else {
            refused_zone(world, zone);
        }
    }
}

/// Ends the asks of closed zones. Returns the members of entities that still exist but are no longer zones.
fn forget_zones(world: &mut World) -> Vec<Entity> {
    let mut orphans = Vec::new();
    for zone in std::mem::take(&mut world.resource_mut::<Zones>().closed) {
        cancel_all(world, Some(zone), Reason::NoSuchZone);
        orphans.extend(world.get::<Members>(zone).into_iter().flat_map(Members::entities));
    }
    orphans
}

/// Ends a session whose entity the game has despawned or cleared.
fn end_despawned(world: &mut World, session: Entity, mut core: Core, asks: &[DroppedAsk]) {
    if let Some(ask) = asks.iter().find(|ask| ask.session == session) {
        let (zone, zone_id, reason) = (ask.zone, ask.zone_id, Reason::Cancelled);
        add_news_of(world, core.subject(session), News::JoinCancelled { zone, zone_id, reason });
    }
    if let Some(left) = core.set_membership(None) {
        let (zone, zone_id, reason) = (left.zone, left.zone_id, Reason::Kicked);
        note_id(world, zone, |changes| changes.parted.push(core.id().0));
        take_out(world, session, zone);
        let payload = Bytes::new();
        add_news_of(world, core.subject(session), News::Parted { zone, zone_id, reason, payload });
    }
    session::end_despawned(world, session, core, EndCause::Kicked);
    if let Ok(mut entity) = world.get_entity_mut(session) {
        // The game has cleared the entity and not despawned it.
        entity.remove::<InZone>();
    }
}

/// Ends an ask whose component the game has removed from a live session.
fn cancel_dropped(world: &mut World, ask: &DroppedAsk) {
    if world.get::<SessionCore>(ask.session).is_some_and(|core| core.state().is_some()) {
        let (zone, zone_id, reason) = (ask.zone, ask.zone_id, Reason::Cancelled);
        refuse(world, ask.session, ask.request, reason);
        add_news(world, ask.session, News::JoinCancelled { zone, zone_id, reason });
    }
}

/// Makes the [`InZone`] of a session agree with its core. If the zone has closed, the session leaves it.
fn restore_membership(world: &mut World, session: Entity) {
    let Ok(entity) = world.get_entity(session) else { return };
    let inside = entity.get::<InZone>().map(InZone::zone);
    let Some(membership) = membership(world, session).cloned() else {
        if inside.is_some()
            && let Ok(mut entity) = world.get_entity_mut(session)
        {
            entity.remove::<InZone>();
        }
        return;
    };
    if world.get::<Zone>(membership.zone).is_none_or(|zone| zone.id != membership.zone_id) {
        send_parted(world, session, 0, &membership.name, Reason::ZoneClosed);
        leave(world, session, Reason::ZoneClosed, Bytes::new());
        update_mirrors(world, session);
    } else if inside != Some(membership.zone) {
        put_in(world, session, membership.zone);
        let is_hard = world.get::<Zone>(membership.zone).is_some_and(Zone::is_hard);
        if is_hard && world.get::<SessionCore>(session).is_some_and(|core| !core.is_linked()) {
            // The session was not in `Members` when the zone became hard.
            world.resource_mut::<Changes>().push(FIRST, session, Change::Drop);
        }
    }
}

/// Ends agents whose owners have ended, in the same tick, and then the agents that those agents own. Stops after
/// [`ROUNDS_MAX`] rounds; later ticks end the rest.
pub(super) fn end_orphaned_agents(
    world: &mut World,
    agents: &mut QueryState<(Entity, &AgentOf, &SessionCore), Allow<Disabled>>,
) {
    let is_gone = |world: &World, owner: Entity| {
        let owner = world.get_entity(owner).ok();
        owner.is_none_or(|owner| owner.get::<SessionCore>().is_some_and(|core| core.state().is_none()))
    };
    for _ in 0..ROUNDS_MAX {
        let orphaned: Vec<Entity> = agents
            .iter(world)
            .filter(|(_, owner, core)| core.state().is_some() && is_gone(world, owner.0))
            .map(|(agent, ..)| agent)
            .collect();
        if orphaned.is_empty() {
            return;
        }
        for agent in orphaned {
            end(world, agent, EndCause::Timeout, "");
        }
    }
}

/// Maximum number of rounds in one tick. An observer that changes something during a repair causes another round.
const ROUNDS_MAX: usize = 8;
