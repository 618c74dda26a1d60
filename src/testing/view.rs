//! A view of the server's state of a session, for tests.

use std::time::Duration;

use super::Harness;
use crate::ident::{LinkKey, SessionId};
use crate::session::SessionCore;

/// The server's state of a client's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// The link that drives the session. `None` if the session has no link.
    pub link: Option<LinkKey>,
    /// The steady time at which a frame was last received on the link.
    pub heard: Option<Duration>,
    /// The number of counted frames that were received from the client, over all links.
    pub received: u64,
    /// The number of frames that wait for dispatch.
    pub waiting_count: usize,
    /// The number of counted frames that were queued for the client since the session began.
    pub sent: u64,
    /// The number of those frames that the client has acknowledged.
    pub acked: u64,
    /// The number of counted frames that the outbox holds.
    pub held_count: usize,
    /// The length of the outbox in bytes.
    pub held_bytes: usize,
    /// True if the outbox has overflowed. No counted frame is queued then until the client resumes.
    pub awaits_resync: bool,
}

impl Harness {
    /// Returns the server's state of a client's session, or `None` if the session has ended or is an agent.
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
