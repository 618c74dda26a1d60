//! Settle: makes membership changes in the order of arrival, one per session and tick.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::announce::note;
use super::changes::{Change, Changes};
use super::commands::{MembershipError, refused};
use super::membership::{
    enter, is_in, leave, live_membership, membership, obstacle, refuse, send_joined, send_parted,
};
use super::{JoinPolicy, Zone, Zones, ask};
use crate::session::{
    self, Agenda, EndCause, Endings, LossCause, News, Overdue, SessionCore, add_news, edit, update_mirrors,
};
use crate::tick::{Load, LoadCounts};
use crate::wire::v1::Reason;

/// Makes the queued changes. A second change of a session waits for the next tick. The end of a session, and
/// its removal from a hard zone after it has lost its link, do not wait.
pub(super) fn settle(world: &mut World) {
    let (waited, changes) = world.resource_scope(|world, mut endings: Mut<Endings>| {
        world.resource_mut::<Changes>().take(&mut endings)
    });
    for session in waited {
        edit(world, session, |core| core.hold(false));
    }
    let mut settled = EntityHashSet::default();
    for (session, change) in changes {
        if !is_live(world, session) {
            refused(world, session, MembershipError::UnknownSession, &change);
            continue;
        }
        let is_first = settled.insert(session);
        match change {
            // No change follows the end of a session, so the end does not wait.
            Change::End { cause, detail } => end(world, session, cause, &detail),
            Change::Drop => drop_out(world, session),
            change if !is_first => wait(world, session, change),
            Change::Join { request, zone, payload } => join(world, session, request, &zone, payload),
            Change::Part { request, payload } => part(world, session, request, payload),
            Change::JoinByGame { zone, from_zone_only } => put(world, session, zone, from_zone_only),
            Change::PartByGame => take(world, session),
            Change::Accept { ask, payload } => ask::accept(world, session, ask, payload),
            Change::Refuse { ask, detail } => ask::refuse_join(world, session, ask, &detail),
        }
    }
}

fn is_live(world: &World, session: Entity) -> bool {
    world.get::<SessionCore>(session).is_some_and(|core| core.state().is_some())
}

/// Postpones a change to the next tick, in which it is the session's first change. Until then, no frames of the
/// session are dispatched.
fn wait(world: &mut World, session: Entity, change: Change) {
    match world.resource_mut::<Changes>().wait(session, change) {
        Ok(()) => _ = edit(world, session, |core| core.hold(true)),
        Err(change) => refused(world, session, MembershipError::Busy, &change),
    }
}

/// Ends the sessions that have expired.
pub(super) fn expire(world: &mut World) {
    for session in std::mem::take(&mut world.resource_mut::<Overdue>().expired) {
        end(world, session, EndCause::Timeout, "");
    }
}

/// Takes the link from a session. In a soft zone the session stays a member. It leaves a hard zone when this
/// tick settles.
pub(crate) fn disconnect(world: &mut World, session: Entity, cause: LossCause) {
    if !session::lose(world, session, cause) {
        return;
    }
    ask::cancel(world, session, Reason::Cancelled);
    let Some(membership) = live_membership(world, session) else { return };
    let (zone, zone_id) = (membership.zone, membership.zone_id);
    if world.get::<Zone>(zone).is_some_and(Zone::is_hard) {
        // The position is behind all frames that arrived before the loss.
        let order = world.resource::<Agenda>().arrived_count() + 1;
        world.resource_mut::<Changes>().push(order, session, Change::Drop);
        return;
    }
    note(world, zone, session, |changes, id| changes.unlinked.push(id));
    add_news(world, session, News::MemberDisconnected { zone, zone_id });
}

/// Notes the resume of a session for the members of its zone and for the game. After a resync, also sends
/// Joined to the session.
pub(crate) fn resumed(world: &mut World, session: Entity, resync: bool) {
    if resync {
        ask::forget(world, session);
    }
    let Some(membership) = live_membership(world, session) else { return };
    let (zone, zone_id) = (membership.zone, membership.zone_id);
    if resync {
        send_joined(world, session, 0, Bytes::new());
    }
    note(world, zone, session, |changes, id| changes.linked.push(id));
    add_news(world, session, News::MemberResumed { zone, zone_id, resync });
}

