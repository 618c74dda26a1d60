//! The WebTransport session around a link's lanes: settings, the request that opens it, and the
//! capsule that closes it. Both ends of it.
//!
//! Of HTTP/3 there is what one session a connection needs. No table of headers is shared, so that
//! the peer's QPACK streams say nothing that would have to be known.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn_proto::{Connection, Dir, StreamId, VarInt};
use web_transport_proto as h3;

use super::Request;

/// HTTP/3's state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    /// What a client asks for; none at a server.
    wish: Option<h3::ConnectRequest>,
    /// Streams that the peer opened, but for the one of the lanes. At most six, by the limits of
    /// the connection.
    streams: Vec<Incoming>,
    /// The stream of the request, which is the session's for its whole life.
    request: Option<StreamId>,
    /// The peer has said what it can do.
    settled: bool,
    /// A server was asked and has not answered yet, or has refused: nothing more is read.
    asked: bool,
    /// The session is there: datagrams and streams of it may be read.
    pub(super) established: bool,
    /// What capsules are made of, as far as it has come.
    capsules: BytesMut,
    /// How the peer closed the session.
    pub(super) ended: Option<Option<u32>>,
}

/// A stream of the peer's, or the one of our request.
#[derive(Debug)]
struct Incoming {
    id: StreamId,
    what: What,
    head: BytesMut,
    readable: bool,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Its first bytes will tell.
    Unknown,
    /// The peer's settings.
    Control,
    /// Nothing that matters here.
    Ignored,
    /// The request or its answer, then capsules.
    Request,
}

/// What a stream turned out to bring.
#[derive(Debug)]
pub(super) enum Found {
    /// A server was asked for a session.
    Asked(Request),
    /// A client's session is there.
    Established,
    /// A client was turned away.
    Refused,
    /// The stream of the lanes, whose preface is read.
    Lanes(StreamId),
    /// What no peer of ours does.
    Breach(&'static str),
}

/// What became of the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// The session is there.
    Established,
    /// It was refused, and this stream ends with the refusal.
    Refused(StreamId),
    /// The client takes no answer.
    Unheard,
}

impl Session {
    /// Of a server.
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

    /// Of a client that asks for this URL.
    pub(super) fn asking(url: url::Url) -> Self {
        Self { wish: Some(h3::ConnectRequest::new(url)), ..Self::accepting() }
    }

    /// The stream of the request, as soon as there is one.
    pub(super) fn request(&self) -> Option<StreamId> {
        self.request
    }

    /// Says what this end can do, on a stream that stays open.
    pub(super) fn begin(&mut self, connection: &mut Connection) {
        let mut settings = h3::Settings::default();
        settings.enable_webtransport(1);
        let mut bytes = BytesMut::new();
        settings.encode(&mut bytes);
        if let Some(control) = connection.streams().open(Dir::Uni) {
            // A fresh stream's window holds these few bytes; if not, the peer waits for ever.
            let _ = connection.send_stream(control).write(&bytes);
        }
    }

    /// The peer opened a stream.
    pub(super) fn opened(&mut self, id: StreamId) {
        self.streams.push(Incoming { id, what: What::Unknown, head: BytesMut::new(), readable: true });
    }

    /// A stream has something, or has ended. Whether it is one of these.
    pub(super) fn wake(&mut self, id: StreamId) -> bool {
        let stream = self.streams.iter_mut().find(|stream| stream.id == id);
        stream.map(|stream| stream.readable = true).is_some()
    }

    /// Reads what the streams brought; `None` when there is nothing more.
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

    /// Reads from a stream. What it brought, and whether there will be more.
    fn read(&mut self, stream: &mut Incoming, connection: &mut Connection) -> (Option<Found>, bool) {
        loop {
            // A preface is read byte by byte, because what follows it is read by others.
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

    /// Tells from its first bytes what a stream is for.
    fn tell(&mut self, stream: &mut Incoming) -> Told {
        let Some((kind, rest)) = varint(&stream.head) else { return Told::NotYet };
        if stream.id.dir() == Dir::Uni {
            stream.what = match h3::StreamUni(kind) {
                h3::StreamUni::CONTROL => What::Control,
                h3::StreamUni::WEBTRANSPORT | h3::StreamUni::PUSH => {
                    return Told::Found(Found::Breach("a stream besides the one of the lanes"));
                }
                // Tables of headers that are empty for ever, or grease.
                _ => What::Ignored,
            };
            return Told::Kept;
        }
        if self.wish.is_some() {
            return Told::Found(Found::Breach("a stream besides the one of the lanes"));
        }
        if h3::Frame(kind) == h3::Frame::WEBTRANSPORT {
            let Some((session, _)) = varint(rest) else { return Told::NotYet };
            // A client's first stream is the request of its one session.
            let is_ours = session.into_inner() == VarInt::from(self.request_id()).into_inner();
            return Told::Found(if is_ours {
                Found::Lanes(stream.id)
            } else {
                Found::Breach("a stream of a session that is none")
            });
        }
        if self.request.is_some() || stream.id != self.request_id() {
            return Told::Found(Found::Breach("a stream besides the one of the lanes"));
        }
        stream.what = What::Request;
        self.request = Some(stream.id);
        Told::Kept
    }

    /// Takes what came on a stream whose purpose is known.
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

    /// The peer's settings. A client asks for its session when it has them.
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
            Err(_) => Some(Found::Breach("settings that are none")),
        }
    }

