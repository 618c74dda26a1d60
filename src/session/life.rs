//! Opens, restores, resumes and ends sessions. Each step changes the core, and then carries out the effects.
//!
//! The steps do not depend on zones. The entity may be gone after a step, because hooks and observers of the
//! game may despawn it.

use std::time::Duration;

use bevy_ecs::prelude::*;

use super::agenda::Agenda;
use super::core::{Membership, Rebind, WelcomeTerms};
use super::effects::{self, Effects};
use super::token::Issued;
use super::{
    BoundLink, Core, EndCause, LossCause, OnDisconnect, ResumeTimeout, SessionConfig, SessionCore,
    SessionTable, mirror,
};
use crate::ident::SessionId;
use crate::identity::Principal;
use crate::proxy::Network;
use crate::tick::{SecretRng, TickRate, TickTime};

/// Changes a core and updates the agenda. Returns `None` if the entity is no session.
pub(crate) fn edit<R>(world: &mut World, session: Entity, act: impl FnOnce(&mut Core) -> R) -> Option<R> {
    let limits = world.resource::<Agenda>().limits;
    let mut core = world.get_mut::<SessionCore>(session)?;
    let core = core.bypass_change_detection();
    let result = act(core);
    let notice = core.notice(&limits);
    world.resource_mut::<Agenda>().take(session, notice);
    Some(result)
}

/// Opens a client's session on a link. The session counts toward the limits of `network` until it ends.
pub(crate) fn open(world: &mut World, link: BoundLink, principal: Principal, network: Option<Network>) {
    let SessionConfig { timeout, on_disconnect, .. } = world.resource::<SessionConfig>().clone();
    let terms = terms(world, ResumeTimeout(timeout));
    let mut secrets = world.resource_mut::<SecretRng>();
    let (id, token) = (SessionId(secrets.id()), Issued::draw(&mut secrets));
    let (core, effects) = Core::open(id, principal, link, &token, &terms);
    let session = enter(world, core, network, effects);
    insert_components(world, session, timeout, on_disconnect);
}

/// Adds a client's session that was created from a record.
pub(super) fn restore(world: &mut World, core: Core, timeout: Duration, effects: Effects) -> Entity {
    let on_disconnect = world.resource::<SessionConfig>().on_disconnect.clone();
    let session = enter(world, core, None, effects);
    insert_components(world, session, timeout, on_disconnect);
    session
}

/// Inserts the components that a game reads into a new session. Observers of the game may run from here on.
fn insert_components(
    world: &mut World,
    session: Entity,
    timeout: Duration,
    on_disconnect: Option<OnDisconnect>,
) {
    if let Ok(mut entity) = world.get_entity_mut(session) {
        entity.insert(ResumeTimeout(timeout));
    }
    if let Some(hook) = on_disconnect
        && let Ok(mut entity) = world.get_entity_mut(session)
    {
        entity.insert(hook);
    }
    mirror::update(world, session);
}

/// Opens an agent's session on an entity that was spawned for it.
pub(super) fn open_agent(world: &mut World, agent: Entity, name: &str) {
    let id = SessionId(world.resource_mut::<SecretRng>().id());
    let (core, effects) = Core::agent(id, Principal::named(name));
    let subject = core.subject(agent);
    let Ok(mut entity) = world.get_entity_mut(agent) else { return };
    entity.insert(SessionCore::new(core));
    world.resource_mut::<SessionTable>().add_agent(id, agent);
    effects::record(world, &subject, true, effects);
    mirror::update(world, agent);
}

/// Spawns the entity of a new session and adds the session to the look-ups. No code of the game runs here.
fn enter(world: &mut World, core: Core, network: Option<Network>, effects: Effects) -> Entity {
    let id = core.id();
    let session = world.spawn(SessionCore::new(core)).id();
    world.resource_mut::<SessionTable>().add(id, session, network);
    if let Some(subject) = edit(world, session, |core| core.subject(session)) {
        effects::record(world, &subject, false, effects);
    }
    session
}

/// Binds a session to a new link, and takes an earlier link from it if it has one. Returns true if the client must
/// resync. Returns `None` if the entity has no live session of a client.
pub(crate) fn resume(world: &mut World, session: Entity, rebind: &Rebind) -> Option<bool> {
    let timeout = resume_timeout(world, session);
    let terms = terms(world, timeout);
    let token = Issued::draw(&mut world.resource_mut::<SecretRng>());
    let config = world.resource::<SessionConfig>().clone();
    let (resync, effects) = edit(world, session, |core| core.resume(rebind, &token, &terms, &config))??;
    apply(world, session, effects);
    Some(resync)
}

/// Takes the link from a session. Returns false if the session has no link.
pub(crate) fn lose(world: &mut World, session: Entity, cause: LossCause) -> bool {
    let (timeout, now) = (resume_timeout(world, session), world.resource::<TickTime>().steady());
    let effects = edit(world, session, |core| core.lose(cause, timeout.0, now)).flatten();
    let Some(effects) = effects else { return false };
    apply(world, session, effects);
    // The session's hook may have changed the timeout.
    let changed = resume_timeout(world, session);
    if changed != timeout {
        edit(world, session, |core| core.change_window(timeout.0, changed.0, now));
        mirror::update(world, session);
    }
    true
}

/// Ends a session, which must be in no zone. The client gets `detail` in its Closed.
pub(crate) fn end(world: &mut World, session: Entity, cause: EndCause, detail: &str) {
    let tick = world.resource::<TickTime>().tick();
    let effects = edit(world, session, |core| core.end(cause, detail, tick)).flatten();
    if let Some(effects) = effects {
        world.resource_mut::<Agenda>().closing.push((tick, session));
        apply(world, session, effects);
    }
}

/// Ends a session whose entity is gone.
pub(crate) fn end_despawned(world: &mut World, session: Entity, mut core: Core, cause: EndCause) {
    let (tick, subject, is_agent) =
        (world.resource::<TickTime>().tick(), core.subject(session), core.is_agent());
    if let Some(effects) = core.end(cause, "", tick) {
        world.resource_mut::<Agenda>().update(session, &mut core);
        effects::record(world, &subject, is_agent, effects);
    }
}

/// Sets or clears the zone of a session. Returns the former membership. The next [`mirror::update`] writes the
/// markers.
pub(crate) fn set_membership(
    world: &mut World,
    session: Entity,
    membership: Option<Membership>,
) -> Option<Membership> {
    edit(world, session, |core| core.set_membership(membership)).flatten()
}

fn apply(world: &mut World, session: Entity, effects: Effects) {
    if let Some(core) = world.get::<SessionCore>(session) {
        let (subject, is_agent) = (core.subject(session), core.is_agent());
        effects::apply(world, session, &subject, is_agent, effects);
    }
}

/// Returns the time for which a session lives without a link. A game may have changed or removed the
/// component.
pub(super) fn resume_timeout(world: &World, session: Entity) -> ResumeTimeout {
    let of_all = || ResumeTimeout(world.resource::<SessionConfig>().timeout);
    world.get::<ResumeTimeout>(session).copied().unwrap_or_else(of_all)
}

fn terms(world: &World, timeout: ResumeTimeout) -> WelcomeTerms {
    let time = world.resource::<TickTime>();
    let rate = *world.resource::<TickRate>();
    WelcomeTerms { rate, tick: time.tick(), now: time.steady(), clock: time.now(), timeout: timeout.0 }
}
