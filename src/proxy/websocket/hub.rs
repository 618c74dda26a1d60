//! The links of the WebSocket adapter: their send buffers and their events.
//!
//! The hub holds the data that waits for each client, and carries out the commands of the tick. It does not read
//! from sockets. Each link has a [task](super::link) that reads when the hub allows it, and that continues to write
//! when the socket did not accept everything at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::decoder::OpCode;
use super::output::Output;
use super::stats::WebSocketCounts;
use crate::ident::LinkId;
use crate::proxy::backlog::Backlog;
use crate::proxy::budget::Gauge;
use crate::proxy::port::PortSender;
use crate::proxy::{LinkEnd, LinkInfo, ProxyCommand, ProxyEvent, ProxyEventKind};
use crate::tick::Clock;
use crate::wire::v1::Closed;
use crate::wire::waiting::Waiting;
use crate::wire::{FRAME_MAX_SERVER, Frame, Lane, Range, id_of, lane_of};

/// The hub that the tasks of one thread share.
pub(super) type SharedHub = Rc<RefCell<Hub>>;

/// The writing half of the upgraded HTTP connection.
pub(super) type Socket = Box<dyn AsyncWrite + Unpin>;

/// All links of an adapter.
pub(super) struct Hub {
    /// The counts of this turn.
    pub(super) tally: WebSocketCounts,
    table: BTreeMap<LinkId, Link>,
    last: u64,
    events: Backlog,
    /// Links for which data was queued in this batch.
    dirty: Vec<LinkId>,
    /// Links that have reached their limits for this batch.
    sated: Vec<LinkId>,
    batch: u64,
    /// Notified when there are events.
    news: Rc<Notify>,
    clock: Clock,
    send_buffer_bytes: usize,
}

/// One link.
struct Link {
    address: Option<SocketAddr>,
    output: Output<Socket>,
    /// Unreliable frames that were sent while the socket was blocked.
    waiting: Waiting,
    /// Reports to the tick how much the socket has accepted.
    gauge: Gauge,
    /// True if the last write to the socket was pending.
    is_blocked: bool,
    /// The payload of the newest ping without an answer.
    ping: Option<Bytes>,
    wakers: Wakers,
    /// True if the closing message was queued. What the client sends is discarded.
    closing: bool,
    /// True if the tick was notified that the link has ended. Only the last bytes are still to be written.
    is_told: bool,
    paused: bool,
    taken: Taken,
}

/// How much was read from a client in one batch.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    batch: u64,
    /// Number of reads of the socket and of WebSocket frames of any kind.
    steps: usize,
    /// Number of bytes read from the socket.
    bytes: usize,
}

/// Wakes the two halves of a link's task.
#[derive(Debug, Clone, Default)]
pub(super) struct Wakers {
    pub(super) read: Rc<Notify>,
    pub(super) write: Rc<Notify>,
}

/// The hub's answer to the reader of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The reader may continue.
    Go,
    /// The reader has to wait until it is notified, and to ask again.
    Wait,
    /// The link has ended.
    Over,
}

