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
use fastwebsockets::OpCode;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::output::Output;
use super::stats::WebSocketCounts;
use crate::ident::LinkId;
use crate::proxy::backlog::Backlog;
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
    /// The socket took nothing when it was last asked.
    is_blocked: bool,
    wakers: Wakers,
    /// The last frame was sent, and what is read is dropped.
    closing: bool,
    paused: bool,
    taken: Taken,
}

/// What was read of a client in one batch.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    batch: u64,
    messages: usize,
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
    /// Hand over what it has read.
    Go,
    /// Keep it.
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
            is_blocked: false,
            wakers: wakers.clone(),
            closing: false,
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
        let Some(link) = self.table.remove(&id) else { return };
        let end = if link.closing && end == LinkEnd::ByPeer { LinkEnd::ByServer } else { end };
        self.tally.closed_count += 1;
        tracing::debug!(link = %id, address = ?link.address, ?end, "WebSocket link ended");
        link.wakers.read.notify_one();
        link.wakers.write.notify_one();
        self.tell(id, ProxyEventKind::Closed(end));
    }

    /// Ends all links, as far as they are there.
    pub(super) fn end_all(&mut self, end: LinkEnd) {
        while let Some(id) = self.table.keys().next().copied() {
            self.end(id, end);
        }
        self.dirty.clear();
    }

    /// Whether a link's reader may hand over the message that it has read, of so many bytes.
    pub(super) fn reading(&mut self, id: LinkId, bytes: usize) -> Reading {
        let Some(link) = self.table.get_mut(&id) else { return Reading::Over };
        if link.closing {
            return Reading::Go;
        }
        if link.paused {
            return Reading::Wait;
        }
        if link.taken.batch != self.batch {
            link.taken = Taken { batch: self.batch, ..Taken::default() };
        }
        if link.taken.messages >= MESSAGES_PER_BATCH_MAX || link.taken.bytes >= BYTES_PER_BATCH_MAX {
            self.sated.push(id);
            return Reading::Wait;
        }
        if !self.events.has_room() {
            self.events.choke();
            return Reading::Wait;
        }
        link.taken.messages += 1;
        link.taken.bytes += bytes;
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

    /// Answers a ping, if there is room: who asks again is answered then.
    pub(super) fn pong(&mut self, id: LinkId, payload: &[u8]) {
        let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) else { return };
        if link.output.waiting() > PONG_WAITING_MAX {
            self.tally.pong_dropped_count += 1;
            return;
        }
        link.output.push(OpCode::Pong, payload);
        link.write(self.clock.now());
    }

    /// Says to a client that WebSocket is over, and why, as far as its socket takes that now.
    pub(super) fn say_close(&mut self, id: LinkId, code: u16) {
        if let Some(link) = self.table.get_mut(&id).filter(|link| !link.closing) {
            link.output.push_close(code);
            link.write(self.clock.now());
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
        for id in self.dirty.drain(..) {
            if let Some(link) = self.table.get_mut(&id) {
                link.write(self.clock.now());
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
        Some(written)
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

    /// Writes what the socket takes, and then of the unreliable frames that wait those that are not
    /// stale; ready when nothing is left.
    fn poll_write(&mut self, now: Duration, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            let written = self.output.poll_write(context);
            self.is_blocked = written.is_pending();
            if !matches!(written, Poll::Ready(Ok(()))) || self.output.is_last() {
                return written;
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
/// WebSocket's code of a peer that broke its rules.
pub(super) const MALFORMED: u16 = 1_002;
/// WebSocket's code of an end without a reason.
pub(super) const NORMAL: u16 = 1_000;
/// Messages that are read of a client from one tick to the next, pings included; the rest stays in its
/// socket. Twice the frames of a replay, and nine seconds' worth of what a session may send.
const MESSAGES_PER_BATCH_MAX: usize = 2 * crate::wire::OUTBOX_MAX_FRAMES;
/// Bytes of those, and a frame more: what QUIC takes of a client that is not read. Whoever is to be
/// paused has handed over no more than this before the tick can say so, and leaves room for others.
const BYTES_PER_BATCH_MAX: usize = 64 * 1024;
/// Unreliable frames are dropped while more than this waits of what one batch has queued: what renet
/// sends in a tick. What comes while the socket takes nothing waits apart.
const UNRELIABLE_WAITING_MAX: usize = 128 * 1024;
/// Pings are not answered while more than this waits.
const PONG_WAITING_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_floods_is_read_as_far_as_a_batch_allows_and_leaves_room_for_others() {
        let news = Rc::new(Notify::new());
        let mut hub = Hub::new(Clock::manual(), crate::wire::OUTBOX_MAX_BYTES, news);
        let (flooding, _) = hub.open(None, Box::new(tokio::io::sink()));
        let (chattering, _) = hub.open(None, Box::new(tokio::io::sink()));
        let (honest, _) = hub.open(None, Box::new(tokio::io::sink()));
        let read_all = |hub: &mut Hub, id, length: usize| {
            (0..100_000).take_while(|_| hub.reading(id, length) == Reading::Go).count()
        };

        let flooded = read_all(&mut hub, flooding, 16 * 1024);
        let chattered = read_all(&mut hub, chattering, 0);

        assert_eq!((flooded, chattered), (4, 1_024));
        assert_eq!(hub.reading(honest, 100), Reading::Go);
        hub.begin_batch();
        assert_eq!(read_all(&mut hub, flooding, 16 * 1024), 4, "it reads on with the next tick");
    }

    /// A socket that takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Rc<RefCell<(bool, Vec<u8>)>>);

    impl AsyncWrite for Gate {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let (is_open, written) = &mut *self.0.borrow_mut();
            if !*is_open {
                return Poll::Pending;
            }
            written.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn of_what_a_blocked_socket_leaves_the_newest_state_is_sent_and_all_beacons_and_reliable_frames() {
        let clock = Clock::manual();
        let mut hub = Hub::new(clock.clone(), 512 * 1024, Rc::new(Notify::new()));
        let gate = Gate::default();
        let (id, _) = hub.open(None, Box::new(gate.clone()));
        hub.send(id, &Bytes::from_static(&[1, 0, 0]));
        hub.flush();

        for tag in 1..=100_u8 {
            hub.send(id, &Bytes::from(vec![0x81, 0, tag]));
            if tag % 10 == 0 {
                hub.send(id, &Bytes::from(vec![0x80, 1, tag]));
                hub.send(id, &Bytes::from(vec![1, 0, tag]));
            }
            hub.flush();
            clock.advance(Duration::from_millis(50));
        }
        gate.0.borrow_mut().0 = true;
        let _ = hub.poll_write(id, &mut Context::from_waker(Waker::noop()));

        let written = gate.0.borrow().1.clone();
        let frames: Vec<&[u8]> = written.chunks(5).map(|message| &message[2..]).collect();
        let of = |high: u8| -> Vec<u8> {
            frames.iter().filter(|frame| frame[0] == high).map(|frame| frame[2]).collect()
        };
        assert_eq!(of(0x80), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(of(1), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(of(0x81), [99, 100], "what has waited for longer than 100 ms is dropped");
        assert_eq!(hub.tally.unreliable_dropped_count, 98);
    }
}
