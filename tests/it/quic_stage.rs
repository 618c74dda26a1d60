//! A server with the QUIC adapter, and clients of it that can be made to misbehave.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, StreamId,
    VarInt,
};
use waystation::client::Trust;
use waystation::ident::{LinkId, LinkKey, ProxyId};
use waystation::proxy::quic::{QuicConfig, QuicCounts, QuicHandle, QuicProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::{self, LinkEnd, Proxies, ProxyCommand, ProxyEvent, ProxyEventKind, ProxyPlugin};
use waystation::tick::{Clock, TickInput, TickPlugin};
use waystation::wire::quic::{
    ALPN_QUIC, ALPN_WEBTRANSPORT, Exchanged, Happened, Lanes, QuicKind, QuicLimits, exchange,
};
use waystation::wire::{FRAME_MAX_SERVER, Lane};

/// How a client shakes hands; what one handshake has learned is kept in it for the next.
pub(crate) type TlsConfig = Arc<rustls::ClientConfig>;

/// A server with the adapter, and clients of it.
pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) handle: QuicHandle,
    pub(crate) tls: Tls,
    pub(crate) events: Vec<ProxyEvent>,
    pub(crate) clients: Vec<Client>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(QuicConfig::default(), Clock::wall())
    }

    pub(crate) fn with(config: QuicConfig, clock: Clock) -> Self {
        let mut app = App::new();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let port = proxy::attach(&mut app, "quic");
        let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
        let bound = QuicProxy::bind(QuicConfig { listen: loopback(), ..config }, &tls).expect("a free port");
        Self {
            app,
            handle: bound.start(port).expect("a thread"),
            tls,
            events: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// A client that has not said anything yet.
    pub(crate) fn client(&mut self, kind: QuicKind) -> usize {
        let client = self.unlisted(kind);
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// A client that the stage does not drive.
    pub(crate) fn unlisted(&self, kind: QuicKind) -> Client {
        Client::of(self.handle.local_addr(), &self.tls, kind)
    }

    pub(crate) fn client_with(&mut self, lanes: Lanes, alpn: &[u8], limits: &QuicLimits) -> usize {
        let tls = self.client_tls(alpn);
        self.client_over(tls, lanes, limits)
    }

    pub(crate) fn client_over(&mut self, tls: TlsConfig, lanes: Lanes, limits: &QuicLimits) -> usize {
        self.clients.push(Client::new(self.handle.local_addr(), tls, lanes, limits));
        self.clients.len() - 1
    }

    /// What a client wants of the server's certificate.
    pub(crate) fn client_tls(&self, alpn: &[u8]) -> TlsConfig {
        client_tls(&self.tls, alpn)
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

    pub(crate) fn tick(&mut self) {
        self.app.update();
        if let Some(input) = self.app.world().get_resource::<TickInput>() {
            self.events.extend(input.events.iter().map(|(_, event)| event.clone()));
        }
        for client in &mut self.clients {
            client.step();
        }
    }

    /// Ticks until it is so, or fails. How long it takes says nothing.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let deadline = now() + Duration::from_secs(30);
        loop {
            self.tick();
            if so(self) {
                return;
            }
            assert!(now() < deadline, "never: {what}: {:?}", self.counts());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn counts(&self) -> QuicCounts {
        self.handle.stats().counts()
    }

    pub(crate) fn events_of(&self, client: usize) -> impl Iterator<Item = &ProxyEventKind> {
        let link = self.link_of(client);
        self.events.iter().filter(move |event| Some(event.link) == link).map(|event| &event.kind)
    }

    pub(crate) fn link_of(&self, client: usize) -> Option<LinkId> {
        let address = self.clients[client].opened_from;
        self.events.iter().find_map(|event| match &event.kind {
            ProxyEventKind::Opened(info) if info.address == Some(address) => Some(event.link),
            _ => None,
        })
    }

    pub(crate) fn frames_of(&self, client: usize) -> Vec<(Lane, Bytes)> {
        self.events_of(client)
            .filter_map(|kind| match kind {
                ProxyEventKind::Frame { lane, bytes } => Some((*lane, bytes.clone())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn end_of(&self, client: usize) -> Option<LinkEnd> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Closed(end) => Some(*end),
            _ => None,
        })
    }

    pub(crate) fn breach_of(&self, client: usize) -> Option<&'static str> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Breach(what) => Some(*what),
            _ => None,
        })
    }

    pub(crate) fn send(&mut self, client: usize, frame: Bytes) {
        let link = self.link_of(client).expect("a link");
        let key = LinkKey { proxy: ProxyId(0), link };
        self.app.world_mut().resource_mut::<Proxies>().send(key, frame);
    }

    pub(crate) fn command(&mut self, client: usize, command: impl FnOnce(LinkId) -> ProxyCommand) {
        let link = self.link_of(client).expect("a link");
        self.app.world_mut().resource_mut::<Proxies>().command(ProxyId(0), command(link));
    }

    /// A frame there and one back, on a link that is open already.
    pub(crate) fn assert_echo(&mut self, client: usize) {
        let tag = u8::try_from(self.frames_of(client).len() % 250).expect("below 250");
        self.clients[client].send(&frame(0x01, tag));
        self.until("the frame is with the server", |stage| {
            stage.frames_of(client).last() == Some(&(Lane::Reliable, frame(0x01, tag)))
        });
        self.send(client, frame(0x02, tag));
        self.until("the frame is with the client", |stage| {
            stage.clients[client].received.contains(&(Lane::Reliable, frame(0x02, tag)))
        });
    }

    /// All clients go, and nothing is left of them: no link in the adapter, and none in the tick.
    pub(crate) fn finish(mut self) {
        for client in &mut self.clients {
            client.hang_up();
        }
        self.until("nothing is left", |stage| {
            let counts = stage.counts();
            let proxies = stage.app.world().resource::<Proxies>();
            counts.quic_opened_count + counts.webtransport_opened_count == counts.closed_count
                && proxies.closing_count() == 0
                && proxies.link_counts().iter().all(|(_, count)| *count == 0)
        });
    }

    /// A newcomer is served.
    pub(crate) fn assert_serves_others(&mut self) {
        let newcomer = self.connect(QuicKind::Quic);
        self.assert_echo(newcomer);
        assert!(!self.handle.is_finished());
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
    pub(crate) happened: Vec<Happened>,
    /// It does nothing by itself.
    pub(crate) frozen: bool,
    /// It reads no frames.
    pub(crate) deaf: bool,
    /// What happens on its connection is not for its lanes.
    pub(crate) raw: bool,
    is_drained: bool,
}

impl Client {
    /// One that does what clients do, until it is told otherwise.
    pub(crate) fn of(server: SocketAddr, tls: &Tls, kind: QuicKind) -> Self {
        let (lanes, alpn) = match kind {
            QuicKind::Quic => (Lanes::quic_client(FRAME_MAX_SERVER), ALPN_QUIC),
            QuicKind::WebTransport => {
                let url = format!("https://localhost:{}/wt", server.port());
                let url = url.parse().expect("a URL");
                (Lanes::webtransport_client(FRAME_MAX_SERVER, url), ALPN_WEBTRANSPORT)
            }
        };
        Self::new(server, client_tls(tls, alpn), lanes, &QuicLimits::default())
    }

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
        self.happened.iter().any(|happened| matches!(happened, Happened::Opened(_)))
    }

    pub(crate) fn send(&mut self, frame: &Bytes) {
        assert!(self.lanes.send(frame, &mut self.connection), "no room");
    }

    /// All that a client does in a frame of its game.
    pub(crate) fn step(&mut self) {
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

    /// Closes its connection, and says so.
    pub(crate) fn hang_up(&mut self) {
        self.connection.close(now(), VarInt::from_u32(0), Bytes::new());
        self.flush();
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

fn client_tls(tls: &Tls, alpn: &[u8]) -> TlsConfig {
    let sha256 = tls.sha256().expect("self-signed");
    Trust::Sha256(sha256).client_config(&[alpn]).expect("a configuration")
}

pub(crate) fn frame(high: u8, tag: u8) -> Bytes {
    Bytes::from(vec![high, 0x50, tag])
}

/// A frame of so many bytes.
pub(crate) fn sized(high: u8, length: usize) -> Bytes {
    let mut frame = vec![7; length];
    frame[0] = high;
    frame.into()
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

#[allow(clippy::disallowed_methods, reason = "real sockets take real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
