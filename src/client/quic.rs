//! Opens links over QUIC, raw or inside a WebTransport session.
//!
//! Each link has a socket that does not block, and needs no thread: quinn's core does no I/O, and its clock
//! advances by the `dt` of each update. The encoding of frames is in [`wire::quic`](crate::wire::quic), which
//! the server uses too.
//!
//! Data flow: datagram → connection → lanes → frames, and back.

#[cfg(test)]
pub(super) mod host;
mod reasons;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Transmit,
};

use super::link::{Dial, DialError, Link, LinkStatus};
use super::trust::Trust;
use super::udp::socket;
use crate::wire::quic::{ALPN_QUIC, ALPN_WEBTRANSPORT, Exchanged, LaneEvent, Lanes, QuicLimits, exchange};
use crate::wire::v1::Reason;
use crate::wire::{FRAME_MAX_SERVER, Lane};

/// A server that is reached over QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicTarget {
    /// Address of the server, IPv4 or IPv6. A server's default UDP port is 7778.
    pub address: SocketAddr,
    /// Name of the server: a host name or an IP address. The certificate must be valid for this name, unless
    /// [`trust`](Self::trust) is the hash of one certificate.
    pub server_name: String,
    /// Certificate that the client accepts.
    pub trust: Trust,
    /// Protocol of the links: raw QUIC or WebTransport.
    pub route: QuicRoute,
}

/// The protocol of a link over QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuicRoute {
    /// Raw QUIC, which has less overhead.
    Quic,
    /// A WebTransport session, as browsers use it. It can pass an HTTP/3 proxy.
    WebTransport {
        /// Path of the session. A server's default path is
        /// [`WEBTRANSPORT_PATH`](crate::wire::quic::WEBTRANSPORT_PATH).
        path: String,
    },
}

/// Dials one server over QUIC.
///
/// ```
/// use waystation::client::{Client, ClientConfig, QuicDial, QuicRoute, QuicTarget, Trust};
///
/// let dial = QuicDial::new(QuicTarget {
///     address: ([127, 0, 0, 1], 7778).into(),
///     server_name: "localhost".to_owned(),
///     trust: Trust::from_offer(Some(&"5a".repeat(32)))?, // the hash in discovery's offer
///     route: QuicRoute::Quic,
/// });
/// let client = Client::new(dial, ClientConfig::default());
/// # drop(client);
/// # Ok::<(), waystation::client::TrustError>(())
/// ```
pub struct QuicDial {
    target: QuicTarget,
    /// Kept for later links, so that their handshakes are cheaper.
    config: Option<ClientConfig>,
}

impl QuicDial {
    /// Creates a dial for this server.
    #[must_use]
    pub fn new(target: QuicTarget) -> Self {
        Self { target, config: None }
    }

    fn config(&mut self) -> Result<ClientConfig, DialError> {
        if let Some(config) = &self.config {
            return Ok(config.clone());
        }
        let alpn = match self.target.route {
            QuicRoute::Quic => ALPN_QUIC,
            QuicRoute::WebTransport { .. } => ALPN_WEBTRANSPORT,
        };
        let tls = self.target.trust.client_config(&[alpn]).map_err(other)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(other)?));
        let limits = QuicLimits { stream_window_bytes: STREAM_WINDOW_BYTES, ..QuicLimits::default() };
        config.transport_config(Arc::new(limits.transport()));
        self.config = Some(config.clone());
        Ok(config)
    }
}

impl fmt::Debug for QuicDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicDial").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Dial for QuicDial {
    type Link = QuicLink;

    fn dial(&mut self) -> Result<QuicLink, DialError> {
        let config = self.config()?;
        QuicLink::open(&self.target, config)
    }
}

/// A link over QUIC.
pub struct QuicLink {
    socket: UdpSocket,
    peer: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    /// True once the endpoint has removed the connection. The endpoint must not receive further events of the
    /// connection.
    is_drained: bool,
    lanes: Lanes,
    /// The link's clock, which begins at the dial and advances with the updates.
    now: Instant,
    status: LinkStatus,
    failure: Option<String>,
    violation: Option<&'static str>,
    /// The datagram that is being sent.
    datagram: Vec<u8>,
    /// True if the socket had no room for the datagram, which is then sent first in the next update.
    is_held: bool,
    /// Time since a datagram was received, or since the link was moved.
    quiet: Duration,
}

