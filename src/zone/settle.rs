//! Membership changes, in order of arrival, one a session and tick.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;

use super::{InZone, MemberDisconnected, MemberResumed, Members, Zone, ZoneJoined, ZoneParted, Zones};
use crate::ident::ZoneId;
use crate::session::lifecycle::announce;
#[cfg(feature = "planted")]
use crate::session::planted::{Planted, is_planted};
use crate::session::{self, EndCause, LossCause, Overdue, SessionState, is_closing, tell, transition};
use crate::tick::TickRate;
use crate::wire::v1::{Joined, Parted, Reason, Refused};

/// What is to change, for the next settle.
#[derive(Resource, Debug, Default)]
pub(crate) struct Changes(Vec<(u64, Entity, Change)>);

/// A change of one session's membership, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It asks to join the zone of that name.
    Join { request: u32, zone: String },
    /// It asks to leave its zone.
    Part { request: u32 },
    /// It ends.
    End(EndCause),
}

impl Changes {
    /// Queues a change that arrived as the `order`th frame of all; 0 is before all of them.
    pub(crate) fn push(&mut self, order: u64, session: Entity, change: Change) {
        self.0.push((order, session, change));
    }
}

/// Makes the changes. What would be a session's second one in this tick waits for the next.
pub(super) fn settle(world: &mut World) {
    let mut changes = std::mem::take(&mut world.resource_mut::<Changes>().0);
    changes.sort_by_key(|(order, ..)| *order);
    let mut settled = EntityHashSet::default();
    for (order, session, change) in changes {
        if SessionState::at(world, session).is_none() {
            continue;
        }
        let is_first = settled.insert(session);
        match change {
            // Nothing follows the end, so it waits for nothing either.
            Change::End(cause) => end(world, session, cause),
            change if !is_first => world.resource_mut::<Changes>().push(order, session, change),
            Change::Join { request, zone } => join(world, session, request, &zone),
            Change::Part { request } => part(world, session, request),
        }
    }
}

/// Ends the sessions that were not resumed in time.
pub(super) fn expire(world: &mut World) {
    let expired = std::mem::take(&mut world.resource_mut::<Overdue>().expired);
    for session in expired {
        if !is_closing(world, session) {
            end(world, session, EndCause::Timeout);
        }
    }
}

/// Takes the link from a session, and tells the zone that it is in.
pub(crate) fn disconnect(world: &mut World, session: Entity, cause: LossCause) {
    session::disconnect(world, session, cause);
    if let Some((zone, zone_id)) = zone_of(world, session) {
        announce(world, session, |of| MemberDisconnected::new(of, zone, zone_id));
    }
}

/// Tells the zone of a session that it was resumed, and after a resync the session of its zone.
pub(crate) fn resumed(world: &mut World, session: Entity, resync: bool) {
    let Some((zone, zone_id)) = zone_of(world, session) else {
        return;
    };
    if resync {
        joined(world, session, 0, zone);
    }
    announce(world, session, |of| MemberResumed::new(of, zone, zone_id, resync));
}

/// Tells a session that it is in a zone.
fn joined(world: &mut World, session: Entity, request: u32, zone: Entity) {
    let server = world.get_resource::<TickRate>().copied().unwrap_or_default();
    let Some(zone) = world.get::<Zone>(zone) else {
        return;
    };
    let answer = Joined {
        request,
        zone: zone.name().to_owned(),
        zone_id: zone.id.0,
        tick_hz: server.hz() / zone.every(server),
        ..Joined::default()
    };
    tell(world, session, answer);
}

/// The name of the zone that a session is in.
pub(crate) fn zone_name(world: &World, session: Entity) -> Option<String> {
    let zone = world.get::<InZone>(session)?.zone();
    Some(world.get::<Zone>(zone)?.name().to_owned())
}

fn join(world: &mut World, session: Entity, request: u32, name: &str) {
    let current = world.get::<InZone>(session).map(InZone::zone);
    let Some(zone) = world.resource::<Zones>().find(name) else {
        return refuse(world, session, request, Reason::NoSuchZone);
    };
    if !is_linked(world, session) {
        return refuse(world, session, request, Reason::Disconnected);
    }
    if current == Some(zone) {
        return joined(world, session, request, zone);
    }
    let members = world.get::<Members>(zone).map_or(0, Members::count);
    if world.get::<Zone>(zone).is_none_or(|zone| members >= zone.capacity) {
        return refuse(world, session, request, Reason::Full);
    }
    if current.is_some() {
        leave(world, session, Reason::Moved);
    }
    let mut entity = world.entity_mut(session);
    entity.insert(InZone::new(zone));
    transition(&mut entity, SessionState::Active);
    joined(world, session, request, zone);
    if let Some((zone, zone_id)) = zone_of(world, session) {
        announce(world, session, |of| ZoneJoined::new(of, zone, zone_id));
    }
}

fn part(world: &mut World, session: Entity, request: u32) {
    let Some(zone) = zone_name(world, session) else {
        return refuse(world, session, request, Reason::NotInZone);
    };
    tell(world, session, Parted { request, zone, reason: Reason::Left.into(), ..Parted::default() });
    leave(world, session, Reason::Left);
    if is_linked(world, session) {
        transition(&mut world.entity_mut(session), SessionState::Connected);
    }
}

fn end(world: &mut World, session: Entity, cause: EndCause) {
    let reason = cause.part_reason();
    if let Some(zone) = zone_name(world, session) {
        // Who left knows; who was removed is told before it is closed.
        if cause != EndCause::Bye {
            tell(world, session, Parted { request: 0, zone, reason: reason.into(), ..Parted::default() });
        }
        leave(world, session, reason);
    }
    session::close(world, session, cause);
}

/// Takes a session out of its zone.
fn leave(world: &mut World, session: Entity, reason: Reason) {
    let Some((zone, zone_id)) = zone_of(world, session) else {
        return;
    };
    #[cfg(feature = "planted")]
    if is_planted(world, Planted::DoublePart) {
        announce(world, session, |of| ZoneParted::new(of, zone, zone_id, reason));
    }
    #[cfg(feature = "planted")]
    if is_planted(world, Planted::MembersLeak) && reason == Reason::Expired {
        return announce(world, session, |of| ZoneParted::new(of, zone, zone_id, reason));
    }
    world.entity_mut(session).remove::<InZone>();
    announce(world, session, |of| ZoneParted::new(of, zone, zone_id, reason));
}

fn refuse(world: &mut World, session: Entity, request: u32, reason: Reason) {
    let retry_after_ms = if reason == Reason::Full { FULL_RETRY_MS } else { 0 };
    tell(world, session, Refused { request, reason: reason.into(), retry_after_ms, ..Refused::default() });
}

pub(super) fn zone_of(world: &World, session: Entity) -> Option<(Entity, ZoneId)> {
    let zone = world.get::<InZone>(session)?.zone();
    Some((zone, world.get::<Zone>(zone)?.id))
}

pub(super) fn is_linked(world: &World, session: Entity) -> bool {
    SessionState::at(world, session).is_some_and(SessionState::is_linked)
}

/// When to ask a full zone again, in milliseconds: members leave by seconds, not by ticks.
const FULL_RETRY_MS: u32 = 1_000;
