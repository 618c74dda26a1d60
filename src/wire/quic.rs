//! Links over QUIC, raw or inside a WebTransport session: the part that client and server share.
//!
//! A [`Lanes`] sends and receives the frames of one link on a [`quinn_proto::Connection`]. The reliable lane
//! is a stream that the client opens, with a length before each frame. A frame of the unreliable lane is a
//! datagram; if it does not fit into a datagram, it is sent on the stream.
//!
//! `Lanes` does no I/O and reads no clock. The owner of the connection passes datagrams to the connection,
//! then calls [`update`](Lanes::update) and [`flush`](Lanes::flush), and then sends the packets that the
//! connection has made.
//!
//! Data flow: connection → [`update`](Lanes::update) → [`poll`](Lanes::poll) for what happened,
//! [`receive`](Lanes::receive) for frames; frame → [`send`](Lanes::send) → [`flush`](Lanes::flush)
//! → connection.

mod life;
mod limits;
mod reader;
mod sender;
mod session;
mod steady;
mod writer;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionError, Dir, Event, Side, StreamEvent, StreamId, VarInt};

use self::life::{Life, Phase};
use self::reader::{Read, Reader};
use self::sender::Sender;
use self::session::{Answered, Found, Session};
use self::writer::Writer;
use super::{Lane, lane_of};

pub use life::{Exchanged, exchange};
pub use limits::QuicLimits;

/// The ALPN protocol of a raw QUIC link.
pub const ALPN_QUIC: &[u8] = b"waystation/1";

/// The ALPN protocol of a WebTransport link: HTTP/3.
pub const ALPN_WEBTRANSPORT: &[u8] = b"h3";

/// The path of WebTransport sessions.
pub const WEBTRANSPORT_PATH: &str = "/wt";

/// The lanes of one link on a QUIC connection that the caller drives.
#[derive(Debug)]
pub struct Lanes {
    /// The kind of the link. `None` on a server before the handshake is over.
    kind: Option<QuicKind>,
    /// The HTTP/3 state of a WebTransport link.
    session: Option<Session>,
    life: Life,
    /// The stream of the reliable lane.
    stream: Option<StreamId>,
    reader: Reader,
    writer: Writer,
    sender: Sender,
    happened: VecDeque<LaneEvent>,
    counts: LaneCounts,
    /// True if there may be datagrams to read.
    datagrams: bool,
    /// The error that ended the connection.
    error: Option<ConnectionError>,
}

/// A kind of link over QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuicKind {
    /// Raw QUIC.
    Quic,
    /// A WebTransport session over HTTP/3.
    WebTransport,
}

/// An event of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneEvent {
    /// A client requests a WebTransport session. The server must call [`answer`](Lanes::answer).
    SessionRequested(Request),
    /// The link is open, and frames can be sent.
    Opened(QuicKind),
    /// The peer has violated the protocol. The text names the violation. The owner should close the link.
    ProtocolViolation(&'static str),
    /// The peer has acknowledged all that was sent before [`finish`](Lanes::finish). Over WebTransport it also has
    /// the code.
    Finished,
    /// The link has ended. Frames that arrived before the end can still be received.
    Ended(Ended),
}

/// A request for a WebTransport session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The requested path.
    pub path: String,
    /// The `Origin` header, which browsers send.
    pub origin: Option<String>,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed the link, with this code if it sent one. The code is the number of a reason.
    ByPeer(Option<u32>),
    /// Nothing was received within the idle timeout.
    Silent,
    /// The peer violated QUIC, or refused the link before it was open.
    Failed,
}

/// Counts since they were last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// The number of unreliable frames that did not fit into a datagram and were sent on the stream.
    pub oversize_count: u64,
    /// The number of unreliable frames that were dropped before they were sent: they were stale, newer frames
    /// took their room, or they did not fit into a datagram and the stream was busy.
    pub unreliable_dropped_count: u64,
}

