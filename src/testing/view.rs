//! What the server keeps of a session, as tests look at it.

use std::time::Duration;

use super::Harness;
use crate::ident::{LinkKey, SessionId};
use crate::session::SessionCore;

/// What the server keeps of a client's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// The link that drives it.
    pub link: Option<LinkKey>,
    /// The steady time at which something was last received on the link.
    pub heard: Option<Duration>,
    /// Counted frames that were taken from the client, over all links.
    pub received: u64,
    /// Frames that wait for dispatch.
    pub waiting_count: usize,
    /// Counted frames queued for the client since the session began.
    pub sent: u64,
    /// Of these, how many the client has acknowledged.
    pub acked: u64,
    /// Counted frames that the outbox holds.
    pub held_count: usize,
    /// Bytes of them.
    pub held_bytes: usize,
    /// Nothing is queued until the client resumes, since the outbox has overflowed.
    pub awaits_resync: bool,
}

impl Harness {
    /// Returns what the server keeps of a client's session; `None` if the session has ended or is an agent's.
    #[must_use]
    pub fn view(&self, session: SessionId) -> Option<SessionView> {
        let core = self.component::<SessionCore>(session)?;
        let (outbox, inbox) = (core.outbox()?, core.inbox()?);
        Some(SessionView {
            link: core.link(),
            heard: core.last_received(),
            received: inbox.received(),
            waiting_count: inbox.frame_count(),
            sent: outbox.sent(),
            acked: outbox.acked(),
            held_count: outbox.frame_count(),
            held_bytes: outbox.bytes(),
            awaits_resync: outbox.awaits_resync(),
        })
    }
}
