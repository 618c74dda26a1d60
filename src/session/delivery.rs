//! Delivery: messages of the server and of the game on their way to sessions.
//!
//! Data flow: [`Parcel`] → [`Delivery`], which puts its frame into the outbox or onto the link of each
//! client, and gives its value to each agent → `flush`, once a tick → the links' proxies.

use std::hint::black_box;
use std::sync::Arc;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemParam, SystemState};
use bytes::{Bytes, BytesMut};

use super::agenda::{Agenda, end_of_millisecond};
use super::agent::deliver_native;
use super::core::Put;
use super::link::{Link, Outlet};
use super::{SessionConfig, SessionCore, SessionCounts, SessionTable};
use crate::ident::MessageId;
use crate::proxy::{LinkOutlet, Proxies};
use crate::tick::TickTime;
use crate::wire::{self, FRAME_MAX_SERVER, WireMessage};

/// A message on its way: its frame, and its value for agents.
#[derive(Clone)]
pub(crate) struct Parcel {
    frame: Bytes,
    native: Option<Native>,
}

/// Gives the value behind a frame to an agent.
type Native = Arc<dyn Fn(&mut World, Entity) + Send + Sync>;

impl Parcel {
    /// Encodes a message. Returns `None`, and logs an error, if its frame is longer than any may be.
    pub(crate) fn new<M: WireMessage>(message: &M, is_for_agents: bool) -> Option<Self> {
        let frame = Self::of_frame(M::ID, wire::encode(message))?.frame;
        let native = is_for_agents.then(|| -> Native {
            let message = Arc::new(message.clone());
            Arc::new(move |world, agent| deliver_native(world, agent, Arc::clone(&message)))
        });
        Some(Self { frame, native })
    }

    /// Takes a frame that is encoded. Returns `None`, and logs an error, if it is longer than any may be.
    pub(crate) fn of_frame(id: MessageId, frame: Bytes) -> Option<Self> {
        if frame.len() > FRAME_MAX_SERVER {
            tracing::error!(message = %id, bytes = frame.len(), "not sent: a frame has at most 64 KiB, split it");
            return None;
        }
        Some(Self { frame, native: None })
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }
}

/// Where messages go.
#[derive(SystemParam)]
pub(crate) struct Delivery<'w, 's> {
    cores: Query<'w, 's, (Entity, &'static mut SessionCore), Allow<Disabled>>,
    agenda: ResMut<'w, Agenda>,
    counts: ResMut<'w, SessionCounts>,
    time: Res<'w, TickTime>,
    config: Res<'w, SessionConfig>,
    commands: Commands<'w, 's>,
}

impl Delivery<'_, '_> {
    /// Returns the sessions that are in a zone by their cores alone, since its entity was despawned.
    pub(crate) fn members_astray(&self, zone: Entity) -> Vec<Entity> {
        let is_member = |session: &&Entity| {
            let core = self.cores.get(**session).ok();
            core.and_then(|(_, core)| core.membership()).is_some_and(|membership| membership.zone == zone)
        };
        let mut members: Vec<Entity> = self.agenda.astray.iter().filter(is_member).copied().collect();
        members.sort_unstable_by_key(|session| self.cores.get(*session).map(|(_, core)| core.id()).ok());
        members.dedup();
        members
    }

    /// Counts messages that nobody was sent.
    pub(crate) fn miss(&mut self, count: u64) {
        self.counts.undelivered_count += count;
    }

    /// Delivers a message to each of some sessions. To a session that has ended nothing is sent, and that is
    /// counted.
    pub(crate) fn deliver(&mut self, parcel: &Parcel, sessions: impl IntoIterator<Item = Entity>) {
        let now = self.time.steady();
        let mut cores = self.cores.iter_many_mut(sessions);
        while let Some(found) = cores.fetch_next() {
            let Ok((session, mut core)) = found else {
                self.counts.undelivered_count += 1;
                continue;
            };
            let core = core.bypass_change_detection();
            if core.is_agent() && core.is_linked() {
                if let Some(native) = parcel.native.clone() {
                    self.commands.queue(move |world: &mut World| native(world, session));
                }
                continue;
            }
            match core.put(parcel.frame.clone(), now, &self.config) {
                Put::Queued => {}
                Put::Dropped => self.counts.dropped_unreliable_count += 1,
                Put::Undelivered => self.counts.undelivered_count += 1,
            }
            self.agenda.update_put(session, core);
        }
    }
}

/// How much the links of sessions may still take, for games that fit what they send to each client.
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
    /// Returns the bytes of frames that a session's link may still take in this tick, as its adapter reports: 0 if
    /// there is no link, or if its proxy does not keep up; [`LINK_BUDGET`](crate::proxy::LINK_BUDGET) at most.
    /// What the game has sent in this tick already is not taken off.
    #[must_use]
    pub fn bytes(&self, session: Entity) -> usize {
        let link = self.cores.get(session).ok().and_then(|core| core.link());
        let link = link.filter(|link| self.proxies.has_room(link.proxy));
        link.map_or(0, |link| self.proxies.room(link))
    }
}

