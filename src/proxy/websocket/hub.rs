//! The links of the WebSocket adapter, and what the tick is told of them.
//!
//! It holds what waits for each client, and does what the tick commands. It does not read: each
//! link has a [task](super::link) for that, which asks here whether it may, and which goes on with
//! writing where a socket did not take all at once.

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

/// The hub, as the tasks of one thread share it.
pub(super) type SharedHub = Rc<RefCell<Hub>>;

/// The writing half of whatever HTTP ran over.
pub(super) type Socket = Box<dyn AsyncWrite + Unpin>;

/// All links of an adapter.
pub(super) struct Hub {
    /// What is counted in this turn.
    pub(super) tally: WebSocketCounts,
    table: BTreeMap<LinkId, Link>,
    last: u64,
    events: Backlog,
    /// Links that something was queued for in this batch.
    dirty: Vec<LinkId>,
    /// Links that have sent all they may in this batch.
    sated: Vec<LinkId>,
    batch: u64,
    /// Says that there are events.
    news: Rc<Notify>,
    clock: Clock,
    send_buffer_bytes: usize,
}

/// One link.
struct Link {
    address: Option<SocketAddr>,
    output: Output<Socket>,
    /// Unreliable frames that came while the socket took nothing.
    waiting: Waiting,
    /// What the socket has taken, for the tick to know.
    gauge: Gauge,
    /// The socket took nothing when it was last asked.
    is_blocked: bool,
    /// What the newest ping said that is not answered.
    ping: Option<Bytes>,
    wakers: Wakers,
    /// The last frame was sent, and what is read is dropped.
    closing: bool,
    /// The tick knows that the link has ended. Only its last bytes are to leave.
    is_told: bool,
    paused: bool,
    taken: Taken,
}

/// What was read of a client in one batch.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    batch: u64,
    /// Reads of the socket, and frames of any kind.
    steps: usize,
    /// Bytes of the socket, whatever they say.
    bytes: usize,
}

/// Wakes the two halves of a link's task.
#[derive(Debug, Clone, Default)]
pub(super) struct Wakers {
    pub(super) read: Rc<Notify>,
    pub(super) write: Rc<Notify>,
}

