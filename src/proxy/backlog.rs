//! Queues the events of an adapter while its port is full.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::port::{PortSender, SizeInBytes as _};
use super::{ProxyEvent, ProxyEventKind};
use crate::ident::LinkId;
use crate::wire::Lane;

/// Events of an adapter that are not in its port yet. The adapter keeps the bound: it reads from its transport only
/// while there is [room](Self::has_room).
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<ProxyEvent>,
    bytes: usize,
    /// True if something was left unread because the port or this queue had no room.
    choked: bool,
}

impl Backlog {
    /// Returns true if the adapter may read from its transport.
    pub(super) fn has_room(&self) -> bool {
        !self.choked && self.queue.len() < EVENTS_MAX && self.bytes < EVENTS_MAX_BYTES
    }

    /// Returns true if all events are in the port.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the number of waiting events.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Notes that something was left unread for lack of room. [`deliver`](Self::deliver) returns true when there is
    /// room again.
    pub(super) fn choke(&mut self) {
        self.choked = true;
    }

    pub(super) fn push(&mut self, link: LinkId, at: Duration, kind: ProxyEventKind) {
        let event = ProxyEvent { link, at, kind };
        self.bytes += event.size_in_bytes();
        self.queue.push_back(event);
    }

    pub(super) fn frame(&mut self, link: LinkId, at: Duration, lane: Lane, bytes: Bytes) {
        self.push(link, at, ProxyEventKind::Frame { lane, bytes });
    }

    /// Moves events to the port. Returns true if something was left unread and can be read now.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>) -> bool {
        let was_choked = self.choked;
        if !self.queue.is_empty() {
            let bytes = &mut self.bytes;
            port.send(&mut self.queue, |event| *bytes -= event.size_in_bytes());
        }
        self.choked = !self.queue.is_empty();
        was_choked && self.has_room()
    }
}

/// Number of events from which on the adapter stops reading: half of what the port holds. Opened, Closed and Room
/// events may exceed it. A link has at most seven of them, because the tick sends one link budget and then waits
/// for Room.
const EVENTS_MAX: usize = 65_536;
/// Bytes of events from which on the adapter stops reading.
const EVENTS_MAX_BYTES: usize = 16 * 1024 * 1024;
