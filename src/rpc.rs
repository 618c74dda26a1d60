//! Calls: what clients ask of the game, and what the game answers.
//!
//! A call is a message of the game's that a member sent to its zone. Systems read
//! [`Call`]s and answer through [`Sender`]; the sender's identity is stamped by the server. This
//! room knows no game.
//!
//! Data flow: a session's inbox → `dispatch`: link control and session messages are acted upon,
//! calls are decoded → `Messages<Call<M>>` → the game → [`Sender`] → one queue in call order →
//! `resolve`, when settle begins → outboxes and links; agents get the values themselves.
//!
//! ```
//! use bevy_ecs::prelude::*;
//! use waystation::arena::v1::{Echo, Say};
//! use waystation::rpc::{Call, Sender};
//!
//! fn echo(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
//!     for call in calls.read() {
//!         sender.reply(call, &Echo { number: call.message.number, taken: 0 });
//!     }
//! }
//! ```

mod dispatch;
mod sender;
#[cfg(debug_assertions)]
mod unread;

use bevy_app::{App, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;
use bytes::Bytes;

use crate::ident::{Epoch, MessageId, SessionId, Tick};
use crate::session::{Delivered, SessionCounts};
use crate::tick::TickSystems;
use crate::wire::{self, FrameError, Range, WireMessage};

use sender::SendQueue;
pub use sender::Sender;

/// A message that a member sent to its zone. Read it in the tick in which it is dispatched.
///
/// The sender is who the server says it is, and was a member of the zone when it was dispatched;
/// what others send is dropped. No float in the message is NaN or infinite: a call with one is
/// dropped and counted, whoever sent it, and its sender's session goes on.
#[derive(Message, Debug, Clone)]
pub struct Call<M: WireMessage> {
    /// Who sent it.
    pub session: SessionId,
    /// The session's entity.
    pub entity: Entity,
    /// The zone that the session is in.
    pub zone: Entity,
    /// The session's epoch: which of its links it came over.
    pub epoch: Epoch,
    /// When it was dispatched.
    pub tick: Tick,
    /// What was sent.
    pub message: M,
}

/// What a call is stamped with.
#[derive(Debug, Clone, Copy)]
struct Caller {
    session: SessionId,
    entity: Entity,
    zone: Entity,
    epoch: Epoch,
    tick: Tick,
}

/// How a message becomes a call: from bytes, or from an agent's value.
#[derive(Debug, Clone, Copy)]
struct Handler {
    decode: fn(&mut World, Caller, Bytes) -> Result<(), FrameError>,
    take: fn(&mut World, Caller, Box<dyn std::any::Any + Send + Sync>),
}

/// The calls that the game takes.
#[derive(Resource, Debug, Default)]
struct Calls(HashMap<MessageId, Handler>);

/// Says which messages are calls.
pub trait AppRpc {
    /// Takes `M` as a call: systems read `MessageReader<Call<M>>`, each tick. In debug builds,
    /// calls that no system read in their tick are counted, and reported once a second.
    fn add_call<M: WireMessage>(&mut self) -> &mut Self;

    /// Delivers `M` to agents too: systems read `MessageReader<Delivered<M>>`.
    fn add_delivery<M: WireMessage>(&mut self) -> &mut Self;
}

impl AppRpc for App {
    fn add_call<M: WireMessage>(&mut self) -> &mut Self {
        let is_the_games = matches!(M::ID.range(), Range::GameReliable | Range::GameUnreliable);
        let handler = Handler { decode: decode_call::<M>, take: take_call::<M> };
        let mut calls = self.world_mut().get_resource_or_init::<Calls>();
        if !is_the_games || calls.0.contains_key(&M::ID) {
            tracing::error!(id = %M::ID, message = M::NAME, "not added as a call: the id is taken, or the core's");
            return self;
        }
        calls.0.insert(M::ID, handler);
        self.add_message::<Call<M>>();
        #[cfg(debug_assertions)]
        unread::watch::<M>(self);
        self
    }

    fn add_delivery<M: WireMessage>(&mut self) -> &mut Self {
        self.world_mut().get_resource_or_init::<SendQueue>().deliver::<M>();
        self.add_message::<Delivered<M>>()
    }
}

/// Adds calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct RpcPlugin;

impl Plugin for RpcPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Calls>()
            .init_resource::<SendQueue>()
            .add_systems(PreUpdate, dispatch::dispatch.in_set(TickSystems::Dispatch))
            .add_systems(PostUpdate, sender::resolve.before(TickSystems::Settle));
        #[cfg(debug_assertions)]
        unread::add(app);
    }
}

fn decode_call<M: WireMessage>(world: &mut World, caller: Caller, body: Bytes) -> Result<(), FrameError> {
    write_call::<M>(world, caller, wire::decode(body)?);
    Ok(())
}

fn take_call<M: WireMessage>(
    world: &mut World,
    caller: Caller,
    message: Box<dyn std::any::Any + Send + Sync>,
) {
    if let Ok(message) = message.downcast::<M>() {
        write_call::<M>(world, caller, *message);
    }
}

fn write_call<M: WireMessage>(world: &mut World, caller: Caller, message: M) {
    let Caller { session, entity, zone, epoch, tick } = caller;
    if !message.is_finite() {
        world.resource_mut::<SessionCounts>().nonfinite_call_count += 1;
        tracing::debug!(%session, message = M::NAME, "not dispatched: it holds NaN or an infinity");
        return;
    }
    world.write_message(Call { session, entity, zone, epoch, tick, message });
}
