//! Carries out the commands of the tick.

use std::time::Duration;

use bytes::Bytes;

use super::Core;
use crate::ident::LinkId;
use crate::proxy::LinkEnd;
use crate::proxy::udp::Outgoing;
use crate::wire::v1::{Closed, Reason};
use crate::wire::{CLOSE_TIMEOUT, Frame};

impl Core {
    /// Queues a frame on a link. If the client does not read and the queue is full, the link ends.
    pub(super) fn send(&mut self, link: LinkId, frame: &Bytes, at: Duration) {
        let Some(handle) = self.links.of(link) else { return };
        let Some(peer) = self.links.get(handle).filter(|peer| !peer.closing) else { return };
        peer.pending = true;
        peer.gauge.take_in(frame.len());
        if !peer.lanes.send(frame, &mut peer.connection) {
            tracing::debug!(%link, "the client does not read what is sent; its link ends");
            self.links.tally.slow_count += 1;
            let now = self.instant(at);
            self.hang_up_on(handle, Reason::Slow as u32, LinkEnd::Failed, now, at);
        }
    }

    /// Queues the last frame, and closes the connection with the frame's reason when the frame is flushed.
    pub(super) fn close(&mut self, link: LinkId, frame: Bytes, at: Duration) {
        self.send(link, &frame, at);
        let Some(handle) = self.links.of(link) else { return };
        let Some(peer) = self.links.get(handle) else { return };
        let closed = Frame::parse(frame).and_then(|frame| frame.decode::<Closed>());
        peer.code = closed.map_or(0, |closed| closed.reason.cast_unsigned());
        peer.closing = true;
        peer.lanes.finish(peer.code, &mut peer.connection);
        // The link is served at once until it has closed.
        peer.busy_until = at + CLOSE_TIMEOUT;
        self.urgent.insert(handle.0);
        self.touched.insert(handle.0);
    }

    /// Ends a link at once. Sends before as much of the waiting data as possible.
    pub(super) fn cut(&mut self, link: LinkId, code: u32, end: LinkEnd, at: Duration, out: &mut Outgoing) {
        let Some(handle) = self.links.of(link) else { return };
        self.transmit(handle, at, out);
        let now = self.instant(at);
        self.hang_up_on(handle, code, end, now, at);
        self.transmit(handle, at, out);
    }

    /// Pauses or unpauses the reliable lane of a link. While it is paused, QUIC's flow control stops the client.
    pub(super) fn pause(&mut self, link: LinkId, paused: bool, at: Duration) {
        let Some(handle) = self.links.of(link) else { return };
        if let Some(peer) = self.links.get(handle) {
            peer.paused = paused;
        }
        self.look(handle, at);
    }
}
