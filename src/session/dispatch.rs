//! Dispatch: frames take effect, each session's in order of arrival.
//!
//! Modules register who acts on a message in [`Dispatch`], by its id: this module Ack, Ping and Bye, the
//! zones Join and Part, the gate Probe, the calls what is the game's. Link control that is
//! registered as such takes effect when it arrives; the rest waits in the inbox for its turn.
//! What agents send takes the same way, as values.
//!
//! Data flow: the gate's routing → [`control`], or the inbox → `dispatch`, once a tick → the actor of the
//! message's id → what it says of the frames behind → [`Endings`], which the zones take when they settle.

use std::any::Any;
use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;

use super::agenda::Agenda;
use super::inbox::Inbound;
use super::{Agent, Core, EndCause, SessionConfig, SessionCore, SessionCounts, SessionTable, edit, mirror};
use crate::ident::MessageId;
use crate::proxy::{Proxies, ProxyCommand};
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Bye, Ping};
use crate::wire::{FRAME_MAX_CLIENT, Frame, FrameError, Lane, Range, STRAY_MESSAGES_MAX, WireMessage};

/// Who acts on which message.
#[derive(Resource, Debug, Default)]
pub(crate) struct Dispatch {
    actors: HashMap<MessageId, Actor>,
    /// Link control, which takes effect on arrival.
    controls: HashMap<MessageId, Actor>,
}

/// Acts on a message. An error ends the session, as PROTOCOL.
pub(crate) type Actor = fn(&mut World, Sent) -> Result<Next, Offence>;

/// A message that a session has sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The session.
    pub(crate) session: Entity,
    /// The message's place among all frames that arrived in the tick.
    pub(crate) order: u64,
    /// The steady time at which it arrived.
    pub(crate) at: Duration,
    /// What was sent.
    pub(crate) body: Body,
}

/// A message as it was sent.
#[derive(Debug)]
pub(crate) enum Body {
    /// A client's, which is not decoded yet.
    Frame(Frame),
    /// An agent's.
    Value(Box<dyn Any + Send + Sync>),
}

/// What a message means for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// They follow.
    Go,
    /// They follow in the next tick.
    Wait,
    /// The session ends.
    End(EndCause),
}

/// What a client did wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Offence {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("message {0} is reliable and came on the unreliable lane")]
    Lane(MessageId),
    #[error("a frame of {0} bytes: {FRAME_MAX_CLIENT} are allowed")]
    Long(usize),
    #[error("an ack of what was never sent")]
    Ack,
    #[error("a second Hello")]
    SecondHello,
    #[error("too many messages that no server takes, the last one of id {0}")]
    Stray(MessageId),
    #[error("an agent sent a value that is not a message of id {0}")]
    Value(MessageId),
}

/// Sessions that end when this tick settles, each with its place among the frames of the tick.
#[derive(Resource, Debug, Default)]
pub(crate) struct Endings(Vec<(u64, Entity, EndCause)>);

impl Endings {
    /// Takes them.
    pub(crate) fn take(&mut self) -> Vec<(u64, Entity, EndCause)> {
        std::mem::take(&mut self.0)
    }
}

impl Dispatch {
    /// Registers who acts on messages of that id. Returns false if somebody does already.
    pub(crate) fn register(&mut self, id: MessageId, actor: Actor) -> bool {
        self.actors.try_insert(id, actor).is_ok()
    }

    /// Registers who acts on link control of that id, when it arrives.
    pub(crate) fn register_control(&mut self, id: MessageId, actor: Actor) {
        self.controls.insert(id, actor);
    }

    /// Returns true if messages of that id take effect when they arrive.
    pub(crate) fn is_control(&self, id: MessageId) -> bool {
        self.controls.contains_key(&id)
    }
}

impl Sent {
    /// Returns true if an agent has sent the message.
    pub(crate) fn is_value(&self) -> bool {
        matches!(self.body, Body::Value(_))
    }

    /// Reads the message.
    pub(crate) fn read<M: WireMessage>(self) -> Result<M, Offence> {
        match self.body {
            Body::Frame(frame) => Ok(frame.decode()?),
            Body::Value(value) => match value.downcast() {
                Ok(message) => Ok(*message),
                Err(_) => Err(Offence::Value(M::ID)),
            },
        }
    }
}

