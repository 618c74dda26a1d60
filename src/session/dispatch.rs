//! Dispatch: applies the frames of each session in the order of arrival.
//!
//! Modules register an actor for each message id in [`Dispatch`]. This module registers Ack, Ping and Bye,
//! `zone` registers Join and Part, `gate` registers Probe, and `rpc` registers the game's calls. A message
//! that is registered as link control takes effect on arrival. Other messages wait in the inbox. Messages of
//! agents are dispatched in the same way, as values.
//!
//! Data flow: the gate's routing → [`control`], or the inbox → `dispatch`, once a tick → the actor of the
//! message's id → [`Next`]; sessions that end → [`Endings`] → settle.

use std::any::Any;
use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;

use super::agenda::Agenda;
use super::inbox::Inbound;
use super::{
    Agent, Core, EndCause, Mistakes, SessionConfig, SessionCore, SessionCounts, SessionTable, edit, mirror,
};
use crate::ident::MessageId;
use crate::proxy::{Proxies, ProxyCommand};
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Bye, Ping};
use crate::wire::{FRAME_MAX_CLIENT, Frame, FrameError, Lane, Range, STRAY_MESSAGES_MAX, WireMessage};

/// The actors by message id.
#[derive(Resource, Debug, Default)]
pub(crate) struct Dispatch {
    actors: HashMap<MessageId, Actor>,
    /// The actors of link control, which takes effect on arrival.
    controls: HashMap<MessageId, Actor>,
}

/// A function that acts on a message. An error ends the session as PROTOCOL.
pub(crate) type Actor = fn(&mut World, Sent) -> Result<Next, Offence>;

/// A message from a session.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The session.
    pub(crate) session: Entity,
    /// The position of the message among all frames that have arrived.
    pub(crate) order: u64,
    /// The steady time at which the message arrived.
    pub(crate) at: Duration,
    /// True if the message is a counted frame that the client has sent on an earlier link as well.
    pub(crate) is_replayed: bool,
    /// The message itself.
    pub(crate) body: Body,
}

/// A message in the form in which it was sent.
#[derive(Debug)]
pub(crate) enum Body {
    /// A frame of a client, not decoded yet.
    Frame(Frame),
    /// A value of an agent.
    Value(Box<dyn Any + Send + Sync>),
}

/// The consequence of a message for the messages behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next message is dispatched.
    Go,
    /// The next message is dispatched in the next tick.
    Wait,
    /// The session ends.
    End(EndCause),
}

/// The offences of a client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Offence {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("message {0} is reliable and arrived on the unreliable lane")]
    Lane(MessageId),
    #[error("the frame has {0} bytes; at most {FRAME_MAX_CLIENT} are allowed")]
    Long(usize),
    #[error("the client acknowledges more frames than were sent on its link")]
    Ack,
    #[error("the client sent a second Hello")]
    SecondHello,
    #[error(
        "the client sent too many messages that the server does not accept; the id of the last one is {0}"
    )]
    Stray(MessageId),
    #[error("an agent sent a value that is not a message with the id {0}")]
    Value(MessageId),
}

/// Sessions that end when this tick settles, each with the position of its last message among all frames.
#[derive(Resource, Debug, Default)]
pub(crate) struct Endings(Vec<(u64, Entity, EndCause)>);

impl Endings {
    /// Takes all entries.
    pub(crate) fn take(&mut self) -> Vec<(u64, Entity, EndCause)> {
        std::mem::take(&mut self.0)
    }
}

impl Dispatch {
    /// Registers the actor for an id. Returns false if the id already has an actor.
    pub(crate) fn register(&mut self, id: MessageId, actor: Actor) -> bool {
        self.actors.try_insert(id, actor).is_ok()
    }

    /// Registers the actor for link control with an id. The actor runs when the frame arrives.
    pub(crate) fn register_control(&mut self, id: MessageId, actor: Actor) {
        self.controls.insert(id, actor);
    }

    /// Returns true if messages with this id take effect on arrival.
    pub(crate) fn is_control(&self, id: MessageId) -> bool {
        self.controls.contains_key(&id)
    }
}

