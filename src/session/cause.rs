//! The causes for the end of a session and for the loss of a link.

use crate::proxy::LinkEnd;
use crate::wire::v1::Reason;

/// The cause for which a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The client sent Bye.
    Bye,
    /// The session was not resumed in time. For an agent: the agent ended itself, or its owner has ended.
    Timeout,
    /// The game kicked the session or despawned its entity.
    Kicked,
    /// The principal opened another session. The server does not use this cause at present.
    Conflict,
    /// The client broke the protocol.
    Protocol,
    /// The game removed or replaced a component of the session each time the server restored it.
    Internal,
    /// The server has shut down.
    Shutdown,
}

impl EndCause {
    /// Returns the reason that the client receives in its Closed.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Bye => Reason::Bye,
            Self::Timeout => Reason::Timeout,
            Self::Kicked => Reason::Kicked,
            Self::Conflict => Reason::Conflict,
            Self::Protocol => Reason::Protocol,
            Self::Internal => Reason::Internal,
            Self::Shutdown => Reason::Shutdown,
        }
    }

    /// Returns the reason that [`ZoneParted`](crate::zone::ZoneParted) has if the session was in a zone
    /// when it ended.
    #[must_use]
    pub fn part_reason(self) -> Reason {
        match self {
            Self::Bye => Reason::Left,
            Self::Timeout => Reason::Expired,
            other => other.reason(),
        }
    }
}

/// The cause for which a session lost its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// The adapter reported the end of the link.
    Link(LinkEnd),
    /// No frame was received for the duration of the link timeout.
    Silent,
    /// The client did not acknowledge frames in time, or the outbox overflowed.
    Slow,
    /// The session was resumed over another link.
    Replaced,
    /// The session was restored from a [`SessionRecord`](super::SessionRecord).
    Restart,
}