/// Registers what concerns a session and no zone.
pub(super) fn register(dispatch: &mut Dispatch) {
    dispatch.register_control(Ack::ID, |world, sent| {
        let session = sent.session;
        let Ack { received } = sent.read()?;
        ack(world, session, received, |_| ())?;
        Ok(Next::Go)
    });
    dispatch.register_control(Ping::ID, |world, sent| {
        let (session, at) = (sent.session, sent.at);
        let Ping { id, received } = sent.read()?;
        let is_changed = ack(world, session, received, |core| core.echo(id, at))?;
        mirror::update_link(world, session, is_changed);
        Ok(Next::Go)
    });
    dispatch.register(Bye::ID, |_, sent| {
        // An agent has nobody who leaves: it ends as one whose link is gone.
        let cause = if sent.is_value() { EndCause::Timeout } else { EndCause::Bye };
        let Bye {} = sent.read()?;
        Ok(Next::End(cause))
    });
}

/// The client has received this many frames, and something else is so.
fn ack<R: Default>(
    world: &mut World,
    session: Entity,
    received: u64,
    also: impl FnOnce(&mut Core) -> R,
) -> Result<R, Offence> {
    let now = world.resource::<TickTime>().steady();
    let acked = edit(world, session, |core| core.ack(received, now).map(|retired| (retired, also(core))));
    let Some((retired, result)) = acked.transpose().map_err(|_| Offence::Ack)? else {
        return Ok(R::default());
    };
    if let Some(token) = retired {
        world.resource_mut::<SessionTable>().remove_token(token);
    }
    Ok(result)
}

/// Acts on link control that has just arrived. What is over the rate is dropped and counted.
pub(crate) fn control(world: &mut World, session: Entity, inbound: Inbound) {
    let (order, at) = (inbound.order, inbound.at);
    let now = world.resource::<TickTime>().steady();
    let limits = world.resource::<Agenda>().limits;
    let admits = world.get_mut::<SessionCore>(session).is_some_and(|mut core| {
        let core = core.bypass_change_detection();
        // A deadline that is put off by this is looked at again when it comes.
        core.hear(at);
        !core.is_doomed() && core.admits_control(now, &limits)
    });
    if !admits {
        world.resource_mut::<SessionCounts>().throttled_frame_count += 1;
        return;
    }
    let next = check(&inbound).and_then(|()| {
        let frame = inbound.frame?;
        let actor = world.resource::<Dispatch>().controls.get(&frame.id).copied();
        actor.map_or(Ok(Next::Go), |act| act(world, Sent { session, order, at, body: Body::Frame(frame) }))
    });
    conclude(world, session, order, next);
}

/// Dispatches what waits: what agents have sent in the last tick, then the inboxes.
pub(crate) fn dispatch(world: &mut World) {
    world.resource_scope(|world, dispatch: Mut<Dispatch>| {
        dispatch_agents(world, &dispatch);
        let config = world.resource::<SessionConfig>().clone();
        for session in world.resource_mut::<Agenda>().take_dispatch() {
            dispatch_session(world, session, &config, &dispatch);
        }
    });
}

fn dispatch_session(world: &mut World, session: Entity, config: &SessionConfig, dispatch: &Dispatch) {
    let (now, mut dropped) = (world.resource::<TickTime>().steady(), 0);
    let Some(core) = world.get::<SessionCore>(session) else { return };
    let mut next = if core.is_held() { Next::Wait } else { Next::Go };
    for _ in 0..config.dispatch_max_frames {
        if next != Next::Go {
            break;
        }
        let core = world.get_mut::<SessionCore>(session);
        let taken =
            core.and_then(|mut core| core.bypass_change_detection().next_frame(now, config, &mut dropped));
        let Some(inbound) = taken else { break };
        let order = inbound.order;
        let acted = act(world, session, inbound, dispatch);
        next = conclude(world, session, order, acted);
    }
    world.resource_mut::<SessionCounts>().throttled_frame_count += dropped;
    let regulated = edit(world, session, |core| {
        if let Some(marks) = core.marks() {
            marks.dispatches();
        }
        if !core.is_linked() {
            // What a lost link delivered was dispatched as if it still were there, within the budget. A
            // Bye that had to wait is heard all the same.
            let is_over = matches!(next, Next::End(_));
            let bye = if is_over { None } else { core.find_waiting(Bye::ID) };
            core.discard();
            return (bye, None);
        }
        (None, core.regulate(now, config))
    });
    let (bye, paused) = regulated.unwrap_or_default();
    if let Some(order) = bye {
        conclude(world, session, order, Ok(Next::End(EndCause::Bye)));
    }
    if let Some((link, is_paused)) = paused {
        let (proxy, link) = (link.proxy, link.link);
        let command = if is_paused { ProxyCommand::Pause { link } } else { ProxyCommand::Unpause { link } };
        world.resource_mut::<Proxies>().command(proxy, command);
    }
}