impl Hub {
    pub(super) fn new(clock: Clock, send_buffer_bytes: usize, news: Rc<Notify>) -> Self {
        Self {
            tally: WebSocketCounts::default(),
            table: BTreeMap::new(),
            last: 0,
            events: Backlog::default(),
            dirty: Vec::new(),
            sated: Vec::new(),
            batch: 0,
            news,
            clock,
            send_buffer_bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns true if all events are in the port.
    pub(super) fn is_delivered(&self) -> bool {
        self.events.is_empty()
    }

    /// Opens a link.
    pub(super) fn open(&mut self, address: Option<SocketAddr>, socket: Socket) -> (LinkId, Wakers) {
        self.last += 1;
        let (id, wakers) = (LinkId(self.last), Wakers::default());
        let link = Link {
            address,
            output: Output::new(socket),
            waiting: Waiting::default(),
            gauge: Gauge::default(),
            is_blocked: false,
            ping: None,
            wakers: wakers.clone(),
            closing: false,
            is_told: false,
            paused: false,
            taken: Taken::default(),
        };
        self.table.insert(id, link);
        self.tally.opened_count += 1;
        self.tell(id, ProxyEventKind::Opened(LinkInfo { address, ..LinkInfo::default() }));
        (id, wakers)
    }

    /// Ends a link if it exists. Data that was not written is lost.
    pub(super) fn end(&mut self, id: LinkId, end: LinkEnd) {
        self.tell_end(id, end);
        let Some(link) = self.table.remove(&id) else { return };
        link.wakers.read.notify_one();
        link.wakers.write.notify_one();
    }

    /// Ends a link for the tick, and sends its client a close code. The link's task has to keep reading for a
    /// moment, because a socket that is closed with unread bytes may discard what was written.
    pub(super) fn conclude(&mut self, id: LinkId, code: u16, end: LinkEnd) {
        self.tell_end(id, end);
        let Some(link) = self.table.get_mut(&id) else { return };
        if !link.closing {
            link.closing = true;
            link.output.push_close(code);
        }
        link.write(self.clock.now());
    }

    /// Notifies the tick once that a link has ended.
    fn tell_end(&mut self, id: LinkId, end: LinkEnd) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.is_told) else { return };
        link.is_told = true;
        let end = if link.closing && end == LinkEnd::ByPeer { LinkEnd::ByServer } else { end };
        self.tally.closed_count += 1;
        tracing::debug!(link = %id, address = ?link.address, ?end, "WebSocket link ended");
        self.tell(id, ProxyEventKind::Closed(end));
    }

    /// Ends all links.
    pub(super) fn end_all(&mut self, end: LinkEnd) {
        while let Some(id) = self.table.keys().next().copied() {
            self.end(id, end);
        }
        self.dirty.clear();
    }

    /// Returns whether the reader of a link may read from the socket. The reader of a paused link may read until it
    /// has decoded a frame.
    pub(super) fn may_read(&mut self, id: LinkId) -> Reading {
        let Some(link) = self.table.get_mut(&id) else { return Reading::Over };
        if link.taken.batch != self.batch {
            link.taken = Taken { batch: self.batch, ..Taken::default() };
        }
        if link.taken.steps >= STEPS_PER_BATCH_MAX || link.taken.bytes >= BYTES_PER_BATCH_MAX {
            self.sated.push(id);
            return Reading::Wait;
        }
        Reading::Go
    }

    /// Counts the bytes that a link's reader has read.
    pub(super) fn has_read(&mut self, id: LinkId, bytes: usize) {
        if let Some(link) = self.table.get_mut(&id) {
            link.taken.steps += 1;
            link.taken.bytes += bytes;
        }
    }

    /// Returns whether the reader of a link may handle a decoded WebSocket frame of any kind. If the result is
    /// [`Reading::Go`], the frame is counted as a step.
    pub(super) fn may_take(&mut self, id: LinkId) -> Reading {
        let reading = self.may_read(id);
        let Some(link) = self.table.get_mut(&id) else { return Reading::Over };
        if reading != Reading::Go || (link.paused && !link.closing) {
            return Reading::Wait;
        }
        if !link.closing && !self.events.has_room() {
            self.events.choke();
            return Reading::Wait;
        }
        link.taken.steps += 1;
        Reading::Go
    }

    /// Begins a batch: resets the limits per batch of all links.
    pub(super) fn begin_batch(&mut self) {
        self.batch += 1;
        for link in self.sated.drain(..).filter_map(|id| self.table.get(&id)) {
            link.wakers.read.notify_one();
        }
    }

    /// Passes a frame of a client to the tick.
    pub(super) fn frame(&mut self, id: LinkId, bytes: Bytes) {
        if self.table.get(&id).is_some_and(|link| !link.closing) {
            // WebSocket has only the reliable lane.
            self.tell(id, ProxyEventKind::Frame { lane: Lane::Reliable, bytes });
        }
    }