impl QuicLink {
    #[allow(clippy::disallowed_methods, reason = "quinn needs a first instant; the clock is read only here")]
    fn open(target: &QuicTarget, config: ClientConfig) -> Result<Self, DialError> {
        let peer = target.address;
        let now = Instant::now();
        // An IPv6 address has brackets in URLs, but not in certificates.
        let name = target.server_name.trim_start_matches('[').trim_end_matches(']');
        let lanes = match &target.route {
            QuicRoute::Quic => Lanes::quic_client(FRAME_MAX_SERVER),
            QuicRoute::WebTransport { path } => {
                Lanes::webtransport_client(FRAME_MAX_SERVER, session_url(name, peer.port(), path)?)
            }
        };
        let socket =
            socket::bind(peer).map_err(|error| DialError::Socket { peer, cause: error.to_string() })?;
        // The socket cannot forbid fragmentation, so path MTU discovery is off.
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (handle, connection) = endpoint.connect(now, config, peer, name).map_err(other)?;
        Ok(Self {
            socket,
            peer,
            endpoint,
            handle,
            connection,
            is_drained: false,
            lanes,
            now,
            status: LinkStatus::Opening,
            failure: None,
            violation: None,
            datagram: Vec::new(),
            is_held: false,
            quiet: Duration::ZERO,
        })
    }

    /// Moves the link to another socket and returns its local address, for a game that detects a change of the
    /// machine's network. Nothing that is in flight on the link is lost. A link on which nothing was received for
    /// 3 s is moved automatically.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::NotConnected`] if the link is closed, or the error of the operating system if it
    /// provides no socket. In the second case the link keeps its old socket.
    pub fn rebind(&mut self) -> io::Result<SocketAddr> {
        if self.status == LinkStatus::Closed || self.connection.is_closed() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let socket = socket::bind(self.peer)?;
        let address = socket.local_addr()?;
        self.socket = socket;
        self.connection.local_address_changed();
        self.quiet = Duration::ZERO;
        Ok(address)
    }

    /// Moves a quiet link to a new socket. The machine may have another address, or a router may have dropped its
    /// mapping.
    fn move_if_quiet(&mut self) {
        if self.status == LinkStatus::Open && self.quiet >= MOVE_AFTER {
            self.quiet = Duration::ZERO;
            match self.rebind() {
                Ok(address) => tracing::debug!(%address, "the link is quiet and was moved to another socket"),
                Err(error) => {
                    tracing::debug!(%error, "the link is quiet and cannot be moved to another socket")
                }
            }
        }
    }

    fn take_datagrams(&mut self) {
        let mut buffer = [0; DATAGRAM_MAX_BYTES];
        for _ in 0..DATAGRAMS_AN_UPDATE {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.take_datagram(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.note(&error),
            }
        }
    }

    fn take_datagram(&mut self, datagram: &[u8]) {
        let datagram = BytesMut::from(datagram);
        let mut answer = Vec::new();
        match self.endpoint.handle(self.now, self.peer, None, None, datagram, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                self.quiet = Duration::ZERO;
                self.connection.handle_event(event);
            }
            Some(DatagramEvent::Response(Transmit { size, .. })) => {
                // A datagram that the socket does not take counts as lost.
                let _ = self.socket.send(&answer[..size]);
            }
            Some(DatagramEvent::NewConnection(_)) | None => {}
        }
    }

    /// Handles an error that the network reports for a sent datagram. Such reports can be forged, so an open link
    /// ignores them and waits for its timeout.
    fn note(&mut self, error: &io::Error) {
        if self.status == LinkStatus::Opening {
            self.failure = Some(format!("{} cannot be reached over UDP: {error}", self.peer));
            if error.kind() == io::ErrorKind::ConnectionRefused {
                self.failure = Some(format!("nothing listens at {}: is the server running?", self.peer));
                self.status = LinkStatus::Closed;
            }
        }
    }

    /// Exchanges events between the connection and the endpoint.
    fn exchange(&mut self) {
        self.is_drained = self.is_drained
            || exchange(&mut self.endpoint, self.handle, &mut self.connection) == Exchanged::Drained;
    }

    fn take_events(&mut self) {
        while let Some(event) = self.lanes.poll() {
            match event {
                LaneEvent::Opened(_) if self.status == LinkStatus::Opening => self.status = LinkStatus::Open,
                LaneEvent::Ended(ended) => {
                    self.end(reasons::of_end(ended, self.lanes.error(), self.peer, self.status));
                }
                LaneEvent::ProtocolViolation(what) => {
                    tracing::debug!(what, "the server broke the protocol; the link is closed");
                    self.lanes.close(Reason::Protocol as u32, &mut self.connection, self.now);
                    self.violation.get_or_insert(what);
                    self.end(format!("the server broke the protocol: {what}"));
                }
                // The first two events occur on servers only. A link that is closed stays closed.
                LaneEvent::SessionRequested(_) | LaneEvent::Finished | LaneEvent::Opened(_) => {}
            }
        }
    }

    fn end(&mut self, why: String) {
        self.status = LinkStatus::Closed;
        self.failure.get_or_insert(why);
    }

    /// Sends the connection's datagrams, each of them `copies` times.
    fn transmit(&mut self, copies: usize) {
        for _ in 0..DATAGRAMS_AN_UPDATE {
            if !self.is_held {
                self.datagram.clear();
                if self.connection.poll_transmit(self.now, 1, &mut self.datagram).is_none() {
                    return;
                }
            }
            self.is_held = false;
            for _ in 0..copies {
                match self.socket.send(&self.datagram) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.is_held = true;
                        return;
                    }
                    Err(error) => self.note(&error),
                }
            }
        }
    }
}

