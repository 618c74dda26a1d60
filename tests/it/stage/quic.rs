//! Runs the QUIC adapter on a stage, with its clients.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use bevy_app::App;
use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, StreamId,
    VarInt,
};
use waystation::client::Trust;
use waystation::proxy::quic::{QuicConfig, QuicCounts, QuicProxy, QuicStats};
use waystation::proxy::tls::Tls;
use waystation::proxy::{self, Listener as _, ListenerHandle};
use waystation::tick::Clock;
use waystation::wire::quic::{
    ALPN_QUIC, ALPN_WEBTRANSPORT, Exchanged, LaneEvent, Lanes, QuicKind, QuicLimits, exchange,
};
use waystation::wire::{FRAME_MAX_SERVER, Lane};

use super::{Adapter, frame, loopback, now};

/// The TLS configuration of a client. It stores the session tickets of earlier handshakes.
pub(crate) type TlsConfig = Arc<rustls::ClientConfig>;

/// A stage with the QUIC adapter.
pub(crate) type Stage = super::Stage<Quic>;

/// The QUIC adapter and its certificate.
pub(crate) struct Quic {
    /// The handle of the adapter. A test can take and drop it, to observe the clients.
    pub(crate) handle: Option<ListenerHandle>,
    address: SocketAddr,
    stats: QuicStats,
    pub(crate) tls: Tls,
}

impl Quic {
    pub(crate) fn start(app: &mut App, config: QuicConfig) -> Self {
        let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate is generated");
        let bound =
            QuicProxy::bind(QuicConfig { listen: loopback(), ..config }, &tls).expect("the port is free");
        let (address, stats) = (bound.local_addr(), bound.stats());
        let handle = bound.start(proxy::attach(app, "quic")).expect("the thread starts");
        Self { handle: Some(handle), address, stats, tls }
    }

    /// Creates a client that has sent nothing.
    pub(crate) fn client(&self, kind: QuicKind) -> Client {
        let (lanes, alpn) = match kind {
            QuicKind::Quic => (Lanes::quic_client(FRAME_MAX_SERVER), ALPN_QUIC),
            QuicKind::WebTransport => {
                let url = format!("https://localhost:{}/wt", self.address.port());
                let url = url.parse().expect("the URL is valid");
                (Lanes::webtransport_client(FRAME_MAX_SERVER, url), ALPN_WEBTRANSPORT)
            }
        };
        Client::new(self.address, self.client_tls(alpn), lanes, &QuicLimits::default())
    }

    /// Returns the TLS configuration of a client that trusts the server's certificate.
    pub(crate) fn client_tls(&self, alpn: &[u8]) -> TlsConfig {
        let sha256 = self.tls.sha256().expect("the certificate is self-signed");
        Trust::Sha256(sha256).client_config(&[alpn]).expect("the TLS configuration is valid")
    }
}

impl Adapter for Quic {
    type Client = Client;
    type Counts = QuicCounts;

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(ListenerHandle::is_finished)
    }

    fn counts(&self) -> QuicCounts {
        self.stats.counts()
    }

    fn has_links(&self) -> bool {
        let counts = self.counts();
        counts.quic_opened_count + counts.webtransport_opened_count != counts.closed_count
    }

    fn add_newcomer(stage: &mut Stage) -> usize {
        stage.connect(QuicKind::Quic)
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(QuicConfig::default(), Clock::wall())
    }

    pub(crate) fn with(config: QuicConfig, clock: Clock) -> Self {
        Self::start(clock, |app| Quic::start(app, config))
    }

    /// Adds a client that has sent nothing. Returns its index.
    pub(crate) fn client(&mut self, kind: QuicKind) -> usize {
        self.add(self.adapter.client(kind))
    }

    pub(crate) fn client_with(&mut self, lanes: Lanes, alpn: &[u8], limits: &QuicLimits) -> usize {
        self.client_over(self.adapter.client_tls(alpn), lanes, limits)
    }

    pub(crate) fn client_over(&mut self, tls: TlsConfig, lanes: Lanes, limits: &QuicLimits) -> usize {
        self.add(Client::new(self.local_addr(), tls, lanes, limits))
    }

    /// Adds a client with an open link, and waits until the server has received a frame on the link's stream.
    pub(crate) fn connect(&mut self, kind: QuicKind) -> usize {
        let id = self.client(kind);
        self.until("the client connects", |stage| stage.clients[id].is_open());
        self.clients[id].send(&frame(0x01, 0));
        self.until("the server receives the client's frame", |stage| {
            stage.link_of(id).is_some() && stage.frames_of(id).contains(&(Lane::Reliable, frame(0x01, 0)))
        });
        id
    }
}

/// A QUIC client that a test can make misbehave.
pub(crate) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    pub(crate) connection: Connection,
    pub(crate) lanes: Lanes,
    pub(crate) opened_from: SocketAddr,
    pub(crate) received: Vec<(Lane, Bytes)>,
    pub(crate) happened: Vec<LaneEvent>,
    /// If true, `step` does nothing.
    pub(crate) frozen: bool,
    /// If true, the client reads no frames.
    pub(crate) deaf: bool,
    /// If true, the events of the connection are not given to the lanes.
    pub(crate) raw: bool,
    is_drained: bool,
}