    /// Reports to the tick that a client has violated the protocol.
    pub(super) fn violation(&mut self, id: LinkId, what: &'static str) {
        if self.table.get(&id).is_some_and(|link| !link.closing) {
            self.tally.violation_count += 1;
            self.tell(id, ProxyEventKind::ProtocolViolation(what));
        }
    }

    /// Notes a ping, which replaces an older ping without an answer (RFC 6455, section 5.5.3).
    pub(super) fn ping(&mut self, id: LinkId, said: Bytes) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else { return };
        if link.ping.replace(said).is_some() {
            self.tally.ping_skipped_count += 1;
        }
    }

    /// Answers the newest ping as soon as the socket accepts the answer.
    pub(super) fn answer_ping(&mut self, id: LinkId) {
        if let Some(link) = self.table.get_mut(&id).filter(|link| link.ping.is_some()) {
            link.write(self.clock.now());
            self.report_room(id);
        }
    }

    /// Carries out a command of the tick.
    pub(super) fn command(&mut self, command: ProxyCommand) {
        match command {
            ProxyCommand::Send { link, frame } => self.send(link, &frame),
            ProxyCommand::Close { link, frame } => self.close(link, &frame),
            ProxyCommand::Cut { link } => {
                if let Some(link) = self.table.get_mut(&link) {
                    link.write(self.clock.now());
                }
                self.end(link, LinkEnd::ByServer);
            }
            ProxyCommand::Pause { link } => self.pause(link, true),
            ProxyCommand::Unpause { link } => self.pause(link, false),
        }
    }

    fn send(&mut self, id: LinkId, frame: &Bytes) {
        let now = self.clock.now();
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else { return };
        link.gauge.take_in(frame.len());
        let fits = |link: &Link, max| link.output.waiting() + frame.len() <= max;
        // Beacons wait in order like reliable frames, because they carry acknowledgements.
        let is_state = lane_of(frame) == Lane::Unreliable
            && id_of(frame).is_none_or(|id| id.range() != Range::LinkControl);
        if is_state && link.is_blocked && frame.len() <= FRAME_MAX_SERVER {
            link.waiting.push(frame.clone());
            link.waiting.expire(now);
            self.tally.unreliable_dropped_count += link.waiting.take_dropped_count();
            return;
        }
        if is_state && !fits(link, UNRELIABLE_WAITING_MAX) {
            self.tally.unreliable_dropped_count += 1;
            return;
        }
        if !fits(link, self.send_buffer_bytes) {
            // The batch may contain several ticks, so the socket may not have been offered the data yet.
            link.write(now);
        }
        if frame.len() > FRAME_MAX_SERVER || !fits(link, self.send_buffer_bytes) {
            self.tally.slow_count += 1;
            self.end(id, LinkEnd::Failed);
            return;
        }
        if link.output.waiting() == 0 {
            self.dirty.push(id);
        }
        link.output.push(OpCode::Binary, frame);
    }

    /// Queues the last frame and the closing message of WebSocket with the same reason. The link stays open until
    /// the client has answered or disconnected.
    fn close(&mut self, id: LinkId, frame: &Bytes) {
        self.send(id, frame);
        if let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) {
            link.closing = true;
            link.output.push_close(close_code(frame));
            self.dirty.push(id);
            link.wakers.read.notify_one();
        }
    }

    fn pause(&mut self, id: LinkId, paused: bool) {
        if let Some(link) = self.table.get_mut(&id) {
            link.paused = paused;
            link.wakers.read.notify_one();
        }
    }

    /// Closes all links with the code for a server that ends.
    pub(super) fn go_away(&mut self) {
        for (id, link) in &mut self.table {
            if !link.closing {
                link.closing = true;
                link.output.push_close(GOING_AWAY);
                link.wakers.read.notify_one();
            }
            self.dirty.push(*id);
        }
        self.flush();
    }

    /// Writes the data that was queued in this batch, usually with one write per link.
    pub(super) fn flush(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(link) = self.table.get_mut(&id) {
                link.write(self.clock.now());
                self.report_room(id);
            }
        }
    }

    /// Continues to write, on behalf of a link's task. Returns `None` if the link has ended.
    pub(super) fn poll_write(
        &mut self,
        id: LinkId,
        context: &mut Context<'_>,
    ) -> Option<Poll<std::io::Result<()>>> {
        let now = self.clock.now();
        let link = self.table.get_mut(&id)?;
        let written = link.poll_write(now, context);
        self.tally.unreliable_dropped_count += link.waiting.take_dropped_count();
        self.report_room(id);
        Some(written)
    }

    /// Reports to the tick how much the socket of a link has accepted, if that is enough for a report.
    fn report_room(&mut self, id: LinkId) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.is_told) else { return };
        if let Some(room) = link.gauge.report(link.output.waiting() + link.waiting.bytes()) {
            self.tell(id, room);
        }
    }

    /// Moves events to the port. If the port was full and has room again, notifies the readers of all links.
    pub(super) fn deliver(&mut self, port: &PortSender<ProxyEvent>) {
        if self.events.deliver(port) {
            for link in self.table.values() {
                link.wakers.read.notify_one();
            }
        }
    }

    fn tell(&mut self, id: LinkId, kind: ProxyEventKind) {
        self.events.push(id, self.clock.now(), kind);
        self.news.notify_one();
    }
}

