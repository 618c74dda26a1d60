//! Verdicts of authenticators, which are inputs of a tick like the events of adapters.

use std::fmt;
use std::time::Duration;

use crate::identity::Principal;

/// Id of a question to an authenticator, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// Decision of an authenticator about the client of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client is this principal and may open a session.
    Accept(Principal),
    /// The client is denied as UNAUTHENTICATED, with this text to show to the player. The text is cut to
    /// 256 characters.
    Deny(String),
    /// The authenticator cannot decide now. The client is denied as THROTTLED and may try again after this
    /// time.
    RetryAfter(Duration),
}

/// A verdict and the id of its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Id of the question: [`Question::id`](crate::gate::Question::id).
    pub question: QuestionId,
    /// The verdict.
    pub verdict: Verdict,
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
