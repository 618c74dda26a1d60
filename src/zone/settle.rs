//! Membership changes, in order of arrival, one a session and tick.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::announce::{Roster, note};
use super::changes::{Change, Changes};
use super::commands::{MembershipError, refused};
use super::{InZone, JoinPolicy, Members, Zone, Zones, ask};
use crate::ident::ZoneId;
#[cfg(feature = "planted")]
use crate::session::planted::{Planted, is_planted};
use crate::session::{
    self, Agent, DispatchQueue, EndCause, LossCause, News, Overdue, SessionState, announce, is_closing, tell,
    transition,
};
use crate::tick::{Load, Shed, TickRate};
use crate::wire::v1::{Joined, Parted, Reason, Refused};

/// Makes the changes. What would be a session's second one in this tick waits for the next.
pub(super) fn settle(world: &mut World) {
    let changes = world.resource_mut::<Changes>().take();
    let mut settled = EntityHashSet::default();
    for (session, change) in changes {
        if SessionState::at(world, session).is_none() {
            refused(world, session, MembershipError::UnknownSession, &change);
            continue;
        }
        let is_first = settled.insert(session);
        match change {
            // Nothing follows the end, so it waits for nothing either.
            Change::End { cause, detail } => end(world, session, cause, &detail),
            Change::Drop => leave(world, session, Reason::Dropped),
            change if !is_first => wait(world, session, change),
            Change::Join { request, zone, payload } => join(world, session, request, &zone, payload),
            Change::Part { request, payload } => part(world, session, request, payload),
            Change::Put { zone, from_zone_only } => put(world, session, zone, from_zone_only),
            Change::Take => take(world, session),
            Change::Accept { ask, payload } => ask::accept(world, session, ask, payload),
            Change::Refuse { ask, detail } => ask::refuse_join(world, session, ask, &detail),
        }
    }
}

/// A change that cannot be made in this tick is the session's first in the next: before what its
/// client asks for then, which waits until it is made.
fn wait(world: &mut World, session: Entity, change: Change) {
    let mut changes = world.resource_mut::<Changes>();
    if changes.waiting_count(session) < WAITING_MAX {
        changes.wait(session, change);
    } else {
        refused(world, session, MembershipError::Busy, &change);
    }
}

/// Ends the sessions that were not resumed in time.
pub(super) fn expire(world: &mut World) {
    let expired = std::mem::take(&mut world.resource_mut::<Overdue>().expired);
    for session in expired {
        if !is_closing(world, session) {
            end(world, session, EndCause::Timeout, "");
        }
    }
}

/// Takes the link from a session. A soft zone keeps it as a member; a hard one parts it when this
/// tick settles.
pub(crate) fn disconnect(world: &mut World, session: Entity, cause: LossCause) {
    session::disconnect(world, session, cause);
    ask::cancel(world, session, Reason::Cancelled);
    let Some((zone, zone_id)) = zone_of(world, session) else { return };
    if world.get::<Zone>(zone).is_some_and(Zone::is_hard) {
        // Behind all that arrived before the loss.
        let order = world.resource::<DispatchQueue>().arrived_count() + 1;
        world.resource_mut::<Changes>().push(order, session, Change::Drop);
        return;
    }
    note(world, zone, session, |roster, id| roster.unlinked.push(id));
    announce(world, session, News::MemberDisconnected { zone, zone_id });
}

/// Tells the zone of a session that it was resumed, and after a resync the session of its zone.
pub(crate) fn resumed(world: &mut World, session: Entity, resync: bool) {
    if resync {
        ask::forget(world, session);
    }
    let Some((zone, zone_id)) = zone_of(world, session) else { return };
    if resync {
        joined(world, session, 0, zone, Bytes::new());
    }
    note(world, zone, session, |roster, id| roster.linked.push(id));
    announce(world, session, News::MemberResumed { zone, zone_id, resync });
}