impl Lanes {
    /// Returns the lanes of a server. `frame_max` is the longest frame that it accepts, in bytes.
    #[must_use]
    pub fn server(frame_max: usize) -> Self {
        Self {
            kind: None,
            session: None,
            life: Life::new(),
            stream: None,
            reader: Reader::new(frame_max),
            writer: Writer::new(OUT_MAX_BYTES),
            sender: Sender::default(),
            happened: VecDeque::new(),
            counts: LaneCounts::default(),
            datagrams: false,
            error: None,
        }
    }

    /// Returns the lanes of a client over raw QUIC. `frame_max` is the longest frame that it accepts, in bytes.
    #[must_use]
    pub fn quic_client(frame_max: usize) -> Self {
        Self { kind: Some(QuicKind::Quic), ..Self::server(frame_max) }
    }

    /// Returns the lanes of a client over WebTransport, which requests a session at `url`. `frame_max` is the
    /// longest frame that it accepts, in bytes.
    #[must_use]
    pub fn webtransport_client(frame_max: usize, url: url::Url) -> Self {
        let session = Some(Session::asking(url));
        Self { kind: Some(QuicKind::WebTransport), session, ..Self::server(frame_max) }
    }

    /// Returns the kind of the link, or `None` on a server before the handshake is over.
    #[must_use]
    pub fn kind(&self) -> Option<QuicKind> {
        self.kind
    }

