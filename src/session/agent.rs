//! Agents: sessions without a network, driven by the game's systems.
//!
//! An agent joins, sends and receives as a player does, but in values instead of bytes: what it
//! sends in a tick is dispatched in the next, and what it is sent arrives as [`Delivered`].

use std::any::Any;
use std::sync::Arc;

use bevy_ecs::prelude::*;
use bevy_ecs::system::EntityCommands;

use super::{SessionCore, life};
use crate::ident::{MessageId, SessionId};
use crate::wire::WireMessage;
use crate::wire::v1::{Bye, Join, Part};

/// Makes a session an agent, and takes what it sends.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::session::{Agent, SpawnAgent as _};
///
/// fn spawn_guard(mut commands: Commands) {
///     let guard = commands.spawn_agent("guard").id();
///     commands.entity(guard).entry::<Agent>().and_modify(|mut agent| agent.join("arena"));
/// }
/// ```
#[derive(Component, Debug, Default)]
pub struct Agent {
    outgoing: Vec<AgentMessage>,
}

/// What an agent sends.
pub(super) type AgentMessage = (MessageId, Box<dyn Any + Send + Sync>);

impl Agent {
    /// Asks to join the zone of that name; the answer is a `Joined` or a `Refused`.
    pub fn join(&mut self, zone: impl Into<String>) {
        self.call(Join { zone: zone.into(), ..Join::default() });
    }

    /// Leaves its zone; the answer is a `Parted` or a `Refused`.
    pub fn part(&mut self) {
        self.call(Part::default());
    }

    /// Ends the agent's session, and its entity with it: what is commanded after this is in vain.
    pub fn end(&mut self) {
        self.call(Bye {});
    }

    /// Sends a call to the zone it is in. As with a player, a call of an agent in no zone is
    /// dropped and counted.
    pub fn call<M: WireMessage>(&mut self, message: M) {
        self.outgoing.push((M::ID, Box::new(message)));
    }

    /// Returns true if anything waits for dispatch.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes what may be dispatched now: up to and including the first that changes a membership or ends the
    /// agent.
    pub(super) fn take_outgoing(&mut self) -> Vec<AgentMessage> {
        let end = self.outgoing.iter().position(|(id, _)| matches!(*id, Join::ID | Part::ID | Bye::ID));
        let rest = self.outgoing.split_off(end.map_or(self.outgoing.len(), |index| index + 1));
        std::mem::replace(&mut self.outgoing, rest)
    }
}

/// The entity that an agent belongs to, as a pet to its player: when that is despawned, or its
/// session ends, the agent ends in the same tick.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentOf(pub Entity);

/// What an agent was sent. Read it in the tick after it was sent.
///
/// Session messages (`Joined`, `Parted`, `Refused`) come this way always, a game's own once it has
/// asked for them with `add_delivery`.
#[derive(Message, Debug)]
pub struct Delivered<M: WireMessage> {
    /// The agent's session.
    pub session: SessionId,
    /// The agent's entity.
    pub entity: Entity,
    /// The message; one value for all agents that were sent it.
    pub message: Arc<M>,
}

/// Spawns agents.
pub trait SpawnAgent {
    /// Spawns an agent, in no zone. It is a session once the commands have been applied.
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

/// Delivers a value to an agent, if anybody reads such values.
pub(super) fn deliver_native<M: WireMessage>(world: &mut World, entity: Entity, message: Arc<M>) {
    let Some(session) = world.get::<SessionCore>(entity).map(|core| core.id()) else { return };
    if let Some(mut messages) = world.get_resource_mut::<Messages<Delivered<M>>>() {
        messages.write(Delivered { session, entity, message });
    }
}
