//! The WebTransport session of a link, on both ends: settings, the request that opens it, and the capsule that
//! closes it.
//!
//! This is the part of HTTP/3 that one WebTransport session per connection needs. The dynamic table of QPACK is
//! not used, so the peer's QPACK streams can be ignored.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn_proto::{Connection, Dir, StreamId, VarInt};
use web_transport_proto as h3;

use super::Request;

/// The HTTP/3 state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    /// The request that a client sends. `None` on a server.
    wish: Option<h3::ConnectRequest>,
    /// The request stream, and the streams that the peer has opened, without the stream of the reliable lane. The
    /// limits of the connection bound them.
    streams: Vec<Incoming>,
    /// The stream of the request, which stays open as long as the session.
    request: Option<StreamId>,
    /// True if the peer's settings have arrived.
    settled: bool,
    /// True if a server has a request that it has not answered, or has refused. Nothing more is read then.
    asked: bool,
    /// True if the session is open, so that its datagrams and streams can be read.
    pub(super) established: bool,
    /// The bytes of an incomplete capsule.
    capsules: BytesMut,
    /// The code with which the peer has closed the session, if any.
    pub(super) ended: Option<Option<u32>>,
}

/// A stream that the peer has opened, or the stream of this client's request.
#[derive(Debug)]
struct Incoming {
    id: StreamId,
    what: What,
    head: BytesMut,
    readable: bool,
}

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The first bytes, which decide, have not arrived.
    Unknown,
    /// The control stream, which carries the peer's settings.
    Control,
    /// A stream that is not used here.
    Ignored,
    /// The request or its answer, and then capsules.
    Request,
}

/// An item that was found on a stream.
#[derive(Debug)]
pub(super) enum Found {
    /// A server has received a request for a session.
    SessionRequested(Request),
    /// A client's session is open.
    Established,
    /// A client's request was refused.
    Refused,
    /// The stream of the reliable lane, whose preface was read.
    Lanes(StreamId),
    /// A violation of the protocol.
    ProtocolViolation(&'static str),
}

/// The result of [`Session::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// The session is open.
    Established,
    /// The session was refused. This stream carries the refusal.
    Refused(StreamId),
    /// The answer could not be sent, because the client has stopped the stream.
    Unheard,
}

impl Session {
    /// Returns the state of a server.
    pub(super) fn accepting() -> Self {
        Self {
            wish: None,
            streams: Vec::new(),
            request: None,
            settled: false,
            asked: false,
            established: false,
            capsules: BytesMut::new(),
            ended: None,
        }
    }

    /// Returns the state of a client that requests a session at a URL.
    pub(super) fn asking(url: url::Url) -> Self {
        Self { wish: Some(h3::ConnectRequest::new(url)), ..Self::accepting() }
    }

    /// Returns the stream of the request, or `None` before there is one.
    pub(super) fn request(&self) -> Option<StreamId> {
        self.request
    }

    /// Sends the settings of this end on a control stream, which stays open.
    pub(super) fn begin(&mut self, connection: &mut Connection) {
        let mut settings = h3::Settings::default();
        settings.enable_webtransport(1);
        let mut bytes = BytesMut::new();
        settings.encode(&mut bytes);
        if let Some(control) = connection.streams().open(Dir::Uni) {
            // The window of a new stream holds these few bytes. If the peer's window is smaller, the link never opens.
            let _ = connection.send_stream(control).write(&bytes);
        }
    }

    /// Adds a stream that the peer has opened.
    pub(super) fn opened(&mut self, id: StreamId) {
        self.streams.push(Incoming { id, what: What::Unknown, head: BytesMut::new(), readable: true });
    }

    /// Records that a stream has data or has ended. Returns false if it is another stream.
    pub(super) fn wake(&mut self, id: StreamId) -> bool {
        let stream = self.streams.iter_mut().find(|stream| stream.id == id);
        stream.map(|stream| stream.readable = true).is_some()
    }

