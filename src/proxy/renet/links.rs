//! The links of the UDP adapter: their renet connections and their events.
//!
//! The module exchanges frames with renet and queues events for which the port has no room. It does not use the
//! socket or netcode. It does not end links by itself: its methods return false when a link has to end, and the
//! [`core`](super::core) ends it.
//!
//! Data flow: payload → guard → renet → frame → event → port; command → frame → renet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use renet::RenetServer;

use super::stats::RenetCounts;
use crate::ident::LinkId;
use crate::proxy::backlog::Backlog;
use crate::proxy::budget::Gauge;
use crate::proxy::port::PortSender;
use crate::proxy::{LinkEnd, LinkInfo, ProxyEvent, ProxyEventKind};
use crate::wire::udp::guard::{Content, PeerGuard};
use crate::wire::udp::send_queues::SendQueues;
use crate::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, connection_config};
use crate::wire::{FRAME_MAX_SERVER, Lane, lane_of};

/// All links of an adapter.
#[derive(Debug)]
pub(super) struct Links {
    /// The renet connections, by the number of the link.
    pub(super) renet: RenetServer,
    /// The counts of this turn of the loop.
    pub(super) tally: RenetCounts,
    table: BTreeMap<LinkId, Link>,
    by_client: BTreeMap<u64, LinkId>,
    by_address: BTreeMap<SocketAddr, LinkId>,
    next: u64,
    events: Backlog,
    /// The last link that was read. Reading continues behind it when there is room again, so that no link is always
    /// last.
    cursor: LinkId,
    /// Capacity of renet's reliable channel in bytes.
    reliable_room: usize,
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    /// The client id in netcode: a random number from the connect token.
    pub(super) client: u64,
    address: SocketAddr,
    guard: PeerGuard,
    queues: SendQueues,
    /// Reports to the tick how much has left the queues.
    gauge: Gauge,
    /// True if the last frame was queued. What the client sends is discarded.
    closing: bool,
    /// True if the reliable lane is not read.
    paused: bool,
    /// Number of payloads since the last batch.
    payload_count: usize,
    /// Number of frames read since the last batch.
    frame_count: usize,
    /// Bytes in the frames read since the last batch.
    frame_bytes: usize,
    /// True if reliable frames wait in renet for the next batch.
    unread: bool,
}

impl Link {
    /// Returns true if no more frames of the link are accepted until the next batch.
    fn has_said_enough(&self) -> bool {
        self.frame_count >= FRAMES_PER_BATCH_MAX || self.frame_bytes >= BYTES_PER_BATCH_MAX
    }

    fn note_frame(&mut self, bytes: usize) {
        self.frame_count += 1;
        self.frame_bytes += bytes;
    }
}

impl Links {
    pub(super) fn new() -> Self {
        let config = connection_config();
        let reliable_room = config
            .server_channels_config
            .iter()
            .find(|channel| channel.channel_id == CHANNEL_RELIABLE)
            .map_or(0, |channel| channel.max_memory_usage_bytes);
        Self {
            tally: RenetCounts::default(),
            table: BTreeMap::new(),
            by_client: BTreeMap::new(),
            by_address: BTreeMap::new(),
            next: 1,
            events: Backlog::default(),
            cursor: LinkId(0),
            reliable_room,
            renet: RenetServer::new(config),
        }
    }

