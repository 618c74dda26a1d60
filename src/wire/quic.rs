//! Links over QUIC, raw or inside a WebTransport session: what both ends of one share.
//!
//! [`Lanes`] are the frames of one link on a [`quinn_proto::Connection`]: the reliable lane is a
//! stream that the client opens, with a length before each frame, and a frame of the unreliable one
//! is a datagram, or rides the stream where it does not fit one. They do no I/O and read no clock,
//! and know nothing of sockets: whoever owns the connection feeds it, then calls
//! [`update`](Lanes::update), then [`flush`](Lanes::flush), and afterwards sends what the connection has to send.
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

/// What the handshake of a raw QUIC link negotiates.
pub const ALPN_QUIC: &[u8] = b"waystation/1";

/// What the handshake of a WebTransport link negotiates: HTTP/3.
pub const ALPN_WEBTRANSPORT: &[u8] = b"h3";

/// The path of WebTransport sessions.
pub const WEBTRANSPORT_PATH: &str = "/wt";

/// The frames of one link, on a connection that somebody else drives.
#[derive(Debug)]
pub struct Lanes {
    /// Known from the start to a client, and from the handshake to a server.
    kind: Option<QuicKind>,
    /// HTTP/3's state, of WebTransport.
    session: Option<Session>,
    life: Life,
    /// The stream of the reliable lane.
    stream: Option<StreamId>,
    reader: Reader,
    writer: Writer,
    sender: Sender,
    happened: VecDeque<Happened>,
    counts: LaneCounts,
    /// There may be datagrams to read.
    datagrams: bool,
    /// What ended the connection.
    error: Option<ConnectionError>,
}

/// What a link is on QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuicKind {
    /// Raw QUIC.
    Quic,
    /// A WebTransport session over HTTP/3.
    WebTransport,
}

/// What happened to a link, but for frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A server was asked for a WebTransport session, and is to [`answer`](Lanes::answer).
    Asked(Request),
    /// Frames may be sent.
    Opened(QuicKind),
    /// The peer did what no peer of this protocol does: it says what. Nothing more is received.
    Breach(&'static str),
    /// All that was sent before [`finish`](Lanes::finish) is with the peer, which knows the code.
    Finished,
    /// The link is gone; what arrived before can still be received.
    Ended(Ended),
}

/// The request for a WebTransport session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which path it asks for.
    pub path: String,
    /// The page that asks, if a browser does.
    pub origin: Option<String>,
}

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it, with this code if it gave one: the number of a reason.
    ByPeer(Option<u32>),
    /// Nothing was heard for too long.
    Silent,
    /// The peer broke QUIC's rules, or turned this end away before the link was open.
    Failed,
}

/// What was counted since it was last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Unreliable frames that fitted no datagram of the path, and rode the stream.
    pub oversize_count: u64,
    /// Unreliable frames that were dropped before they were sent: they were stale, newer ones took
    /// their room, or the stream that they had to ride was busy.
    pub unreliable_dropped_count: u64,
}

impl Lanes {
    /// A server's end. `frame_max` is the longest frame that it takes, in bytes.
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

    /// A client's end over raw QUIC.
    #[must_use]
    pub fn quic_client(frame_max: usize) -> Self {
        Self { kind: Some(QuicKind::Quic), ..Self::server(frame_max) }
    }

    /// A client's end over WebTransport, of the session that this URL names.
    #[must_use]
    pub fn webtransport_client(frame_max: usize, url: url::Url) -> Self {
        let session = Some(Session::asking(url));
        Self { kind: Some(QuicKind::WebTransport), session, ..Self::server(frame_max) }
    }

    /// What the link is, as soon as it is known.
    #[must_use]
    pub fn kind(&self) -> Option<QuicKind> {
        self.kind
    }

