//! Delivery: sends messages of the server and of the game to sessions.
//!
//! Data flow: [`EncodedMessage`] → [`Delivery`], which puts the frame into the outbox or on the link of each client,
//! and passes the value to each agent → `flush`, once a tick → the links' proxies.

use std::hint::black_box;
use std::sync::Arc;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::query::QueryEntityError;
use bevy_ecs::system::{SystemParam, SystemState};
use bytes::{Bytes, BytesMut};

use super::agenda::{Agenda, end_of_millisecond};
use super::agent::deliver_native;
use super::core::Put;
use super::link::{FrameSink, Link};
use super::{Mistakes, SessionConfig, SessionCore, SessionCounts, SessionTable};
use crate::ident::MessageId;
use crate::proxy::{LinkOutlet, Proxies};
use crate::tick::TickTime;
use crate::wire::{self, FRAME_MAX_SERVER, WireMessage};

/// A message to send: its frame, and its value for agents.
#[derive(Clone)]
pub(crate) struct EncodedMessage {
    id: MessageId,
    frame: Bytes,
    value: Option<Native>,
}

/// A function that delivers the value of the message to an agent.
type Native = Arc<dyn Fn(&mut World, Entity) + Send + Sync>;

impl EncodedMessage {
    /// Encodes a message. Logs an error and returns `None` if the frame is longer than the limit.
    pub(crate) fn new<M: WireMessage>(message: &M, is_for_agents: bool) -> Option<Self> {
        let frame = Self::of_frame(M::ID, wire::encode(message))?.frame;
        let value = is_for_agents.then(|| -> Native {
            let message = Arc::new(message.clone());
            Arc::new(move |world, agent| deliver_native(world, agent, Arc::clone(&message)))
        });
        Some(Self { id: M::ID, frame, value })
    }

    /// Creates a message from an encoded frame, without a value for agents. Logs an error and returns `None` if the
    /// frame is longer than the limit.
    pub(crate) fn of_frame(id: MessageId, frame: Bytes) -> Option<Self> {
        if frame.len() > FRAME_MAX_SERVER {
            let bytes = frame.len();
            tracing::error!(message = %id, bytes, "message not sent: its frame exceeds 64 KiB; split it");
            return None;
        }
        Some(Self { id, frame, value: None })
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }
}

/// Queues messages for sessions.
#[derive(SystemParam)]
pub(crate) struct Delivery<'w, 's> {
    cores: Query<'w, 's, (Entity, &'static mut SessionCore), Allow<Disabled>>,
    agenda: ResMut<'w, Agenda>,
    counts: ResMut<'w, SessionCounts>,
    mistakes: ResMut<'w, Mistakes>,
    time: Res<'w, TickTime>,
    config: Res<'w, SessionConfig>,
    commands: Commands<'w, 's>,
}

impl Delivery<'_, '_> {
    /// Returns the sessions whose cores are in a zone although their components may differ, for example because the
    /// entity of the zone was despawned in this tick.
    pub(crate) fn inconsistent_members(&self, zone: Entity) -> Vec<Entity> {
        let is_member = |session: &&Entity| {
            let core = self.cores.get(**session).ok();
            core.and_then(|(_, core)| core.membership()).is_some_and(|membership| membership.zone == zone)
        };
        let mut members: Vec<Entity> = self.agenda.inconsistent.iter().filter(is_member).copied().collect();
        members.sort_unstable_by_key(|session| self.cores.get(*session).map(|(_, core)| core.id()).ok());
        members.dedup();
        members
    }

    /// Counts messages that were dropped before their delivery.
    pub(crate) fn miss(&mut self, count: u64) {
        self.counts.undelivered_count += count;
    }

    /// Counts a message that was broadcast to an entity that is no zone, and warns of it.
    pub(crate) fn miss_zone(&mut self, encoded: &EncodedMessage, entity: Entity) {
        self.counts.misdirected_count += 1;
        self.mistakes.no_zone(encoded.id, entity);
    }

