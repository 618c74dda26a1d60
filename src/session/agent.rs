//! Agents: sessions without a network, which systems of the game drive.
//!
//! An agent joins, sends and receives like a client, but with values instead of bytes. The messages that an
//! agent sends in one tick are dispatched in the next tick. An agent receives messages as [`Delivered`].

use std::any::Any;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::EntityCommands;
use bytes::Bytes;

use super::{SessionCore, life};
use crate::ident::{MessageId, SessionId};
use crate::wire::WireMessage;
use crate::wire::v1::{Bye, Join, Part};

/// Marks a session as an agent, and queues the messages that it sends.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::session::{Agent, SpawnAgent as _};
///
/// fn spawn_guard(mut commands: Commands) {
///     let guard = commands.spawn_agent("guard").id();
///     commands.entity(guard).entry::<Agent>().and_modify(|mut agent| agent.join("arena", ""));
/// }
/// ```
#[derive(Component, Debug, Default)]
pub struct Agent {
    outgoing: Vec<AgentMessage>,
}

/// A message that an agent sends.
pub(super) type AgentMessage = (MessageId, Box<dyn Any + Send + Sync>);

impl Agent {
    /// Sends a Join of the zone with this name. The payload is for the game: see
    /// [`JoinRequested`](crate::zone::JoinRequested). The answer is a `Joined` or a `Refused`.
    pub fn join(&mut self, zone: impl Into<String>, payload: impl Into<Bytes>) {
        self.call(Join { zone: zone.into(), payload: payload.into(), ..Join::default() });
    }

    /// Sends a Part, with which the agent leaves its zone. The answer is a `Parted` or a `Refused`.
    pub fn part(&mut self) {
        self.call(Part::default());
    }

    /// Ends the agent's session and despawns its entity. Messages that are sent after this are dropped.
    pub fn end(&mut self) {
        self.call(Bye {});
    }

    /// Sends a call to the zone of the agent. If the agent is in no zone, the call is dropped and counted, as
    /// for a client.
    pub fn call<M: WireMessage>(&mut self, message: M) {
        self.outgoing.push((M::ID, Box::new(message)));
    }

    /// Returns true if a message waits for dispatch.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes the messages that can be dispatched now: up to and including the first one that changes a
    /// membership or ends the agent.
    pub(super) fn take_outgoing(&mut self) -> Vec<AgentMessage> {
        let end = self.outgoing.iter().position(|(id, _)| matches!(*id, Join::ID | Part::ID | Bye::ID));
        let rest = self.outgoing.split_off(end.map_or(self.outgoing.len(), |index| index + 1));
        std::mem::replace(&mut self.outgoing, rest)
    }
}

/// The owner of an agent, such as the player of a pet. When the owner is despawned, or the owner's session
/// ends, the agent ends in the same tick.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentOf(pub Entity);

/// A message that an agent has received. Read it in the tick after it was sent.
///
/// Session messages (`Joined`, `Parted`, `Refused`, `Members`) are always delivered. The game's own messages
/// are delivered if the game has called [`add_delivery`](crate::rpc::AppRpc::add_delivery) for them.
#[derive(Message, Debug)]
pub struct Delivered<M: WireMessage> {
    /// The agent's session.
    pub session: SessionId,
    /// The agent's entity.
    pub entity: Entity,
    /// The message. All agents that receive it share one value.
    pub message: Arc<M>,
}

/// An extension of [`Commands`] that spawns agents.
pub trait SpawnAgent {
    /// Spawns an agent that is in no zone. Its principal is a user with this name. The entity becomes a
    /// session when the commands are applied.
    fn spawn_agent(&mut self, name: &str) -> EntityCommands<'_>;
}

impl SpawnAgent for Commands<'_, '_> {
    fn spawn_agent(&mut self, name: &str) -> EntityCommands<'_> {
        let mut entity = self.spawn(Agent::default());
        let (id, name) = (entity.id(), name.to_owned());
        entity.commands().queue(move |world: &mut World| life::open_agent(world, id, &name));
        entity
    }
}

/// Delivers a value to an agent, if the message `Delivered<M>` is registered.
pub(super) fn deliver_native<M: WireMessage>(world: &mut World, entity: Entity, message: Arc<M>) {
    let Some(session) = world.get::<SessionCore>(entity).map(|core| core.id()) else { return };
    if let Some(mut messages) = world.get_resource_mut::<Messages<Delivered<M>>>() {
        messages.write(Delivered { session, entity, message });
    }
}