    /// Takes in what the connection has to tell. To be called after each feeding of it. After the end
    /// of the link nothing is taken in.
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
                // What waits is written with the next flush.
                Event::Stream(StreamEvent::Writable { .. } | StreamEvent::Available { .. }) => {}
            }
        }
        // What came before the end is looked at before it; but no link is opened only to end.
        if ended.is_none() || self.life.has_opened() {
            self.look(connection);
        }
        if let Some(ended) = ended {
            self.end(ended);
        }
    }

    /// What happened, in order.
    pub fn poll(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// The next frame of a lane, as the transport delivered it: a frame in a datagram need not be
    /// an unreliable one. What is not received stays with the connection, which lets its peer send
    /// no more than its windows hold.
    pub fn receive(&mut self, lane: Lane, connection: &mut Connection) -> Option<Bytes> {
        if !self.life.has_opened() {
            return None;
        }
        match lane {
            Lane::Reliable => self.receive_reliable(connection),
            Lane::Unreliable => self.receive_datagram(connection),
        }
    }

    /// Whether the link is open and has room for a reliable frame of so many bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.life.phase() == Phase::Open && self.writer.has_room(bytes)
    }

    /// Bytes of frames that wait for the peer's windows.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.writer.waiting_bytes()
    }

    /// Bytes of frames of both lanes that the connection was not given yet.
    #[cfg(feature = "server")]
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.writer.waiting_bytes() + self.sender.waiting_bytes()
    }

    /// Ends the stream behind the last frame.
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

    /// Sends no more than what was handed over; then tells the peer the code. When both are with
    /// the peer, [`Happened::Finished`] says so, and the connection may be
    /// [closed](Self::close). Nothing more is received. It does nothing to a link that is not open.
    pub fn finish(&mut self, code: u32, connection: &mut Connection) {
        if self.life.phase() != Phase::Open {
            return;
        }
        if self.stream.is_none() {
            // Nothing can be sent on a stream that the client has not opened.
            self.tell_code(code, connection);
            return;
        }
        self.life.advance(Phase::Finishing(code));
        self.finish_stream(connection);
    }

    /// Closes the connection at once, and tells the peer the code. What was not flushed is lost.
    pub fn close(&mut self, code: u32, connection: &mut Connection, now: Instant) {
        let code = match self.kind {
            Some(QuicKind::WebTransport) => web_transport_proto::error_to_http3(code),
            _ => u64::from(code),
        };
        // HTTP/3's codes of applications are below 2^62.
        connection.close(now, VarInt::from_u64(code).unwrap_or(VarInt::MAX), Bytes::new());
        self.life.advance(Phase::Over);
    }

    /// Answers a request for a WebTransport session: 200 opens the link; with another status of
    /// HTTP the session is refused, and [`Happened::Finished`] says when the client knows. A request
    /// whose connection has ended meanwhile is not answered.
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

    /// What ended the connection, in QUIC's words; none while it lives, or if only the link ended.
    #[must_use]
    pub fn error(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    /// What was counted since the last time.
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

    /// Opens the link, unless it has been open before, or its connection is closed already: the end
    /// of that is the next that is heard of it.
    fn open(&mut self, connection: &Connection) {
        if !connection.is_closed() && self.life.advance(Phase::Open) {
            self.happened.extend(self.kind.map(Happened::Opened));
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
                None => self.breach("a stream besides the one of the lanes"),
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

    /// The peer has all that was sent on a stream that this end has finished.
    fn finished(&mut self, id: StreamId, connection: &mut Connection) {
        match self.life.phase() {
            Phase::Flushing(code) if Some(id) == self.stream => self.tell_code(code, connection),
            Phase::Closing(closing) if closing == id => self.told(),
            _ => {}
        }
    }

    /// The peer knows how the link ended.
    fn told(&mut self) {
        if self.life.advance(Phase::Over) {
            self.happened.push_back(Happened::Finished);
        }
    }

    /// Whether the link has ended when the peer takes nothing more on this stream: the one of the
    /// lanes, or the one that a WebTransport session stands on.
    fn is_needed(&self, id: StreamId) -> bool {
        Some(id) == self.stream || self.session.as_ref().and_then(Session::request) == Some(id)
    }

    /// Tells the code where a stream carries it; raw QUIC tells it by closing the connection.
    fn tell_code(&mut self, code: u32, connection: &mut Connection) {
        let closing = self.session.as_mut().and_then(|session| session.close(code, connection));
        if let Some(stream) = closing {
            self.life.advance(Phase::Closing(stream));
        } else {
            self.told();
        }
    }

    /// Looks what came on HTTP/3's streams.
    fn look(&mut self, connection: &mut Connection) {
        while let Some(found) = self.find(connection) {
            match found {
                Found::Asked(request) => self.happened.push_back(Happened::Asked(request)),
                Found::Refused => self.end(Ended::Failed),
                Found::Breach(what) => self.breach(what),
                Found::Lanes(stream) => {
                    if self.stream.is_some() {
                        self.breach("a stream besides the one of the lanes");
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

    /// The next that HTTP/3's streams brought, for as long as the link has not ended.
    fn find(&mut self, connection: &mut Connection) -> Option<Found> {
        self.session.as_mut().filter(|_| !self.life.is_over())?.find(connection)
    }

    fn receive_reliable(&mut self, connection: &mut Connection) -> Option<Bytes> {
        match self.reader.next(connection, self.stream?) {
            Read::Frame(frame) => return Some(frame),
            Read::Ended if connection.side() == Side::Server => self.end(Ended::ByPeer(None)),
            // A server that has ended the stream closes the connection next, and says why.
            Read::Nothing | Read::Ended => {}
            Read::TooLong => self.breach("a frame longer than is allowed"),
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
                // Copied out, so that a small frame that waits does not hold a whole packet.
                None => return Some(Bytes::copy_from_slice(&datagram)),
                // One of another session is nobody's.
                Some(session) => {
                    if let Some(frame) = session.unwrap(&datagram) {
                        return Some(frame);
                    }
                }
            }
        }
        None
    }

    fn breach(&mut self, what: &'static str) {
        if !self.life.is_over() {
            self.happened.push_back(Happened::Breach(what));
        }
    }

    fn end(&mut self, ended: Ended) {
        if self.life.advance(Phase::Over) {
            self.happened.push_back(Happened::Ended(ended));
        }
    }
}

/// Most that waits for a link's stream, in bytes: twice an outbox, so that a replay and link control
/// fit. As much again may be on its way, with the connection.
pub const OUT_MAX_BYTES: usize = 2 * super::OUTBOX_MAX_BYTES;

#[cfg(test)]
mod tests;
