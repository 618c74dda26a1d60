//! The journal: what happens to sessions, in one order and as one type.
//!
//! Each change of a session's state or membership is noted as an [`Entry`] when it is made. At the
//! beginning of the next tick one system publishes the entries as typed messages, which the game
//! reads, and keeps them for that tick: the log, the audit and the test harness read the entries.
//! The journal holds two ticks at most, so a reader that needs more keeps its own copy.

use std::fmt;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::{EndCause, LossCause, SessionCore};
use crate::ident::{SessionId, Tick, ZoneId};
use crate::identity::Principal;
use crate::tick::TickTime;
use crate::wire::v1::Reason;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The entry's place among all entries since the start, counted from 1.
    pub sequence: u64,
    /// The tick in which it happened.
    pub tick: Tick,
    /// The session.
    pub session: SessionId,
    /// The session's entity. If the session has ended, it is gone after the tick in which the game
    /// reads of the end.
    pub entity: Entity,
    /// The owner of the session.
    pub principal: Principal,
    /// What happened.
    pub news: News,
}

/// Entries of the running tick, and those that the game reads in it.
#[derive(Resource, Debug, Default)]
pub struct Journal {
    sequence: u64,
    noted: Vec<Entry>,
    published: Vec<Entry>,
}

impl Journal {
    /// Returns what happened since the running tick began. The game reads it in the next tick.
    #[must_use]
    pub fn noted(&self) -> &[Entry] {
        &self.noted
    }

    /// Returns what the game reads in the running tick.
    #[must_use]
    pub fn published(&self) -> &[Entry] {
        &self.published
    }

    /// Notes what happened to a session.
    pub(crate) fn note(&mut self, tick: Tick, of: Whose, news: News) {
        self.sequence += 1;
        let Whose { session, entity, principal } = of;
        let entry = Entry { sequence: self.sequence, tick, session, entity, principal, news };
        tracing::info!(target: "waystation::transitions", "{entry}");
        self.noted.push(entry);
    }
}

/// The session that an entry is about. Its entity may be gone.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    pub(crate) session: SessionId,
    pub(crate) entity: Entity,
    pub(crate) principal: Principal,
}

/// Notes what happened to a session.
pub(crate) fn announce(world: &mut World, entity: Entity, news: News) {
    if let Some(whose) = world.get::<SessionCore>(entity).map(|core| core.whose(entity)) {
        announce_of(world, whose, news);
    }
}

/// Notes what happened to a session whose entity may be gone.
pub(crate) fn announce_of(world: &mut World, of: Whose, news: News) {
    let tick = world.resource::<TickTime>().tick();
    world.resource_mut::<Journal>().note(tick, of, news);
}

/// Defines the kinds of news, and the message as which each is published.
macro_rules! news {
    ($(
        $(#[$doc:meta])*
        $kind:ident as $message:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
    )*) => {
        /// What happened to a session. Each kind is published as the message of the same fields.
        #[derive(Debug, Clone, PartialEq)]
        pub enum News { $(
            #[doc = concat!("Published as [`", stringify!($message), "`].")]
            $kind { $($(#[$field_doc])* $field: $type,)* },
        )* }

        $(
            $(#[$doc])*
            #[derive(Message, Debug, Clone, PartialEq)]
            pub struct $message {
                /// The message's place among all messages about sessions and memberships.
                pub sequence: u64,
                /// The session.
                pub session: SessionId,
                /// The session's entity. If the session has ended, it is gone after this tick.
                pub entity: Entity,
                /// The owner of the session.
                pub principal: Principal,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*

        /// Publishes what was noted since the last tick began.
        pub(super) fn publish(world: &mut World) {
            let entries = std::mem::take(&mut world.resource_mut::<Journal>().noted);
            for Entry { sequence, session, entity, principal, news, .. } in entries.iter().cloned() {
                match news { $(
                    News::$kind { $($field),* } => {
                        world.write_message($message { sequence, session, entity, principal, $($field),* });
                    }
                )* }
            }
            let mut journal = world.resource_mut::<Journal>();
            let mut spent = std::mem::replace(&mut journal.published, entries);
            spent.clear();
            journal.noted = spent;
        }

        /// Adds the messages to an app.
        pub(super) fn add(app: &mut bevy_app::App) {
            app.init_resource::<Journal>()$(.add_message::<$message>())*;
        }

        impl fmt::Display for Entry {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { sequence, session, principal, .. } = self;
                match &self.news { $(
                    News::$kind { $($field),* } => {
                        write!(f, concat!(stringify!($message), " session={} principal={}"), session, principal)?;
                        $(write!(f, concat!(" ", stringify!($field), "={:?}"), $field)?;)*
                    }
                )* }
                write!(f, " sequence={sequence}")
            }
        }
    };
}

news! {
    /// A session has been opened.
    Registered as SessionRegistered {}
    /// A session has lost its link. It expires unless it is resumed.
    Disconnected as SessionDisconnected {
        /// Why the link was lost.
        cause: LossCause,
        /// For how long nothing had been received by then, in milliseconds.
        silent_ms: u64,
    }
    /// A session goes on over another link.
    Resumed as SessionResumed {
        /// True if what was under way is void: send the client the state that it needs.
        resync: bool,
    }
    /// A client has ended its session. [`SessionClosed`] follows.
    Unregistered as SessionUnregistered {}
    /// A session has ended in any other way. [`SessionClosed`] follows.
    Expired as SessionExpired {
        /// Why the session ended.
        cause: EndCause,
    }
    /// A session is over. It is the last message about a session.
    Closed as SessionClosed {
        /// Why the session ended.
        cause: EndCause,
        /// Reliable messages that the client had not acknowledged, and that are lost with the session.
        unacked_count: u64,
    }
    /// A session has joined a zone, and is among its [`Members`](crate::zone::Members).
    Joined as ZoneJoined {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// The payload of the client's Join; empty if the game put the session there.
        payload: Bytes,
    }
    /// A session has left a zone, and is no longer among its [`Members`](crate::zone::Members).
    Parted as ZoneParted {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// Why the session left.
        reason: Reason,
        /// The payload of the client's Part; empty if the session did not leave by a Part.
        payload: Bytes,
    }
    /// A member has lost its link. It stays a member until its session expires.
    MemberDisconnected as MemberDisconnected {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
    }
    /// A member goes on over another link.
    MemberResumed as MemberResumed {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// True if what was under way is void: send the member the state that it needs.
        resync: bool,
    }
    /// A session wants to join a zone that [asks](crate::zone::Zone::asks). Answer with
    /// [`accept_join`](crate::zone::MembershipCommands::accept_join) or
    /// [`refuse_join`](crate::zone::MembershipCommands::refuse_join) within
    /// [`ASK_TIMEOUT`](crate::zone::ASK_TIMEOUT).
    JoinRequested as JoinRequested {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// The payload of the client's Join.
        payload: Bytes,
        /// The number of the ask. An answer to an earlier ask does nothing.
        ask: u64,
    }
    /// A session's wish to join is void, and an answer to it does nothing.
    JoinCancelled as JoinCancelled {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// Why. The client was told the same, unless it begins anew or is gone.
        reason: Reason,
    }
}
