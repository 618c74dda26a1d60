//! What proves that the client may open a new session: the ticket that its link brings.

use std::fmt;

/// The ticket for the next Hello, and whether another may be had when it is refused.
#[derive(Default)]
pub(super) struct Proof {
    ticket: Option<String>,
    /// Another link may bring another ticket.
    is_renewable: bool,
    /// The last Hello for a new session was denied as UNAUTHENTICATED.
    was_refused: bool,
}

impl Proof {
    pub(super) fn new(is_renewable: bool) -> Self {
        Self { is_renewable, ..Self::default() }
    }

    /// Takes the ticket of the link at hand.
    pub(super) fn take(&mut self, ticket: Option<&str>) {
        self.ticket = ticket.map(str::to_owned);
    }

    /// The ticket for a Hello; empty if there is none.
    pub(super) fn ticket(&self) -> String {
        self.ticket.clone().unwrap_or_default()
    }

    /// A Hello was denied as UNAUTHENTICATED. Returns true if the client shall try once more with the
    /// ticket of another link: discovery's answer may have been too old.
    pub(super) fn refused(&mut self) -> bool {
        let was_refused = std::mem::replace(&mut self.was_refused, true);
        self.is_renewable && !was_refused
    }

    /// A Hello was accepted.
    pub(super) fn accepted(&mut self) {
        self.ticket = None;
        self.was_refused = false;
    }
}

impl fmt::Debug for Proof {
    /// Without the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("has_ticket", &self.ticket.is_some())
            .field("is_renewable", &self.is_renewable)
            .field("was_refused", &self.was_refused)
            .finish()
    }
}