impl Link {
    /// Writes as much as the socket accepts now. If data is left or the write fails, notifies the link's task.
    fn write(&mut self, now: Duration) {
        let written = self.poll_write(now, &mut Context::from_waker(Waker::noop()));
        if !matches!(written, Poll::Ready(Ok(()))) {
            self.wakers.write.notify_one();
        }
    }

    /// Writes the output, then the answer to a ping, then the waiting unreliable frames that have not expired.
    /// Ready when nothing is left.
    fn poll_write(&mut self, now: Duration, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            let written = self.output.poll_write(context);
            self.is_blocked = written.is_pending();
            if !matches!(written, Poll::Ready(Ok(()))) || self.output.is_last() {
                return written;
            }
            if let Some(said) = self.ping.take() {
                self.output.push(OpCode::Pong, &said);
                continue;
            }
            self.waiting.expire(now);
            let Some(frame) = self.waiting.pop_within(usize::MAX) else { return written };
            self.output.push(OpCode::Binary, &frame);
        }
    }
}

/// Returns the close code for a last frame.
fn close_code(frame: &Bytes) -> u16 {
    let closed = Frame::parse(frame.clone()).and_then(|frame| frame.decode::<Closed>());
    let reason = closed.ok().and_then(|closed| u16::try_from(closed.reason).ok()).unwrap_or_default();
    CODES_FROM.saturating_add(reason)
}

/// The close code of a reason is the sum of this number and the number of the reason.
const CODES_FROM: u16 = 4_000;
/// The close code of a server that ends.
const GOING_AWAY: u16 = 1_001;
/// The close code that answers a close of the client.
pub(super) const NORMAL: u16 = 1_000;
/// Maximum number of steps of a link's reader between two ticks. A step is a read of the socket or a WebSocket
/// frame of any kind, including an empty one. The maximum is twice the number of frames in a full outbox, so a
/// client can send its whole outbox again even if each frame takes a read.
const STEPS_PER_BATCH_MAX: usize = 2 * crate::wire::OUTBOX_MAX_FRAMES;
/// Maximum number of bytes that are read from a client between two ticks, which the last read may exceed. It equals
/// the flow control window of a QUIC stream. A client sends no more than this before the tick can pause its link,
/// so there is room for other clients.
const BYTES_PER_BATCH_MAX: usize = 64 * 1024;
/// Unreliable frames are dropped while more than this number of bytes waits in the output. It is the amount that
/// renet sends in a tick. Frames that are sent while the socket is blocked wait separately.
const UNRELIABLE_WAITING_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests;