/// Puts a session into a zone, out of the one that it may be in. The zone has room. What the client
/// has given goes to the game, the answer to the client.
pub(super) fn enter(
    world: &mut World,
    session: Entity,
    request: u32,
    zone: Entity,
    (given, answer): (Bytes, Bytes),
) {
    leave(world, session, Reason::Moved);
    // An observer of the game's may end it at each step.
    if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.insert(InZone::new(zone));
    }
    transition(world, session, SessionState::Active);
    joined(world, session, request, zone, answer);
    note(world, zone, session, |roster, id| roster.joined.push(id));
    if let Some((zone, zone_id)) = zone_of(world, session) {
        announce(world, session, News::Joined { zone, zone_id, payload: given });
    }
}

/// Why a session cannot enter a zone now; `None` if it can, or is in it already.
pub(super) fn obstacle(world: &World, session: Entity, zone: Entity) -> Option<MembershipError> {
    let Some(target) = world.get::<Zone>(zone) else { return Some(MembershipError::NoSuchZone) };
    if !is_linked(world, session) {
        return Some(MembershipError::Disconnected);
    }
    let is_member = world.get::<InZone>(session).is_some_and(|inside| inside.zone() == zone);
    let members = world.get::<Members>(zone).map_or(0, Members::count);
    (!is_member && members >= target.capacity).then_some(MembershipError::Full)
}

/// The name of the zone that a session is in.
pub(crate) fn zone_name(world: &World, session: Entity) -> Option<String> {
    let zone = world.get::<InZone>(session)?.zone();
    Some(world.get::<Zone>(zone)?.name().to_owned())
}

/// A client, or an agent, asks to join.
fn join(world: &mut World, session: Entity, request: u32, name: &str, payload: Bytes) {
    ask::cancel(world, session, Reason::Cancelled);
    let Some(zone) = world.resource::<Zones>().find(name) else {
        return refuse(world, session, request, Reason::NoSuchZone);
    };
    if let Some(obstacle) = obstacle(world, session, zone) {
        return refuse(world, session, request, obstacle.reason());
    }
    if world.get::<InZone>(session).is_some_and(|inside| inside.zone() == zone) {
        return joined(world, session, request, zone, Bytes::new());
    }
    if let Some(reason) = world.resource::<JoinPolicy>().0 {
        return refuse(world, session, request, reason);
    }
    let is_newcomer = world.get::<InZone>(session).is_none() && world.get::<Agent>(session).is_none();
    if is_newcomer && world.resource::<Load>().refuses_newcomers() {
        world.resource_mut::<Shed>().newcomer_count += 1;
        return refuse(world, session, request, Reason::Throttled);
    }
    if world.get::<Zone>(zone).is_some_and(Zone::is_asking) {
        return ask::open(world, session, request, zone, payload);
    }
    enter(world, session, request, zone, (payload, Bytes::new()));
}

fn part(world: &mut World, session: Entity, request: u32, payload: Bytes) {
    ask::cancel(world, session, Reason::Cancelled);
    let Some(zone) = zone_name(world, session) else {
        return refuse(world, session, request, Reason::NotInZone);
    };
    tell(world, session, Parted { request, zone, reason: Reason::Left.into(), ..Parted::default() });
    leave_with(world, session, Reason::Left, payload);
    connect(world, session);
}

/// The game puts a session into a zone: nobody is asked.
fn put(world: &mut World, session: Entity, zone: Entity, from_zone_only: bool) {
    let current = zone_of(world, session).map(|(zone, _)| zone);
    let obstacle = if from_zone_only && current.is_none() {
        Some(MembershipError::NotInZone)
    } else {
        obstacle(world, session, zone)
    };
    if let Some(obstacle) = obstacle {
        let change = Change::Put { zone, from_zone_only };
        return refused(world, session, obstacle, &change);
    }
    ask::cancel(world, session, Reason::Cancelled);
    if current == Some(zone) {
        joined(world, session, 0, zone, Bytes::new());
    } else {
        enter(world, session, 0, zone, (Bytes::new(), Bytes::new()));
    }
}

