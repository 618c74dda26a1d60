//! The connections of the QUIC adapter and their events.
//!
//! The module reads frames from connections and queues events for which the port has no room. It does not use the
//! socket or the endpoint. It does not close connections by itself: the [`core`](super::core) closes them.

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
use crate::wire::discovery::{QUIC, WEBTRANSPORT};
use crate::wire::quic::{Lanes, QuicKind};
use crate::wire::{FRAME_MAX_CLIENT, Lane};

/// All connections of an adapter.
#[derive(Debug)]
pub(super) struct Links {
    /// The counts of this turn of the loop.
    pub(super) tally: QuicCounts,
    /// The connections, by the number of their handle. The endpoint reuses small numbers.
    table: Vec<Option<Box<Peer>>>,
    by_id: BTreeMap<LinkId, ConnectionHandle>,
    last: u64,
    connection_count: usize,
    events: Backlog,
    /// The last link that was read. Reading continues behind it when there is room again, so that no link is always
    /// last.
    pub(super) cursor: LinkId,
}

/// One connection, from its first packet until it is drained.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) lanes: Lanes,
    /// Reports to the tick how much has left the lanes.
    pub(super) gauge: Gauge,
    /// The state of the connection for the tick.
    place: ConnectionState,
    /// True if the last frame was queued. Further frames are not read.
    pub(super) closing: bool,
    /// True if the client has violated the protocol. Further frames are not read.
    pub(super) violated: bool,
    /// True if the reliable lane is not read.
    pub(super) paused: bool,
    /// The close code: the number of a reason.
    pub(super) code: u32,
    /// True if the connection may have packets to send.
    pub(super) pending: bool,
    /// Time until which the connection is urgent.
    pub(super) busy_until: Duration,
    /// True if frames were left unread, because there was no room or because the batch had its maximum.
    unread: bool,
    /// Number of frames read since the last batch.
    frame_count: usize,
    /// Bytes in the frames read since the last batch.
    frame_bytes: usize,
}

/// The state of a connection for the tick. Only [`Links`] changes it, and only in the order of this list.
#[derive(Debug, Clone, Copy)]
enum ConnectionState {
    /// The connection counts as a handshake. It has to become a link by the deadline.
    HalfOpen(HalfOpen, Duration),
    /// The connection carries this link.
    Linked(LinkId),
    /// The link has ended, or the handshake has failed. No command applies to the connection.
    Over,
}

impl Peer {
    /// Returns the link of the connection, if it has one.
    pub(super) fn id(&self) -> Option<LinkId> {
        match self.place {
            ConnectionState::Linked(id) => Some(id),
            ConnectionState::HalfOpen(..) | ConnectionState::Over => None,
        }
    }

