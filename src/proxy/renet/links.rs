//! The links of the UDP adapter: renet's connections, and what the tick is told of them.
//!
//! It gives frames to renet and takes them from it, and keeps the events that the port has no
//! room for. It knows neither sockets nor netcode, and ends no link by itself: who finds that
//! one is to end says so to the [`core`](super::core), which has netcode.
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
use crate::wire::udp::outlet::Outlet;
use crate::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, connection_config};
use crate::wire::{FRAME_MAX_SERVER, Lane, lane_of};

/// All links of an adapter.
#[derive(Debug)]
pub(super) struct Links {
    /// Connections by the number of their link.
    pub(super) renet: RenetServer,
    /// What is counted in this turn of the loop.
    pub(super) tally: RenetCounts,
    table: BTreeMap<LinkId, Link>,
    by_client: BTreeMap<u64, LinkId>,
    by_address: BTreeMap<SocketAddr, LinkId>,
    next: u64,
    events: Backlog,
    /// Where reading goes on when there is room again, so that no link is always the last.
    cursor: LinkId,
    /// What renet's reliable channel holds when it holds nothing.
    reliable_room: usize,
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    /// netcode's id of it: random, from the connect token.
    pub(super) client: u64,
    address: SocketAddr,
    guard: PeerGuard,
    outlet: Outlet,
    /// What left the outlet, for the tick to know.
    gauge: Gauge,
    /// The last frame was sent, and nothing more is read.
    closing: bool,
    /// The reliable lane is not read.
    paused: bool,
    /// Payloads taken since the last batch.
    payload_count: usize,
    /// Frames read since the last batch, and their bytes.
    frame_count: usize,
    frame_bytes: usize,
    /// Reliable frames were left with renet until the next batch.
    unread: bool,
}

impl Link {
    /// Whether the tick takes nothing more from the link until the next batch.
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

