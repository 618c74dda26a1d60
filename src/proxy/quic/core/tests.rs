//! Tests of the adapter without its thread. A test decides when the adapter runs, so several datagrams can arrive
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;

use bytes::Bytes;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, Connection, Dir, Side, StreamId, VarInt};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use web_transport_proto as h3;

use super::*;
use crate::ident::LinkId;
use crate::proxy::port::{Budget, PortReceiver, port};
use crate::proxy::{LINK_BUDGET, ProxyEventKind, ROOM_STEP};
use crate::wire::quic::{ALPN_QUIC, ALPN_WEBTRANSPORT, Lanes, QuicKind};
use crate::wire::{FRAME_MAX_SERVER, Lane};

/// An adapter, its clients, and their clock.
struct Stage {
    core: Core,
    out: Outgoing,
    address: SocketAddr,
    now: Duration,
    events: (PortSender<ProxyEvent>, PortReceiver<ProxyEvent>),
    /// The open links with the addresses of their clients.
    open: BTreeMap<LinkId, SocketAddr>,
    heard: BTreeSet<(LinkId, Bytes)>,
    /// Number of bytes that were reported as passed on.
    passed_on: usize,
    tls: [Arc<rustls::ClientConfig>; 2],
    clients: Vec<Client>,
}

/// A QUIC client. A client without lanes does not follow the protocol.
struct Client {
    socket: UdpSocket,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    lanes: Option<Lanes>,
    received: Vec<Bytes>,
    is_drained: bool,
}

impl Stage {
    #[allow(clippy::disallowed_methods, reason = "quinn needs a first instant; no other instant is read")]
    fn new() -> Self {
        let bound = crate::proxy::udp::bind(loopback(), 1 << 20).expect("a free port");
        let address = bound.local_addr().expect("bound");
        let (crypto, tls) = tls();
        let config = QuicConfig { retry_above: 10_000, ..QuicConfig::default() };
        let crypto = QuicServerConfig::try_from(crypto).expect("a cipher");
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::new(config.limits.transport()));
        let epoch = (Instant::now(), Duration::ZERO);
        Self {
            core: Core::new(config, Arc::new(server), QuicStats::default(), epoch),
            out: Outgoing::new(bound),
            address,
            now: Duration::ZERO,
            events: port(Budget { count: 1 << 20, bytes: 1 << 30 }),
            open: BTreeMap::new(),
            heard: BTreeSet::new(),
            passed_on: 0,
            tls,
            clients: Vec::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.core.instant(self.now)
    }

