//! Implements the server's end of QUIC links for tests, with one thread, one socket and a clock of its own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, ServerConfig};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use crate::wire::quic::{
    Ended, Exchanged, LaneEvent, Lanes, QuicKind, QuicLimits, WEBTRANSPORT_PATH, exchange,
};
use crate::wire::v1::Reason;
use crate::wire::{FRAME_MAX_CLIENT, Lane};

pub(in crate::client) struct Host {
    socket: UdpSocket,
    endpoint: Endpoint,
    certificate: CertificateDer<'static>,
    pub(in crate::client) links: Vec<HostLink>,
    /// Datagrams from and to this port are dropped.
    pub(in crate::client) lost_port: Option<u16>,
    /// True if the host closes a connection directly after it has answered the request for a session.
    pub(in crate::client) closes_when_asked: bool,
    now: Instant,
}

/// The server's end of one link.
pub(in crate::client) struct HostLink {
    handle: ConnectionHandle,
    pub(in crate::client) connection: Connection,
    pub(in crate::client) lanes: Lanes,
    pub(in crate::client) opened: Option<QuicKind>,
    pub(in crate::client) ended: Option<Ended>,
    pub(in crate::client) received: Vec<(Lane, Bytes)>,
    /// The code with which the link is closed.
    code: u32,
    is_drained: bool,
    /// True if the connection is being closed.
    is_leaving: bool,
}

impl Host {
    /// Binds a host that accepts these application protocols.
    pub(in crate::client) fn bind(ip: &str, alpn: &[&[u8]]) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["elsewhere".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], secret)
            .expect("a pair");
        tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let crypto = QuicServerConfig::try_from(tls).expect("a cipher");
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(QuicLimits::default().transport()));
        Self {
            socket,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), Some(Arc::new(config)), false, None),
            certificate,
            links: Vec::new(),
            lost_port: None,
            closes_when_asked: false,
            now: start(),
        }
    }

    pub(in crate::client) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub(in crate::client) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Lets time pass, receives datagrams, and sends what is due.
    pub(in crate::client) fn pump(&mut self, dt: Duration) {
        self.now += dt;
        let mut buffer = [0; 2_048];
        // Waits a little for the first datagram, to pace the test, and then reads without waiting.
        self.socket.set_nonblocking(false).expect("a socket");
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.socket.set_nonblocking(true).expect("a socket");
            self.take(&buffer[..length], from);
        }
        for link in &mut self.links {
            link.turn(self.now, &mut self.endpoint, &self.socket, self.lost_port);
            if self.closes_when_asked && link.opened.is_some() && !link.is_leaving {
                link.is_leaving = true;
                link.lanes.close(0, &mut link.connection, self.now);
                link.turn(self.now, &mut self.endpoint, &self.socket, self.lost_port);
            }
        }
    }

    fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        if self.lost_port == Some(from.port()) {
            return;
        }
        let mut answer = Vec::new();
        let datagram = BytesMut::from(datagram);
        match self.endpoint.handle(self.now, from, None, None, datagram, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let link = self.links.iter_mut().find(|link| link.handle == handle);
                link.expect("links are never removed").connection.handle_event(event);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, self.now, &mut answer, None) {
                    Ok((handle, connection)) => self.links.push(HostLink::new(handle, connection)),
                    Err(refused) => {
                        let size = refused.response.expect("an answer").size;
                        self.socket.send_to(&answer[..size], from).expect("a route");
                    }
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.socket.send_to(&answer[..transmit.size], from).expect("a route");
            }
            None => {}
        }
    }
}

impl HostLink {
    fn new(handle: ConnectionHandle, connection: Connection) -> Self {
        Self {
            handle,
            connection,
            lanes: Lanes::server(FRAME_MAX_CLIENT),
            opened: None,
            ended: None,
            received: Vec::new(),
            code: 0,
            is_drained: false,
            is_leaving: false,
        }
    }

    pub(in crate::client) fn send(&mut self, frame: &Bytes) {
        assert!(self.lanes.send(frame, &mut self.connection), "room");
    }

    /// Closes the link after all frames were sent.
    pub(in crate::client) fn finish(&mut self, reason: Reason) {
        self.code = reason as u32;
        self.lanes.finish(self.code, &mut self.connection);
    }

    fn turn(&mut self, now: Instant, endpoint: &mut Endpoint, socket: &UdpSocket, lost_port: Option<u16>) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
        }
        self.lanes.update(&mut self.connection);
        for lane in [Lane::Reliable, Lane::Unreliable] {
            while let Some(frame) = self.lanes.receive(lane, &mut self.connection) {
                self.received.push((lane, frame));
            }
        }
        while let Some(event) = self.lanes.poll() {
            match event {
                LaneEvent::SessionRequested(request) => {
                    let status = if request.path == WEBTRANSPORT_PATH { 200 } else { 404 };
                    self.lanes.answer(status, &mut self.connection);
                }
                LaneEvent::Opened(kind) => self.opened = Some(kind),
                LaneEvent::Ended(ended) => self.ended = Some(ended),
                LaneEvent::Finished => self.lanes.close(self.code, &mut self.connection, now),
                LaneEvent::ProtocolViolation(what) => panic!("{what}"),
            }
        }
        self.lanes.flush(&mut self.connection, now);
        // A link that has ended is kept for the test to inspect.
        self.is_drained =
            self.is_drained || exchange(endpoint, self.handle, &mut self.connection) == Exchanged::Drained;
        let mut datagram = Vec::new();
        while let Some(transmit) = self.connection.poll_transmit(now, 1, &mut datagram) {
            if lost_port != Some(transmit.destination.port()) {
                // The client may be gone.
                let _ = socket.send_to(&datagram, transmit.destination);
            }
            datagram.clear();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "quinn needs a first instant; the clock is read only here")]
fn start() -> Instant {
    Instant::now()
}