/// [`Delivery`] for those who have the whole world.
#[derive(Resource)]
pub(super) struct DeliveryState(SystemState<Delivery<'static, 'static>>);

impl FromWorld for DeliveryState {
    fn from_world(world: &mut World) -> Self {
        Self(SystemState::new(world))
    }
}

/// Sends one message to one session.
pub(crate) fn tell<M: WireMessage>(world: &mut World, session: Entity, message: &M) {
    tell_all(world, &[session], message);
}

/// Sends one message to many sessions. It is encoded once.
pub(crate) fn tell_all<M: WireMessage>(world: &mut World, sessions: &[Entity], message: &M) {
    let is_agent = |session: &Entity| world.get::<SessionCore>(*session).is_some_and(|core| core.is_agent());
    let Some(parcel) = Parcel::new(message, sessions.iter().any(is_agent)) else { return };
    world.resource_scope(|world, mut state: Mut<DeliveryState>| {
        let Ok(mut delivery) = state.0.get_mut(world) else { return };
        delivery.deliver(&parcel, sessions.iter().copied());
        state.0.apply(world);
    });
}

/// Reads what is about to be touched of some sessions. Each step follows one pointer of all of them, so that the
/// processor waits for many reads at a time. Measured with 100,000 sessions: a tick of 5,000 Beacons and as
/// many Pings takes half as long.
pub(super) fn read_ahead<'a>(sessions: &[Entity], core: impl Fn(Entity) -> Option<&'a SessionCore>) {
    for session in sessions {
        black_box(core(*session).is_some());
    }
    for session in sessions {
        black_box(core(*session).map(|core| core.is_doomed()));
    }
    for session in sessions {
        black_box(core(*session).map(|core| core.warm()));
    }
}

/// Hands every link what is queued for it, with a Beacon where that is due. The session that is served first
/// is another one in each tick, so that it is not always the same ones that a busy proxy has no room for.
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
    for sessions in sessions.chunks(WARM_COUNT) {
        if table.session_count() >= READ_AHEAD_FROM {
            read_ahead(sessions, |session| cores.get(session).ok().map(|(_, core)| core));
            for session in sessions {
                let slot =
                    cores.get(*session).ok().and_then(|(_, core)| core.player()?.link()).map(Link::slot);
                black_box(slot.map(|slot| proxies.warm(slot)));
            }
        }
        let mut beacons = BytesMut::new();
        let mut cores = cores.iter_many_mut(sessions);
        while let Some(found) = cores.fetch_next() {
            let Ok((session, mut core)) = found else { continue };
            let core = core.bypass_change_detection();
            let Some(is_due) = core.marks().map(|marks| marks.flushes(end)) else { continue };
            let Some((link, slot)) = core.link_slot() else { continue };
            let outlet = proxies.outlet(link, slot);
            if is_due && core.beat(&time, &mut beacons) {
                agenda.link_states.push(session);
            }
            let Some(mut outlet) = outlet else { continue };
            counts.dropped_unreliable_count += core.flush(&mut outlet);
            if outlet.is_overrun() {
                tracing::debug!(%link, "cut: its proxy does not take what is sent");
                proxies.cut(link);
            }
            if core.has_unsent() {
                waiting.push(session);
            } else if is_due {
                agenda.update(session, core);
            }
        }
    }
    // What waits for room is flushed again in the next tick. A session with a Beacon that is due may have been visited
    // twice, and is noted once.
    let mut cores = cores.iter_many_mut(waiting);
    while let Some(found) = cores.fetch_next() {
        if let Ok((session, mut core)) = found {
            agenda.update(session, core.bypass_change_detection());
        }
    }
    debug_assert!(agenda.flushes_each_once(), "a session is flushed once a tick");
}

impl Outlet for LinkOutlet<'_> {
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

/// With fewer sessions than this, most of them are in the processor's caches.
pub(super) const READ_AHEAD_FROM: usize = 10_000;
/// Sessions that are read ahead: what these touch fits the smaller caches of a processor.
pub(crate) const WARM_COUNT: usize = 64;