    /// Adds a client whose handshake has begun. Without `is_honest`, the client only completes the handshake.
    fn client(&mut self, kind: QuicKind, is_honest: bool) -> usize {
        let url = || "https://localhost:7778/wt".parse().expect("a URL");
        let (lanes, tls) = match kind {
            QuicKind::Quic => (Lanes::quic_client(FRAME_MAX_SERVER), &self.tls[0]),
            QuicKind::WebTransport => (Lanes::webtransport_client(FRAME_MAX_SERVER, url()), &self.tls[1]),
        };
        let crypto = QuicClientConfig::try_from(Arc::clone(tls)).expect("a cipher");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(self.core.config.limits.transport()));
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let connected = endpoint.connect(self.instant(), config, self.address, "localhost");
        let (handle, connection) = connected.expect("a name");
        self.clients.push(Client {
            socket: bind(),
            endpoint,
            handle,
            connection,
            lanes: is_honest.then_some(lanes),
            received: Vec::new(),
            is_drained: false,
        });
        self.clients.len() - 1
    }

    /// Runs a client. The adapter does not run.
    fn speak(&mut self, client: usize) {
        let (now, server) = (self.instant(), self.address);
        self.clients[client].step(now, server);
    }

    /// Lets the adapter handle everything that has arrived, as in a tick.
    fn look(&mut self) {
        let mut buffer = [0; 2_048];
        self.out.begin_turn();
        while let Ok((length, from)) = self.out.socket.recv_from(&mut buffer) {
            self.core.receive(&mut buffer[..length], from, self.now, &mut self.out);
        }
        self.core.batch(self.now, &mut self.out);
        self.core.deliver(&self.events.0, self.now, &mut self.out);
        let (open, heard, passed_on) = (&mut self.open, &mut self.heard, &mut self.passed_on);
        self.events.1.drain_all(|event| match event.kind {
            ProxyEventKind::Opened(info) => {
                let address = info.address.expect("an address");
                assert!(open.insert(event.link, address).is_none(), "{} opened twice", event.link);
            }
            ProxyEventKind::Frame { bytes, .. } => {
                assert!(open.contains_key(&event.link), "{} has ended", event.link);
                heard.insert((event.link, bytes));
            }
            ProxyEventKind::Room { bytes } => {
                assert!(open.contains_key(&event.link), "{} has ended", event.link);
                *passed_on += bytes;
            }
            ProxyEventKind::ProtocolViolation(_) => {
                assert!(open.contains_key(&event.link), "{} has ended", event.link)
            }
            ProxyEventKind::Closed(_) => {
                assert!(open.remove(&event.link).is_some(), "{} ended twice", event.link);
            }
        });
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(10);
        for client in 0..self.clients.len() {
            self.speak(client);
        }
        self.look();
    }

    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..5_000 {
            if so(self) {
                return;
            }
            self.turn();
        }
        panic!("this did not become true: {what}");
    }

    fn shake_hands(&mut self, client: usize) {
        self.until("the handshake is over", |stage| !stage.clients[client].connection.is_handshaking());
    }

    fn link_of(&self, client: usize) -> Option<LinkId> {
        let address = self.clients[client].socket.local_addr().expect("bound");
        self.open.iter().find(|(_, from)| **from == address).map(|(link, _)| *link)
    }

    fn command(&mut self, command: ProxyCommand) {
        self.core.command(command, self.now, &mut self.out);
    }

    /// Asserts that a frame arrives in each direction on the link of a client.
    fn assert_echo(&mut self, client: usize) {
        let tag = u8::try_from(self.now.as_millis() % 251).expect("below 251");
        let up = Bytes::from(vec![1, 0x50, tag]);
        let down = Bytes::from(vec![2, 0x50, tag]);
        self.until("the link is open", |stage| stage.link_of(client).is_some());
        let link = self.link_of(client).expect("a link");
        self.clients[client].received.clear();
        self.heard.remove(&(link, up.clone()));
        self.clients[client].send(&up);
        self.until("the server has received the frame", |stage| stage.heard.contains(&(link, up.clone())));
        self.command(ProxyCommand::Send { link, frame: down.clone() });
        self.until("the client has received the frame", |stage| {
            stage.clients[client].received.contains(&down)
        });
    }

    /// Disconnects all clients and asserts that no state is left.
    fn assert_nothing_is_left(&mut self) {
        for client in 0..self.clients.len() {
            let now = self.instant();
            self.clients[client].connection.close(now, VarInt::from_u32(0), Bytes::new());
        }
        for _ in 0..2_000 {
            self.turn();
        }
        let core = &self.core;
        assert!(self.open.is_empty(), "links that never ended: {:?}", self.open);
        assert_eq!(core.links.connection_count(), 0, "the links hold connections");
        assert_eq!(core.endpoint.open_connections(), 0, "the endpoint holds connections");
        assert!(core.touched.is_empty() && core.urgent.is_empty(), "handles are left without connections");
        assert!(core.links.is_delivered() && core.admission.is_empty());
    }
}