    /// The link of a source address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<LinkId> {
        self.by_address.get(&address).copied()
    }

    /// The link of a netcode client.
    pub(super) fn of(&self, client: u64) -> Option<LinkId> {
        self.by_client.get(&client).copied()
    }

    /// The netcode client of a link.
    pub(super) fn client(&self, link: LinkId) -> Option<u64> {
        self.table.get(&link).map(|link| link.client)
    }

    /// All links, with their netcode clients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, u64)> {
        self.table.iter().map(|(id, link)| (*id, link.client))
    }

    /// Whether links are held until they are flushed.
    pub(super) fn any_closing(&self) -> bool {
        self.table.values().any(|link| link.closing)
    }

    /// Whether the tick keeps up. While it does not, no link is opened, and unreliable frames are
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
                outlet: Outlet::new(at),
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
        let info = LinkInfo { address: Some(address), identity };
        self.events.push(id, at, ProxyEventKind::Opened(info));
    }

    /// Forgets a link, after what it delivered before; of a paused one, or one that found no room,
    /// what was not read yet is lost, as it is with a link that breaks.
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

    /// Ends all links without a look at renet, whose state nobody can trust after a panic: what it
    /// still held is lost, as with a link that breaks. Numbers of links are not used again.
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

    /// Takes a decrypted payload, and reads what it completes. Whether the link may live on.
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
            Err(breach) => {
                self.tally.guard_closed_count += 1;
                tracing::debug!(link = %id, address = %link.address, %breach, "the client broke renet's rules");
                return false;
            }
        };
        let is_unwanted =
            content == Content::Unreliable && (link.has_said_enough() || !self.events.has_room());
        if content == Content::Ack {
            link.outlet.note_acks(at, payload);
        }
        if content == Content::Stale || is_unwanted {
            self.tally.guard_dropped_count += 1;
            return true;
        }
        // Only a link that is not in the table has no connection.
        let _ = self.renet.process_packet_from(payload, id.0);
        match content {
            Content::Reliable => self.read_reliable(id, at),
            Content::Unreliable => self.read_unreliable(id, at),
            Content::Ack | Content::Stale => {}
        }
        self.is_alive(id)
    }

    /// Whether renet has not given the link up.
    pub(super) fn is_alive(&self, id: LinkId) -> bool {
        self.renet.is_connected(id.0)
    }

    /// Queues a frame on the lane that its id says. Whether the link may live on.
    pub(super) fn send(&mut self, id: LinkId, frame: Bytes) -> bool {
        let unacked = self.unacked(id);
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else {
            return true;
        };
        link.gauge.take_in(frame.len());
        if frame.len() <= FRAME_MAX_SERVER {
            return link.outlet.push(frame, unacked);
        }
        self.tally.unreliable_dropped_count += u64::from(lane_of(&frame) == Lane::Unreliable);
        lane_of(&frame) == Lane::Unreliable
    }

    /// The packets that are to be sent to a link now. The last ones of a link that `ends` are all that
    /// there is to send; otherwise the link's window bounds them.
    pub(super) fn packets(&mut self, id: LinkId, now: Duration, ends: bool) -> Vec<Vec<u8>> {
        let unacked = self.unacked(id);
        let Some(link) = self.table.get_mut(&id) else {
            return Vec::new();
        };
        let frames = if ends { Some(link.outlet.take_all()) } else { link.outlet.take(now, unacked) };
        self.tally.unreliable_dropped_count += link.outlet.take_dropped_count();
        if let Some(room) = link.gauge.report(link.outlet.waiting_bytes()) {
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
            link.outlet.note_sent(now, packet);
        }
        packets
    }

    /// What renet holds of a link's reliable frames, in bytes.
    fn unacked(&self, id: LinkId) -> usize {
        if !self.table.contains_key(&id) {
            return 0;
        }
        self.reliable_room.saturating_sub(self.renet.channel_available_memory(id.0, CHANNEL_RELIABLE))
    }

    /// Queues the last frame of a link, and reads no more from it. Whether the link may live on
    /// until it is [flushed](Self::flushed).
    pub(super) fn close(&mut self, id: LinkId, frame: Bytes, at: Duration) -> bool {
        let sent = self.send(id, frame);
        if let Some(link) = self.table.get_mut(&id) {
            link.closing = true;
        }
        self.read_reliable(id, at);
        sent
    }

    /// Reads the reliable lane of a link, or leaves it to renet.
    pub(super) fn pause(&mut self, id: LinkId, paused: bool, at: Duration) {
        if let Some(link) = self.table.get_mut(&id) {
            link.paused = paused;
            self.read_reliable(id, at);
        }
    }

    /// Links that are closing and have nothing more to send.
    pub(super) fn flushed(&self) -> Vec<LinkId> {
        let flushed = |(id, link): (&LinkId, &Link)| {
            (link.closing && link.outlet.is_empty() && self.unacked(*id) == 0).then_some(*id)
        };
        self.table.iter().filter_map(flushed).collect()
    }

    /// Begins a batch: what a link may do in one, it may do again.
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
        // Opening and ending are noted here already.
        while self.renet.get_event().is_some() {}
    }

    /// Hands events to the port. If it was full before and has room now, reads on.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>, at: Duration) {
        if self.events.deliver(port) {
            self.read_on(at);
            self.events.deliver(port);
        }
    }

    /// Whether all events are with the tick.
    pub(super) fn is_delivered(&self) -> bool {
        self.events.is_empty()
    }

    /// Reads what was left with renet, for as long as there is room.
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

/// Payloads that a link may send from one batch to the next; further ones are lost, as in a full
/// socket. A client that sends all it may at 60 Hz sends 1,650 from one batch to the next at the
/// slowest tick rate. It bounds what renet remembers of packets that it has yet to acknowledge.
const PAYLOADS_PER_BATCH_MAX: usize = 4_096;
/// Frames that a link hands to the tick from one batch to the next. Reliable ones beyond wait in renet's
/// channel, and unreliable ones are dropped. A payload carries up to 256 of them, so without this bound
/// one client could fill what the tick takes from all links of the adapter.
const FRAMES_PER_BATCH_MAX: usize = 4_096;
/// Their bytes, and a payload more: an outbox, so that a replay passes at once.
const BYTES_PER_BATCH_MAX: usize = crate::wire::OUTBOX_MAX_BYTES;
#[cfg(test)]
mod tests;