/// The game takes a session out of its zone, whether it has a link or not.
fn take(world: &mut World, session: Entity) {
    if zone_of(world, session).is_none() {
        return refused(world, session, MembershipError::NotInZone, &Change::Take);
    }
    part(world, session, 0, Bytes::new());
}

/// Ends a session, in whatever state it is.
pub(super) fn end(world: &mut World, session: Entity, cause: EndCause, detail: &str) {
    ask::forget(world, session);
    let reason = cause.part_reason();
    if let Some(zone) = zone_name(world, session) {
        // Who left knows; who was removed is told before it is closed.
        if cause != EndCause::Bye {
            tell(world, session, Parted { request: 0, zone, reason: reason.into(), ..Parted::default() });
        }
        leave(world, session, reason);
    }
    session::close(world, session, cause, detail);
}

/// Takes a session out of its zone, if it is in one.
pub(super) fn leave(world: &mut World, session: Entity, reason: Reason) {
    leave_with(world, session, reason, Bytes::new());
}

fn leave_with(world: &mut World, session: Entity, reason: Reason, payload: Bytes) {
    let Some((zone, zone_id)) = zone_of(world, session) else { return };
    #[cfg(feature = "planted")]
    if is_planted(world, Planted::DoublePart) {
        announce(world, session, News::Parted { zone, zone_id, reason, payload: payload.clone() });
    }
    #[cfg(feature = "planted")]
    if is_planted(world, Planted::MembersLeak) && reason == Reason::Expired {
        return announce(world, session, News::Parted { zone, zone_id, reason, payload: payload.clone() });
    }
    note(world, zone, session, |roster, id| roster.parted.push(id));
    announce(world, session, News::Parted { zone, zone_id, reason, payload });
    if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.remove::<InZone>();
    }
    // It is known here who left, and why.
    world.resource_mut::<Zones>().left.pop();
}

/// A session that has left its zone is Connected, if it has a link.
pub(super) fn connect(world: &mut World, session: Entity) {
    if is_linked(world, session) {
        transition(world, session, SessionState::Connected);
    }
}

/// Tells a session that it is in a zone.
fn joined(world: &mut World, session: Entity, request: u32, zone: Entity, payload: Bytes) {
    let server = world.get_resource::<TickRate>().copied().unwrap_or_default();
    let members = Roster::members(world, zone);
    let Some(zone) = world.get::<Zone>(zone) else { return };
    let answer = Joined {
        request,
        zone: zone.name().to_owned(),
        zone_id: zone.id.0,
        tick_hz: server.hz() / zone.every(server),
        members,
        payload,
    };
    tell(world, session, answer);
}

/// Says no to a session.
pub(super) fn refuse(world: &mut World, session: Entity, request: u32, reason: Reason) {
    refuse_with(world, session, request, reason, "");
}

/// Says no to a session, and why in words.
pub(super) fn refuse_with(world: &mut World, session: Entity, request: u32, reason: Reason, detail: &str) {
    let retry_after_ms = match reason {
        Reason::Full | Reason::Draining => RETRY_MS,
        Reason::Throttled => OVERLOADED_RETRY_MS,
        _ => 0,
    };
    let detail = detail.to_owned();
    tell(world, session, Refused { request, reason: reason.into(), detail, retry_after_ms });
}

pub(super) fn zone_of(world: &World, session: Entity) -> Option<(Entity, ZoneId)> {
    let zone = world.get::<InZone>(session)?.zone();
    Some((zone, world.get::<Zone>(zone)?.id))
}

pub(super) fn is_linked(world: &World, session: Entity) -> bool {
    SessionState::at(world, session).is_some_and(SessionState::is_linked)
}

/// Changes of one session that wait: a game that commands more than one a tick is told.
const WAITING_MAX: usize = 16;
/// When to ask again where there was no room, in milliseconds: members leave by seconds, not by ticks.
const RETRY_MS: u32 = 1_000;
/// When to ask an overloaded server again, in milliseconds, as the gate says too.
const OVERLOADED_RETRY_MS: u32 = 5_000;