impl Client {
    fn step(&mut self, now: Instant, server: SocketAddr) {
        let mut buffer = [0; 2_048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let (data, mut answer) = (BytesMut::from(&buffer[..length]), Vec::new());
            let event = self.endpoint.handle(now, server, None, None, data, &mut answer);
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                self.connection.handle_event(event);
            }
        }
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.update(&mut self.connection);
            for lane in [Lane::Reliable, Lane::Unreliable] {
                self.received.extend(std::iter::from_fn(|| lanes.receive(lane, &mut self.connection)));
            }
            while lanes.poll().is_some() {}
            lanes.flush(&mut self.connection, now);
        } else {
            while self.connection.poll().is_some() {}
        }
        let (endpoint, connection) = (&mut self.endpoint, &mut self.connection);
        self.is_drained =
            self.is_drained || exchange(endpoint, self.handle, connection) == Exchanged::Drained;
        let mut datagram = Vec::new();
        while self.connection.poll_transmit(now, 1, &mut datagram).is_some() {
            // A full socket drops the datagram.
            let _ = self.socket.send_to(&datagram, server);
            datagram.clear();
        }
    }

    fn send(&mut self, frame: &Bytes) {
        let lanes = self.lanes.as_mut().expect("a client with lanes");
        assert!(lanes.send(frame, &mut self.connection), "room");
    }

    /// Writes on a stream of the client. Opens the stream if necessary.
    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        let _ = self.connection.streams().open(stream.dir());
        let _ = self.connection.send_stream(stream).write(bytes);
    }
}

fn stream(dir: Dir, index: u64) -> StreamId {
    StreamId::new(Side::Client, dir, index)
}

fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    let url: url::Url = "https://localhost:7778/wt".parse().expect("a URL");
    h3::ConnectRequest::new(url).encode(&mut bytes).expect("a request");
    bytes
}

