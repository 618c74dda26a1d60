//! Opens links over WebSocket, plain (`ws`) or under TLS (`wss`), for networks that pass only web traffic.
//!
//! Each link has a socket that does not block, and needs no thread: in each update tungstenite continues
//! from where it stopped when the socket had no data. All frames share one stream, in order.
//!
//! Data flow: socket → tungstenite → frames, and back. A link reads only when it is asked for a frame. In one
//! update it reads at most the bytes of a full outbox and at most [`MESSAGES_PER_UPDATE_MAX`] messages, pings
//! included. While the socket is blocked, the game's unreliable frames wait in a queue of their own, and the
//! oldest of them are dropped.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tungstenite::client::client_with_config;
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, HandshakeError, Message, WebSocket};
use url::Url;

use super::link::{Dial, DialError, Link, LinkStatus};
use super::stream::{Stream, TlsPeer, resolve};
use super::trust::Trust;
use crate::wire::v1::Reason;
use crate::wire::waiting::Waiting;
use crate::wire::{FRAME_MAX_CLIENT, FRAME_MAX_SERVER, Lane, Range, id_of, lane_of};

/// Dials one server over WebSocket.
///
/// ```
/// use waystation::client::{Client, ClientConfig, Trust, WebSocketDial};
///
/// let dial = WebSocketDial::new("ws://127.0.0.1:7780/ws", Trust::WebPki)?; // the URL in discovery's offer
/// let client = Client::new(dial, ClientConfig::default());
/// # drop(client);
/// # Ok::<(), waystation::client::DialError>(())
/// ```
#[derive(Clone)]
pub struct WebSocketDial {
    url: Url,
    host: String,
    port: u16,
    trust: Trust,
    /// Kept for later links, so that their handshakes are cheaper.
    tls: Option<TlsPeer>,
    /// Selects which of the host's addresses is tried first.
    turn: usize,
}

/// A link over WebSocket.
pub struct WebSocketLink {
    state: State,
    /// Time since the link was created, as the sum of the updates.
    now: Duration,
    /// Messages that may still be read in this update.
    messages_left: usize,
    /// True if the socket did not accept all data in the last write or flush.
    is_blocked: bool,
    /// Unreliable frames of the game that wait while the socket is blocked.
    waiting: Waiting,
    failure: Option<String>,
    violation: Option<&'static str>,
}

enum State {
    /// The connection or the WebSocket handshake is in progress.
    Opening(Box<MidHandshake<ClientHandshake<Stream>>>),
    Open(Box<WebSocket<Stream>>),
    /// The link is closed. A socket is kept if its last bytes may still have to be sent.
    Closed(Option<Box<WebSocket<Stream>>>),
}

impl WebSocketDial {
    /// Creates a dial for the server at this `ws:` or `wss:` URL. `trust` is the certificate that the client accepts
    /// over `wss:`.
    ///
    /// # Errors
    ///
    /// Returns [`DialError::Other`] if the URL is not a WebSocket URL.
    pub fn new(url: &str, trust: Trust) -> Result<Self, DialError> {
        let wrong = |what: &str| {
            let shown: String = url.chars().take(SHOWN_MAX_CHARS).collect();
            DialError::Other(format!("`{shown}` {what}: give a URL like ws://127.0.0.1:7780/ws"))
        };
        let parsed = Url::parse(url).map_err(|error| wrong(&format!("is not a URL ({error})")))?;
        if !matches!(parsed.scheme(), "ws" | "wss") {
            return Err(wrong("is not a WebSocket URL"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("has no host"))?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(|| wrong("has no port"))?;
        Ok(Self { url: parsed, host, port, trust, tls: None, turn: 0 })
    }

    fn tls(&mut self) -> Result<Option<TlsPeer>, DialError> {
        if self.url.scheme() == "ws" || self.tls.is_some() {
            return Ok(self.tls.clone());
        }
        let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host);
        let name = ServerName::try_from(bare.to_owned()).map_err(other)?;
        let config = self.trust.client_config(&[b"http/1.1"]).map_err(other)?;
        self.tls = Some(TlsPeer { config: Arc::clone(&config), name });
        Ok(self.tls.clone())
    }
}

impl fmt::Debug for WebSocketDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, trust, .. } = self;
        f.debug_struct("WebSocketDial")
            .field("url", &url.as_str())
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

