//! The events that a client reports to its game, and the errors of sending.

use std::collections::VecDeque;

use crate::ident::{MessageId, SessionId};
use crate::wire::v1::Reason;
use crate::wire::{FRAME_MAX_CLIENT, Frame};

/// An event of a client. [`Client::poll`](super::Client::poll) returns events in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A new session is open. It is in no zone, and both counts of reliable messages are 0.
    Connected {
        /// Id of the session.
        session: SessionId,
    },
    /// The session was resumed and has a link again.
    Resumed {
        /// Id of the session, as before.
        session: SessionId,
        /// True if the resume was a resync. Messages that were in flight to this client are then lost, and open
        /// requests are not answered. The state of the game is stale until the server's game sends it anew.
        resync: bool,
    },
    /// The session has lost its link. The client tries to resume the session, unless [`Closed`](Self::Closed)
    /// follows.
    LinkLost,
    /// The session is over for this client. The client tries to open a new session, unless
    /// [`Closed`](Self::Closed) follows.
    SessionLost {
        /// Number of reliable messages that the server has not acknowledged. It may have received some of them.
        unacked_count: u64,
        /// Reason that the server gave, or `PROTOCOL` if the server broke the protocol. `None` without a reason.
        reason: Option<Reason>,
    },
    /// A message from the server, which [`Frame::decode`] reads: a session message (`Joined`,
    /// `Parted`, `Refused`, `Members`, `Notice`) or a message of the game.
    Message(Frame),
    /// The client has stopped, and no event follows. To play on, create another client.
    Closed {
        /// Reason that the server gave, or `PROTOCOL` if the server broke the protocol. `None` without a reason.
        reason: Option<Reason>,
        /// Explanation for the log.
        detail: String,
    },
}

/// The reason why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The client has no session yet, or the session is over.
    #[error("the client has no session: wait for ClientEvent::Connected")]
    NoSession,
    /// The outbox has no room: it holds at most 512 messages and 256 KiB that the server has not acknowledged.
    #[error("the outbox is full: send less often, or try again when the server has acknowledged messages")]
    Full,
    /// An unreliable message was dropped, because there is no link or the link has no room.
    #[error("the link takes no unreliable message now: send newer state after a later update")]
    Dropped,
    /// The message is longer than the 16 KiB that a client may send.
    #[error("message {id} takes {length} bytes, but a client may send at most {FRAME_MAX_CLIENT}: split it")]
    TooLong {
        /// Id of the message.
        id: MessageId,
        /// Length of the frame in bytes.
        length: usize,
    },
    /// The message is link control, which only the client itself sends.
    #[error("message {0} is link control, which the client sends by itself")]
    LinkControl(MessageId),
    /// [`Client::bye`](super::Client::bye) was called.
    #[error("the session is ending after Client::bye: send messages before it")]
    Leaving,
}

/// A bounded queue of the events that the game has not polled.
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

    /// Returns true if the queue has reached a bound. The client then neither reads its link nor dials, so
    /// only the events at the end of a link can exceed the bound.
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

/// The client stops reading its link while at least this many events wait to be polled. A game that polls once
/// per frame does not reach this number, because a server's outbox holds 512 frames by default.
pub const EVENTS_MAX: usize = 4_096;
/// The client stops reading its link while messages of at least this many bytes wait to be polled. The number
/// is 16 times the default size of a server's outbox.
pub const EVENTS_MAX_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_queue_is_full_by_count_or_by_bytes() {
        let mut many = Events::default();
        let mut heavy = Events::default();
        let frame = |bytes| Frame { id: MessageId::new(0x0100), body: Bytes::from(vec![0; bytes]) };

        for _ in 0..EVENTS_MAX {
            many.push(ClientEvent::LinkLost);
        }
        heavy.push(ClientEvent::Message(frame(EVENTS_MAX_BYTES)));

        assert!(many.is_full() && heavy.is_full());
        assert!(many.pop().is_some() && heavy.pop().is_some());
        assert!(!many.is_full() && !heavy.is_full());
    }
}