impl Client {
    fn new(server: SocketAddr, tls: TlsConfig, lanes: Lanes, limits: &QuicLimits) -> Self {
        let socket = bind();
        let opened_from = socket.local_addr().expect("the socket is bound");
        let mut config = ClientConfig::new(Arc::new(
            QuicClientConfig::try_from(tls).expect("the TLS configuration has a cipher for QUIC"),
        ));
        config.transport_config(Arc::new(limits.transport()));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (handle, connection) =
            endpoint.connect(now(), config, server, "localhost").expect("the server name is valid");
        Self {
            socket,
            server,
            endpoint,
            handle,
            connection,
            lanes,
            opened_from,
            received: Vec::new(),
            happened: Vec::new(),
            frozen: false,
            deaf: false,
            raw: false,
            is_drained: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.happened.iter().any(|happened| matches!(happened, LaneEvent::Opened(_)))
    }

    pub(crate) fn send(&mut self, frame: &Bytes) {
        assert!(self.lanes.send(frame, &mut self.connection), "the connection has no room for the frame");
    }

    fn take_datagrams(&mut self) {
        let mut buffer = [0; 2_048];
        let mut answer = Vec::new();
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let datagram = BytesMut::from(&buffer[..length]);
                    answer.clear();
                    let event = self.endpoint.handle(now(), self.server, None, None, datagram, &mut answer);
                    match event {
                        Some(DatagramEvent::ConnectionEvent(_, event)) => self.connection.handle_event(event),
                        Some(DatagramEvent::Response(_) | DatagramEvent::NewConnection(_)) | None => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The server's socket is closed, and the system reports it.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                Err(error) => panic!("cannot receive from the server: {error}"),
            }
        }
    }

    /// Receives one datagram and sends the connection's answer, for a frozen client.
    pub(crate) fn answer_retry(&mut self) {
        self.take_datagrams();
        self.flush();
    }

    /// Returns the packet that begins the handshake, without sending it.
    pub(crate) fn first_packet(mut self) -> Vec<u8> {
        let mut datagram = Vec::new();
        let sent = self.connection.poll_transmit(now(), 1, &mut datagram);
        assert!(sent.is_some(), "a client sends the first packet of a handshake");
        datagram
    }

    /// Sends all datagrams that the connection has ready.
    pub(crate) fn flush(&mut self) {
        self.is_drained = self.is_drained
            || exchange(&mut self.endpoint, self.handle, &mut self.connection) == Exchanged::Drained;
        let mut datagram = Vec::new();
        while self.connection.poll_transmit(now(), 1, &mut datagram).is_some() {
            self.throw(&datagram);
            datagram.clear();
        }
    }

    /// Sends a datagram unchanged.
    pub(crate) fn throw(&mut self, datagram: &[u8]) {
        loop {
            match self.socket.send_to(datagram, self.server) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                // An earlier datagram reached a closed port, or this one is lost. Both are normal for UDP.
                _ => return,
            }
        }
    }

    /// Opens a second stream on the connection and writes to it.
    pub(crate) fn open_stream(&mut self, dir: Dir, bytes: &[u8]) -> StreamId {
        let stream = self.connection.streams().open(dir).expect("the server allows another stream");
        self.write(stream, bytes);
        stream
    }

    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let written = self.connection.send_stream(stream).write(bytes).expect("the stream accepts data");
        assert_eq!(written, bytes.len());
    }

    /// Moves the connection to another local address, as after a change of network. Returns the address.
    pub(crate) fn move_elsewhere(&mut self) -> SocketAddr {
        self.socket = bind();
        self.socket.local_addr().expect("the socket is bound")
    }
}

impl super::Client for Client {
    fn opened_from(&self) -> SocketAddr {
        self.opened_from
    }

    fn step(&mut self) {
        if self.frozen {
            return;
        }
        self.take_datagrams();
        if self.connection.poll_timeout().is_some_and(|at| at <= now()) {
            self.connection.handle_timeout(now());
        }
        if !self.raw {
            self.lanes.update(&mut self.connection);
            for lane in [Lane::Reliable, Lane::Unreliable] {
                while let Some(frame) =
                    (!self.deaf).then(|| self.lanes.receive(lane, &mut self.connection)).flatten()
                {
                    self.received.push((lane, frame));
                }
            }
            self.happened.extend(std::iter::from_fn(|| self.lanes.poll()));
            self.lanes.flush(&mut self.connection, now());
        }
        self.flush();
    }

    fn say(&mut self, frame: Bytes) {
        self.send(&frame);
    }

    fn heard(&self) -> Vec<(Lane, Bytes)> {
        self.received.clone()
    }

    fn hang_up(&mut self) {
        self.connection.close(now(), VarInt::from_u32(0), Bytes::new());
        self.flush();
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).expect("the socket binds");
    socket.set_nonblocking(true).expect("the socket becomes non-blocking");
    socket
}
