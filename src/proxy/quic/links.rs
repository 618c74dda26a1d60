//! The connections of the QUIC adapter, and what the tick is told of them.
//!
//! It reads frames from connections and keeps the events that the port has no room for. It knows
//! neither sockets nor handshakes, and ends no connection by itself: the [`core`](super::core)
//! does, which has the endpoint.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use quinn_proto::{Connection, ConnectionHandle};

use super::admission::HalfOpen;
use super::stats::QuicCounts;
use crate::ident::LinkId;
use crate::proxy::backlog::Backlog;
use crate::proxy::budget::Gauge;
use crate::proxy::port::PortSender;
use crate::proxy::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
use crate::wire::quic::{Lanes, QuicKind};
use crate::wire::{FRAME_MAX_CLIENT, Lane};

/// All connections of an adapter.
#[derive(Debug)]
pub(super) struct Links {
    /// What is counted in this turn of the loop.
    pub(super) tally: QuicCounts,
    /// By the number of their handle, which the endpoint keeps small.
    table: Vec<Option<Box<Peer>>>,
    by_id: BTreeMap<LinkId, ConnectionHandle>,
    last: u64,
    connection_count: usize,
    events: Backlog,
    /// Where reading goes on when there is room again, so that no link is always the last.
    pub(super) cursor: LinkId,
}

/// One connection, from its first packet until nothing more can come of it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) lanes: Lanes,
    /// What left the lanes, for the tick to know.
    pub(super) gauge: Gauge,
    /// What it is to the tick.
    place: Place,
    /// The last frame was sent, and nothing more is read.
    pub(super) closing: bool,
    /// Its client broke the rules, and nothing more is read.
    pub(super) breached: bool,
    /// The reliable lane is not read.
    pub(super) paused: bool,
    /// What it is told when it is closed: the number of a reason.
    pub(super) code: u32,
    /// It may have something to send.
    pub(super) pending: bool,
    /// So much was written of late that it sends whenever it can, not only once a tick.
    pub(super) busy_until: Duration,
    /// Something was left unread: for want of room, or because it was too much for one batch.
    unread: bool,
    /// Frames taken since the last batch, and their bytes.
    frame_count: usize,
    frame_bytes: usize,
}

/// What a connection is to the tick. It changes in [`Links`] only, and only down this list.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It is no link yet, is counted as such, and must have become one by the deadline.
    HalfOpen(HalfOpen, Duration),
    /// It is the connection of this link.
    Linked(LinkId),
    /// Its link has ended, or it never became one. No command reaches it any more.
    Over,
}

impl Peer {
    /// Its link, while it has one.
    pub(super) fn id(&self) -> Option<LinkId> {
        match self.place {
            Place::Linked(id) => Some(id),
            Place::HalfOpen(..) | Place::Over => None,
        }
    }