/// Acts on one frame.
fn act(world: &mut World, session: Entity, inbound: Inbound, dispatch: &Dispatch) -> Result<Next, Offence> {
    check(&inbound)?;
    let Inbound { order, at, length, frame, .. } = inbound;
    let frame = frame?;
    if length > FRAME_MAX_CLIENT {
        // An unreliable message that is too long is dropped, as one that does not parse.
        world.resource_mut::<SessionCounts>().malformed_frame_count += 1;
        return Ok(Next::Go);
    }
    match dispatch.actors.get(&frame.id) {
        Some(act) => act(world, Sent { session, order, at, body: Body::Frame(frame) }),
        None => stray(world, session, frame.id),
    }
}

/// Checks what holds for frames of all ids.
fn check(inbound: &Inbound) -> Result<(), Offence> {
    let frame = inbound.frame.as_ref().map_err(|error| *error)?;
    if inbound.lane == Lane::Unreliable && frame.id.lane() == Lane::Reliable {
        return Err(Offence::Lane(frame.id));
    }
    if inbound.length > FRAME_MAX_CLIENT && frame.id.range() != Range::GameUnreliable {
        return Err(Offence::Long(inbound.length));
    }
    Ok(())
}

/// A message that nobody acts on. A client may send some, if it is of another version.
fn stray(world: &mut World, session: Entity, id: MessageId) -> Result<Next, Offence> {
    world.resource_mut::<SessionCounts>().stray_frame_count += 1;
    match edit(world, session, Core::stray) {
        Some(count) if count >= STRAY_MESSAGES_MAX => Err(Offence::Stray(id)),
        _ => Ok(Next::Go),
    }
}

/// Notes the end of a session, if a message ends it.
fn conclude(world: &mut World, session: Entity, order: u64, acted: Result<Next, Offence>) -> Next {
    let next = acted.unwrap_or_else(|error| {
        tracing::debug!(%error, "protocol error");
        Next::End(EndCause::Protocol)
    });
    if let Next::End(cause) = next {
        edit(world, session, Core::doom);
        world.resource_mut::<Endings>().0.push((order, session, cause));
    }
    next
}

/// What agents have sent in the last tick is older than all that has arrived in this one.
fn dispatch_agents(world: &mut World, dispatch: &Dispatch) {
    let now = world.resource::<TickTime>().steady();
    let mut agents = world.query_filtered::<(Entity, &mut Agent, &SessionCore), Allow<Disabled>>();
    let waiting: Vec<_> = agents
        .iter_mut(world)
        .filter(|(_, agent, core)| agent.has_outgoing() && core.is_agent() && !core.is_held())
        .map(|(entity, mut agent, _)| (entity, agent.take_outgoing()))
        .collect();
    for (session, messages) in waiting {
        for (id, value) in messages {
            let sent = Sent { session, order: FIRST, at: now, body: Body::Value(value) };
            let acted = match dispatch.actors.get(&id) {
                Some(act) => act(world, sent),
                None => stray(world, session, id),
            };
            if conclude(world, session, FIRST, acted) != Next::Go {
                break;
            }
        }
    }
}

/// Before all frames of a tick: what agents sent in the last one.
pub(crate) const FIRST: u64 = 0;
/// After all frames of a tick: what the game commands.
pub(crate) const LAST: u64 = u64::MAX;
