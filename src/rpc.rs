//! Delivers calls of clients to the game, and the game's messages to sessions.
//!
//! A call is a message of the game's that a member sends to its zone. Systems read [`Call`]s and answer
//! them through [`Sender`]. The server sets the session of each call, so a client cannot forge it.
//!
//! Data flow: the dispatch of a session's frames → `Messages<Call<M>>` → the game → [`Sender`] → one queue
//! in call order → `resolve`, before settle → delivery to the sessions.
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

mod message_types;
mod non_members;
mod sender;
#[cfg(debug_assertions)]
mod unread;

use bevy_app::{App, Plugin, PostUpdate};
use bevy_ecs::prelude::*;

use crate::ident::{Epoch, SessionId, Tick};
use crate::session::{Delivered, Dispatch, Mistakes, Next, Offence, Sent, SessionCore, SessionCounts};
use crate::tick::{TickSystems, TickTime};
use crate::wire::WireMessage;
use crate::zone::live_zone;

use message_types::CallTypes;
pub(crate) use non_members::NonMemberCalls;
use sender::SendQueue;
pub use sender::Sender;

/// A message that a member sent to its zone. Read it in the tick in which it is dispatched.
///
/// The session was a member of the zone when the call was dispatched. Calls of sessions in no zone are
/// dropped. The floats in the message are finite: a call that contains NaN or an infinity is dropped and
/// counted, and the session goes on.
#[derive(Message, Debug, Clone)]
pub struct Call<M: WireMessage> {
    /// The session that sent the call.
    pub session: SessionId,
    /// The entity of the session.
    pub entity: Entity,
    /// The entity of the zone that the session was in when the call was dispatched.
    pub zone: Entity,
    /// The epoch of the session when the call was dispatched.
    pub epoch: Epoch,
    /// The tick in which the call was dispatched.
    pub tick: Tick,
    /// True if the client had sent the call before, on an earlier link, and has sent it again after a resume. The game
    /// has not read it before, and the client made it before it lost that link, so an action in it may be out of date. A
    /// call that the client queued while it had no link is not replayed, nor is an unreliable one or one of an agent.
    /// The client says which calls are replayed, so do not rely on it against cheats.
    pub is_replayed: bool,
    /// The message.
    pub message: M,
}

/// Registers the messages of a game.
pub trait AppRpc {
    /// Registers `M` as a call. Systems read it as `MessageReader<Call<M>>`, and must do so in each tick.
    /// In debug builds, calls that no system reads in their tick are counted and reported once a second.
    ///
    /// A second registration of `M` changes nothing, so each plugin of a game can register the calls that it reads.
    /// A message that is not registered is dropped, counted as
    /// [`stray_frame_count`](SessionCounts::stray_frame_count), and reported once in a warning.
    ///
    /// # Panics
    ///
    /// Panics if the id of `M` is reserved for the server, or is that of another call. The text names both types.
    ///
    /// ```
    /// use bevy_app::App;
    /// use waystation::arena::v1::{Input, Say};
    /// use waystation::config::ServerConfig;
    /// use waystation::rpc::AppRpc as _;
    /// use waystation::server::ServerPlugins;
    ///
    /// let mut app = App::new();
    /// app.add_plugins(ServerPlugins::new(ServerConfig::default())).add_call::<Input>().add_call::<Say>();
    /// ```
    fn add_call<M: WireMessage>(&mut self) -> &mut Self;

    /// Delivers `M` to agents as a value. Systems read it as `MessageReader<Delivered<M>>`. A second registration of
    /// `M` changes nothing.
    ///
    /// # Panics
    ///
    /// Panics if the id of `M` is reserved for the server, or is that of another message that is delivered. Session
    /// messages are delivered without this.
    fn add_delivery<M: WireMessage>(&mut self) -> &mut Self;
}

impl AppRpc for App {
    fn add_call<M: WireMessage>(&mut self) -> &mut Self {
        let added = self.world_mut().get_resource_or_init::<CallTypes>().0.add::<M>();
        if !added.unwrap_or_else(|error| panic!("add_call: {error}")) {
            return self;
        }
        self.world_mut().get_resource_or_init::<Dispatch>().register(M::ID, call::<M>);
        self.add_message::<Call<M>>();
        #[cfg(debug_assertions)]
        unread::watch::<M>(self);
        #[cfg(debug_assertions)]
        non_members::watch::<M>(self);
        self
    }

    fn add_delivery<M: WireMessage>(&mut self) -> &mut Self {
        let added = self.world_mut().get_resource_or_init::<SendQueue>().deliver::<M>();
        match added {
            Ok(_) => self.add_message::<Delivered<M>>(),
            Err(error) => panic!("add_delivery: {error}"),
        }
    }
}

/// Adds calls, replies, sends and broadcasts.
#[derive(Debug, Clone, Copy, Default)]
pub struct RpcPlugin;

impl Plugin for RpcPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<SendQueue>()
            .init_resource::<NonMemberCalls>()
            .add_systems(PostUpdate, sender::resolve.before(TickSystems::Settle));
        #[cfg(debug_assertions)]
        unread::add(app);
    }
}

/// Writes a frame of a member as a [`Call`]. A frame of a session in no zone is dropped, counted and reported once.
fn call<M: WireMessage>(world: &mut World, sent: Sent) -> Result<Next, Offence> {
    let (entity, is_replayed) = (sent.session, sent.is_replayed);
    let Some((session, epoch, zone)) = caller(world, entity) else {
        world.resource_mut::<SessionCounts>().nonmember_call_count += 1;
        world.resource_mut::<Mistakes>().outside_zone(M::ID, M::NAME);
        return Ok(Next::Go);
    };
    let message = match sent.read::<M>() {
        Ok(message) => message,
        Err(error) if M::ID.is_counted() => return Err(error),
        Err(_) => {
            world.resource_mut::<SessionCounts>().malformed_frame_count += 1;
            return Ok(Next::Go);
        }
    };
    if message.is_finite() {
        let tick = world.resource::<TickTime>().tick();
        world.write_message(Call { session, entity, zone, epoch, tick, is_replayed, message });
    } else {
        world.resource_mut::<SessionCounts>().nonfinite_call_count += 1;
        tracing::debug!(%session, message = M::NAME, "call dropped: it contains NaN or an infinity");
    }
    Ok(Next::Go)
}

/// Returns the id, the epoch and the zone of a session, or `None` if the session is in no zone.
fn caller(world: &World, session: Entity) -> Option<(SessionId, Epoch, Entity)> {
    let core = world.get::<SessionCore>(session)?;
    Some((core.id(), core.epoch(), live_zone(world, session)?))
}