impl Sent {
    /// Returns true if the message is from an agent.
    pub(crate) fn is_value(&self) -> bool {
        matches!(self.body, Body::Value(_))
    }

    /// Decodes the message.
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

/// Registers the actors of Ack, Ping and Bye.
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
        // An agent that ends itself ends with the same cause as an agent whose owner has ended.
        let cause = if sent.is_value() { EndCause::Timeout } else { EndCause::Bye };
        let Bye {} = sent.read()?;
        Ok(Next::End(cause))
    });
}

/// Applies an acknowledgement to a session's core, and then `also`.
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

/// Acts on a frame of link control when it arrives. A frame that is over the rate is dropped and counted.
pub(crate) fn control(world: &mut World, session: Entity, inbound: Inbound) {
    let (order, at) = (inbound.order, inbound.at);
    let now = world.resource::<TickTime>().steady();
    let limits = world.resource::<Agenda>().limits;
    let admits = world.get_mut::<SessionCore>(session).is_some_and(|mut core| {
        let core = core.bypass_change_detection();
        // The agenda is not updated here: when the noted deadline of the link comes, the core is checked.
        core.note_received(at);
        !core.is_ending() && core.admits_control(now, &limits)
    });
    if !admits {
        world.resource_mut::<SessionCounts>().throttled_frame_count += 1;
        return;
    }
    let next = check(&inbound).and_then(|()| {
        let frame = inbound.frame?;
        let actor = world.resource::<Dispatch>().controls.get(&frame.id).copied();
        actor.map_or(Ok(Next::Go), |act| {
            act(world, Sent { session, order, at, is_replayed: false, body: Body::Frame(frame) })
        })
    });
    conclude(world, session, order, next);
}

/// Dispatches the messages that agents sent in the last tick, then the frames in the inboxes.
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
            // The link is lost. Its frames were dispatched up to the limits, and the rest is discarded. A Bye
            // among the rest still ends the session.
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

/// Acts on one frame of a client.
fn act(world: &mut World, session: Entity, inbound: Inbound, dispatch: &Dispatch) -> Result<Next, Offence> {
    check(&inbound)?;
    let Inbound { order, at, length, is_replayed, frame, .. } = inbound;
    let frame = frame?;
    if length > FRAME_MAX_CLIENT {
        // An unreliable message that is too long is dropped and counted, like one that does not parse.
        world.resource_mut::<SessionCounts>().malformed_frame_count += 1;
        return Ok(Next::Go);
    }
    match dispatch.actors.get(&frame.id) {
        Some(act) => act(world, Sent { session, order, at, is_replayed, body: Body::Frame(frame) }),
        None => stray(world, session, frame.id),
    }
}

/// Checks the rules that apply to frames of all ids.
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

/// Counts a message without an actor, and warns of its id once. A client of another version may send a few of them.
fn stray(world: &mut World, session: Entity, id: MessageId) -> Result<Next, Offence> {
    world.resource_mut::<SessionCounts>().stray_frame_count += 1;
    world.resource_mut::<Mistakes>().unknown_id(id);
    match edit(world, session, Core::stray) {
        Some(count) if count >= STRAY_MESSAGES_MAX => Err(Offence::Stray(id)),
        _ => Ok(Next::Go),
    }
}

/// Notes the end of the session if the message ends it.
fn conclude(world: &mut World, session: Entity, order: u64, acted: Result<Next, Offence>) -> Next {
    let next = acted.unwrap_or_else(|error| {
        tracing::debug!(%error, "the session ends as PROTOCOL");
        Next::End(EndCause::Protocol)
    });
    if let Next::End(cause) = next {
        edit(world, session, Core::mark_ending);
        world.resource_mut::<Endings>().0.push((order, session, cause));
    }
    next
}

/// Dispatches the messages that agents sent in the last tick. They are older than all frames that arrived in
/// this tick.
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
            let sent = Sent { session, order: FIRST, at: now, is_replayed: false, body: Body::Value(value) };
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

/// The position before all frames of a tick, for example for messages that agents sent in the last tick.
pub(crate) const FIRST: u64 = 0;
/// The position after all frames of a tick, for commands of the game.
pub(crate) const LAST: u64 = u64::MAX;