impl fmt::Debug for QuicLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicLink")
            .field("peer", &self.peer)
            .field("status", &self.status)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Link for QuicLink {
    fn rebind(&mut self) -> io::Result<bool> {
        Self::rebind(self).map(|_| true)
    }

    fn update(&mut self, dt: Duration) {
        if self.status == LinkStatus::Closed {
            return;
        }
        // Without this limit quinn would time the peer out after a stall.
        let dt = dt.min(STEP_MAX);
        self.now += dt;
        self.quiet += dt;
        self.take_datagrams();
        self.move_if_quiet();
        if self.connection.poll_timeout().is_some_and(|at| at <= self.now) {
            self.connection.handle_timeout(self.now);
        }
        self.exchange();
        self.lanes.update(&mut self.connection);
        self.take_events();
    }

    fn status(&self) -> LinkStatus {
        self.status
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        for lane in [Lane::Reliable, Lane::Unreliable] {
            if let Some(frame) = self.lanes.receive(lane, &mut self.connection) {
                return Some((lane, frame));
            }
        }
        self.take_events();
        None
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.status == LinkStatus::Open && self.lanes.send(&frame, &mut self.connection)
    }

    fn flush(&mut self) {
        self.lanes.flush(&mut self.connection, self.now);
        self.transmit(1);
        self.exchange();
    }

    fn close(&mut self) {
        self.lanes.close(Reason::Unspecified as u32, &mut self.connection, self.now);
        self.transmit(CLOSE_COPIES);
        self.status = LinkStatus::Closed;
    }

    fn failure(&self) -> Option<String> {
        let silent = || reasons::no_answer(self.peer);
        self.failure.clone().or_else(|| (self.status == LinkStatus::Opening).then(silent))
    }

    fn violation(&self) -> Option<String> {
        self.violation.map(str::to_owned)
    }
}

/// Returns the URL of a WebTransport session.
fn session_url(name: &str, port: u16, path: &str) -> Result<url::Url, DialError> {
    let host = match name.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => name.to_owned(),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("https://{host}:{port}{slash}{path}").parse().map_err(other)
}

fn other(error: impl fmt::Display) -> DialError {
    DialError::Other(error.to_string())
}

/// The most datagrams that an update receives, and the most that a flush sends: some megabytes, so that a flood cannot
/// block the caller.
const DATAGRAMS_AN_UPDATE: usize = 4_096;
/// A length above that of any datagram that quinn lets its peer send.
const DATAGRAM_MAX_BYTES: usize = 2_048;
/// The most by which quinn's clock advances in one update: less than any of its timeouts.
const STEP_MAX: Duration = Duration::from_millis(250);
/// Time after which a quiet link is moved: longer than a keep-alive takes to be answered, and short enough that
/// the move can succeed before the link timeout.
const MOVE_AFTER: Duration = Duration::from_secs(3);
/// Copies of the datagram that closes the link, because it is not acknowledged.
const CLOSE_COPIES: usize = 3;
/// Bytes that the server may send on the stream before they are read. A whole outbox fits.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
