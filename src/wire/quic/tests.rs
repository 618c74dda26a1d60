//! Tests two ends of a link on connections without sockets.

mod ends;
mod network;
mod webtransport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{ClientConfig, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::*;
use crate::wire::FRAME_MAX_CLIENT;

/// One end: its connection, and what it has received.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    lanes: Lanes,
    happened: Vec<LaneEvent>,
    received: Vec<(Lane, Bytes)>,
    /// True if the end does not read frames.
    deaf: bool,
    /// True after [`exchange`] has returned [`Exchanged::Drained`].
    is_drained: bool,
}

/// A client and a server.
struct Pair {
    client: End,
    server: End,
    now: Instant,
    /// The status with which the server answers requests for sessions.
    status: u16,
}

impl Pair {
    fn new(lanes: Lanes, alpn: &[u8]) -> Self {
        Self::limited(lanes, alpn, &QuicLimits::default())
    }

    fn limited(lanes: Lanes, alpn: &[u8], limits: &QuicLimits) -> Self {
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
        client.alpn_protocols = vec![alpn.to_vec()];
        let transport = Arc::new(limits.transport());
        let mut server =
            ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).expect("a cipher")));
        server.transport_config(Arc::clone(&transport));
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("a cipher")));
        client.transport_config(transport);
        let now = start();
        // The fixed seed makes runs over a random network repeatable.
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([7; 32]));
        let config = Arc::new(config);
        let mut endpoint = Endpoint::new(Arc::clone(&config), None, false, None);
        let connection = endpoint.connect(now, client, address(1), "localhost").expect("a connection");
        Self {
            client: End::new(endpoint, Some(connection), lanes),
            server: End::new(
                Endpoint::new(config, Some(Arc::new(server)), false, None),
                None,
                Lanes::server(FRAME_MAX_CLIENT),
            ),
            now,
            status: 200,
        }
    }

    /// Advances the time by 5 ms and exchanges datagrams.
    fn step(&mut self) {
        self.now += Duration::from_millis(5);
        for datagram in self.client.turn(self.now, self.status) {
            self.server.take(self.now, &datagram, 0);
        }
        for datagram in self.server.turn(self.now, self.status) {
            self.client.take(self.now, &datagram, 1);
        }
    }

    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if so(self) {
                return;
            }
            self.step();
        }
        panic!("never: {what}: {:?} {:?}", self.client.happened, self.server.happened);
    }
}

impl End {
    fn new(endpoint: Endpoint, connection: Option<(ConnectionHandle, Connection)>, lanes: Lanes) -> Self {
        let (happened, received) = (Vec::new(), Vec::new());
        Self { endpoint, connection, lanes, happened, received, deaf: false, is_drained: false }
    }

    fn take(&mut self, now: Instant, datagram: &[u8], from: u16) {
        let mut answer = Vec::new();
        let event =
            self.endpoint.handle(now, address(from), None, None, BytesMut::from(datagram), &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                self.connection.as_mut().expect("a connection").1.handle_event(event);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.connection =
                    Some(self.endpoint.accept(incoming, now, &mut answer, None).expect("a fresh handshake"));
            }
            _ => {}
        }
    }

    /// Does what the owner of the connection would do, and returns the datagrams to send.
    fn turn(&mut self, now: Instant, status: u16) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let Some((handle, connection)) = &mut self.connection else { return sent };
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        self.lanes.update(connection);
        for lane in [Lane::Reliable, Lane::Unreliable] {
            while let Some(frame) = (!self.deaf).then(|| self.lanes.receive(lane, connection)).flatten() {
                self.received.push((lane, frame));
            }
        }
        while let Some(happened) = self.lanes.poll() {
            if matches!(happened, LaneEvent::SessionRequested(_)) {
                self.lanes.answer(status, connection);
            }
            if happened == LaneEvent::Finished {
                self.lanes.close(9, connection, now);
            }
            self.happened.push(happened);
        }
        self.lanes.flush(connection, now);
        self.is_drained =
            self.is_drained || exchange(&mut self.endpoint, *handle, connection) == Exchanged::Drained;
        loop {
            let mut datagram = Vec::new();
            let Some(_) = connection.poll_transmit(now, 1, &mut datagram) else { return sent };
            sent.push(datagram);
        }
    }

    fn send(&mut self, frame: &Bytes) -> bool {
        self.lanes.send(frame, &mut self.connection.as_mut().expect("a connection").1)
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().expect("a connection").1
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5_000 + port))
}

#[allow(clippy::disallowed_methods, reason = "quinn needs an instant to begin with")]
fn start() -> Instant {
    Instant::now()
}

fn url() -> url::Url {
    "https://localhost:7778/wt".parse().expect("a URL")
}

fn quic() -> Pair {
    Pair::new(Lanes::quic_client(65_536), ALPN_QUIC)
}

fn webtransport() -> Pair {
    Pair::new(Lanes::webtransport_client(65_536, url()), ALPN_WEBTRANSPORT)
}

fn open(mut pair: Pair, kind: QuicKind) -> Pair {
    let opened = LaneEvent::Opened(kind);
    pair.until("both are open", |pair| {
        pair.client.happened.contains(&opened) && pair.server.happened.contains(&opened)
    });
    pair
}

fn both() -> [Pair; 2] {
    [open(quic(), QuicKind::Quic), open(webtransport(), QuicKind::WebTransport)]
}

/// As [`both`], but the servers have the clients' streams and can write on them.
fn both_heard() -> [Pair; 2] {
    both().map(|mut pair| {
        assert!(pair.client.send(&frame(1, 2)));
        pair.until("the stream is there", |pair| !pair.server.received.is_empty());
        pair.server.received.clear();
        pair
    })
}