    /// Reads the streams. Returns the next item, or `None` if there is no further one.
    pub(super) fn find(&mut self, connection: &mut Connection) -> Option<Found> {
        while !self.asked
            && let Some(at) = self.streams.iter().position(|stream| stream.readable)
        {
            let mut stream = self.streams.swap_remove(at);
            let (found, keep) = self.read(&mut stream, connection);
            if keep {
                self.streams.push(stream);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Reads from a stream. Returns an item, and whether to keep the stream.
    fn read(&mut self, stream: &mut Incoming, connection: &mut Connection) -> (Option<Found>, bool) {
        loop {
            // A preface is read byte by byte, because `Reader` reads the bytes after it.
            let limit = if stream.what == What::Unknown { 1 } else { CHUNK_MAX };
            let mut receiver = connection.recv_stream(stream.id);
            let Ok(mut chunks) = receiver.read(true) else { return (None, false) };
            let chunk = chunks.next(limit);
            let _ = chunks.finalize();
            match chunk {
                Ok(Some(chunk)) => stream.head.put(chunk.bytes),
                Err(quinn_proto::ReadError::Blocked) => {
                    stream.readable = false;
                    return (None, true);
                }
                Ok(None) | Err(quinn_proto::ReadError::Reset(_)) => {
                    if stream.what == What::Request {
                        self.ended.get_or_insert(None);
                    }
                    return (None, false);
                }
            }
            if stream.what == What::Unknown {
                match self.tell(stream) {
                    Told::NotYet => continue,
                    Told::Kept => {}
                    Told::Found(found) => return (Some(found), false),
                }
            }
            if let Some(found) = self.take(stream, connection) {
                return (Some(found), true);
            }
        }
    }

    /// Determines the purpose of a stream from its first bytes.
    fn tell(&mut self, stream: &mut Incoming) -> Told {
        let Some((kind, rest)) = varint(&stream.head) else { return Told::NotYet };
        if stream.id.dir() == Dir::Uni {
            stream.what = match h3::StreamUni(kind) {
                h3::StreamUni::CONTROL => What::Control,
                h3::StreamUni::WEBTRANSPORT | h3::StreamUni::PUSH => {
                    return Told::Found(Found::ProtocolViolation(
                        "a stream that the protocol does not permit",
                    ));
                }
                // QPACK streams with empty tables, or grease.
                _ => What::Ignored,
            };
            return Told::Kept;
        }
        if self.wish.is_some() {
            return Told::Found(Found::ProtocolViolation("a stream that the protocol does not permit"));
        }
        if h3::Frame(kind) == h3::Frame::WEBTRANSPORT {
            let Some((session, _)) = varint(rest) else { return Told::NotYet };
            // The request of the session is the client's first stream.
            let is_ours = session.into_inner() == VarInt::from(self.request_id()).into_inner();
            return Told::Found(if is_ours {
                Found::Lanes(stream.id)
            } else {
                Found::ProtocolViolation("a stream of an unknown session")
            });
        }
        if self.request.is_some() || stream.id != self.request_id() {
            return Told::Found(Found::ProtocolViolation("a stream that the protocol does not permit"));
        }
        stream.what = What::Request;
        self.request = Some(stream.id);
        Told::Kept
    }

    /// Processes the bytes of a stream whose purpose is known.
    fn take(&mut self, stream: &mut Incoming, connection: &mut Connection) -> Option<Found> {
        match stream.what {
            What::Unknown | What::Ignored => stream.head.clear(),
            What::Control if self.settled => stream.head.clear(),
            What::Control => return self.settle(&mut stream.head, connection),
            What::Request if self.established => self.take_capsules(&mut stream.head),
            What::Request if self.wish.is_some() => return self.take_answer(&mut stream.head),
            What::Request => return self.take_request(&mut stream.head),
        }
        None
    }

    /// Reads the peer's settings. A client then sends its request.
    fn settle(&mut self, head: &mut BytesMut, connection: &mut Connection) -> Option<Found> {
        match h3::Settings::decode(&mut &head[..]) {
            Ok(settings) => {
                self.settled = true;
                head.clear();
                let wish = self.wish.as_ref()?;
                let mut bytes = BytesMut::new();
                if settings.supports_webtransport() == 0 || wish.encode(&mut bytes).is_err() {
                    return Some(Found::Refused);
                }
                self.ask(&bytes, connection);
                None
            }
            Err(h3::SettingsError::UnexpectedEnd) if head.len() <= HEAD_MAX => None,
            Err(_) => Some(Found::ProtocolViolation("malformed settings")),
        }
    }

    fn ask(&mut self, request: &[u8], connection: &mut Connection) {
        let Some(id) = connection.streams().open(Dir::Bi) else { return };
        // The window of a new stream holds a request. If the peer's window is smaller, the link never opens.
        let _ = connection.send_stream(id).write(request);
        self.request = Some(id);
        let head = BytesMut::new();
        self.streams.push(Incoming { id, what: What::Request, head, readable: false });
    }

    fn take_request(&mut self, head: &mut BytesMut) -> Option<Found> {
        let mut rest = &head[..];
        match h3::ConnectRequest::decode(&mut rest) {
            Ok(request) => {
                let left = rest.len();
                head.advance(head.len() - left);
                let origin = request.headers.get("origin");
                self.asked = true;
                Some(Found::SessionRequested(Request {
                    path: request.url.path().to_owned(),
                    // An origin that is not text is in no list of allowed origins.
                    origin: origin.map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned()),
                }))
            }
            Err(h3::ConnectError::UnexpectedEnd) if head.len() <= HEAD_MAX => None,
            Err(error) => {
                tracing::debug!(%error, "the request does not ask for a WebTransport session");
                Some(Found::ProtocolViolation("a request that does not ask for a WebTransport session"))
            }
        }
    }

    fn take_answer(&mut self, head: &mut BytesMut) -> Option<Found> {
        let mut rest = &head[..];
        match h3::ConnectResponse::decode(&mut rest) {
            Ok(_) => {
                let left = rest.len();
                head.advance(head.len() - left);
                self.established = true;
                self.take_capsules(head);
                Some(Found::Established)
            }
            Err(h3::ConnectError::UnexpectedEnd) if head.len() <= HEAD_MAX => None,
            Err(error) => {
                tracing::debug!(%error, "the server refused the WebTransport session");
                Some(Found::Refused)
            }
        }
    }

    /// Answers the request. A refusal finishes the stream.
    pub(super) fn answer(&mut self, status: u16, connection: &mut Connection) -> Answered {
        let Some(id) = self.request else { return Answered::Unheard };
        let status = h3::http::StatusCode::from_u16(status).unwrap_or(h3::http::StatusCode::BAD_REQUEST);
        let mut bytes = BytesMut::new();
        // A response without headers can always be encoded.
        let _ = h3::ConnectResponse::new(status).encode(&mut bytes);
        let mut stream = connection.send_stream(id);
        if stream.write(&bytes) != Ok(bytes.len()) {
            return Answered::Unheard;
        }
        self.established = status.is_success();
        if !self.established {
            return if stream.finish().is_ok() { Answered::Refused(id) } else { Answered::Unheard };
        }
        self.asked = false;
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            let mut head = std::mem::take(&mut self.streams[at].head);
            self.take_capsules(&mut head);
            self.streams[at].head = head;
        }
        Answered::Established
    }

    /// Searches the bytes after the request or its answer for the capsule that closes the session.
    fn take_capsules(&mut self, head: &mut BytesMut) {
        while let Some((payload, length)) = http_frame(head) {
            if let Some(payload) = payload {
                self.capsules.extend_from_slice(&head[payload..length]);
            }
            head.advance(length);
        }
        loop {
            let mut rest = &self.capsules[..];
            match h3::Capsule::decode(&mut rest) {
                Ok(h3::Capsule::CloseWebTransportSession { code, .. }) => self.ended = Some(Some(code)),
                Ok(_) => {}
                Err(h3::CapsuleError::UnexpectedEnd | h3::CapsuleError::VarInt(_)) => break,
                Err(_) => {
                    self.ended.get_or_insert(None);
                    break;
                }
            }
            let left = rest.len();
            self.capsules.advance(self.capsules.len() - left);
        }
        if head.len() > HEAD_MAX || self.capsules.len() > HEAD_MAX {
            self.ended.get_or_insert(None);
            (*head, self.capsules) = (BytesMut::new(), BytesMut::new());
        }
    }

    /// Closes the session with a code. Returns the stream on which the capsule is sent.
    pub(super) fn close(&mut self, code: u32, connection: &mut Connection) -> Option<StreamId> {
        let id = self.request?;
        let mut capsule = BytesMut::new();
        h3::Capsule::CloseWebTransportSession { code, reason: String::new() }.encode(&mut capsule);
        let mut bytes = BytesMut::new();
        h3::Frame::DATA.encode(&mut bytes);
        h3::VarInt::from_u32(capsule.len() as u32).encode(&mut bytes);
        bytes.extend_from_slice(&capsule);
        let mut stream = connection.send_stream(id);
        stream.write(&bytes).ok()?;
        stream.finish().ok()?;
        Some(id)
    }

    /// Returns the bytes that precede the frames on the stream of the reliable lane.
    pub(super) fn preface(&self) -> BytesMut {
        let mut preface = BytesMut::new();
        h3::Frame::WEBTRANSPORT.encode(&mut preface);
        encode(VarInt::from(self.request_id()).into_inner(), &mut preface);
        preface
    }

    /// Returns a datagram of the session that contains a frame.
    pub(super) fn wrap(&self, frame: &Bytes) -> Bytes {
        let mut datagram = BytesMut::with_capacity(1 + frame.len());
        encode(self.request_id().index(), &mut datagram);
        datagram.extend_from_slice(frame);
        datagram.freeze()
    }

    /// Returns the frame in a datagram, or `None` if the datagram belongs to another session.
    pub(super) fn unwrap(&self, datagram: &Bytes) -> Option<Bytes> {
        let (session, frame) = varint(datagram)?;
        (session.into_inner() == self.request_id().index()).then(|| Bytes::copy_from_slice(frame))
    }

    /// Returns the stream of the request, which is the client's first stream.
    fn request_id(&self) -> StreamId {
        self.request.unwrap_or(StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0))
    }
}

