//! The journal: all changes of sessions and memberships, in one order and as one type.
//!
//! Each change of a session's state or membership is noted as an [`Entry`] when it is made. At the beginning
//! of the next tick one system publishes the entries as typed messages for the game, and keeps the entries
//! for that tick. The log, the audit and the test harness read the entries. The journal holds the entries of
//! two ticks at most, so a reader that needs more keeps its own copy.

use std::fmt;

use bevy_ecs::prelude::*;
use bytes::Bytes;

use super::{EndCause, LossCause, SessionCore};
use crate::ident::{SessionId, Tick, ZoneId};
use crate::identity::Principal;
use crate::tick::TickTime;
use crate::wire::v1::Reason;

/// A change of a session or of its membership.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The position of the entry among all entries since the start of the server, counted from 1.
    pub sequence: u64,
    /// The tick in which the change happened.
    pub tick: Tick,
    /// The session.
    pub session: SessionId,
    /// The session's entity. If the session has ended, the entity is despawned after the tick in which the
    /// game reads [`SessionClosed`].
    pub entity: Entity,
    /// The owner of the session.
    pub principal: Principal,
    /// The change.
    pub news: News,
}

/// The entries that were noted in the current tick, and the earlier entries that the game reads in it.
#[derive(Resource, Debug, Default)]
pub struct Journal {
    sequence: u64,
    noted: Vec<Entry>,
    published: Vec<Entry>,
}

impl Journal {
    /// Returns the entries that were noted since the current tick began. The game reads them in the next
    /// tick.
    #[must_use]
    pub fn noted(&self) -> &[Entry] {
        &self.noted
    }

    /// Returns the entries that the game reads in the current tick.
    #[must_use]
    pub fn published(&self) -> &[Entry] {
        &self.published
    }

    /// Adds an entry about a session.
    pub(crate) fn note(&mut self, tick: Tick, of: Subject, news: News) {
        self.sequence += 1;
        let Subject { session, entity, principal } = of;
        let entry = Entry { sequence: self.sequence, tick, session, entity, principal, news };
        tracing::info!(target: "waystation::transitions", "{entry}");
        self.noted.push(entry);
    }
}

/// The session that an entry is about. Its entity may be gone.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) session: SessionId,
    pub(crate) entity: Entity,
    pub(crate) principal: Principal,
}

/// Adds an entry about a session.
pub(crate) fn add_news(world: &mut World, entity: Entity, news: News) {
    if let Some(subject) = world.get::<SessionCore>(entity).map(|core| core.subject(entity)) {
        add_news_of(world, subject, news);
    }
}

/// Adds an entry about a session whose entity may be gone.
pub(crate) fn add_news_of(world: &mut World, of: Subject, news: News) {
    let tick = world.resource::<TickTime>().tick();
    world.resource_mut::<Journal>().note(tick, of, news);
}

/// Defines the kinds of news, and the message for each kind.
macro_rules! news {
    ($(
        $(#[$doc:meta])*
        $kind:ident as $message:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
    )*) => {
        /// A kind of change of a session. Each kind is published as a message with the same fields.
        #[derive(Debug, Clone, PartialEq)]
        pub enum News { $(
            #[doc = concat!("Published as [`", stringify!($message), "`].")]
            $kind { $($(#[$field_doc])* $field: $type,)* },
        )* }

        $(
            $(#[$doc])*
            #[derive(Message, Debug, Clone, PartialEq)]
            pub struct $message {
                /// The position of the message among all messages about sessions and memberships, counted
                /// from 1.
                pub sequence: u64,
                /// The session.
                pub session: SessionId,
                /// The session's entity. If the session has ended, the entity is despawned after this tick.
                pub entity: Entity,
                /// The owner of the session.
                pub principal: Principal,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*

        /// Publishes the entries that were noted since the last tick began.
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
    /// A session has lost its link. It expires unless it is resumed. In a takeover, [`SessionResumed`]
    /// follows at once.
    Disconnected as SessionDisconnected {
        /// Cause of the loss of the link.
        cause: LossCause,
        /// Time in milliseconds between the last received frame and the loss.
        silent_ms: u64,
    }
    /// A session was resumed over another link.
    Resumed as SessionResumed {
        /// True if the resume is a resync. Undelivered messages are lost then: send the client the state
        /// that it needs.
        resync: bool,
    }
    /// A client has ended its session. [`SessionClosed`] follows.
    Unregistered as SessionUnregistered {}
    /// A session has ended without a Bye of its client. [`SessionClosed`] follows.
    Expired as SessionExpired {
        /// Cause of the end of the session.
        cause: EndCause,
    }
    /// A session has ended. This is the last message about it.
    Closed as SessionClosed {
        /// Cause of the end of the session.
        cause: EndCause,
        /// Number of counted frames that the client had not acknowledged. They are lost with the session.
        unacked_count: u64,
    }
    /// A session has joined a zone, and is among its [`Members`](crate::zone::Members).
    Joined as ZoneJoined {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// The payload of the client's Join. Empty if the game put the session into the zone.
        payload: Bytes,
    }
    /// A session has left a zone, and is no longer among its [`Members`](crate::zone::Members).
    Parted as ZoneParted {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// Reason for which the session left.
        reason: Reason,
        /// The payload of the client's Part. Empty if the session left in another way.
        payload: Bytes,
    }
    /// A member of a soft zone has lost its link. It stays a member until its session expires.
    MemberDisconnected as MemberDisconnected {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
    }
    /// A member of a soft zone was resumed over another link, or a member of any zone was resumed by a
    /// takeover.
    MemberResumed as MemberResumed {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// True if the resume is a resync. Undelivered messages are lost then: send the member the state
        /// that it needs.
        resync: bool,
    }
    /// A session asks to join a zone that [asks](crate::zone::Zone::asks) the game. Answer with
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
        /// The number of the ask, counted from 1 since the start of the server. It identifies the ask in the
        /// game's answer.
        ask: u64,
    }
    /// An ask has ended before the game answered it. A later answer has no effect.
    JoinCancelled as JoinCancelled {
        /// The zone's entity.
        zone: Entity,
        /// The zone's id.
        zone_id: ZoneId,
        /// Reason for which the ask has ended. The client gets a Refused with the same reason, unless its session
        /// has ended or was resumed with a resync.
        reason: Reason,
    }
}