    /// Processes the events of the connection. Call this each time after datagrams or timeouts were passed to the
    /// connection. After the end of the link, events are ignored.
    pub fn update(&mut self, connection: &mut Connection) {
        let mut ended = None;
        while let Some(event) = connection.poll() {
            if self.life.is_over() {
                continue;
            }
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => self.connected(connection),
                Event::ConnectionLost { reason } => {
                    ended.get_or_insert(life::end_of(&reason, self.kind));
                    self.error = Some(reason);
                }
                Event::DatagramReceived => self.datagrams = true,
                Event::Stream(StreamEvent::Opened { dir }) => self.accept(connection, dir),
                Event::Stream(StreamEvent::Readable { id }) => self.readable(id),
                Event::Stream(StreamEvent::Finished { id }) => self.finished(id, connection),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    if self.is_needed(id) {
                        ended.get_or_insert(Ended::ByPeer(None));
                    }
                }
                // The next flush writes what waits.
                Event::Stream(StreamEvent::Writable { .. } | StreamEvent::Available { .. }) => {}
            }
        }
        // Streams that arrived before the end are read first. But a link that has not opened does not open now.
        if ended.is_none() || self.life.has_opened() {
            self.look(connection);
        }
        if let Some(ended) = ended {
            self.end(ended);
        }
    }

    /// Returns the next event of the link.
    pub fn poll(&mut self) -> Option<LaneEvent> {
        self.happened.pop_front()
    }

    /// Returns the next frame that arrived on a lane. The caller must check the id: a frame in a datagram may
    /// have a reliable one. Frames that the caller does not receive stay in the connection, whose flow control
    /// bounds them.
    pub fn receive(&mut self, lane: Lane, connection: &mut Connection) -> Option<Bytes> {
        if !self.life.has_opened() {
            return None;
        }
        match lane {
            Lane::Reliable => self.receive_reliable(connection),
            Lane::Unreliable => self.receive_datagram(connection),
        }
    }

    /// Returns true if the link is open and has room for a reliable frame of this many bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.life.phase() == Phase::Open && self.writer.has_room(bytes)
    }

    /// Returns the number of bytes that wait to be written on the stream.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.writer.waiting_bytes()
    }

    /// Returns the number of bytes of both lanes that were not handed to the connection yet.
    #[cfg(feature = "server")]
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.writer.waiting_bytes() + self.sender.waiting_bytes()
    }

    /// Finishes the stream if the last frame was written.
    fn finish_stream(&mut self, connection: &mut Connection) {
        if let (Phase::Finishing(code), Some(stream)) = (self.life.phase(), self.stream)
            && self.writer.is_empty()
        {
            self.life.advance(Phase::Flushing(code));
            if connection.send_stream(stream).finish().is_err() {
                self.end(Ended::ByPeer(None));
            }
        }
    }

    /// Finishes the link: sends the frames that were handed over, and then the code. When the peer has
    /// acknowledged them, [`LaneEvent::Finished`] follows, and the caller can [close](Self::close) the connection.
    /// Further frames are not sent. Does nothing if the link is not open.
    pub fn finish(&mut self, code: u32, connection: &mut Connection) {
        if self.life.phase() != Phase::Open {
            return;
        }
        if self.stream.is_none() {
            // The client has not opened the stream, so nothing can be sent on it.
            self.tell_code(code, connection);
            return;
        }
        self.life.advance(Phase::Finishing(code));
        self.finish_stream(connection);
    }

    /// Closes the connection at once with a code. Frames that the peer has not received are lost.
    pub fn close(&mut self, code: u32, connection: &mut Connection, now: Instant) {
        let code = match self.kind {
            Some(QuicKind::WebTransport) => web_transport_proto::error_to_http3(code),
            _ => u64::from(code),
        };
        // The application error codes of HTTP/3 are below 2^62.
        connection.close(now, VarInt::from_u64(code).unwrap_or(VarInt::MAX), Bytes::new());
        self.life.advance(Phase::Over);
    }

    /// Answers a request for a WebTransport session with an HTTP status. 200 opens the link. Other statuses refuse
    /// the session, and [`LaneEvent::Finished`] follows when the client has the answer. Does nothing if the
    /// connection has ended.
    pub fn answer(&mut self, status: u16, connection: &mut Connection) {
        let Some(session) = self.session.as_mut().filter(|_| self.life.phase() == Phase::Opening) else {
            return;
        };
        match session.answer(status, connection) {
            Answered::Established => {
                self.open(connection);
                self.look(connection);
            }
            Answered::Refused(stream) => {
                self.life.advance(Phase::Closing(stream));
            }
            Answered::Unheard => self.end(Ended::ByPeer(None)),
        }
    }

    /// Returns the error that ended the connection, or `None` if the connection has not ended with an error.
    #[must_use]
    pub fn error(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    /// Returns the counts since the last call.
    pub fn take_counts(&mut self) -> LaneCounts {
        std::mem::take(&mut self.counts)
    }

    fn connected(&mut self, connection: &mut Connection) {
        if self.kind.is_none() {
            self.kind = life::kind_of(connection);
            self.session = (self.kind == Some(QuicKind::WebTransport)).then(Session::accepting);
        }
        match (&mut self.session, connection.side()) {
            (Some(session), _) => session.begin(connection),
            (None, Side::Server) => self.open(connection),
            (None, Side::Client) => {
                self.stream = connection.streams().open(Dir::Bi);
                self.open(connection);
            }
        }
    }

    /// Opens the link, unless it was open before or its connection is closed already. In the second case the next
    /// event is the end of the link.
    fn open(&mut self, connection: &Connection) {
        if !connection.is_closed() && self.life.advance(Phase::Open) {
            self.happened.extend(self.kind.map(LaneEvent::Opened));
        }
    }

    fn accept(&mut self, connection: &mut Connection, dir: Dir) {
        while let Some(id) = connection.streams().accept(dir) {
            match &mut self.session {
                Some(session) => session.opened(id),
                None if dir == Dir::Bi && connection.side() == Side::Server && self.stream.is_none() => {
                    self.stream = Some(id);
                    self.reader.wake();
                }
                None => self.violation("a stream that the protocol does not permit"),
            }
        }
    }

    fn readable(&mut self, id: StreamId) {
        if Some(id) == self.stream {
            self.reader.wake();
        } else if let Some(session) = &mut self.session {
            session.wake(id);
        }
    }

    /// Handles the acknowledgement of a whole stream that this end has finished.
    fn finished(&mut self, id: StreamId, connection: &mut Connection) {
        match self.life.phase() {
            Phase::Flushing(code) if Some(id) == self.stream => self.tell_code(code, connection),
            Phase::Closing(closing) if closing == id => self.told(),
            _ => {}
        }
    }

    /// Ends the link after the peer has received the code, or if the close of the connection is to carry the code.
    fn told(&mut self) {
        if self.life.advance(Phase::Over) {
            self.happened.push_back(LaneEvent::Finished);
        }
    }

    /// Returns true if the link cannot go on without this stream: it is the stream of the reliable lane, or the
    /// request stream of the WebTransport session.
    fn is_needed(&self, id: StreamId) -> bool {
        Some(id) == self.stream || self.session.as_ref().and_then(Session::request) == Some(id)
    }

    /// Sends the code on the request stream of WebTransport. Over raw QUIC, the close of the connection carries
    /// the code.
    fn tell_code(&mut self, code: u32, connection: &mut Connection) {
        let closing = self.session.as_mut().and_then(|session| session.close(code, connection));
        if let Some(stream) = closing {
            self.life.advance(Phase::Closing(stream));
        } else {
            self.told();
        }
    }

    /// Processes what has arrived on the HTTP/3 streams.
    fn look(&mut self, connection: &mut Connection) {
        while let Some(found) = self.find(connection) {
            match found {
                Found::SessionRequested(request) => {
                    self.happened.push_back(LaneEvent::SessionRequested(request))
                }
                Found::Refused => self.end(Ended::Failed),
                Found::ProtocolViolation(what) => self.violation(what),
                Found::Lanes(stream) => {
                    if self.stream.is_some() {
                        self.violation("a stream that the protocol does not permit");
                    } else {
                        self.stream = Some(stream);
                        self.reader.wake();
                    }
                }
                Found::Established => {
                    self.stream = connection.streams().open(Dir::Bi);
                    if let Some(session) = &self.session {
                        self.writer.push_raw(&session.preface());
                    }
                    self.open(connection);
                }
            }
        }
        let ended = self.session.as_mut().and_then(|session| session.ended.take());
        if let Some(code) = ended {
            self.end(Ended::ByPeer(code));
        }
    }

    /// Returns the next item from the HTTP/3 streams, unless the link has ended.
    fn find(&mut self, connection: &mut Connection) -> Option<Found> {
        self.session.as_mut().filter(|_| !self.life.is_over())?.find(connection)
    }

    fn receive_reliable(&mut self, connection: &mut Connection) -> Option<Bytes> {
        match self.reader.next(connection, self.stream?) {
            Read::Frame(frame) => return Some(frame),
            Read::Ended if connection.side() == Side::Server => self.end(Ended::ByPeer(None)),
            // A server that has ended the stream closes the connection next, with a code.
            Read::Nothing | Read::Ended => {}
            Read::TooLong => self.violation("a frame longer than is allowed"),
        }
        None
    }

    fn receive_datagram(&mut self, connection: &mut Connection) -> Option<Bytes> {
        while self.datagrams {
            let Some(datagram) = connection.datagrams().recv() else {
                self.datagrams = false;
                break;
            };
            match &self.session {
                // A copy, so that a small frame that waits does not keep a whole packet in memory.
                None => return Some(Bytes::copy_from_slice(&datagram)),
                // Datagrams of other sessions are ignored.
                Some(session) => {
                    if let Some(frame) = session.unwrap(&datagram) {
                        return Some(frame);
                    }
                }
            }
        }
        None
    }

    fn violation(&mut self, what: &'static str) {
        if !self.life.is_over() {
            self.happened.push_back(LaneEvent::ProtocolViolation(what));
        }
    }

    fn end(&mut self, ended: Ended) {
        if self.life.advance(Phase::Over) {
            self.happened.push_back(LaneEvent::Ended(ended));
        }
    }
}

/// The most bytes that wait to be written on the stream of a link: twice an outbox, so that a replay and link
/// control fit. The connection holds further bytes, within its send window.
pub const OUT_MAX_BYTES: usize = 2 * super::OUTBOX_MAX_BYTES;

#[cfg(test)]
mod tests;
