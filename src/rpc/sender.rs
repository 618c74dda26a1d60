//! Queues the game's replies, sends and broadcasts in call order, and resolves the queue before settle.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bytes::Bytes;

use super::Call;
use super::message_types::{IdError, MessageTypes};
use crate::session::{Delivery, EncodedMessage, is_of_a_game};
use crate::wire::{self, WireMessage};
use crate::zone::{Members, Zone};

/// Sends messages to sessions. The messages of a tick leave at its end, as one batch, in the order
/// in which the game sent them.
///
/// A reliable message to a session without a link waits until the session is resumed. An unreliable one is
/// dropped. A message to a session that has ended is dropped and counted. A message to an entity that is no session, or
/// no zone, is also reported once in a warning. If the frame of a message is longer than 64 KiB, or its id is reserved for the server, the message is not sent and an error is
/// logged.
///
/// In one tick, a game can send up to 262,144 messages, with frames of up to 64 MiB in total. A broadcast
/// counts as one message. Further messages are dropped and counted, and an error is logged.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::arena::v1::{Echo, Say};
/// use waystation::rpc::{Call, Sender};
/// use waystation::zone::ZoneJoined;
///
/// fn answer(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
///     for call in calls.read() {
///         let echo = Echo { number: call.message.number, taken: 0 };
///         sender.reply(call, &echo); // to the caller
///         sender.broadcast(call.zone, &echo); // to all members
///     }
/// }
///
/// /// Sends the state of the game to a new member.
/// fn brief(mut joined: MessageReader<ZoneJoined>, mut sender: Sender) {
///     for news in joined.read() {
///         sender.send(news.entity, &Echo::default());
///     }
/// }
/// ```
#[derive(SystemParam)]
pub struct Sender<'w> {
    queue: ResMut<'w, SendQueue>,
}

impl Sender<'_> {
    /// Sends a message to the session that made a call.
    pub fn reply<C: WireMessage, M: WireMessage>(&mut self, call: &Call<C>, message: &M) {
        self.queue.push(Target::Session(call.entity), message);
    }

    /// Sends a message to one session.
    pub fn send<M: WireMessage>(&mut self, session: Entity, message: &M) {
        self.queue.push(Target::Session(session), message);
    }

    /// Sends a message to several sessions, in any zones or in no zone. A session that is listed twice gets
    /// it once. The message is encoded once.
    ///
    /// ```
    /// use bevy_ecs::prelude::*;
    /// use waystation::arena::v1::Echo;
    /// use waystation::rpc::Sender;
    ///
    /// #[derive(Component)]
    /// struct Red;
    ///
    /// fn cheer(red_team: Query<Entity, With<Red>>, mut sender: Sender) {
    ///     sender.send_to(&red_team, &Echo { number: 1, taken: 0 });
    /// }
    /// ```
    pub fn send_to<M: WireMessage>(&mut self, sessions: impl IntoIterator<Item = Entity>, message: &M) {
        self.queue.push(Target::each(sessions), message);
    }

    /// Sends an encoded frame to several sessions. A session that is listed twice gets it once. The message
    /// id, with which the frame begins, determines the lane. This method is for games that encode a frame
    /// once and send it in several ticks, or that build frames themselves. Agents do not get frames.
    ///
    /// If the frame is longer than 64 KiB, or its id is reserved for the server, it is not sent and an
    /// error is logged.
    ///
    /// ```
    /// use bevy_ecs::prelude::*;
    /// use bytes::Bytes;
    /// use waystation::arena::v1::Echo;
    /// use waystation::rpc::Sender;
    /// use waystation::wire;
    ///
    /// #[derive(Resource)]
    /// struct Rules(Bytes);
    ///
    /// impl Default for Rules {
    ///     fn default() -> Self {
    ///         Self(wire::encode(&Echo { number: 1, taken: 0 }))
    ///     }
    /// }
    ///
    /// fn explain(newcomers: Query<Entity, Added<waystation::session::Active>>, rules: Res<Rules>, mut sender: Sender) {
    ///     sender.send_frame(&newcomers, &rules.0);
    /// }
    /// ```
    pub fn send_frame(&mut self, sessions: impl IntoIterator<Item = Entity>, frame: &Bytes) {
        let Some(id) = wire::id_of(frame).filter(|id| is_of_a_game(*id)) else {
            tracing::error!(
                bytes = frame.len(),
                "frame not sent: it does not begin with an id that games may use"
            );
            return;
        };
        if let Some(encoded) = EncodedMessage::of_frame(id, frame.clone()) {
            self.queue.add(Target::each(sessions), encoded);
        }
    }

    /// Sends a message to all sessions that are members of a zone when settle begins. The message is
    /// encoded once.
    pub fn broadcast<M: WireMessage>(&mut self, zone: Entity, message: &M) {
        self.queue.push(Target::Zone { zone, except: None }, message);
    }

    /// Sends a message to all members of a zone except one session, usually the one that caused the
    /// message. It works like [`broadcast`](Self::broadcast) otherwise.
    ///
    /// ```
    /// use bevy_ecs::prelude::*;
    /// use waystation::arena::v1::{Echo, Say};
    /// use waystation::rpc::{Call, Sender};
    ///
    /// fn relay(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
    ///     for call in calls.read() {
    ///         let echo = Echo { number: call.message.number, taken: 0 };
    ///         sender.broadcast_except(call.zone, call.entity, &echo);
    ///     }
    /// }
    /// ```
    pub fn broadcast_except<M: WireMessage>(&mut self, zone: Entity, except: Entity, message: &M) {
        self.queue.push(Target::Zone { zone, except: Some(except) }, message);
    }
}

