//! What a client tells the game, in order, and what it refuses.

use std::collections::VecDeque;

use crate::ident::{MessageId, SessionId};
use crate::wire::v1::Reason;
use crate::wire::{FRAME_MAX_CLIENT, Frame};

/// What happened, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A new session; both counts start at 0 and it is in no zone.
    Connected {
        /// The session.
        session: SessionId,
    },
    /// The session has a link again.
    Resumed {
        /// The session: the same as before.
        session: SessionId,
        /// The server voided what was under way to this client: open requests are not answered,
        /// and what is known of the game is stale until its snapshot comes.
        resync: bool,
    },
    /// The session's link is gone. The client is already about to resume, unless
    /// [`Closed`](Self::Closed) follows.
    LinkLost,
    /// The session is over for this client. If no [`Closed`](Self::Closed) follows, the client asks
    /// for a new one.
    SessionLost {
        /// Reliable messages that the server never said it took. It may have taken some.
        unacked_count: u64,
        /// What the server said; none if it was not heard.
        reason: Option<Reason>,
    },
    /// A message from the server: read it with [`Frame::decode`]. Session messages (`Joined`,
    /// `Parted`, `Refused`, `Members`, `Notice`) and the game's.
    Message(Frame),
    /// The client has stopped; nothing follows. To play on, make a new client.
    Closed {
        /// What the server said; none if it was not heard.
        reason: Option<Reason>,
        /// More about it, for the log.
        detail: String,
    },
}

/// A message that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no session yet, or it is over.
    #[error("there is no session to send for: wait for Connected")]
    NoSession,
    /// The outbox holds 512 messages or 256 KiB that the server has not acknowledged.
    #[error("the outbox is full: send less often, or again once the server has acknowledged some")]
    Full,
    /// An unreliable message while the link is away, or while the link has no room: it is gone.
    #[error("the link takes no unreliable message now: send newer state with a later update")]
    Dropped,
    /// Longer than a server reads.
    #[error("message {id} takes {length} bytes, a client may send {FRAME_MAX_CLIENT}: split it")]
    TooLong {
        /// The message.
        id: MessageId,
        /// Length of its frame in bytes.
        length: usize,
    },
    /// Link control belongs to the client itself.
    #[error("message {0} is link control, which the client sends by itself")]
    LinkControl(MessageId),
    /// After [`bye`](super::Client::bye).
    #[error("the session is being ended: nothing more is sent")]
    Leaving,
}

/// Events that the game has not polled, within bounds.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<ClientEvent>,
    bytes: usize,
}

impl Events {
    pub(super) fn push(&mut self, event: ClientEvent) {
        self.bytes += weight(&event);
        self.queue.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<ClientEvent> {
        let event = self.queue.pop_front()?;
        self.bytes -= weight(&event);
        Some(event)
    }

    /// While this is so, the link is not read and none is dialled, so the queue outgrows its bounds
    /// by the end of a link at most.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= EVENTS_MAX || self.bytes >= EVENTS_MAX_BYTES
    }
}

fn weight(event: &ClientEvent) -> usize {
    match event {
        ClientEvent::Message(frame) => frame.body.len(),
        _ => 0,
    }
}

/// Events that wait to be polled: several outboxes' worth, so that a game which polls once a
/// frame never meets it.
pub const EVENTS_MAX: usize = 4_096;
/// Bytes of messages that wait to be polled: a server's outbox sixteen times.
pub const EVENTS_MAX_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_queue_is_full_by_count_or_by_bytes() {
        let mut many = Events::default();
        let mut heavy = Events::default();
        let frame = |bytes| Frame {
            id: MessageId::new(0x0100),
            body: Bytes::from(vec![0; bytes]),
        };

        for _ in 0..EVENTS_MAX {
            many.push(ClientEvent::LinkLost);
        }
        heavy.push(ClientEvent::Message(frame(EVENTS_MAX_BYTES)));

        assert!(many.is_full() && heavy.is_full());
        assert!(many.pop().is_some() && heavy.pop().is_some());
        assert!(!many.is_full() && !heavy.is_full());
    }
}