    /// Delivers a message to each of these sessions. A message to a session that has ended is dropped and counted. A
    /// message to an entity that is no session is also reported once.
    pub(crate) fn deliver(&mut self, encoded: &EncodedMessage, sessions: impl IntoIterator<Item = Entity>) {
        let now = self.time.steady();
        let mut cores = self.cores.iter_many_mut(sessions);
        while let Some(found) = cores.fetch_next() {
            let (session, mut core) = match found {
                Ok(found) => found,
                Err(error) => {
                    self.counts.undelivered_count += 1;
                    if let QueryEntityError::QueryDoesNotMatch(entity, _) = error {
                        self.counts.misdirected_count += 1;
                        self.mistakes.no_session(encoded.id, entity);
                    }
                    continue;
                }
            };
            let core = core.bypass_change_detection();
            if core.is_agent() && core.is_linked() {
                if let Some(value) = encoded.value.clone() {
                    self.commands.queue(move |world: &mut World| value(world, session));
                }
                continue;
            }
            match core.put(encoded.frame.clone(), now, &self.config) {
                Put::Queued => {}
                Put::Dropped => self.counts.dropped_unreliable_count += 1,
                Put::Undelivered => self.counts.undelivered_count += 1,
            }
            self.agenda.update_put(session, core);
        }
    }
}

/// A system parameter that reports how much room a session's link has. A game can use it to adapt how much
/// it sends to each client.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::arena::v1::Snapshot;
/// use waystation::rpc::Sender;
/// use waystation::session::{Active, LinkRoom};
///
/// fn send_details(players: Query<Entity, With<Active>>, room: LinkRoom, mut sender: Sender) {
///     for player in &players {
///         if room.bytes(player) > 16 * 1024 {
///             sender.send(player, &Snapshot::default());
///         }
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct LinkRoom<'w, 's> {
    cores: Query<'w, 's, &'static SessionCore, Allow<Disabled>>,
    proxies: Res<'w, Proxies>,
}

impl LinkRoom<'_, '_> {
    /// Returns how many bytes of frames the link of a session can still accept in this tick. The value is at most
    /// [`LINK_BUDGET`](crate::proxy::LINK_BUDGET). Returns 0 if the session has no link, or if the link's proxy is
    /// overloaded. Messages that the game has already sent in this tick are not subtracted.
    #[must_use]
    pub fn bytes(&self, session: Entity) -> usize {
        let link = self.cores.get(session).ok().and_then(|core| core.link());
        let link = link.filter(|link| self.proxies.has_room(link.proxy));
        link.map_or(0, |link| self.proxies.room(link))
    }
}

/// The system state with which [`Delivery`] is used on a `&mut World`.
#[derive(Resource)]
pub(super) struct DeliveryState(SystemState<Delivery<'static, 'static>>);

impl FromWorld for DeliveryState {
    fn from_world(world: &mut World) -> Self {
        Self(SystemState::new(world))
    }
}

/// Sends a message to one session.
pub(crate) fn send<M: WireMessage>(world: &mut World, session: Entity, message: &M) {
    send_all(world, &[session], message);
}

/// Sends a message to many sessions. The message is encoded once.
pub(crate) fn send_all<M: WireMessage>(world: &mut World, sessions: &[Entity], message: &M) {
    let is_agent = |session: &Entity| world.get::<SessionCore>(*session).is_some_and(|core| core.is_agent());
    let Some(encoded) = EncodedMessage::new(message, sessions.iter().any(is_agent)) else { return };
    world.resource_scope(|world, mut state: Mut<DeliveryState>| {
        let Ok(mut delivery) = state.0.get_mut(world) else { return };
        delivery.deliver(&encoded, sessions.iter().copied());
        state.0.apply(world);
    });
}

/// Loads into the CPU cache the memory of sessions that is about to be used. Each loop follows one pointer in each
/// session, so that the processor's reads overlap. With 100,000 sessions, this halves the time of a tick with 5,000
/// Beacons and as many Pings.
pub(super) fn prefetch_cores<'a>(sessions: &[Entity], core: impl Fn(Entity) -> Option<&'a SessionCore>) {
    for session in sessions {
        black_box(core(*session).is_some());
    }
    for session in sessions {
        black_box(core(*session).map(|core| core.is_ending()));
    }
    for session in sessions {
        black_box(core(*session).map(|core| core.prefetch()));
    }
}

