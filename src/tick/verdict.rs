//! Verdicts of authenticators: inputs of a tick, like events of adapters.

use std::fmt;
use std::time::Duration;

use crate::identity::Principal;

/// Numbers the gate's questions to authenticators, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// What an authenticator says of the client that a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client is this principal, and may open a session.
    Accept(Principal),
    /// The client may not open a session. It is denied as UNAUTHENTICATED, with this text to show to the player.
    /// The text is cut to 256 characters.
    Deny(String),
    /// It cannot be told now. The client is denied as THROTTLED, and comes again after this time.
    Later(Duration),
}

/// A verdict, and the question that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question's [`Question::id`](crate::gate::Question::id).
    pub question: QuestionId,
    /// The verdict.
    pub verdict: Verdict,
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