    /// The time by which it must have become a link, or it is closed.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.place {
            Place::HalfOpen(_, deadline) => Some(deadline),
            Place::Linked(_) | Place::Over => None,
        }
    }

    /// Whether a link may send no more until the next batch.
    fn has_said_enough(&self) -> bool {
        self.frame_count >= FRAMES_PER_BATCH_MAX || self.frame_bytes >= BYTES_PER_BATCH_MAX
    }
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            tally: QuicCounts::default(),
            table: Vec::new(),
            by_id: BTreeMap::new(),
            last: 0,
            connection_count: 0,
            events: Backlog::default(),
            cursor: LinkId(0),
        }
    }

    /// Adds a connection whose handshake has begun.
    pub(super) fn insert(
        &mut self,
        handle: ConnectionHandle,
        connection: Connection,
        half_open: HalfOpen,
        deadline: Duration,
    ) {
        // The endpoint gives away no handle that is in use; if it did, nothing would be left behind.
        self.remove(handle, deadline);
        if self.table.len() <= handle.0 {
            self.table.resize_with(handle.0 + 1, || None);
        }
        self.table[handle.0] = Some(Box::new(Peer {
            connection,
            lanes: Lanes::server(FRAME_MAX_CLIENT),
            gauge: Gauge::default(),
            place: Place::HalfOpen(half_open, deadline),
            closing: false,
            breached: false,
            paused: false,
            code: 0,
            pending: true,
            busy_until: Duration::ZERO,
            unread: false,
            frame_count: 0,
            frame_bytes: 0,
        }));
        self.connection_count += 1;
        self.tally.handshake_count += 1;
    }

    pub(super) fn get(&mut self, handle: ConnectionHandle) -> Option<&mut Peer> {
        self.table.get_mut(handle.0)?.as_deref_mut()
    }

    /// The connection of a link, and of no other.
    pub(super) fn of(&mut self, link: LinkId) -> Option<ConnectionHandle> {
        let handle = *self.by_id.get(&link)?;
        let is_its_own = self.get(handle).is_some_and(|peer| peer.id() == Some(link));
        debug_assert!(is_its_own, "{link} has the connection of another");
        is_its_own.then_some(handle)
    }

    /// All connections there may be.
    pub(super) fn handles(&self) -> impl Iterator<Item = ConnectionHandle> + use<> {
        (0..self.table.len()).map(ConnectionHandle)
    }

    /// Connections, those that are over but not forgotten yet included.
    pub(super) fn connection_count(&self) -> usize {
        self.connection_count
    }

    /// Frees the place of a connection of which nothing more can come. The caller has
    /// [ended](Self::end) it before; if not, which would be a bug, it is ended here, so that no link
    /// is left behind. Returns the handshake to be uncounted then.
    pub(super) fn remove(&mut self, handle: ConnectionHandle, at: Duration) -> Option<HalfOpen> {
        let peer = self.get(handle)?;
        let is_over = matches!(peer.place, Place::Over);
        if !is_over {
            tracing::error!(link = ?peer.id(), "a connection was to be forgotten before its end: report a bug");
        }
        debug_assert!(is_over, "a connection was to be forgotten before its end");
        let half_open = self.end(handle, LinkEnd::Failed, at);
        self.table[handle.0] = None;
        self.connection_count -= 1;
        half_open
    }

    /// Whether links are held until they are flushed.
    pub(super) fn any_closing(&self) -> bool {
        self.table.iter().flatten().any(|peer| peer.closing && peer.id().is_some())
    }

    /// Whether the tick keeps up. While it does not, no handshake is begun.
    pub(super) fn has_room(&self) -> bool {
        self.events.has_room()
    }

    /// A connection has become a link, and its handshake is to be uncounted. `None`, without a link,
    /// if it was one before, or has ended.
    pub(super) fn open(
        &mut self,
        handle: ConnectionHandle,
        kind: QuicKind,
        at: Duration,
    ) -> Option<HalfOpen> {
        let id = LinkId(self.last + 1);
        let peer = self.get(handle)?;
        let Place::HalfOpen(half_open, _) = peer.place else { return None };
        peer.place = Place::Linked(id);
        let info = LinkInfo { address: Some(peer.connection.remote_address()), identity: None };
        self.last = id.0;
        self.by_id.insert(id, handle);
        match kind {
            QuicKind::Quic => self.tally.quic_opened_count += 1,
            QuicKind::WebTransport => self.tally.webtransport_opened_count += 1,
        }
        self.events.push(id, at, ProxyEventKind::Opened(info));
        Some(half_open)
    }

    /// A connection is over, and its link, after what that delivered before; of a paused one, or one
    /// that found no room, what was not read yet is lost, as it is with a link that breaks. Returns
    /// the handshake to be uncounted, if it did not become a link.
    pub(super) fn end(&mut self, handle: ConnectionHandle, end: LinkEnd, at: Duration) -> Option<HalfOpen> {
        let peer = self.get(handle)?;
        let id = match std::mem::replace(&mut peer.place, Place::Over) {
            Place::HalfOpen(half_open, _) => return Some(half_open),
            Place::Linked(id) => id,
            Place::Over => return None,
        };
        let end = match end {
            LinkEnd::ByPeer if peer.closing => LinkEnd::ByServer,
            end => end,
        };
        tracing::debug!(link = %id, address = %peer.connection.remote_address(), ?end, "quic link ended");
        self.by_id.remove(&id);
        self.tally.closed_count += 1;
        self.events.push(id, at, ProxyEventKind::Closed(end));
        None
    }

    /// The client did what no client does: the gate is told, and closes the link.
    pub(super) fn breach(&mut self, handle: ConnectionHandle, what: &'static str, at: Duration) {
        self.tally.breach_count += 1;
        let Some(peer) = self.get(handle) else { return };
        if let Some(id) = peer.id()
            && !peer.closing
            && !std::mem::replace(&mut peer.breached, true)
        {
            self.events.push(id, at, ProxyEventKind::Breach(what));
        }
    }

    /// Ends all links without a look at their connections, whose state nobody can trust after a
    /// panic. Numbers of links are not used again.
    pub(super) fn abandon(&mut self, at: Duration) {
        self.table.clear();
        self.connection_count = 0;
        let links = std::mem::take(&mut self.by_id);
        self.tally.closed_count += links.len() as u64;
        for id in links.into_keys() {
            self.events.push(id, at, ProxyEventKind::Closed(LinkEnd::Failed));
        }
    }

    /// Takes the frames that a connection has. Who owns it looks what happened afterwards.
    pub(super) fn read(&mut self, handle: ConnectionHandle, at: Duration) {
        let Some(peer) = self.table.get_mut(handle.0).and_then(Option::as_deref_mut) else { return };
        let Some(id) = peer.id().filter(|_| !peer.breached && !peer.closing) else { return };
        peer.unread = false;
        for lane in [Lane::Reliable, Lane::Unreliable] {
            while !(lane == Lane::Reliable && peer.paused) {
                if !self.events.has_room() {
                    self.events.choke();
                    peer.unread = true;
                    return;
                }
                if peer.has_said_enough() {
                    peer.unread = true;
                    return;
                }
                let Some(bytes) = peer.lanes.receive(lane, &mut peer.connection) else { break };
                peer.frame_count += 1;
                peer.frame_bytes += bytes.len();
                peer.pending = true;
                self.events.frame(id, at, lane, bytes);
            }
        }
    }

    /// Begins a batch: what a connection may do in one, it may do again. Whether it has something
    /// that was left unread.
    pub(super) fn begin_batch(&mut self, handle: ConnectionHandle) -> bool {
        let Some(peer) = self.get(handle) else { return false };
        let had_enough = peer.unread && peer.has_said_enough();
        (peer.frame_count, peer.frame_bytes) = (0, 0);
        had_enough
    }

    /// Tells the tick how much a link has been able to send, if that is enough to tell.
    pub(super) fn report_room(&mut self, handle: ConnectionHandle, at: Duration) {
        let Some(peer) = self.get(handle) else { return };
        let Some(id) = peer.id() else { return };
        if let Some(room) = peer.gauge.report(peer.lanes.unsent_bytes()) {
            self.events.push(id, at, room);
        }
    }

    /// Hands events to the port. Whether there is room again for what was left unread.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>) -> bool {
        self.events.deliver(port)
    }

    /// Links of which something was left unread, those first that were not served last.
    pub(super) fn unread(&mut self) -> Vec<(LinkId, ConnectionHandle)> {
        let after = self.by_id.range((Bound::Excluded(self.cursor), Bound::Unbounded));
        let order: Vec<_> =
            after.chain(self.by_id.range(..=self.cursor)).map(|(id, at)| (*id, *at)).collect();
        order.into_iter().filter(|(_, at)| self.get(*at).is_some_and(|peer| peer.unread)).collect()
    }

    /// Whether all events are with the tick.
    pub(super) fn is_delivered(&self) -> bool {
        self.events.is_empty()
    }
}

/// Frames that a link may send from one batch to the next; what is reliable waits beyond that, and
/// of the rest the oldest is lost. A client that sends all it may at 60 Hz sends 1,650 from one
/// batch to the next at the slowest tick rate.
const FRAMES_PER_BATCH_MAX: usize = 4_096;
/// Their bytes: an outbox, so that a replay passes at once. As flow control gives new room with each
/// round trip, a client nearby could otherwise make the tick hold megabytes more each time.
const BYTES_PER_BATCH_MAX: usize = crate::wire::OUTBOX_MAX_BYTES;
