//! What the game is told of sessions.
//!
//! All of it, and what zones tell, is published at the beginning of the next tick and carries one
//! common sequence number, so that a game can put messages of different types back in order.

use std::fmt;

use bevy_app::{App, First};
use bevy_ecs::prelude::*;

use super::{Closing, Principal, Session};
use crate::ident::SessionId;
use crate::proxy::LinkEnd;
use crate::tick::{self, TickSystems, TickTime};
use crate::wire::v1::Reason;

/// Defines messages that all name a session.
macro_rules! news {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(bevy_ecs::message::Message, Debug, Clone, PartialEq)]
        pub struct $name {
            /// Orders all news of sessions and zones.
            pub sequence: u64,
            /// Whose news it is.
            pub session: crate::ident::SessionId,
            /// The session's entity; if the session has ended, it is gone after this tick.
            pub entity: bevy_ecs::entity::Entity,
            /// Who the session belongs to.
            pub principal: crate::session::Principal,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            pub(crate) fn new(of: crate::session::lifecycle::Header $(, $field: $type)*) -> Self {
                Self {
                    sequence: of.sequence,
                    session: of.session,
                    entity: of.entity,
                    principal: of.principal,
                    $($field,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), " session={} principal={}"), self.session, self.principal)?;
                $(write!(f, concat!(" ", stringify!($field), "={:?}"), self.$field)?;)*
                write!(f, " sequence={}", self.sequence)
            }
        }

        impl crate::session::lifecycle::News for $name {}
    )* };
}
pub(crate) use news;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// Its client said Bye.
    Bye,
    /// It was not resumed in time.
    Timeout,
    /// The server removed it.
    Kicked,
    /// Its principal opened another.
    Conflict,
    /// Its client broke the protocol.
    Protocol,
    /// The server stopped.
    Shutdown,
}

impl EndCause {
    /// What the client is told, in Closed.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Bye => Reason::Bye,
            Self::Timeout => Reason::Timeout,
            Self::Kicked => Reason::Kicked,
            Self::Conflict => Reason::Conflict,
            Self::Protocol => Reason::Protocol,
            Self::Shutdown => Reason::Shutdown,
        }
    }

    /// What the zone is told, when the session was in one.
    #[must_use]
    pub fn part_reason(self) -> Reason {
        match self {
            Self::Bye => Reason::Left,
            Self::Timeout => Reason::Expired,
            other => other.reason(),
        }
    }
}

/// Why a session lost its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// The transport said so.
    Link(LinkEnd),
    /// Nothing was received for the link timeout.
    Silent,
    /// Its client did not take or acknowledge what was sent to it.
    Slow,
    /// Another link took over.
    Replaced,
}

news! {
    /// A client has a new session.
    SessionRegistered {}
    /// A session lost its link. It expires unless it is resumed.
    SessionDisconnected {
        /// Why.
        cause: LossCause,
        /// How long nothing had been received by then, in milliseconds.
        silent_ms: u64,
    }
    /// A session goes on over another link.
    SessionResumed {
        /// What was under way is void: send the client the state that it needs.
        resync: bool,
    }
    /// A client ended its session. [`SessionClosed`] follows.
    SessionUnregistered {}
    /// A session ended in any other way. [`SessionClosed`] follows.
    SessionExpired {
        /// Why.
        cause: EndCause,
    }
    /// The last that is heard of a session.
    SessionClosed {
        /// Why it ended.
        cause: EndCause,
        /// Reliable messages that its client had not acknowledged, and that are lost with it.
        unacked_count: u64,
    }
}

/// A message that is announced in one tick and read in the next.
pub(crate) trait News: Message + fmt::Display {}

/// What was announced since the last tick began.
#[derive(Resource)]
struct Announced<T>(Vec<T>);

/// Orders news of all types.
#[derive(Resource, Debug, Default)]
struct Sequence(u64);

/// Adds a type of news to an app.
pub(crate) fn add_news<T: News>(app: &mut App) {
    app.add_message::<T>()
        .insert_resource(Announced::<T>(Vec::new()))
        .add_systems(First, publish::<T>.in_set(TickSystems::Begin).after(tick::begin));
}

pub(super) fn add(app: &mut App) {
    app.init_resource::<Sequence>();
    add_news::<SessionRegistered>(app);
    add_news::<SessionDisconnected>(app);
    add_news::<SessionResumed>(app);
    add_news::<SessionUnregistered>(app);
    add_news::<SessionExpired>(app);
    add_news::<SessionClosed>(app);
}

/// What all news of a session begins with.
pub(crate) struct Header {
    pub(crate) sequence: u64,
    pub(crate) session: SessionId,
    pub(crate) entity: Entity,
    pub(crate) principal: Principal,
}

/// Announces news of a session; nothing if the entity is none.
pub(crate) fn announce<T: News>(world: &mut World, entity: Entity, make: impl FnOnce(Header) -> T) {
    let Some(session) = world.get::<Session>(entity).map(Session::id) else { return };
    let principal = world.get::<Principal>(entity).cloned().unwrap_or_else(|| Principal::anonymous(""));
    announce_of(world, (session, entity, principal), make);
}

/// Announces news of a session whose entity may be gone.
pub(crate) fn announce_of<T: News>(
    world: &mut World,
    (session, entity, principal): (SessionId, Entity, Principal),
    make: impl FnOnce(Header) -> T,
) {
    let mut sequence = world.resource_mut::<Sequence>();
    sequence.0 += 1;
    let sequence = sequence.0;
    announce_plain(world, make(Header { sequence, session, entity, principal }));
}

/// Announces what is no news of one session, and has no place in their order.
pub(crate) fn announce_plain<T: News>(world: &mut World, news: T) {
    tracing::info!(target: "waystation::transitions", "{news}");
    world.resource_mut::<Announced<T>>().0.push(news);
}

fn publish<T: News>(mut announced: ResMut<Announced<T>>, mut messages: ResMut<Messages<T>>) {
    messages.write_batch(announced.0.drain(..));
}

/// Removes the entities of sessions whose end the game has read.
pub(super) fn despawn_closing(
    closing: Query<(Entity, &Closing)>,
    time: Res<TickTime>,
    mut commands: Commands,
) {
    for (entity, closing) in &closing {
        // Runs before the new tick is counted: the tick after the end is over.
        if time.tick() > closing.since {
            commands.entity(entity).despawn();
        }
    }
}
