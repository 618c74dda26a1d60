//! Why sessions lose their links, and why they end.

use crate::proxy::LinkEnd;
use crate::wire::v1::Reason;

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
    /// The server, or the game, broke what the server relies on.
    Internal,
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
            Self::Internal => Reason::Internal,
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
    /// The server was restarted, or the session comes from another process.
    Restart,
}