    /// Returns the link of a source address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<LinkId> {
        self.by_address.get(&address).copied()
    }

    /// Returns the link of a netcode client.
    pub(super) fn of(&self, client: u64) -> Option<LinkId> {
        self.by_client.get(&client).copied()
    }

    /// Returns the netcode client of a link.
    pub(super) fn client(&self, link: LinkId) -> Option<u64> {
        self.table.get(&link).map(|link| link.client)
    }

    /// Returns all links with their netcode clients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, u64)> {
        self.table.iter().map(|(id, link)| (*id, link.client))
    }

    /// Returns true if any link is closing.
    pub(super) fn any_closing(&self) -> bool {
        self.table.values().any(|link| link.closing)
    }

    /// Returns true if there is room for events. While there is none, no link is opened and unreliable frames are
    /// dropped on arrival.
    pub(super) fn has_room(&self) -> bool {
        self.events.has_room()
    }

    /// Opens a link.
    pub(super) fn open(&mut self, client: u64, address: SocketAddr, identity: Option<String>, at: Duration) {
        let id = LinkId(self.next);
        self.next += 1;
        self.renet.add_connection(id.0);
        self.by_client.insert(client, id);
        self.by_address.insert(address, id);
        self.table.insert(
            id,
            Link {
                client,
                address,
                guard: PeerGuard::default(),
                queues: SendQueues::new(at),
                gauge: Gauge::default(),
                closing: false,
                paused: false,
                payload_count: 0,
                frame_count: 0,
                frame_bytes: 0,
                unread: false,
            },
        );
        self.tally.opened_count += 1;
        let info = LinkInfo { address: Some(address), identity, ..LinkInfo::default() };
        self.events.push(id, at, ProxyEventKind::Opened(info));
    }

    /// Removes a link after reading its reliable frames. If the link is paused or there is no room for events, the
    /// frames that were not read are lost.
    pub(super) fn end(&mut self, id: LinkId, end: LinkEnd, at: Duration) {
        self.read_reliable(id, at);
        let Some(link) = self.table.remove(&id) else {
            return;
        };
        self.by_client.remove(&link.client);
        self.by_address.remove(&link.address);
        self.renet.remove_connection(id.0);
        self.tally.closed_count += 1;
        let end = match end {
            LinkEnd::ByPeer if link.closing => LinkEnd::ByServer,
            end => end,
        };
        tracing::debug!(link = %id, address = %link.address, ?end, "udp link ended");
        self.events.push(id, at, ProxyEventKind::Closed(end));
    }

    /// Ends all links without reading from renet, whose state may be inconsistent after a panic. The frames in
    /// renet are lost. Link ids are not used again.
    pub(super) fn abandon(&mut self, at: Duration) {
        let links = std::mem::take(&mut self.table);
        self.by_client.clear();
        self.by_address.clear();
        self.renet = RenetServer::new(connection_config());
        self.tally.closed_count += links.len() as u64;
        for id in links.into_keys() {
            self.events.push(id, at, ProxyEventKind::Closed(LinkEnd::Failed));
        }
    }

    /// Handles a decrypted payload and reads the frames that it completes. Returns false if the link has to end.
    pub(super) fn payload(&mut self, id: LinkId, payload: &[u8], at: Duration) -> bool {
        let Some(link) = self.table.get_mut(&id) else {
            return true;
        };
        link.payload_count += 1;
        if link.payload_count > PAYLOADS_PER_BATCH_MAX {
            self.tally.guard_dropped_count += 1;
            return true;
        }
        let content = match link.guard.check(payload) {
            Ok(content) => content,
            Err(violation) => {
                self.tally.guard_closed_count += 1;
                tracing::debug!(link = %id, address = %link.address, %violation, "the client violated the rules of renet");
                return false;
            }
        };
        let is_unwanted =
            content == Content::Unreliable && (link.has_said_enough() || !self.events.has_room());
        if content == Content::Ack {
            link.queues.note_acks(at, payload);
        }
        if content == Content::Stale || is_unwanted {
            self.tally.guard_dropped_count += 1;
            return true;
        }
        // This fails only for links that are not in the table.
        let _ = self.renet.process_packet_from(payload, id.0);
        match content {
            Content::Reliable => self.read_reliable(id, at),
            Content::Unreliable => self.read_unreliable(id, at),
            Content::Ack | Content::Stale => {}
        }
        self.is_alive(id)
    }

    /// Returns true if renet has not disconnected the link.
    pub(super) fn is_alive(&self, id: LinkId) -> bool {
        self.renet.is_connected(id.0)
    }

    /// Queues a frame on the lane of its message id. Returns false if the link has to end.
    pub(super) fn send(&mut self, id: LinkId, frame: Bytes) -> bool {
        let unacked = self.unacked(id);
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else {
            return true;
        };
        link.gauge.take_in(frame.len());
        if frame.len() <= FRAME_MAX_SERVER {
            return link.queues.push(frame, unacked);
        }
        self.tally.unreliable_dropped_count += u64::from(lane_of(&frame) == Lane::Unreliable);
        lane_of(&frame) == Lane::Unreliable
    }

    /// Returns the packets to send on a link now. If the link `ends`, they contain everything that is queued;
    /// otherwise the link's window bounds them.
    pub(super) fn packets(&mut self, id: LinkId, now: Duration, ends: bool) -> Vec<Vec<u8>> {
        let unacked = self.unacked(id);
        let Some(link) = self.table.get_mut(&id) else {
            return Vec::new();
        };
        let frames = if ends { Some(link.queues.take_all()) } else { link.queues.take(now, unacked) };
        self.tally.unreliable_dropped_count += link.queues.take_dropped_count();
        if let Some(room) = link.gauge.report(link.queues.waiting_bytes()) {
            self.events.push(id, now, room);
        }
        let Some(frames) = frames else {
            return Vec::new();
        };
        for frame in frames {
            let channel =
                if lane_of(&frame) == Lane::Reliable { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
            self.renet.send_message(id.0, channel, frame);
        }
        let packets = self.renet.get_packets_to_send(id.0).unwrap_or_default();
        for packet in &packets {
            link.queues.note_sent(now, packet);
        }
        packets
    }

    /// Returns how many bytes of reliable frames renet holds for a link.
    fn unacked(&self, id: LinkId) -> usize {
        if !self.table.contains_key(&id) {
            return 0;
        }
        self.reliable_room.saturating_sub(self.renet.channel_available_memory(id.0, CHANNEL_RELIABLE))
    }

    /// Queues the last frame of a link and stops reading from it. Returns false if the link has to end at once, and
    /// true if it ends when it is [flushed](Self::flushed).
    pub(super) fn close(&mut self, id: LinkId, frame: Bytes, at: Duration) -> bool {
        let sent = self.send(id, frame);
        if let Some(link) = self.table.get_mut(&id) {
            link.closing = true;
        }
        self.read_reliable(id, at);
        sent
    }

    /// Pauses or unpauses the reliable lane of a link. While it is paused, its frames wait in renet.
    pub(super) fn pause(&mut self, id: LinkId, paused: bool, at: Duration) {
        if let Some(link) = self.table.get_mut(&id) {
            link.paused = paused;
            self.read_reliable(id, at);
        }
    }

    /// Returns the closing links that have nothing left to send.
    pub(super) fn flushed(&self) -> Vec<LinkId> {
        let flushed = |(id, link): (&LinkId, &Link)| {
            (link.closing && link.queues.is_empty() && self.unacked(*id) == 0).then_some(*id)
        };
        self.table.iter().filter_map(flushed).collect()
    }

    /// Begins a batch: resets the limits per batch of all links.
    pub(super) fn begin_batch(&mut self, at: Duration) {
        let mut unread = Vec::new();
        for (id, link) in &mut self.table {
            link.payload_count = 0;
            (link.frame_count, link.frame_bytes) = (0, 0);
            if std::mem::take(&mut link.unread) {
                unread.push(*id);
            }
        }
        for id in unread {
            self.read_reliable(id, at);
        }
        // These events are of links that this module has opened and ended itself.
        while self.renet.get_event().is_some() {}
    }

    /// Moves events to the port. If the port was full and has room again, reads the frames that wait in renet.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>, at: Duration) {
        if self.events.deliver(port) {
            self.read_on(at);
            self.events.deliver(port);
        }
    }

    /// Returns true if all events are in the port.
    pub(super) fn is_delivered(&self) -> bool {
        self.events.is_empty()
    }

    /// Reads the frames that wait in renet while there is room for events.
    fn read_on(&mut self, at: Duration) {
        let after = self.table.range((Bound::Excluded(self.cursor), Bound::Unbounded));
        let before = self.table.range(..=self.cursor);
        let order: Vec<LinkId> = after.chain(before).map(|(id, _)| *id).collect();
        for id in order {
            if !self.events.has_room() {
                self.events.choke();
                break;
            }
            self.read_reliable(id, at);
            self.cursor = id;
        }
    }

    fn read_reliable(&mut self, id: LinkId, at: Duration) {
        let Some(link) = self.table.get_mut(&id) else {
            return;
        };
        loop {
            if !link.closing && link.paused {
                break;
            }
            if !link.closing && !self.events.has_room() {
                self.events.choke();
                break;
            }
            if !link.closing && link.has_said_enough() {
                link.unread = true;
                break;
            }
            let Some(bytes) = self.renet.receive_message(id.0, CHANNEL_RELIABLE) else {
                break;
            };
            link.guard.note_read();
            link.note_frame(bytes.len());
            if !link.closing {
                self.events.frame(id, at, Lane::Reliable, bytes);
            }
        }
    }

    fn read_unreliable(&mut self, id: LinkId, at: Duration) {
        let Some(link) = self.table.get_mut(&id) else { return };
        while let Some(bytes) = self.renet.receive_message(id.0, CHANNEL_UNRELIABLE) {
            link.note_frame(bytes.len());
            if !link.closing {
                self.events.frame(id, at, Lane::Unreliable, bytes);
            }
        }
    }
}

/// Maximum number of payloads of a link between two batches. Further payloads are dropped. At the slowest tick
/// rate, a client at 60 Hz that uses all its limits sends 1,650. The maximum bounds the packets that renet has to
/// acknowledge.
const PAYLOADS_PER_BATCH_MAX: usize = 4_096;
/// Maximum number of frames of a link between two batches. Further reliable frames wait in renet's channel, and
/// further unreliable frames are dropped. A payload carries up to 256 frames. Without this maximum, one client
/// could use up the budget that all links of the adapter share.
const FRAMES_PER_BATCH_MAX: usize = 4_096;
/// Maximum number of bytes in these frames, which the last payload may exceed. It is the size of a full outbox, so
/// that a client can send its whole outbox again in one batch.
const BYTES_PER_BATCH_MAX: usize = crate::wire::OUTBOX_MAX_BYTES;

#[cfg(test)]
mod tests;