impl Dial for WebSocketDial {
    type Link = WebSocketLink;

    /// Begins to open a link. The system looks up a host name first, which may block.
    fn dial(&mut self) -> Result<WebSocketLink, DialError> {
        let unknown = |cause| DialError::Other(format!("{} cannot be looked up: {cause}", self.host));
        let addresses = resolve(&self.host, self.port, self.turn).map_err(unknown)?;
        self.turn = self.turn.wrapping_add(1);
        self.dial_at(&addresses)
    }
}

impl WebSocketDial {
    /// Returns the host and the port of the URL.
    pub(super) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Dials the first of these addresses that accepts.
    pub(super) fn dial_at(&mut self, addresses: &[SocketAddr]) -> Result<WebSocketLink, DialError> {
        let tls = self.tls()?;
        let stream = Stream::connect(addresses, tls).map_err(other)?;
        let begun = client_with_config(self.url.as_str(), stream, Some(limits()));
        let mut link = WebSocketLink {
            state: State::Closed(None),
            now: Duration::ZERO,
            messages_left: MESSAGES_PER_UPDATE_MAX,
            is_blocked: false,
            waiting: Waiting::default(),
            failure: None,
            violation: None,
        };
        // The link reports a failure of the handshake, even if the handshake fails at once.
        link.go_on(begun.map(|(socket, _)| socket));
        Ok(link)
    }
}

impl WebSocketLink {
    /// Applies the result of a step of the handshake.
    fn go_on(&mut self, step: Result<WebSocket<Stream>, HandshakeError<ClientHandshake<Stream>>>) {
        match step {
            Ok(socket) => self.state = State::Open(Box::new(socket)),
            Err(HandshakeError::Interrupted(handshake)) => {
                self.state = State::Opening(Box::new(handshake));
            }
            Err(HandshakeError::Failure(error)) => self.fail(&error),
        }
    }

    /// Queues a frame. Returns false if there is no room or if the link is closed.
    fn write(&mut self, frame: Bytes) -> bool {
        let State::Open(socket) = &mut self.state else { return false };
        match socket.write(Message::Binary(frame)) {
            Ok(()) => true,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                true
            }
            Err(Error::WriteBufferFull(_)) => false,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn flush_socket(&mut self) {
        let (State::Open(socket) | State::Closed(Some(socket))) = &mut self.state else { return };
        match socket.flush() {
            Ok(()) => self.is_blocked = false,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
            Err(_) if matches!(self.state, State::Closed(_)) => self.state = State::Closed(None),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Error) {
        tracing::debug!(%error, "a link over WebSocket has failed");
        self.failure = Some(describe(error));
        self.state = State::Closed(None);
    }
}

impl Link for WebSocketLink {
    fn update(&mut self, dt: Duration) {
        self.now += dt;
        self.messages_left = MESSAGES_PER_UPDATE_MAX;
        match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Opening(handshake) => self.go_on(handshake.handshake().map(|(socket, _)| socket)),
            State::Open(mut socket) => {
                socket.get_mut().refill();
                self.state = State::Open(socket);
            }
            other @ State::Closed(_) => self.state = other,
        }
    }

    fn status(&self) -> LinkStatus {
        match &self.state {
            State::Opening(_) => LinkStatus::Opening,
            State::Open(_) => LinkStatus::Open,
            State::Closed(_) => LinkStatus::Closed,
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        loop {
            let State::Open(socket) = &mut self.state else { return None };
            self.messages_left = self.messages_left.checked_sub(1)?;
            match socket.read() {
                Ok(Message::Binary(frame)) => return Some((Lane::Reliable, frame)),
                Ok(Message::Text(_)) => {
                    self.failure =
                        Some("the server sent a text message, so it uses another protocol".to_owned());
                    self.violation = Some("a text message");
                    self.close();
                }
                Ok(Message::Close(close)) => {
                    self.failure.get_or_insert(closed_by_server(close.map(|close| close.code)));
                    // The next flush may still have to send the answer.
                    if let State::Open(socket) = std::mem::replace(&mut self.state, State::Closed(None)) {
                        self.state = State::Closed(Some(socket));
                    }
                }
                // tungstenite answers a ping with the next write.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    if matches!(error, Error::Capacity(_)) {
                        self.violation = Some("a frame longer than is allowed");
                    }
                    self.fail(&error);
                }
            }
        }
    }