fn frame(high: u8, length: usize) -> Bytes {
    let mut frame = vec![7; length];
    frame[0] = high;
    frame.into()
}

#[test]
fn frames_go_both_ways_on_both_lanes_of_both_kinds() {
    for mut pair in both() {
        let frames = [
            (Lane::Reliable, frame(1, 2)),
            (Lane::Reliable, frame(1, 16_384)),
            (Lane::Unreliable, frame(0x80, 400)),
        ];

        for (_, frame) in &frames {
            assert!(pair.client.send(frame) && pair.server.send(frame));
        }

        for frame in frames {
            pair.until("it arrives", |pair| {
                pair.server.received.contains(&frame) && pair.client.received.contains(&frame)
            });
        }
        assert_eq!(pair.client.lanes.take_counts(), LaneCounts::default());
    }
}

#[test]
fn an_unreliable_frame_too_long_for_a_datagram_is_sent_on_the_stream_and_counted() {
    for mut pair in both_heard() {
        let long = frame(0x80, 2_000);

        assert!(pair.server.send(&long));

        pair.until("it arrives", |pair| pair.client.received.contains(&(Lane::Reliable, long.clone())));
        assert_eq!(pair.server.lanes.take_counts().oversize_count, 1);
    }
}

#[test]
fn a_replay_of_a_whole_outbox_arrives_in_order() {
    for mut pair in both_heard() {
        let frames: Vec<Bytes> = (0..512_u32).map(|index| frame(1, 450 + index as usize)).collect();

        for frame in &frames {
            assert!(pair.server.send(frame), "an outbox is half of the bound");
        }

        pair.until("all arrive", |pair| pair.client.received.len() == frames.len());
        let received: Vec<Bytes> = pair.client.received.drain(..).map(|(_, frame)| frame).collect();
        assert_eq!(received, frames);
    }
}

#[test]
fn frames_for_a_peer_that_does_not_read_are_bounded() {
    for mut pair in both() {
        pair.client.deaf = true;
        // The server cannot write on the stream before the client has opened it.
        assert!(pair.client.send(&frame(1, 2)));

        let mut taken = 0;
        while pair.server.send(&frame(1, 1_000)) {
            taken += 1_000;
            pair.step();
            assert!(taken < 2 * OUT_MAX_BYTES, "there is no bound");
        }

        assert!(taken >= OUT_MAX_BYTES && !pair.server.lanes.has_room(1_000));
        assert!(pair.server.send(&frame(0x80, 4_000)), "an unreliable frame is dropped without an error");
        assert_eq!(pair.server.lanes.take_counts().unreliable_dropped_count, 1);
    }
}

#[test]
fn the_last_frame_arrives_before_the_code_closes_the_link() {
    for mut pair in both_heard() {
        let last = frame(0, 3_000);
        assert!(pair.server.send(&last));
        pair.server.lanes.finish(9, &mut pair.server.connection.as_mut().expect("a connection").1);

        pair.until("the client's link has ended", |pair| {
            pair.client.happened.contains(&LaneEvent::Ended(Ended::ByPeer(Some(9))))
        });
        assert!(pair.client.received.contains(&(Lane::Reliable, last)));
        pair.until("the server has finished", |pair| pair.server.happened.contains(&LaneEvent::Finished));
    }
}

#[test]
fn another_stream_is_a_breach() {
    for (mut pair, dir) in both().into_iter().zip([Dir::Bi, Dir::Uni]) {
        assert!(pair.client.send(&frame(1, 2)));
        let stream = pair.client.connection().streams().open(dir).expect("a stream");

        // Streams of WebTransport begin with their session.
        pair.client.connection().send_stream(stream).write(&[0x40, 0x54, 0]).expect("room");

        pair.until("the server sees it", |pair| {
            pair.server
                .happened
                .contains(&LaneEvent::ProtocolViolation("a stream that the protocol does not permit"))
        });
    }
}

#[test]
fn a_frame_longer_than_is_allowed_is_a_breach() {
    for mut pair in both() {
        assert!(pair.client.send(&frame(1, FRAME_MAX_CLIENT + 1)));

        pair.until("the server sees it", |pair| {
            pair.server.happened.contains(&LaneEvent::ProtocolViolation("a frame longer than is allowed"))
        });
        assert!(pair.server.received.is_empty());
    }
}

#[test]
fn a_refused_session_ends_the_link_on_both_sides() {
    let mut pair = webtransport();
    pair.status = 404;

    pair.until("the client's link has ended", |pair| {
        pair.client.happened.contains(&LaneEvent::Ended(Ended::Failed))
    });

    let request = Request { path: "/wt".to_owned(), origin: None };
    assert!(pair.server.happened.contains(&LaneEvent::SessionRequested(request)));
    pair.until("the server has finished", |pair| pair.server.happened.contains(&LaneEvent::Finished));
}

#[test]
fn a_peer_that_goes_silent_is_lost_after_the_idle_timeout() {
    for mut pair in both() {
        let idle = QuicLimits::default().idle_timeout;
        pair.client.connection = None;
        let silent_at = pair.now;

        while !pair.server.happened.contains(&LaneEvent::Ended(Ended::Silent)) {
            pair.now += Duration::from_millis(50);
            drop(pair.server.turn(pair.now, 200));
            assert!(pair.now - silent_at < 2 * idle, "never lost");
        }

        assert!(pair.now - silent_at >= idle);
    }
}