/// Sends the frames that are queued for each link, with a Beacon if one is due. Each tick begins with another
/// session, so that a busy proxy does not lack room for the same sessions in each tick.
pub(super) fn flush(
    mut cores: Query<(Entity, &mut SessionCore), Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    mut proxies: ResMut<Proxies>,
    mut counts: ResMut<SessionCounts>,
    table: Res<SessionTable>,
    time: Res<TickTime>,
    mut sessions: Local<Vec<Entity>>,
) {
    sessions.clear();
    std::mem::swap(&mut *sessions, &mut agenda.flush);
    sessions.extend(agenda.beacons.take(time.now()));
    let first = time.turn(sessions.len());
    sessions.rotate_left(first);
    let end = end_of_millisecond(time.now());
    let mut waiting = Vec::new();
    for sessions in sessions.chunks(PREFETCH_COUNT) {
        if table.session_count() >= PREFETCH_FROM {
            prefetch_cores(sessions, |session| cores.get(session).ok().map(|(_, core)| core));
            for session in sessions {
                let slot =
                    cores.get(*session).ok().and_then(|(_, core)| core.player()?.link()).map(Link::slot);
                black_box(slot.map(|slot| proxies.prefetch(slot)));
            }
        }
        let mut beacons = BytesMut::new();
        let mut cores = cores.iter_many_mut(sessions);
        while let Some(found) = cores.fetch_next() {
            let Ok((session, mut core)) = found else { continue };
            let core = core.bypass_change_detection();
            let Some(is_due) = core.marks().map(|marks| marks.clear_due_flush(end)) else { continue };
            let Some((link, slot)) = core.link_slot() else { continue };
            let outlet = proxies.outlet(link, slot);
            if is_due && core.queue_beacon(&time, &mut beacons) {
                agenda.link_states.push(session);
            }
            let Some(mut outlet) = outlet else { continue };
            counts.dropped_unreliable_count += core.flush(&mut outlet);
            if outlet.is_overrun() {
                tracing::debug!(%link, "the link is cut: its proxy does not accept more frames");
                proxies.cut(link);
            }
            if core.has_unsent() {
                waiting.push(session);
            } else if is_due {
                agenda.update(session, core);
            }
        }
    }
    // Sessions whose frames wait for room are flushed again in the next tick. A session may be in `waiting`
    // twice, because of its Beacon; the agenda notes it once.
    let mut cores = cores.iter_many_mut(waiting);
    while let Some(found) = cores.fetch_next() {
        if let Ok((session, mut core)) = found {
            agenda.update(session, core.bypass_change_detection());
        }
    }
    debug_assert!(agenda.flushes_each_once(), "a session is flushed once a tick");
}

impl FrameSink for LinkOutlet<'_> {
    fn has_room(&self) -> bool {
        LinkOutlet::has_room(self)
    }

    fn keeps_up(&self) -> bool {
        LinkOutlet::keeps_up(self)
    }

    fn send(&mut self, frame: Bytes) {
        LinkOutlet::send(self, frame);
    }
}

/// Minimum number of sessions at which the server reads ahead. With fewer sessions, most of their memory is in
/// the processor's caches.
pub(super) const PREFETCH_FROM: usize = 10_000;
/// Number of sessions that are read ahead at a time. Their memory fits the smaller caches of a processor.
pub(crate) const PREFETCH_COUNT: usize = 64;
