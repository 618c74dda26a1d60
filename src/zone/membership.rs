//! The steps by which a session enters and leaves a zone, with the messages to its client.
//!
//! Each step updates the session's core, the client's frames and the journal before it changes components.
//! The change of a component runs observers of the game, which may end any session and close any zone. After
//! that, a step looks up again what it uses.

use std::sync::Arc;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::announce::{MemberChanges, note};
use super::commands::MembershipError;
use super::members::put_in;
use super::{InZone, Members, Zone};
use crate::session::{Membership, News, SessionCore, add_news, send, set_membership, update_mirrors};
use crate::tick::TickRate;
use crate::wire::retry;
use crate::wire::v1::{Joined, Parted, Reason, Refused};

/// Moves a session into a zone that has room. The session leaves the zone that it is in, if any. The game
/// gets the payload `given` of the client, and the client gets the payload `answer`.
///
/// # Errors
///
/// Returns the obstacle if observers of the game have caused one when the session left its former zone. The client
/// then gets Parted(MOVED) for that zone.
pub(super) fn enter(
    world: &mut World,
    session: Entity,
    request: u32,
    zone: Entity,
    (given, answer): (Bytes, Bytes),
) -> Result<(), MembershipError> {
    if let Some(left) = leave(world, session, Reason::Moved, Bytes::new())
        && let Some(obstacle) = obstacle(world, session, zone)
    {
        send_parted(world, session, 0, &left.name, Reason::Moved);
        update_mirrors(world, session);
        return Err(obstacle);
    }
    let Some(target) = world.get::<Zone>(zone) else { return Err(MembershipError::NoSuchZone) };
    let (zone_id, name) = (target.id, target.name.clone());
    set_membership(world, session, Some(Membership { zone, zone_id, name }));
    send_joined(world, session, request, answer);
    note(world, zone, session, |changes, id| changes.joined.push(id));
    add_news(world, session, News::Joined { zone, zone_id, payload: given });
    put_in(world, session, zone);
    update_mirrors(world, session);
    Ok(())
}

/// Takes a session out of its zone. Returns `None` if it is in no zone. The next `update_mirrors` writes the
/// markers.
pub(super) fn leave(
    world: &mut World,
    session: Entity,
    reason: Reason,
    payload: Bytes,
) -> Option<Membership> {
    let left = set_membership(world, session, None)?;
    let (zone, zone_id) = (left.zone, left.zone_id);
    note(world, zone, session, |changes, id| changes.parted.push(id));
    add_news(world, session, News::Parted { zone, zone_id, reason, payload });
    if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.remove::<InZone>();
    }
    Some(left)
}

/// Returns the reason why a session cannot enter a zone now. Returns `None` if it can, or if it is already in
/// the zone.
pub(super) fn obstacle(world: &World, session: Entity, zone: Entity) -> Option<MembershipError> {
    let Some(core) = world.get::<SessionCore>(session).filter(|core| core.state().is_some()) else {
        return Some(MembershipError::UnknownSession);
    };
    let Some(target) = world.get::<Zone>(zone) else { return Some(MembershipError::NoSuchZone) };
    if !core.is_linked() {
        return Some(MembershipError::Disconnected);
    }
    let is_member = core.membership().is_some_and(|membership| membership.zone == zone);
    let (all, agents) = world.get::<Members>(zone).map_or((0, 0), |list| (list.count(), list.agent_count()));
    (!is_member && !target.has_room(all, agents, core.is_agent())).then_some(MembershipError::Full)
}

/// Returns the membership of a session.
pub(super) fn membership(world: &World, session: Entity) -> Option<&Membership> {
    world.get::<SessionCore>(session)?.membership()
}

/// Returns the membership of a session, unless its zone has closed.
pub(super) fn live_membership(world: &World, session: Entity) -> Option<&Membership> {
    let is_live = |membership: &&Membership| {
        world.get::<Zone>(membership.zone).is_some_and(|zone| zone.id == membership.zone_id)
    };
    membership(world, session).filter(is_live)
}

/// Returns the entity of the zone that a session is in, unless the zone has closed.
pub(crate) fn live_zone(world: &World, session: Entity) -> Option<Entity> {
    live_membership(world, session).map(|membership| membership.zone)
}

/// Returns the name of the zone that a session is in, for its Welcome.
pub(crate) fn zone_name(world: &World, session: Entity) -> Option<Arc<str>> {
    live_membership(world, session).map(|membership| Arc::clone(&membership.name))
}

/// Returns true if a session is in this zone.
pub(super) fn is_in(world: &World, session: Entity, zone: Entity) -> bool {
    membership(world, session).is_some_and(|membership| membership.zone == zone)
}

/// Sends Joined to a session, for the zone that it is in.
pub(super) fn send_joined(world: &mut World, session: Entity, request: u32, payload: Bytes) {
    let Some(membership) = membership(world, session) else { return };
    let (zone, name) = (membership.zone, membership.name.to_string());
    let Some(target) = world.get::<Zone>(zone) else { return };
    let server = *world.resource::<TickRate>();
    let tick_hz = server.hz() / target.every(server);
    let members = MemberChanges::members(world, zone, session);
    send(world, session, &Joined { request, zone: name, zone_id: target.id.0, tick_hz, members, payload });
}

/// Sends Parted to a session.
pub(super) fn send_parted(world: &mut World, session: Entity, request: u32, zone: &str, reason: Reason) {
    let parted = Parted { request, zone: zone.to_owned(), reason: reason.into(), ..Parted::default() };
    send(world, session, &parted);
}

/// Sends Refused to a session.
pub(super) fn refuse(world: &mut World, session: Entity, request: u32, reason: Reason) {
    refuse_with(world, session, request, reason, "");
}

/// Sends Refused to a session, with a detail.
pub(super) fn refuse_with(world: &mut World, session: Entity, request: u32, reason: Reason, detail: &str) {
    let retry_after_ms = match reason {
        Reason::Full | Reason::Draining => retry::in_ms(retry::ZONE_FULL),
        Reason::Throttled => retry::in_ms(retry::OVERLOADED),
        _ => 0,
    };
    let detail = detail.to_owned();
    send(world, session, &Refused { request, reason: reason.into(), detail, retry_after_ms });
}
