//! Frames take effect, each session's in order of arrival.

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::{Caller, Calls, Handler};
use crate::gate;
use crate::ident::MessageId;
use crate::session::agent::AgentFrame;
#[cfg(feature = "planted")]
use crate::session::planted::{Planted, is_planted};
use crate::session::{
    self, Agent, DispatchQueue, EndCause, Inbound, Inbox, Latency, Outbox, Session, SessionConfig,
    SessionCounts, SessionTable, Tokens, Uplink,
};
use crate::tick::TickTime;
use crate::wire::v1::{Ack, Bye, Join, Part, Ping, Probe};
use crate::wire::{FRAME_MAX_CLIENT, Frame, FrameError, Lane, Range, STRAY_MESSAGES_MAX, WireMessage};
use crate::zone::{Change, Changes, FIRST, InZone};

/// Dispatches what waits: agents' frames of the last tick, then the inboxes.
pub(super) fn dispatch(world: &mut World) {
    world.resource_scope(|world, calls: Mut<Calls>| {
        dispatch_agents(world, &calls);
        let config = world.resource::<SessionConfig>().clone();
        for session in world.resource_mut::<DispatchQueue>().take() {
            dispatch_session(world, session, &config, &calls);
        }
    });
}

/// What a frame means for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// They follow.
    Go,
    /// They follow in the next tick.
    Wait,
    /// The session ends.
    End(EndCause),
}

fn dispatch_session(world: &mut World, session: Entity, config: &SessionConfig, calls: &Calls) {
    let mut next = Next::Go;
    while next == Next::Go
        && let Some(frame) = world.get_mut::<Inbox>(session).and_then(|mut inbox| inbox.pop_control())
    {
        next = act_on(world, session, frame, calls);
    }
    let (now, mut dropped) = (world.resource::<TickTime>().steady(), 0);
    let waits = world.resource::<Changes>().waiting_count(session) > 0;
    for _ in 0..config.dispatch_max_frames {
        if waits || next != Next::Go {
            break;
        }
        let inbox = world.get_mut::<Inbox>(session);
        let Some(frame) = inbox.and_then(|mut inbox| inbox.pop(now, config, &mut dropped)) else {
            break;
        };
        next = act_on(world, session, frame, calls);
    }
    world.resource_mut::<SessionCounts>().throttled_frame_count += dropped;
    let is_linked = world.get::<Uplink>(session).is_some_and(|uplink| uplink.link().is_some());
    if matches!(next, Next::End(_)) || !is_linked {
        // What a lost link delivered was dispatched as if it still were there, within the budget.
        discard(world, session);
    } else if world.get::<Inbox>(session).is_some_and(|inbox| inbox.frame_count() > 0) {
        world.resource_mut::<DispatchQueue>().enter(session);
    }
}

/// Takes one frame, and ends the session if its time has come. What that means for those behind it.
fn act_on(world: &mut World, session: Entity, frame: Inbound, calls: &Calls) -> Next {
    let order = frame.order;
    let next = take(world, session, frame, calls).unwrap_or_else(|error| {
        tracing::debug!(%error, "protocol error");
        Next::End(EndCause::Protocol)
    });
    if let Next::End(cause) = next {
        world.resource_mut::<Changes>().push(order, session, Change::end(cause));
    }
    next
}

/// Takes one frame. An error ends the session.
fn take(world: &mut World, session: Entity, inbound: Inbound, calls: &Calls) -> Result<Next, ProtocolError> {
    let Inbound { order, at, lane, bytes } = inbound;
    let length = bytes.len();
    let frame = Frame::parse(bytes)?;
    if lane == Lane::Unreliable && frame.id.lane() == Lane::Reliable {
        return Err(ProtocolError::Lane(frame.id));
    }
    if frame.id.is_counted()
        && let Some(mut inbox) = world.get_mut::<Inbox>(session)
    {
        inbox.count();
    }
    if length > FRAME_MAX_CLIENT {
        if frame.id.range() == Range::GameUnreliable {
            world.resource_mut::<SessionCounts>().malformed_frame_count += 1;
            return Ok(Next::Go);
        }
        return Err(ProtocolError::Long(length));
    }
    match frame.id {
        Ack::ID => ack(world, session, frame.decode::<Ack>()?.received, None, at),
        Ping::ID => {
            let ping: Ping = frame.decode()?;
            ack(world, session, ping.received, Some(ping.id), at)
        }
        Join::ID => {
            let Join { request, zone, payload } = frame.decode()?;
            world.resource_mut::<Changes>().push(order, session, Change::Join { request, zone, payload });
            Ok(Next::Wait)
        }
        Part::ID => {
            let Part { request, payload } = frame.decode()?;
            world.resource_mut::<Changes>().push(order, session, Change::Part { request, payload });
            Ok(Next::Wait)
        }
        Bye::ID => {
            frame.decode::<Bye>()?;
            Ok(Next::End(EndCause::Bye))
        }
        Probe::ID => {
            let probe: Probe = frame.decode()?;
            if let Some(link) = world.get_mut::<Uplink>(session).and_then(|mut uplink| uplink.may_probe(at)) {
                gate::reply_to_probe(world, link, &probe);
            }
            Ok(Next::Go)
        }
        crate::wire::v1::Hello::ID => Err(ProtocolError::SecondHello),
        id => call(world, session, frame, calls.0.get(&id)),
    }
}