/// Returns the TLS configurations of a server and of a client for each protocol.
fn tls() -> (rustls::ServerConfig, [Arc<rustls::ClientConfig>; 2]) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .expect("a key that fits");
    server.alpn_protocols = vec![ALPN_QUIC.to_vec(), ALPN_WEBTRANSPORT.to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let clients = [ALPN_QUIC, ALPN_WEBTRANSPORT].map(|alpn| {
        client.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(client.clone())
    });
    (server, clients)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

#[test]
fn a_session_that_is_requested_and_closed_at_once_leaves_no_link_and_cuts_no_other() {
    let mut stage = Stage::new();
    let honest: Vec<usize> =
        [QuicKind::Quic, QuicKind::WebTransport].map(|kind| stage.client(kind, true)).to_vec();
    for client in &honest {
        stage.assert_echo(*client);
    }
    let before: Vec<LinkId> = stage.open.keys().copied().collect();

    for _ in 0..8 {
        let rude = stage.client(QuicKind::WebTransport, false);
        stage.shake_hands(rude);
        stage.clients[rude].write(stream(Dir::Bi, 0), &request());
        stage.speak(rude);
        let now = stage.instant();
        stage.clients[rude].connection.close(now, VarInt::from_u32(0), Bytes::new());
        stage.speak(rude);
        stage.look();
    }
    for _ in 0..200 {
        stage.turn();
    }
    // New clients get their handles, and the tick cuts links without a Hello.
    let newcomers: Vec<usize> = (0..8).map(|_| stage.client(QuicKind::Quic, true)).collect();
    for client in &newcomers {
        stage.assert_echo(*client);
    }
    for link in (1..=8).map(LinkId).filter(|link| !before.contains(link)) {
        if !newcomers.iter().any(|client| stage.link_of(*client) == Some(link)) {
            stage.command(ProxyCommand::Cut { link });
        }
    }

    for client in honest.into_iter().chain(newcomers) {
        stage.assert_echo(client);
    }
    stage.assert_nothing_is_left();
}

/// Does one of many things that a client can do to its connection.
fn misbehave(stage: &mut Stage, client: usize, act: u64) {
    let now = stage.instant();
    let (first, second) = (stream(Dir::Bi, 0), stream(Dir::Bi, 1));
    let rude = &mut stage.clients[client];
    let code = VarInt::from_u32(7);
    match act {
        0 => rude.write(first, &request()),
        1 => rude.write(first, &[3, 1, 0x50, 9]),
        2 => rude.write(second, &[0x40, 0x41, 0, 3, 1, 0x50, 9]),
        3 => rude.write(stream(Dir::Uni, 0), &[0, 4, 0, 7, 1, 0]),
        4 | 5 => drop(rude.connection.send_stream(if act == 4 { first } else { second }).finish()),
        6 | 7 => drop(rude.connection.send_stream(if act == 6 { first } else { second }).reset(code)),
        8 | 9 => drop(rude.connection.recv_stream(if act == 8 { first } else { second }).stop(code)),
        10 => {
            let mut capsule = Vec::new();
            h3::Capsule::CloseWebTransportSession { code: 7, reason: String::new() }.encode(&mut capsule);
            let head = [0, u8::try_from(capsule.len()).expect("short")];
            rude.write(first, &[&head[..], &capsule].concat());
        }
        11 => rude.connection.close(now, code, Bytes::new()),
        12 => {
            rude.socket = bind();
            if !rude.connection.is_closed() {
                rude.connection.local_address_changed();
            }
        }
        13 => stage.speak(client),
        14 => stage.turn(),
        15 => {
            if let Some(link) = stage.link_of(client) {
                stage.command(ProxyCommand::Cut { link });
            }
        }
        _ => {
            if let Some(link) = stage.link_of(client) {
                let frame = Bytes::from_static(&[0, 5, 8, 1]);
                stage.command(ProxyCommand::Close { link, frame });
            }
        }
    }
}

#[test]
fn misbehaving_clients_do_not_affect_other_links_and_leave_no_state() {
    for seed in 1..=6_u64 {
        let mut random = seed;
        let mut roll = |sides: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % sides
        };
        let mut stage = Stage::new();
        let kinds = [QuicKind::Quic, QuicKind::WebTransport];
        let honest = kinds.map(|kind| stage.client(kind, true));
        for client in honest {
            stage.assert_echo(client);
        }
        let links = honest.map(|client| stage.link_of(client));

        for _ in 0..40 {
            let kind = kinds[usize::try_from(roll(2)).expect("below 2")];
            let rude = stage.client(kind, false);
            let patience = roll(4);
            for _ in 0..patience {
                stage.turn();
            }
            for _ in 0..roll(10) {
                misbehave(&mut stage, rude, roll(17));
            }
            stage.turn();
        }

        for client in honest {
            stage.assert_echo(client);
        }
        assert_eq!(honest.map(|client| stage.link_of(client)), links, "seed {seed}");
        stage.assert_nothing_is_left();
    }
}

#[test]
fn a_client_without_acknowledgements_gets_little_room_until_it_acknowledges() {
    for kind in [QuicKind::Quic, QuicKind::WebTransport] {
        let mut stage = Stage::new();
        let client = stage.client(kind, true);
        // The client learns of its session a moment after the server.
        (0..50).for_each(|_| stage.turn());
        stage.assert_echo(client);
        let link = stage.link_of(client).expect("a link");
        let frame = Bytes::from([vec![1, 0x50], vec![7; 8_000]].concat());
        let count = LINK_BUDGET.div_ceil(frame.len());
        for _ in 0..count {
            stage.command(ProxyCommand::Send { link, frame: frame.clone() });
        }

        for _ in 0..200 {
            stage.now += Duration::from_millis(10);
            stage.look();
        }
        let deaf = stage.passed_on;
        assert!(deaf < LINK_BUDGET / 2, "{deaf} bytes were restored without acknowledgements");
        stage.clients[client].received.clear();
        stage.until("all frames have arrived", |stage| stage.clients[client].received.len() >= count);

        assert!(stage.passed_on > count * frame.len() - ROOM_STEP, "{} bytes", stage.passed_on);
    }
}
