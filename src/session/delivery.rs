//! Delivery: a message to sessions, whoever sends it.
//!
//! Data flow: [`Parcel`] → [`Delivery`], which puts its frame into the outbox or onto the link of each
//! client, and gives its value to each agent → `flush`, once a tick → the links' proxies.

use std::sync::Arc;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::{SystemParam, SystemState};
use bytes::Bytes;

use super::agenda::Agenda;
use super::agent::deliver_native;
use super::core::Put;
use super::link::Outlet;
use super::{Core, SessionConfig, SessionCounts, mirror};
use crate::ident::LinkKey;
use crate::proxy::Proxies;
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
        let frame = wire::encode(message);
        if frame.len() > FRAME_MAX_SERVER {
            let bytes = frame.len();
            tracing::error!(message = M::NAME, bytes, "not sent: a frame has at most 64 KiB, split it");
            return None;
        }
        let native = is_for_agents.then(|| -> Native {
            let message = Arc::new(message.clone());
            Arc::new(move |world, agent| deliver_native(world, agent, Arc::clone(&message)))
        });
        Some(Self { frame, native })
    }
}

/// Where messages go.
#[derive(SystemParam)]
pub(crate) struct Delivery<'w, 's> {
    cores: Query<'w, 's, &'static mut Core, Allow<Disabled>>,
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
            core.and_then(Core::membership).is_some_and(|membership| membership.zone == zone)
        };
        let mut members: Vec<Entity> = self.agenda.astray.iter().filter(is_member).copied().collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Delivers a message to one session. To a session that has ended nothing is sent, and that is
    /// counted.
    pub(crate) fn deliver(&mut self, session: Entity, parcel: &Parcel) {
        let Ok(mut core) = self.cores.get_mut(session) else {
            self.counts.undelivered_count += 1;
            return;
        };
        let core = core.bypass_change_detection();
        if core.is_agent() && core.is_linked() {
            if let Some(native) = parcel.native.clone() {
                self.commands.queue(move |world: &mut World| native(world, session));
            }
            return;
        }
        match core.put(parcel.frame.clone(), self.time.steady(), &self.config) {
            Put::Queued => {}
            Put::Dropped => self.counts.dropped_unreliable_count += 1,
            Put::Undelivered => self.counts.undelivered_count += 1,
        }
        self.agenda.update(session, core);
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
    let is_agent = |session: &Entity| world.get::<Core>(*session).is_some_and(Core::is_agent);
    let Some(parcel) = Parcel::new(message, sessions.iter().any(is_agent)) else { return };
    world.resource_scope(|world, mut state: Mut<DeliveryState>| {
        let Ok(mut delivery) = state.0.get_mut(world) else { return };
        for session in sessions {
            delivery.deliver(*session, &parcel);
        }
        state.0.apply(world);
    });
}

/// Sends each linked session its Beacon, once a second, staggered by session.
pub(super) fn send_beacons(
    mut cores: Query<&mut Core, Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    time: Res<TickTime>,
    mut commands: Commands,
) {
    for session in agenda.beacons.take(time.now()) {
        let Ok(mut core) = cores.get_mut(session) else { continue };
        let core = core.bypass_change_detection();
        if !core.marks.beacon_comes(time.now()) {
            continue;
        }
        let before = core.link_state();
        core.beat(time.now(), time.steady(), time.tick());
        if core.link_state() != before {
            commands.queue(move |world: &mut World| mirror::update_link(world, session));
        }
        agenda.update(session, core);
    }
}

/// Hands every link what is queued for it. The session that is served first is another one in each tick,
/// so that it is not always the same ones that a busy proxy has no room for.
pub(super) fn flush(
    mut cores: Query<&mut Core, Allow<Disabled>>,
    mut agenda: ResMut<Agenda>,
    mut proxies: ResMut<Proxies>,
    mut counts: ResMut<SessionCounts>,
    time: Res<TickTime>,
) {
    let mut sessions = std::mem::take(&mut agenda.flush);
    let first = time.turn(sessions.len());
    sessions.rotate_left(first);
    for session in sessions {
        let Ok(mut core) = cores.get_mut(session) else { continue };
        let core = core.bypass_change_detection();
        core.marks.flushes();
        let Some(link) = core.link() else { continue };
        counts.dropped_unreliable_count += core.flush(&mut ToLink { proxies: &mut proxies, link });
        agenda.update(session, core);
    }
}

/// A link that frames are handed to.
struct ToLink<'a> {
    proxies: &'a mut Proxies,
    link: LinkKey,
}

impl Outlet for ToLink<'_> {
    fn has_room(&self) -> bool {
        self.keeps_up() && self.proxies.room(self.link) > 0
    }

    fn keeps_up(&self) -> bool {
        self.proxies.has_room(self.link.proxy)
    }

    fn send(&mut self, frame: Bytes) {
        self.proxies.send(self.link, frame);
    }
}
