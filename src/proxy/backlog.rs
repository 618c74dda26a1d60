//! What an adapter has yet to tell the tick.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::port::{PortSender, Weigh as _};
use super::{ProxyEvent, ProxyEventKind};
use crate::ident::LinkId;
use crate::wire::Lane;

/// Events on their way to the tick, of an adapter's thread. While its port is full they wait here,
/// within a bound that the adapter keeps by asking for [room](Self::has_room) before it reads.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<ProxyEvent>,
    bytes: usize,
    /// There was no room, in the port or here, and something was left unread.
    choked: bool,
}

impl Backlog {
    /// Whether the tick keeps up.
    pub(super) fn has_room(&self) -> bool {
        !self.choked && self.queue.len() < EVENTS_MAX && self.bytes < EVENTS_MAX_BYTES
    }

    /// Whether all events are with the tick.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Events that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Something was left unread for want of room: [`deliver`](Self::deliver) says when there is
    /// some again.
    pub(super) fn choke(&mut self) {
        self.choked = true;
    }

    pub(super) fn push(&mut self, link: LinkId, at: Duration, kind: ProxyEventKind) {
        let event = ProxyEvent { link, at, kind };
        self.bytes += event.weight();
        self.queue.push_back(event);
    }

    pub(super) fn frame(&mut self, link: LinkId, at: Duration, lane: Lane, bytes: Bytes) {
        self.push(link, at, ProxyEventKind::Frame { lane, bytes });
    }

    /// Hands events to the port. Whether what was left unread can be read now.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>) -> bool {
        let was_choked = self.choked;
        if !self.queue.is_empty() {
            let bytes = &mut self.bytes;
            port.send(&mut self.queue, |event| *bytes -= event.weight());
        }
        self.choked = !self.queue.is_empty();
        was_choked && self.has_room()
    }
}

/// Frames held while the port is full, or before it is asked: half of what the port holds. Openings, endings
/// and reports of room come on top: a link has seven of them at most, since the tick sends it one budget
/// until it has taken the reports.
const EVENTS_MAX: usize = 65_536;
/// Bytes of those.
const EVENTS_MAX_BYTES: usize = 16 * 1024 * 1024;
