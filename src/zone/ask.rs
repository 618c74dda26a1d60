//! Asks: Joins that wait for the game to accept or refuse them.
//!
//! A Join of a zone that [asks](super::Zone::asks) becomes a [`JoinPending`] on the session and a
//! [`JoinRequested`](super::JoinRequested) for the game, which answers with `accept_join` or `refuse_join`.
//! If the ask ends in another way, the client gets `Refused` and the game gets
//! [`JoinCancelled`](super::JoinCancelled). After the end of the session or a resync, only the game gets a
//! message.

use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use bytes::Bytes;

use super::changes::Change;
use super::commands::{MembershipError, PAYLOAD_MAX_BYTES, refused};
use super::membership::{enter, obstacle, refuse, refuse_with};
use super::{Zone, Zones};
use crate::ident::ZoneId;
use crate::session::{News, SessionCounts, add_news};
use crate::tick::TickTime;
use crate::wire::v1::Reason;

/// Marks a session whose Join waits for the answer of the game.
#[derive(Component, Debug, Clone, PartialEq, Eq)]
#[component(clone_behavior = Ignore, on_remove = note_dropped)]
pub struct JoinPending {
    zone: Entity,
    zone_id: ZoneId,
    ask: u64,
    request: u32,
    deadline: Duration,
    given: Bytes,
    /// True if the server has ended the ask itself.
    is_over: bool,
}

impl JoinPending {
    /// Returns the zone that the session asks to join.
    #[must_use]
    pub fn zone(&self) -> Entity {
        self.zone
    }

    /// Returns the time at which the ask expires, as a reading of [`TickTime::steady`].
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }
}

/// An ask whose component or session was removed by the game.
#[derive(Debug)]
pub(super) struct DroppedAsk {
    pub(super) session: Entity,
    pub(super) zone: Entity,
    pub(super) zone_id: ZoneId,
    pub(super) request: u32,
}

/// Notes an ask if the game has removed its component or despawned its session.
fn note_dropped(mut world: DeferredWorld, context: HookContext) {
    let session = context.entity;
    let Some(ask) = world.get::<JoinPending>(session).filter(|ask| !ask.is_over) else { return };
    let dropped = DroppedAsk { session, zone: ask.zone, zone_id: ask.zone_id, request: ask.request };
    if let Some(mut zones) = world.get_resource_mut::<Zones>() {
        zones.dropped_asks.push(dropped);
    }
}

/// Opens an ask.
pub(super) fn open(world: &mut World, session: Entity, request: u32, zone: Entity, payload: Bytes) {
    let deadline = world.resource::<TickTime>().steady() + ASK_TIMEOUT;
    let Some(zone_id) = world.get::<Zone>(zone).map(Zone::id) else { return };
    let mut zones = world.resource_mut::<Zones>();
    zones.asks += 1;
    let ask = zones.asks;
    let given = payload.clone();
    add_news(world, session, News::JoinRequested { zone, zone_id, payload, ask });
    if let Ok(mut session) = world.get_entity_mut(session) {
        session.insert(JoinPending { zone, zone_id, ask, request, deadline, given, is_over: false });
    }
}

/// Accepts an ask by a command of the game. If the ask has ended, the answer is only counted.
pub(super) fn accept(world: &mut World, session: Entity, ask: u64, payload: Bytes) {
    if payload.len() > PAYLOAD_MAX_BYTES {
        return refused(world, session, MembershipError::Payload, &Change::Accept { ask, payload });
    }
    let Some(ask) = take_answered(world, session, ask) else { return };
    if let Some(obstacle) = obstacle(world, session, ask.zone) {
        refuse(world, session, ask.request, obstacle.reason());
        return refused(world, session, obstacle, &Change::Accept { ask: ask.ask, payload });
    }
    let number = ask.ask;
    if let Err(obstacle) = enter(world, session, ask.request, ask.zone, (ask.given, payload)) {
        refuse(world, session, ask.request, obstacle.reason());
        refused(world, session, obstacle, &Change::Accept { ask: number, payload: Bytes::new() });
    }
}

/// Refuses an ask by a command of the game. If the ask has ended, the answer is only counted.
pub(super) fn refuse_join(world: &mut World, session: Entity, ask: u64, detail: &str) {
    if let Some(ask) = take_answered(world, session, ask) {
        refuse_with(world, session, ask.request, Reason::Refused, detail);
    }
}

/// Ends and returns the ask that the game answers. If that ask has ended, counts the answer and returns `None`.
fn take_answered(world: &mut World, session: Entity, ask: u64) -> Option<JoinPending> {
    let pending = world.get::<JoinPending>(session).is_some_and(|pending| pending.ask == ask);
    if !pending {
        world.resource_mut::<SessionCounts>().late_answer_count += 1;
        return None;
    }
    take(world, session)
}

/// Ends the ask of a session, if there is one. The client gets Refused and the game gets
/// [`JoinCancelled`](super::JoinCancelled).
pub(super) fn cancel(world: &mut World, session: Entity, reason: Reason) {
    if let Some(ask) = take(world, session) {
        refuse(world, session, ask.request, reason);
        add_news(world, session, News::JoinCancelled { zone: ask.zone, zone_id: ask.zone_id, reason });
    }
}

/// Ends the ask of a session, if there is one, without an answer to the client. The game gets
/// [`JoinCancelled`](super::JoinCancelled).
pub(super) fn forget(world: &mut World, session: Entity) {
    if let Some(ask) = take(world, session) {
        add_news(
            world,
            session,
            News::JoinCancelled { zone: ask.zone, zone_id: ask.zone_id, reason: Reason::Cancelled },
        );
    }
}

/// Ends the asks that the game has not answered in time.
pub(super) fn expire_asks(world: &mut World, asks: &mut QueryState<(Entity, &JoinPending), Allow<Disabled>>) {
    let now = world.resource::<TickTime>().steady();
    let due: Vec<Entity> =
        asks.iter(world).filter(|(_, ask)| ask.deadline <= now).map(|(session, _)| session).collect();
    for session in due {
        cancel(world, session, Reason::Cancelled);
    }
}

/// Ends the asks of one zone, or of all zones if `zone` is `None`.
pub(crate) fn cancel_all(world: &mut World, zone: Option<Entity>, reason: Reason) {
    let mut asks = world.query_filtered::<(Entity, &JoinPending), Allow<Disabled>>();
    let due: Vec<Entity> = asks
        .iter(world)
        .filter(|(_, ask)| zone.is_none_or(|zone| zone == ask.zone))
        .map(|(session, _)| session)
        .collect();
    for session in due {
        cancel(world, session, reason);
    }
}

fn take(world: &mut World, session: Entity) -> Option<JoinPending> {
    let mut entity = world.get_entity_mut(session).ok()?;
    entity.get_mut::<JoinPending>()?.is_over = true;
    entity.take::<JoinPending>()
}

/// Time within which the game must answer an ask. If it does not, the ask ends, and the client gets
/// Refused(CANCELLED).
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);