    fn send(&mut self, frame: Bytes) -> bool {
        // Pings carry acks, so they are queued like reliable frames.
        let is_state = lane_of(&frame) == Lane::Unreliable
            && id_of(&frame).is_none_or(|id| id.range() != Range::LinkControl);
        if is_state && self.is_blocked && self.status() == LinkStatus::Open {
            self.waiting.push(frame);
            self.waiting.expire(self.now);
            return true;
        }
        self.write(frame)
    }

    fn flush(&mut self) {
        self.flush_socket();
        self.waiting.expire(self.now);
        while !self.is_blocked
            && let Some(frame) = self.waiting.pop_within(usize::MAX)
            && self.write(frame)
        {
            self.flush_socket();
        }
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn close(&mut self) {
        if let State::Open(mut socket) = std::mem::replace(&mut self.state, State::Closed(None)) {
            let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            // Bytes that the socket does not take now are lost.
            let _ = socket.close(Some(normal));
            let _ = socket.flush();
        }
    }

    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn violation(&self) -> Option<String> {
        self.violation.map(str::to_owned)
    }
}

impl fmt::Debug for WebSocketLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLink").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Returns the limits of messages and buffers.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(FRAME_MAX_SERVER))
        .max_frame_size(Some(FRAME_MAX_SERVER))
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_EARLY_BYTES)
        .max_write_buffer_size(WRITE_MAX_BYTES)
}

/// Returns the message for a close of the server. The close code has the reason.
fn closed_by_server(code: Option<CloseCode>) -> String {
    let Some(code) = code.map(u16::from) else {
        return "the server closed the link without a reason".to_owned();
    };
    let reason = code.checked_sub(CODE_BASE).and_then(|reason| Reason::try_from(i32::from(reason)).ok());
    match reason {
        Some(reason) => format!("the server closed the link: {reason}"),
        None => format!("the server closed the link with the code {code}"),
    }
}

fn describe(error: &Error) -> String {
    match error {
        Error::Http(answer) => match answer.status().as_u16() {
            403 => "the server refuses WebSocket (403): it does not allow this origin".to_owned(),
            503 => "the server has no room for another link (503): try again later".to_owned(),
            status => format!("the server has no WebSocket here ({status}): check the URL's path"),
        },
        Error::Io(error) => format!("the connection failed: {error}; check the network and the server"),
        Error::ConnectionClosed | Error::AlreadyClosed => "the server has closed the connection".to_owned(),
        error => format!("WebSocket failed: {error}; an HTTP proxy in between may not support WebSocket"),
    }
}

fn other(error: impl fmt::Display) -> DialError {
    DialError::Other(error.to_string())
}

/// A close code is this number plus the number of the reason.
const CODE_BASE: u16 = 4_000;
/// The most messages that are read in one update, pings and pongs included: several full outboxes. Further messages
/// are read in later updates.
const MESSAGES_PER_UPDATE_MAX: usize = 8 * crate::wire::OUTBOX_MAX_FRAMES;
/// Bytes that are read at a time.
const READ_BYTES: usize = 8 * 1024;
/// Queued bytes above which a write goes to the socket before the flush: several of the longest frames.
const WRITE_EARLY_BYTES: usize = 4 * FRAME_MAX_CLIENT;
/// Queued bytes at which a send is refused: a full outbox, and room for further writes.
const WRITE_MAX_BYTES: usize = crate::wire::OUTBOX_MAX_BYTES + 2 * WRITE_EARLY_BYTES;
/// Maximum number of characters of a wrong URL that an error shows.
const SHOWN_MAX_CHARS: usize = 100;