/// The result of [`Session::tell`].
enum Told {
    NotYet,
    Kept,
    Found(Found),
}

/// Reads the varint at the front. Returns its value and the bytes after it.
fn varint(bytes: &[u8]) -> Option<(h3::VarInt, &[u8])> {
    let mut rest = bytes;
    let value = h3::VarInt::decode(&mut rest).ok()?;
    Some((value, rest))
}

fn encode(value: u64, into: &mut BytesMut) {
    // Stream ids are below 2^62.
    if let Ok(value) = h3::VarInt::from_u64(value) {
        value.encode(into);
    }
}

/// Finds the first HTTP/3 frame. Returns where the payload begins if it is a DATA frame, and where the frame ends.
/// Returns `None` if the frame is incomplete.
fn http_frame(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    let (kind, rest) = varint(bytes)?;
    let (length, rest) = varint(rest)?;
    let begin = bytes.len() - rest.len();
    let end = begin.checked_add(usize::try_from(length.into_inner()).ok()?)?;
    (end <= bytes.len()).then_some(((h3::Frame(kind) == h3::Frame::DATA).then_some(begin), end))
}

/// The longest request, settings or capsule in bytes: that of a Hello. It bounds what the server holds for a client
/// that it has not identified. Browsers send a few hundred bytes.
const HEAD_MAX: usize = crate::wire::FRAME_MAX_BEFORE_WELCOME;
/// The most bytes of one read. A packet is shorter.
const CHUNK_MAX: usize = 2_048;