    fn ask(&mut self, request: &[u8], connection: &mut Connection) {
        let Some(id) = connection.streams().open(Dir::Bi) else { return };
        // A fresh stream's window holds a request; if not, nobody answers.
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
                Some(Found::Asked(Request {
                    path: request.url.path().to_owned(),
                    // One that is no text is on no list.
                    origin: origin.map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned()),
                }))
            }
            Err(h3::ConnectError::UnexpectedEnd) if head.len() <= HEAD_MAX => None,
            Err(error) => {
                tracing::debug!(%error, "no request for a session");
                Some(Found::Breach("a request that asks for no session"))
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
                tracing::debug!(%error, "the server opens no session");
                Some(Found::Refused)
            }
        }
    }

    /// Answers the request; a refusal ends its stream.
    pub(super) fn answer(&mut self, status: u16, connection: &mut Connection) -> Answered {
        let Some(id) = self.request else { return Answered::Unheard };
        let status = h3::http::StatusCode::from_u16(status).unwrap_or(h3::http::StatusCode::BAD_REQUEST);
        let mut bytes = BytesMut::new();
        // An answer of a status alone fits.
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

    /// Looks for the capsule that closes the session in what came behind the request or its answer.
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

    /// Closes the session with a code, and returns the stream on which that is flushed.
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

    /// What precedes the lanes' bytes on their stream.
    pub(super) fn preface(&self) -> BytesMut {
        let mut preface = BytesMut::new();
        h3::Frame::WEBTRANSPORT.encode(&mut preface);
        encode(VarInt::from(self.request_id()).into_inner(), &mut preface);
        preface
    }

    /// A datagram of the session around a frame.
    pub(super) fn wrap(&self, frame: &Bytes) -> Bytes {
        let mut datagram = BytesMut::with_capacity(1 + frame.len());
        encode(self.request_id().index(), &mut datagram);
        datagram.extend_from_slice(frame);
        datagram.freeze()
    }

    /// The frame in a datagram, if that is the session's.
    pub(super) fn unwrap(&self, datagram: &Bytes) -> Option<Bytes> {
        let (session, frame) = varint(datagram)?;
        (session.into_inner() == self.request_id().index()).then(|| Bytes::copy_from_slice(frame))
    }

    /// A client's first stream.
    fn request_id(&self) -> StreamId {
        self.request.unwrap_or(StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0))
    }
}

/// What the first bytes of a stream said.
enum Told {
    NotYet,
    Kept,
    Found(Found),
}

/// The number at the front, and what is behind it.
fn varint(bytes: &[u8]) -> Option<(h3::VarInt, &[u8])> {
    let mut rest = bytes;
    let value = h3::VarInt::decode(&mut rest).ok()?;
    Some((value, rest))
}

fn encode(value: u64, into: &mut BytesMut) {
    // Ids of streams are below 2^62.
    if let Ok(value) = h3::VarInt::from_u64(value) {
        value.encode(into);
    }
}

/// Where the first whole HTTP/3 frame ends and, if it is one of data, where its payload begins.
fn http_frame(bytes: &[u8]) -> Option<(Option<usize>, usize)> {
    let (kind, rest) = varint(bytes)?;
    let (length, rest) = varint(rest)?;
    let begin = bytes.len() - rest.len();
    let end = begin.checked_add(usize::try_from(length.into_inner()).ok()?)?;
    (end <= bytes.len()).then_some(((h3::Frame(kind) == h3::Frame::DATA).then_some(begin), end))
}

/// Longest request, settings or capsule, in bytes: as a Hello, so that a stranger cannot make the
/// other end hold more. Browsers send a few hundred.
const HEAD_MAX: usize = crate::wire::FRAME_MAX_BEFORE_WELCOME;
/// Bytes of one read; a whole packet is less.
const CHUNK_MAX: usize = 2_048;