    /// Returns the deadline of the handshake, if the connection is not a link yet.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.place {
            ConnectionState::HalfOpen(_, deadline) => Some(deadline),
            ConnectionState::Linked(_) | ConnectionState::Over => None,
        }
    }

    /// Returns true if no more frames of the link are accepted until the next batch.
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
        // The endpoint does not reuse a handle in use. If it did, this would remove the old connection.
        self.remove(handle, deadline);
        if self.table.len() <= handle.0 {
            self.table.resize_with(handle.0 + 1, || None);
        }
        self.table[handle.0] = Some(Box::new(Peer {
            connection,
            lanes: Lanes::server(FRAME_MAX_CLIENT),
            gauge: Gauge::default(),
            place: ConnectionState::HalfOpen(half_open, deadline),
            closing: false,
            violated: false,
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

    /// Returns the connection of a link.
    pub(super) fn of(&mut self, link: LinkId) -> Option<ConnectionHandle> {
        let handle = *self.by_id.get(&link)?;
        let is_its_own = self.get(handle).is_some_and(|peer| peer.id() == Some(link));
        debug_assert!(is_its_own, "{link} has the connection of another link");
        is_its_own.then_some(handle)
    }

    /// Returns all handles that may be in use.
    pub(super) fn handles(&self) -> impl Iterator<Item = ConnectionHandle> + use<> {
        (0..self.table.len()).map(ConnectionHandle)
    }

    /// Returns the number of connections, including closed ones that are not drained.
    pub(super) fn connection_count(&self) -> usize {
        self.connection_count
    }

    /// Removes a drained connection. The caller has to [end](Self::end) it before. If the caller has not, which is
    /// a bug, this method ends it and returns the handshake to uncount, if there is one.
    pub(super) fn remove(&mut self, handle: ConnectionHandle, at: Duration) -> Option<HalfOpen> {
        let peer = self.get(handle)?;
        let is_over = matches!(peer.place, ConnectionState::Over);
        if !is_over {
            tracing::error!(link = ?peer.id(), "a connection was removed before its end; please report this bug");
        }
        debug_assert!(is_over, "a connection was removed before its end");
        let half_open = self.end(handle, LinkEnd::Failed, at);
        self.table[handle.0] = None;
        self.connection_count -= 1;
        half_open
    }

    /// Returns true if any link is closing.
    pub(super) fn any_closing(&self) -> bool {
        self.table.iter().flatten().any(|peer| peer.closing && peer.id().is_some())
    }

    /// Returns true if there is room for events. While there is none, no handshake begins.
    pub(super) fn has_room(&self) -> bool {
        self.events.has_room()
    }

    /// Makes a connection a link. Returns the handshake to uncount, or `None` if the connection is a link already
    /// or has ended.
    pub(super) fn open(
        &mut self,
        handle: ConnectionHandle,
        kind: QuicKind,
        at: Duration,
    ) -> Option<HalfOpen> {
        let id = LinkId(self.last + 1);
        let peer = self.get(handle)?;
        let ConnectionState::HalfOpen(half_open, _) = peer.place else { return None };
        peer.place = ConnectionState::Linked(id);
        let transport = match kind {
            QuicKind::Quic => QUIC,
            QuicKind::WebTransport => WEBTRANSPORT,
        };
        let (address, transport) = (Some(peer.connection.remote_address()), Some(transport));
        let info = LinkInfo { address, transport, ..LinkInfo::default() };
        self.last = id.0;
        self.by_id.insert(id, handle);
        match kind {
            QuicKind::Quic => self.tally.quic_opened_count += 1,
            QuicKind::WebTransport => self.tally.webtransport_opened_count += 1,
        }
        self.events.push(id, at, ProxyEventKind::Opened(info));
        Some(half_open)
    }

    /// Ends a connection and its link. Frames that were not read before are lost. If the connection has not become
    /// a link, returns its handshake to uncount.
    pub(super) fn end(&mut self, handle: ConnectionHandle, end: LinkEnd, at: Duration) -> Option<HalfOpen> {
        let peer = self.get(handle)?;
        let id = match std::mem::replace(&mut peer.place, ConnectionState::Over) {
            ConnectionState::HalfOpen(half_open, _) => return Some(half_open),
            ConnectionState::Linked(id) => id,
            ConnectionState::Over => return None,
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

    /// Counts a violation of the protocol. If the connection is a link, reports the violation to the gate, which
    /// closes the link.
    pub(super) fn violation(&mut self, handle: ConnectionHandle, what: &'static str, at: Duration) {
        self.tally.violation_count += 1;
        let Some(peer) = self.get(handle) else { return };
        if let Some(id) = peer.id()
            && !peer.closing
            && !std::mem::replace(&mut peer.violated, true)
        {
            self.events.push(id, at, ProxyEventKind::ProtocolViolation(what));
        }
    }

    /// Ends all links without reading their connections, whose state may be inconsistent after a panic. Link ids
    /// are not used again.
    pub(super) fn abandon(&mut self, at: Duration) {
        self.table.clear();
        self.connection_count = 0;
        let links = std::mem::take(&mut self.by_id);
        self.tally.closed_count += links.len() as u64;
        for id in links.into_keys() {
            self.events.push(id, at, ProxyEventKind::Closed(LinkEnd::Failed));
        }
    }

    /// Reads the frames of a connection. The caller has to poll the lanes for events afterwards.
    pub(super) fn read(&mut self, handle: ConnectionHandle, at: Duration) {
        let Some(peer) = self.table.get_mut(handle.0).and_then(Option::as_deref_mut) else { return };
        let Some(id) = peer.id().filter(|_| !peer.violated && !peer.closing) else { return };
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

    /// Begins a batch: resets the limits per batch of a connection. Returns true if frames were left unread because
    /// of these limits.
    pub(super) fn begin_batch(&mut self, handle: ConnectionHandle) -> bool {
        let Some(peer) = self.get(handle) else { return false };
        let had_enough = peer.unread && peer.has_said_enough();
        (peer.frame_count, peer.frame_bytes) = (0, 0);
        had_enough
    }

    /// Reports to the tick how much has left the lanes of a link, if that is enough for a report.
    pub(super) fn report_room(&mut self, handle: ConnectionHandle, at: Duration) {
        let Some(peer) = self.get(handle) else { return };
        let Some(id) = peer.id() else { return };
        if let Some(room) = peer.gauge.report(peer.lanes.unsent_bytes()) {
            self.events.push(id, at, room);
        }
    }

    /// Moves events to the port. Returns true if something was left unread and can be read now.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>) -> bool {
        self.events.deliver(port)
    }

    /// Returns the links with unread frames, beginning behind the cursor.
    pub(super) fn unread(&mut self) -> Vec<(LinkId, ConnectionHandle)> {
        let after = self.by_id.range((Bound::Excluded(self.cursor), Bound::Unbounded));
        let order: Vec<_> =
            after.chain(self.by_id.range(..=self.cursor)).map(|(id, at)| (*id, *at)).collect();
        order.into_iter().filter(|(_, at)| self.get(*at).is_some_and(|peer| peer.unread)).collect()
    }

    /// Returns true if all events are in the port.
    pub(super) fn is_delivered(&self) -> bool {
        self.events.is_empty()
    }
}

/// Maximum number of frames of a link between two batches. Further reliable frames wait, and of further unreliable
/// frames the oldest are dropped. At the slowest tick rate, a client at 60 Hz that uses all its limits sends 1,650.
const FRAMES_PER_BATCH_MAX: usize = 4_096;
/// Maximum number of bytes in these frames, which the last frame may exceed. It is the size of a full outbox, so
/// that a client can send its whole outbox again in one batch. Without this maximum, a client with a short round
/// trip could send megabytes between two ticks, because flow control grants new room with each round trip.
const BYTES_PER_BATCH_MAX: usize = crate::wire::OUTBOX_MAX_BYTES;
