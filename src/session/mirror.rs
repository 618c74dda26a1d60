//! Mirrors: components that repeat parts of a core for the game, and the hooks that keep them correct.
//!
//! The core is a private component and the source of all mirrors. The mirrors are written here when the core
//! has changed. If a game removes or replaces a mirror, a hook notes the session as inconsistent, and [`repair`]
//! restores its mirrors in the same tick. If a game despawns the entity, a hook takes the core out of it, and
//! the session ends when memberships settle.

use std::ops::{Deref, DerefMut};

use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;

use super::agenda::Agenda;
use super::state::{Active, Closing, Connected, Disconnected};
use super::{BoundLink, Core, ExpiresAt, Latency, LinkState, Session, SessionState, SessionTable};
use crate::identity::Principal;
use crate::tick::TickTime;

/// The component that holds a session's core. It is private to the server, and is never replaced. A sparse
/// set keeps all cores in one array, so a core does not move when other components of its entity change.
#[derive(Component, Debug)]
#[component(storage = "SparseSet", on_remove = core_removed)]
pub(crate) struct SessionCore(Core);

impl SessionCore {
    pub(super) fn new(core: Core) -> Self {
        Self(core)
    }
}

impl Deref for SessionCore {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.0
    }
}

impl DerefMut for SessionCore {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.0
    }
}

/// A component that repeats part of a core.
pub(super) trait Mirror: Component + PartialEq + Sized {
    /// Returns the value that the component must have. Returns `None` if the component must be absent.
    fn of(core: &Core) -> Option<Self>;
}

impl Mirror for Session {
    fn of(core: &Core) -> Option<Self> {
        Some(Self { id: core.id(), epoch: core.epoch() })
    }
}

impl Mirror for Principal {
    fn of(core: &Core) -> Option<Self> {
        Some(core.principal().clone())
    }
}

impl Mirror for LinkState {
    fn of(core: &Core) -> Option<Self> {
        Some(core.link_state())
    }
}

impl Mirror for BoundLink {
    fn of(core: &Core) -> Option<Self> {
        core.bound_link()
    }
}

impl Mirror for ExpiresAt {
    fn of(core: &Core) -> Option<Self> {
        core.expires_at().map(Self)
    }
}

impl Mirror for Closing {
    fn of(core: &Core) -> Option<Self> {
        core.closed_since().map(|_| Self(()))
    }
}

impl Mirror for Disconnected {
    fn of(core: &Core) -> Option<Self> {
        (core.state() == Some(SessionState::Disconnected)).then_some(Self(()))
    }
}

impl Mirror for Connected {
    fn of(core: &Core) -> Option<Self> {
        (core.state() == Some(SessionState::Connected)).then_some(Self(()))
    }
}

impl Mirror for Active {
    fn of(core: &Core) -> Option<Self> {
        (core.state() == Some(SessionState::Active)).then_some(Self(()))
    }
}

/// Registers the hooks of a mirror for [`Principal`], whose module does not depend on sessions.
pub(super) fn watch_principals(world: &mut World) {
    let hooks = world.register_component_hooks::<Principal>();
    hooks.on_insert(inserted::<Principal>).on_remove(removed::<Principal>);
}

/// Writes the mirrors of a session that differ from its core. Observers of the game may change anything at
/// each step, so each step reads the core again.
pub(crate) fn update(world: &mut World, session: Entity) {
    set::<Session>(world, session);
    set::<Principal>(world, session);
    set::<Closing>(world, session);
    unset::<Closing>(world, session);
    unset::<Disconnected>(world, session);
    unset::<Connected>(world, session);
    unset::<Active>(world, session);
    unset::<ExpiresAt>(world, session);
    unset::<BoundLink>(world, session);
    set::<LinkState>(world, session);
    set::<BoundLink>(world, session);
    set::<ExpiresAt>(world, session);
    set::<Disconnected>(world, session);
    set::<Connected>(world, session);
    set::<Active>(world, session);
    set_latency(world, session);
}

/// Writes the components that the echo of a Beacon changes: the latency, and the state of the link if it has
/// changed.
pub(super) fn update_link(world: &mut World, session: Entity, is_state_changed: bool) {
    if is_state_changed {
        set::<LinkState>(world, session);
    }
    set_latency(world, session);
}

/// Writes the link states that were changed by Beacons of the last tick.
pub(super) fn write_link_states(world: &mut World) {
    for session in std::mem::take(&mut world.resource_mut::<Agenda>().link_states) {
        set::<LinkState>(world, session);
    }
}

fn set<M: Mirror>(world: &mut World, session: Entity) {
    let Ok(mut entity) = world.get_entity_mut(session) else { return };
    if let Some(wanted) = entity.get::<SessionCore>().and_then(|core| M::of(core))
        && entity.get::<M>() != Some(&wanted)
    {
        entity.insert(wanted);
    }
}

fn unset<M: Mirror>(world: &mut World, session: Entity) {
    let Ok(mut entity) = world.get_entity_mut(session) else { return };
    if entity.contains::<M>() && entity.get::<SessionCore>().is_some_and(|core| M::of(core).is_none()) {
        entity.remove::<M>();
    }
}

/// Writes the latency in place, because it changes with each Ping.
fn set_latency(world: &mut World, session: Entity) {
    let Some(wanted) = world.get::<SessionCore>(session).and_then(|core| core.latency()) else { return };
    if let Some(mut latency) = world.get_mut::<Latency>(session) {
        latency.set_if_neq(wanted);
    } else if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.insert(wanted);
    }
}

/// Notes the session as inconsistent if an inserted mirror differs from the core.
pub(super) fn inserted<M: Mirror>(mut world: DeferredWorld, context: HookContext) {
    let session = context.entity;
    if let Some(core) = world.get::<SessionCore>(session)
        && world.get::<M>(session) != M::of(core).as_ref()
    {
        mark_inconsistent(&mut world, session);
    }
}

/// Notes the session as inconsistent if the core requires the removed mirror.
pub(super) fn removed<M: Mirror>(mut world: DeferredWorld, context: HookContext) {
    if world.get::<SessionCore>(context.entity).is_some_and(|core| M::of(core).is_some()) {
        mark_inconsistent(&mut world, context.entity);
    }
}

/// Notes that the components or the membership of a session differ from its core.
pub(crate) fn mark_inconsistent(world: &mut DeferredWorld, session: Entity) {
    if let Some(mut agenda) = world.get_resource_mut::<Agenda>() {
        agenda.inconsistent.push(session);
    }
}

/// Restores the mirrors of all inconsistent sessions. Returns these sessions.
pub(crate) fn repair(world: &mut World) -> Vec<Entity> {
    let inconsistent = std::mem::take(&mut world.resource_mut::<Agenda>().inconsistent);
    for session in &inconsistent {
        update(world, *session);
    }
    inconsistent
}

/// Keeps the core of a session whose entity the game has despawned or cleared, so that the session can be
/// ended.
pub(super) fn core_removed(mut world: DeferredWorld, context: HookContext) {
    let Some(tick) = world.get_resource::<TickTime>().map(TickTime::tick) else { return };
    let core = world.get_mut::<SessionCore>(context.entity).and_then(|mut core| core.take(tick));
    if let Some(core) = core
        && let Some(mut table) = world.get_resource_mut::<SessionTable>()
    {
        table.despawned.push((context.entity, core));
    }
}