/// The messages that the game has sent since the last settle.
#[derive(Resource, Default)]
pub(super) struct SendQueue {
    sends: Vec<Outgoing>,
    /// Total size of their frames, in bytes.
    bytes: usize,
    /// Number of messages that were dropped because the queue was full.
    dropped_count: u64,
    /// Messages that agents get as values.
    deliveries: MessageTypes,
}

struct Outgoing {
    to: Target,
    encoded: EncodedMessage,
}

enum Target {
    Session(Entity),
    Sessions(Vec<Entity>),
    Zone { zone: Entity, except: Option<Entity> },
}

impl Target {
    /// Returns a target with these sessions, each of them once.
    fn each(sessions: impl IntoIterator<Item = Entity>) -> Self {
        let mut seen = EntityHashSet::default();
        Self::Sessions(sessions.into_iter().filter(|session| seen.insert(*session)).collect())
    }
}

impl SendQueue {
    pub(super) fn deliver<M: WireMessage>(&mut self) -> Result<bool, IdError> {
        self.deliveries.add::<M>()
    }

    fn push<M: WireMessage>(&mut self, to: Target, message: &M) {
        if !is_of_a_game(M::ID) {
            tracing::error!(message = M::NAME, id = %M::ID, "message not sent: its id is reserved for the server");
            return;
        }
        if let Some(encoded) = EncodedMessage::new(message, self.deliveries.contains(M::ID)) {
            self.add(to, encoded);
        }
    }

    fn add(&mut self, to: Target, encoded: EncodedMessage) {
        let bytes = self.bytes + encoded.frame_bytes();
        if self.sends.len() >= SENDS_MAX || bytes > SENDS_MAX_BYTES {
            self.dropped_count += 1;
            return;
        }
        self.bytes = bytes;
        self.sends.push(Outgoing { to, encoded });
    }
}

/// Delivers the queued messages to their recipients, before any membership changes.
pub(super) fn resolve(
    mut queue: ResMut<SendQueue>,
    zones: Query<(Has<Zone>, Option<&Members>), Allow<Disabled>>,
    mut delivery: Delivery,
) {
    queue.bytes = 0;
    let dropped_count = std::mem::take(&mut queue.dropped_count);
    if dropped_count > 0 {
        delivery.miss(dropped_count);
        tracing::error!(
            dropped_count,
            "messages not sent: a tick sends at most {SENDS_MAX} messages and 64 MiB; send fewer or smaller ones"
        );
    }
    for Outgoing { to, encoded } in queue.sends.drain(..) {
        match to {
            Target::Session(session) => delivery.deliver(&encoded, [session]),
            Target::Sessions(sessions) => delivery.deliver(&encoded, sessions),
            Target::Zone { zone, except } => {
                let is_other = |session: &Entity| Some(*session) != except;
                // Sessions that are members by their cores and not by their components, for example because the
                // zone's entity was despawned.
                let mut inconsistent = delivery.inconsistent_members(zone);
                match zones.get(zone) {
                    Ok((_, Some(members))) => {
                        inconsistent.retain(|session| !members.contains(*session));
                        delivery.deliver(&encoded, members.entities().filter(is_other));
                    }
                    Ok((false, None)) => delivery.miss_zone(&encoded, zone),
                    Ok((true, None)) | Err(_) => {}
                }
                delivery.deliver(&encoded, inconsistent.into_iter().filter(is_other));
            }
        }
    }
}

/// Maximum number of messages that a game may send in one tick. A broadcast counts as one message. Messages
/// beyond this are dropped, counted as undelivered and logged, because a game that sends without end would
/// exhaust the memory within one tick.
const SENDS_MAX: usize = 262_144;
/// Maximum total size of these messages, in bytes.
const SENDS_MAX_BYTES: usize = 64 * 1024 * 1024;