/// What a client did wrong.
#[derive(Debug, thiserror::Error)]
enum ProtocolError {
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
    #[error("message {0} is unknown or the server's, and there were others before")]
    Stray(MessageId),
}

/// An ack, alone or with the echo of a beacon.
fn ack(
    world: &mut World,
    session: Entity,
    received: u64,
    echo: Option<u64>,
    at: std::time::Duration,
) -> Result<Next, ProtocolError> {
    let now = world.resource::<TickTime>().steady();
    #[cfg(feature = "planted")]
    let keeps_tokens = is_planted(world, Planted::TokenNotRotated);
    let mut entity = world.entity_mut(session);
    if let Some(mut outbox) = entity.get_mut::<Outbox>() {
        outbox.ack(received, now).map_err(|_| ProtocolError::Ack)?;
    }
    let Some(mut uplink) = entity.get_mut::<Uplink>() else {
        return Ok(Next::Go);
    };
    let round_trip = echo.and_then(|id| uplink.echo(id, at));
    session::confirm(world, session);
    let mut entity = world.entity_mut(session);
    if let (Some(round_trip), Some(mut latency)) = (round_trip, entity.get_mut::<Latency>()) {
        latency.sample(round_trip);
    }
    #[cfg(feature = "planted")]
    if keeps_tokens {
        return Ok(Next::Go);
    }
    if let Some(retired) = entity.get_mut::<Tokens>().and_then(|mut tokens| tokens.confirm()) {
        world.resource_mut::<SessionTable>().remove_tokens(std::iter::once(retired));
    }
    Ok(Next::Go)
}

/// A message of the game's, or one that nobody takes.
fn call(
    world: &mut World,
    session: Entity,
    frame: Frame,
    handler: Option<&Handler>,
) -> Result<Next, ProtocolError> {
    let Some(handler) = handler else {
        world.resource_mut::<SessionCounts>().stray_frame_count += 1;
        let count = world.get_mut::<Inbox>(session).map_or(0, |mut inbox| inbox.stray());
        if count >= STRAY_MESSAGES_MAX {
            return Err(ProtocolError::Stray(frame.id));
        }
        return Ok(Next::Go);
    };
    let Some(caller) = caller(world, session) else {
        world.resource_mut::<SessionCounts>().nonmember_call_count += 1;
        return Ok(Next::Go);
    };
    match (handler.decode)(world, caller, frame.body) {
        Err(error) if frame.id.is_counted() => Err(error.into()),
        Err(_) => {
            world.resource_mut::<SessionCounts>().malformed_frame_count += 1;
            Ok(Next::Go)
        }
        Ok(()) => Ok(Next::Go),
    }
}

/// Who calls; `None` if it is in no zone.
fn caller(world: &World, entity: Entity) -> Option<Caller> {
    let session = world.get::<Session>(entity)?;
    let zone = world.get::<InZone>(entity)?.zone();
    Some(Caller {
        session: session.id(),
        entity,
        zone,
        epoch: session.epoch(),
        tick: world.resource::<TickTime>().tick(),
    })
}

fn dispatch_agents(world: &mut World, calls: &Calls) {
    let mut agents = world.query::<(Entity, &mut Agent)>();
    let waiting: Vec<(Entity, Vec<AgentFrame>)> = agents
        .iter_mut(world)
        .filter(|(_, agent)| agent.has_outgoing())
        .map(|(entity, mut agent)| (entity, agent.take_outgoing()))
        .collect();
    for (agent, frames) in waiting {
        for frame in frames {
            let change = match frame {
                AgentFrame::Join(zone) => Change::Join { request: 0, zone, payload: Bytes::new() },
                AgentFrame::Part => Change::Part { request: 0, payload: Bytes::new() },
                AgentFrame::End => Change::end(EndCause::Timeout),
                AgentFrame::Call(id, message) => {
                    match (calls.0.get(&id), caller(world, agent)) {
                        (Some(handler), Some(caller)) => (handler.take)(world, caller, message),
                        (None, _) => world.resource_mut::<SessionCounts>().stray_frame_count += 1,
                        (_, None) => world.resource_mut::<SessionCounts>().nonmember_call_count += 1,
                    }
                    continue;
                }
            };
            // What agents sent in the last tick is older than all that arrived in this one.
            world.resource_mut::<Changes>().push(FIRST, agent, change);
        }
    }
}

fn discard(world: &mut World, session: Entity) {
    if let Some(mut inbox) = world.get_mut::<Inbox>(session) {
        inbox.discard();
    }
}
