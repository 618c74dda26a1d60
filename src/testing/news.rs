//! The messages about sessions and memberships that a game gets, in a form that tests can compare.

use std::fmt;

use crate::ident::{SessionId, ZoneId};
use crate::session::{self, EndCause, LossCause};
use crate::wire::v1::Reason;

/// A message to the game about a session, without payloads and measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// [`SessionRegistered`](session::SessionRegistered).
    Registered,
    /// [`SessionDisconnected`](session::SessionDisconnected).
    Disconnected(LossCause),
    /// [`SessionResumed`](session::SessionResumed).
    Resumed {
        /// True if the resume is a resync.
        resync: bool,
    },
    /// [`SessionUnregistered`](session::SessionUnregistered).
    Unregistered,
    /// [`SessionExpired`](session::SessionExpired).
    Expired(EndCause),
    /// [`SessionClosed`](session::SessionClosed).
    Closed(EndCause),
    /// [`ZoneJoined`](crate::zone::ZoneJoined).
    Joined(ZoneId),
    /// [`ZoneParted`](crate::zone::ZoneParted).
    Parted(ZoneId, Reason),
    /// [`MemberDisconnected`](crate::zone::MemberDisconnected).
    MemberDisconnected(ZoneId),
    /// [`MemberResumed`](crate::zone::MemberResumed).
    MemberResumed(ZoneId),
}

impl News {
    /// Converts an entry of the journal. Returns `None` for entries about asks.
    fn of(news: &session::News) -> Option<Self> {
        Some(match *news {
            session::News::Registered {} => Self::Registered,
            session::News::Disconnected { cause, .. } => Self::Disconnected(cause),
            session::News::Resumed { resync } => Self::Resumed { resync },
            session::News::Unregistered {} => Self::Unregistered,
            session::News::Expired { cause } => Self::Expired(cause),
            session::News::Closed { cause, .. } => Self::Closed(cause),
            session::News::Joined { zone_id, .. } => Self::Joined(zone_id),
            session::News::Parted { zone_id, reason, .. } => Self::Parted(zone_id, reason),
            session::News::MemberDisconnected { zone_id, .. } => Self::MemberDisconnected(zone_id),
            session::News::MemberResumed { zone_id, .. } => Self::MemberResumed(zone_id),
            session::News::JoinRequested { .. } | session::News::JoinCancelled { .. } => return None,
        })
    }
}

/// An entry of the journal, in a form that tests can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The sequence number, which is common to all sessions.
    pub sequence: u64,
    /// The session.
    pub session: SessionId,
    /// The message.
    pub news: News,
}

impl Entry {
    /// Converts an entry of the journal. Returns `None` for entries about asks.
    #[must_use]
    pub fn of(entry: &session::Entry) -> Option<Self> {
        let news = News::of(&entry.news)?;
        Some(Self { sequence: entry.sequence, session: entry.session, news })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.sequence, self.session, self.news)
    }
}
