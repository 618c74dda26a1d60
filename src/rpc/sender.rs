//! Replies, sends and broadcasts: one queue in call order, resolved when settle begins.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bevy_platform::collections::HashSet;
use bytes::Bytes;

use super::Call;
use crate::ident::MessageId;
use crate::session::{Delivery, Parcel};
use crate::wire::{self, Range, WireMessage};
use crate::zone::Members;

/// Answers calls and sends messages. What is sent in a tick leaves at its end, as one batch, in the
/// order of the calls of this.
///
/// A reliable message reaches its session even if the link is gone just now: it waits until the
/// session is resumed. An unreliable one is dropped then. To a session that has ended, nothing is
/// sent. A frame of more than 64 KiB is not sent to anybody; that is logged as an error.
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
///         sender.broadcast(call.zone, &echo); // to all who are there
///     }
/// }
///
/// /// A newcomer is told what it needs to know.
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
    /// Sends to the session that made a call.
    pub fn reply<C: WireMessage, M: WireMessage>(&mut self, call: &Call<C>, message: &M) {
        self.queue.push(Target::Session(call.entity), message);
    }

    /// Sends to one session.
    pub fn send<M: WireMessage>(&mut self, session: Entity, message: &M) {
        self.queue.push(Target::Session(session), message);
    }

    /// Sends to each of some sessions, wherever they are; to one that is listed twice, once. The
    /// message is encoded once for all.
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

    /// Sends a frame that is encoded already to each of some sessions; to one that is listed twice, once. It takes
    /// the lane that its id says. For games that make a frame once and send it in several ticks, or put it
    /// together themselves. Agents get no frames.
    ///
    /// A frame without an id of the game's, or of more than 64 KiB, is not sent to anybody; that is logged as an
    /// error.
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
            tracing::error!(bytes = frame.len(), "not sent: a game's frame begins with an id of the game's");
            return;
        };
        if let Some(parcel) = Parcel::of_frame(id, frame.clone()) {
            self.queue.add(Target::each(sessions), parcel);
        }
    }

    /// Sends to all who are members of a zone now. The message is encoded once for all.
    pub fn broadcast<M: WireMessage>(&mut self, zone: Entity, message: &M) {
        self.queue.push(Target::Zone { zone, except: None }, message);
    }

    /// As [`broadcast`](Self::broadcast), but for one session: as a rule the one whose doing it is,
    /// and which knows already.
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

/// What was sent since the last settle.
#[derive(Resource, Default)]
pub(super) struct SendQueue {
    sends: Vec<Outgoing>,
    /// Bytes of their frames.
    bytes: usize,
    /// Messages that were not queued, since there were too many.
    dropped_count: u64,
    /// Messages that agents want as values.
    deliveries: HashSet<MessageId>,
}

struct Outgoing {
    to: Target,
    parcel: Parcel,
}

enum Target {
    Session(Entity),
    Sessions(Vec<Entity>),
    Zone { zone: Entity, except: Option<Entity> },
}

impl Target {
    /// Each of some sessions, once.
    fn each(sessions: impl IntoIterator<Item = Entity>) -> Self {
        let mut seen = EntityHashSet::default();
        Self::Sessions(sessions.into_iter().filter(|session| seen.insert(*session)).collect())
    }
}

impl SendQueue {
    pub(super) fn deliver<M: WireMessage>(&mut self) {
        self.deliveries.insert(M::ID);
    }

    fn push<M: WireMessage>(&mut self, to: Target, message: &M) {
        if !is_of_a_game(M::ID) {
            tracing::error!(message = M::NAME, id = %M::ID, "not sent: the id is the core's, a game sends its own");
            return;
        }
        if let Some(parcel) = Parcel::new(message, self.deliveries.contains(&M::ID)) {
            self.add(to, parcel);
        }
    }

    fn add(&mut self, to: Target, parcel: Parcel) {
        let bytes = self.bytes + parcel.frame_bytes();
        if self.sends.len() >= SENDS_MAX || bytes > SENDS_MAX_BYTES {
            self.dropped_count += 1;
            return;
        }
        self.bytes = bytes;
        self.sends.push(Outgoing { to, parcel });
    }
}

fn is_of_a_game(id: MessageId) -> bool {
    matches!(id.range(), Range::GameReliable | Range::GameUnreliable)
}

/// Puts what was sent where it goes, before any membership changes.
pub(super) fn resolve(
    mut queue: ResMut<SendQueue>,
    zones: Query<&Members, Allow<Disabled>>,
    mut delivery: Delivery,
) {
    queue.bytes = 0;
    let dropped_count = std::mem::take(&mut queue.dropped_count);
    if dropped_count > 0 {
        delivery.miss(dropped_count);
        tracing::error!(
            dropped_count,
            "not sent: a tick sends {SENDS_MAX} messages and 64 MiB at most, send less"
        );
    }
    for Outgoing { to, parcel } in queue.sends.drain(..) {
        match to {
            Target::Session(session) => delivery.deliver(&parcel, [session]),
            Target::Sessions(sessions) => delivery.deliver(&parcel, sessions),
            Target::Zone { zone, except } => {
                let is_other = |session: &Entity| Some(*session) != except;
                // A zone that was despawned since had these.
                let mut astray = delivery.members_astray(zone);
                if let Ok(members) = zones.get(zone) {
                    astray.retain(|session| !members.contains(*session));
                    delivery.deliver(&parcel, members.entities().filter(is_other));
                }
                delivery.deliver(&parcel, astray.into_iter().filter(is_other));
            }
        }
    }
}

/// Messages that a game may send in one tick, and the bytes that their frames may have. A broadcast counts once.
/// What is over that is dropped, counted as undelivered and logged: a game that sends without end would take all
/// memory before the tick is over.
const SENDS_MAX: usize = 262_144;
const SENDS_MAX_BYTES: usize = 64 * 1024 * 1024;
