//! The QUIC adapter on a stage, and its clients.

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

/// How a client shakes hands; what one handshake has learned is kept in it for the next.
pub(crate) type TlsConfig = Arc<rustls::ClientConfig>;

/// A server with the QUIC adapter.
pub(crate) type Stage = super::Stage<Quic>;

/// The QUIC adapter, and its certificate.
pub(crate) struct Quic {
    /// A test may take it, to see what becomes of clients when it is dropped.
    pub(crate) handle: Option<ListenerHandle>,
    address: SocketAddr,
    stats: QuicStats,
    pub(crate) tls: Tls,
}

impl Quic {
    pub(crate) fn start(app: &mut App, config: QuicConfig) -> Self {
        let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
        let bound = QuicProxy::bind(QuicConfig { listen: loopback(), ..config }, &tls).expect("a free port");
        let (address, stats) = (bound.local_addr(), bound.stats());
        let handle = bound.start(proxy::attach(app, "quic")).expect("a thread");
        Self { handle: Some(handle), address, stats, tls }
    }

    /// A client that has not said anything yet.
    pub(crate) fn client(&self, kind: QuicKind) -> Client {
        let (lanes, alpn) = match kind {
            QuicKind::Quic => (Lanes::quic_client(FRAME_MAX_SERVER), ALPN_QUIC),
            QuicKind::WebTransport => {
                let url = format!("https://localhost:{}/wt", self.address.port());
                let url = url.parse().expect("a URL");
                (Lanes::webtransport_client(FRAME_MAX_SERVER, url), ALPN_WEBTRANSPORT)
            }
        };
        Client::new(self.address, self.client_tls(alpn), lanes, &QuicLimits::default())
    }

    /// What a client wants of the server's certificate.
    pub(crate) fn client_tls(&self, alpn: &[u8]) -> TlsConfig {
        let sha256 = self.tls.sha256().expect("self-signed");
        Trust::Sha256(sha256).client_config(&[alpn]).expect("a configuration")
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

    /// A client that has not said anything yet.
    pub(crate) fn client(&mut self, kind: QuicKind) -> usize {
        self.add(self.adapter.client(kind))
    }

    pub(crate) fn client_with(&mut self, lanes: Lanes, alpn: &[u8], limits: &QuicLimits) -> usize {
        self.client_over(self.adapter.client_tls(alpn), lanes, limits)
    }

    pub(crate) fn client_over(&mut self, tls: TlsConfig, lanes: Lanes, limits: &QuicLimits) -> usize {
        self.add(Client::new(self.local_addr(), tls, lanes, limits))
    }

    /// A client whose link is open, and whose stream the server has.
    pub(crate) fn connect(&mut self, kind: QuicKind) -> usize {
        let id = self.client(kind);
        self.until("the client is connected", |stage| stage.clients[id].is_open());
        self.clients[id].send(&frame(0x01, 0));
        self.until("the server has its frame", |stage| {
            stage.link_of(id).is_some() && stage.frames_of(id).contains(&(Lane::Reliable, frame(0x01, 0)))
        });
        id
    }
}

/// A client of QUIC, and what it takes to misbehave.
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
    /// It does nothing by itself.
    pub(crate) frozen: bool,
    /// It reads no frames.
    pub(crate) deaf: bool,
    /// What happens on its connection is not for its lanes.
    pub(crate) raw: bool,
    is_drained: bool,
}

impl Client {
    fn new(server: SocketAddr, tls: TlsConfig, lanes: Lanes, limits: &QuicLimits) -> Self {
        let socket = bind();
        let opened_from = socket.local_addr().expect("bound");
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher")));
        config.transport_config(Arc::new(limits.transport()));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (handle, connection) = endpoint.connect(now(), config, server, "localhost").expect("a name");
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
        assert!(self.lanes.send(frame, &mut self.connection), "no room");
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
                // The server is gone, and the system says so.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes one datagram, and sends what the connection says to it: of a frozen client.
    pub(crate) fn answer_retry(&mut self) {
        self.take_datagrams();
        self.flush();
    }

    /// The packet that begins its handshake.
    pub(crate) fn first_packet(mut self) -> Vec<u8> {
        let mut datagram = Vec::new();
        let sent = self.connection.poll_transmit(now(), 1, &mut datagram);
        assert!(sent.is_some(), "a client begins");
        datagram
    }

    /// Sends what the connection has to send.
    pub(crate) fn flush(&mut self) {
        self.is_drained = self.is_drained
            || exchange(&mut self.endpoint, self.handle, &mut self.connection) == Exchanged::Drained;
        let mut datagram = Vec::new();
        while self.connection.poll_transmit(now(), 1, &mut datagram).is_some() {
            self.throw(&datagram);
            datagram.clear();
        }
    }

    /// Sends a datagram as it is.
    pub(crate) fn throw(&mut self, datagram: &[u8]) {
        loop {
            match self.socket.send_to(datagram, self.server) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                // An earlier one met a closed port, or this one is lost: so it may be with UDP.
                _ => return,
            }
        }
    }

    /// Opens a stream beside the link's, and writes on it.
    pub(crate) fn open_stream(&mut self, dir: Dir, bytes: &[u8]) -> StreamId {
        let stream = self.connection.streams().open(dir).expect("a stream");
        self.write(stream, bytes);
        stream
    }

    pub(crate) fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let written = self.connection.send_stream(stream).write(bytes).expect("room");
        assert_eq!(written, bytes.len());
    }

    /// Goes on from another address, as a machine whose network has changed.
    pub(crate) fn move_elsewhere(&mut self) -> SocketAddr {
        self.socket = bind();
        self.socket.local_addr().expect("bound")
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
    let socket = UdpSocket::bind(loopback()).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket
}