/// Carries out a Join of a client or an agent.
fn join(world: &mut World, session: Entity, request: u32, name: &str, payload: Bytes) {
    ask::cancel(world, session, Reason::Cancelled);
    let Some(zone) = world.resource::<Zones>().find(name) else {
        return refuse(world, session, request, Reason::NoSuchZone);
    };
    if let Some(obstacle) = obstacle(world, session, zone) {
        return refuse(world, session, request, obstacle.reason());
    }
    if is_in(world, session, zone) {
        return send_joined(world, session, request, Bytes::new());
    }
    if let Some(reason) = world.resource::<JoinPolicy>().0 {
        return refuse(world, session, request, reason);
    }
    let is_newcomer =
        world.get::<SessionCore>(session).is_some_and(|core| core.membership().is_none() && !core.is_agent());
    if is_newcomer && world.resource::<Load>().refuses_new_sessions() {
        world.resource_mut::<LoadCounts>().refused_count += 1;
        return refuse(world, session, request, Reason::Throttled);
    }
    if world.get::<Zone>(zone).is_some_and(Zone::is_asking) {
        return ask::open(world, session, request, zone, payload);
    }
    if let Err(obstacle) = enter(world, session, request, zone, (payload, Bytes::new())) {
        refuse(world, session, request, obstacle.reason());
    }
}

fn part(world: &mut World, session: Entity, request: u32, payload: Bytes) {
    ask::cancel(world, session, Reason::Cancelled);
    let Some(name) = membership(world, session).map(|membership| membership.name.clone()) else {
        return refuse(world, session, request, Reason::NotInZone);
    };
    send_parted(world, session, request, &name, Reason::Left);
    leave(world, session, Reason::Left, payload);
    update_mirrors(world, session);
}

/// Puts a session into a zone by a command of the game, without an ask.
fn put(world: &mut World, session: Entity, zone: Entity, from_zone_only: bool) {
    let obstacle = if from_zone_only && membership(world, session).is_none() {
        Some(MembershipError::NotInZone)
    } else {
        obstacle(world, session, zone)
    };
    let change = Change::JoinByGame { zone, from_zone_only };
    if let Some(obstacle) = obstacle {
        return refused(world, session, obstacle, &change);
    }
    ask::cancel(world, session, Reason::Cancelled);
    if is_in(world, session, zone) {
        send_joined(world, session, 0, Bytes::new());
    } else if let Err(obstacle) = enter(world, session, 0, zone, (Bytes::new(), Bytes::new())) {
        refused(world, session, obstacle, &change);
    }
}

/// Takes a session out of its zone by a command of the game. The session may have no link.
fn take(world: &mut World, session: Entity) {
    if membership(world, session).is_none() {
        return refused(world, session, MembershipError::NotInZone, &Change::PartByGame);
    }
    part(world, session, 0, Bytes::new());
}

/// Takes a session without a link out of its hard zone. Does nothing if the session was resumed in the
/// meantime.
fn drop_out(world: &mut World, session: Entity) {
    if world.get::<SessionCore>(session).is_some_and(|core| !core.is_linked()) {
        leave(world, session, Reason::Dropped, Bytes::new());
        update_mirrors(world, session);
    }
}

/// Ends a session in any state.
pub(super) fn end(world: &mut World, session: Entity, cause: EndCause, detail: &str) {
    if !is_live(world, session) {
        return;
    }
    ask::forget(world, session);
    let reason = cause.part_reason();
    if let Some(name) = membership(world, session).map(|membership| membership.name.clone()) {
        // A client that sent Bye needs no Parted. Any other client gets Parted before its link is closed.
        if cause != EndCause::Bye {
            send_parted(world, session, 0, &name, reason);
        }
        leave(world, session, reason, Bytes::new());
    }
    session::end(world, session, cause, detail);
}
