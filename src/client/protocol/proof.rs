//! Holds the ticket for a new session.

use std::fmt;

/// The ticket for the next Hello, and what decides whether a refused ticket is replaced.
#[derive(Default)]
pub(super) struct Proof {
    ticket: Option<String>,
    /// True if another link may have another ticket.
    is_renewable: bool,
    /// True if the last Hello for a new session was denied as UNAUTHENTICATED.
    was_refused: bool,
}

impl Proof {
    pub(super) fn new(is_renewable: bool) -> Self {
        Self { is_renewable, ..Self::default() }
    }

    /// Stores the ticket of the current link.
    pub(super) fn take(&mut self, ticket: Option<&str>) {
        self.ticket = ticket.map(str::to_owned);
    }

    /// Returns the ticket for a Hello, or an empty text.
    pub(super) fn ticket(&self) -> String {
        self.ticket.clone().unwrap_or_default()
    }

    /// Notes that a Hello was denied as UNAUTHENTICATED. Returns true if the client should try once more with the
    /// ticket of another link, because this one may have been too old.
    pub(super) fn refused(&mut self) -> bool {
        let was_refused = std::mem::replace(&mut self.was_refused, true);
        self.is_renewable && !was_refused
    }

    /// Notes that a Hello was accepted.
    pub(super) fn accepted(&mut self) {
        self.ticket = None;
        self.was_refused = false;
    }
}

impl fmt::Debug for Proof {
    /// Omits the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("has_ticket", &self.ticket.is_some())
            .field("is_renewable", &self.is_renewable)
            .field("was_refused", &self.was_refused)
            .finish()
    }
}
