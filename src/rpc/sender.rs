//! Replies, sends and broadcasts: one queue in call order, resolved when settle begins.

use std::sync::Arc;

use bevy_ecs::entity::EntityHashSet;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;
use bevy_platform::collections::HashSet;
use bytes::Bytes;

use super::Call;
use crate::ident::MessageId;
use crate::session::agent::deliver_native;
use crate::session::{Agent, Closing, Outbox, SessionConfig, SessionCounts, Uplink, put};
use crate::tick::TickTime;
use crate::wire::{self, FRAME_MAX_SERVER, Range, WireMessage};
use crate::zone::{Members, Zones};

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
    frame: Bytes,
    native: Option<Native>,
}

enum Target {
    Session(Entity),
    Sessions(Vec<Entity>),
    Zone { zone: Entity, except: Option<Entity> },
}

/// Delivers the value behind a frame to an agent.
type Native = Arc<dyn Fn(&mut World, Entity) + Send + Sync>;

impl SendQueue {
    pub(super) fn deliver<M: WireMessage>(&mut self) {
        self.deliveries.insert(M::ID);
    }

    fn push<M: WireMessage>(&mut self, to: Target, message: &M) {
        if !matches!(M::ID.range(), Range::GameReliable | Range::GameUnreliable) {
            tracing::error!(message = M::NAME, id = %M::ID, "not sent: the id is the core's, a game sends its own");
            return;
        }
        let frame = wire::encode(message);
        if frame.len() > FRAME_MAX_SERVER {
            tracing::error!(
                message = M::NAME,
                bytes = frame.len(),
                "not sent: a frame has at most 64 KiB, split it"
            );
            return;
        }
        let native = self.deliveries.contains(&M::ID).then(|| -> Native {
            let message = Arc::new(message.clone());
            Arc::new(move |world, agent| deliver_native(world, agent, Arc::clone(&message)))
        });
        self.sends.push(Outgoing { to, frame, native });
    }
}

/// Where what was sent goes.
#[derive(SystemParam)]
pub(super) struct Delivery<'w, 's> {
    sessions: Query<'w, 's, (&'static mut Outbox, &'static mut Uplink)>,
    agents: Query<'w, 's, (), (With<Agent>, Without<Closing>)>,
    counts: ResMut<'w, SessionCounts>,
    time: Res<'w, TickTime>,
    config: Res<'w, SessionConfig>,
    commands: Commands<'w, 's>,
}

/// Puts what was sent where it goes, before any membership changes.
pub(super) fn resolve(
    mut queue: ResMut<SendQueue>,
    zones: Query<&Members>,
    index: Res<Zones>,
    mut delivery: Delivery,
) {
    for outgoing in queue.sends.drain(..) {
        match &outgoing.to {
            Target::Session(session) => delivery.deliver(*session, &outgoing),
            Target::Sessions(sessions) => {
                for session in sessions {
                    delivery.deliver(*session, &outgoing);
                }
            }
            Target::Zone { zone, except } => {
                let members = zones.get(*zone).into_iter().flat_map(Members::entities);
                // A zone that was despawned since had these.
                for member in members.chain(index.orphans_of(*zone)).filter(|member| Some(*member) != *except)
                {
                    delivery.deliver(member, &outgoing);
                }
            }
        }
    }
}

impl Delivery<'_, '_> {
    fn deliver(&mut self, to: Entity, outgoing: &Outgoing) {
        if let Ok((mut outbox, mut uplink)) = self.sessions.get_mut(to) {
            let boxes = (outbox.bypass_change_detection(), uplink.bypass_change_detection());
            put(outgoing.frame.clone(), boxes, self.time.steady(), &self.config, &mut self.counts);
        } else if !self.agents.contains(to) {
            self.counts.undelivered_count += 1;
        } else if let Some(native) = outgoing.native.clone() {
            self.commands.queue(move |world: &mut World| native(world, to));
        }
    }
}
