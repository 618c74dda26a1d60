//! Replies, sends and broadcasts: one queue in call order, resolved when settle begins.

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bevy_platform::collections::HashSet;

use super::Call;
use crate::ident::MessageId;
use crate::session::{Delivery, Parcel};
use crate::wire::{Range, WireMessage};
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
        let mut seen = EntityHashSet::default();
        let sessions = sessions.into_iter().filter(|session| seen.insert(*session)).collect();
        self.queue.push(Target::Sessions(sessions), message);
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

impl SendQueue {
    pub(super) fn deliver<M: WireMessage>(&mut self) {
        self.deliveries.insert(M::ID);
    }

    fn push<M: WireMessage>(&mut self, to: Target, message: &M) {
        if !matches!(M::ID.range(), Range::GameReliable | Range::GameUnreliable) {
            tracing::error!(message = M::NAME, id = %M::ID, "not sent: the id is the core's, a game sends its own");
            return;
        }
        if let Some(parcel) = Parcel::new(message, self.deliveries.contains(&M::ID)) {
            self.sends.push(Outgoing { to, parcel });
        }
    }
}

/// Puts what was sent where it goes, before any membership changes.
pub(super) fn resolve(
    mut queue: ResMut<SendQueue>,
    zones: Query<&Members, Allow<Disabled>>,
    mut delivery: Delivery,
) {
    for Outgoing { to, parcel } in queue.sends.drain(..) {
        match to {
            Target::Session(session) => delivery.deliver(session, &parcel),
            Target::Sessions(sessions) => {
                for session in sessions {
                    delivery.deliver(session, &parcel);
                }
            }
            Target::Zone { zone, except } => {
                let members = zones.get(zone).ok();
                let mut astray = delivery.members_astray(zone);
                // A zone that was despawned since had these.
                astray.retain(|session| !members.is_some_and(|members| members.contains(*session)));
                let all = members.into_iter().flat_map(Members::entities).chain(astray);
                for member in all.filter(|member| Some(*member) != except) {
                    delivery.deliver(member, &parcel);
                }
            }
        }
    }
}