/// What a link's reader may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Go on.
    Go,
    /// Wait until it is woken, and ask again.
    Wait,
    /// There is no such link any more.
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

    /// Whether all events are with the tick.
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
        self.tell(id, ProxyEventKind::Opened(LinkInfo { address, identity: None }));
        (id, wakers)
    }

    /// Ends a link, if it is there: what its client has not taken is lost.
    pub(super) fn end(&mut self, id: LinkId, end: LinkEnd) {
        self.tell_end(id, end);
        let Some(link) = self.table.remove(&id) else { return };
        link.wakers.read.notify_one();
        link.wakers.write.notify_one();
    }

    /// Ends a link for the tick, and says to its client that WebSocket is over. The link's task is to
    /// read on for a moment: a socket that is closed with bytes unread may discard what was written.
    pub(super) fn conclude(&mut self, id: LinkId, code: u16, end: LinkEnd) {
        self.tell_end(id, end);
        let Some(link) = self.table.get_mut(&id) else { return };
        if !link.closing {
            link.closing = true;
            link.output.push_close(code);
        }
        link.write(self.clock.now());
    }

    /// Tells the tick once that a link has ended.
    fn tell_end(&mut self, id: LinkId, end: LinkEnd) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.is_told) else { return };
        link.is_told = true;
        let end = if link.closing && end == LinkEnd::ByPeer { LinkEnd::ByServer } else { end };
        self.tally.closed_count += 1;
        tracing::debug!(link = %id, address = ?link.address, ?end, "WebSocket link ended");
        self.tell(id, ProxyEventKind::Closed(end));
    }

    /// Ends all links, as far as they are there.
    pub(super) fn end_all(&mut self, end: LinkEnd) {
        while let Some(id) = self.table.keys().next().copied() {
            self.end(id, end);
        }
        self.dirty.clear();
    }

    /// Whether a link's reader may read on. A paused link may, until it has a frame to hand over.
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

    /// Whether a link's reader may go on to a frame that it has decoded, of whatever kind. If so, the
    /// frame is counted.
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

    /// Begins a batch: what a client may send in one, it may send again.
    pub(super) fn begin_batch(&mut self) {
        self.batch += 1;
        for link in self.sated.drain(..).filter_map(|id| self.table.get(&id)) {
            link.wakers.read.notify_one();
        }
    }

    /// A client sent a frame.
    pub(super) fn frame(&mut self, id: LinkId, bytes: Bytes) {
        if self.table.get(&id).is_some_and(|link| !link.closing) {
            // There is one lane, and it is in order.
            self.tell(id, ProxyEventKind::Frame { lane: Lane::Reliable, bytes });
        }
    }

    /// A client did what ends its session.
    pub(super) fn breach(&mut self, id: LinkId, what: &'static str) {
        if self.table.get(&id).is_some_and(|link| !link.closing) {
            self.tally.breach_count += 1;
            self.tell(id, ProxyEventKind::Breach(what));
        }
    }

    /// Takes a ping, in place of an older one that is not answered (RFC 6455, 5.5.3).
    pub(super) fn ping(&mut self, id: LinkId, said: Bytes) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else { return };
        if link.ping.replace(said).is_some() {
            self.tally.ping_skipped_count += 1;
        }
    }

    /// Answers the newest ping, as soon as the socket takes the answer.
    pub(super) fn answer_ping(&mut self, id: LinkId) {
        if let Some(link) = self.table.get_mut(&id).filter(|link| link.ping.is_some()) {
            link.write(self.clock.now());
            self.report_room(id);
        }
    }

    /// Does what the tick commands.
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
        // Beacons wait in line like what is reliable: they carry acks.
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
            // The batch may hold several ticks, which the client has had no chance to take.
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

    /// Queues the last frame and WebSocket's own close, which carries the same reason. The link is
    /// held until the client has answered or gone.
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

    /// Closes all links, since the server ends.
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

    /// Writes what was queued in this batch, one write a link where its socket takes all.
    pub(super) fn flush(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(link) = self.table.get_mut(&id) {
                link.write(self.clock.now());
                self.report_room(id);
            }
        }
    }

    /// Goes on with writing, for a link's task; none if there is no such link any more.
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

    /// Tells the tick how much the socket of a link has taken, if that is enough to tell.
    fn report_room(&mut self, id: LinkId) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.is_told) else { return };
        if let Some(room) = link.gauge.report(link.output.waiting() + link.waiting.bytes()) {
            self.tell(id, room);
        }
    }

    /// Hands events to the tick. If it was behind and is not any more, all links read on.
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
    /// Writes at once what the socket takes, without waking anybody. With what is left, or with an
    /// error, the link's task deals.
    fn write(&mut self, now: Duration) {
        let written = self.poll_write(now, &mut Context::from_waker(Waker::noop()));
        if !matches!(written, Poll::Ready(Ok(()))) {
            self.wakers.write.notify_one();
        }
    }

    /// Writes what the socket takes, then the answer to a ping, and then of the unreliable frames that
    /// wait those that are not stale; ready when nothing is left.
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

/// The close code of a link that ends with this frame.
fn close_code(frame: &Bytes) -> u16 {
    let closed = Frame::parse(frame.clone()).and_then(|frame| frame.decode::<Closed>());
    let reason = closed.ok().and_then(|closed| u16::try_from(closed.reason).ok()).unwrap_or_default();
    CODES_FROM.saturating_add(reason)
}

/// What the wire adds to a reason to make a code of it.
const CODES_FROM: u16 = 4_000;
/// WebSocket's code of a server that ends.
const GOING_AWAY: u16 = 1_001;
/// WebSocket's code of an end without a reason.
pub(super) const NORMAL: u16 = 1_000;
/// Steps of a link's reader from one tick to the next: reads of the socket, and frames of any kind, also
/// those that hold nothing. The rest stays in the socket. Twice the frames of a replay, so that one passes
/// even if each of its frames takes a read.
const STEPS_PER_BATCH_MAX: usize = 2 * crate::wire::OUTBOX_MAX_FRAMES;
/// Bytes that are read of a client from one tick to the next, and a read more: what QUIC takes of a client
/// that is not read. A client that is to be paused has handed over no more than this before the tick can
/// say so, and leaves room for others.
const BYTES_PER_BATCH_MAX: usize = 64 * 1024;
/// Unreliable frames are dropped while more than this waits of what one batch has queued: what renet
/// sends in a tick. What comes while the socket takes nothing waits apart.
const UNRELIABLE_WAITING_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests;
