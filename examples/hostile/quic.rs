//! Attacks over QUIC: handshakes that do not end, and handshakes for another protocol.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Connection, DatagramEvent, Endpoint, EndpointConfig};
use rustls::crypto::ring;

use crate::End;
use crate::any_certificate::AnyCertificate;

const SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 7778);

/// Sends up to 10,000 Initials from one address and does not continue their handshakes.
pub(crate) fn initials(end: End) -> io::Result<String> {
    let mut peer = Peer::new(b"waystation/1")?;
    let mut count = 0;
    while count < 10_000 && end.pause(Duration::from_millis(10)) {
        for _ in 0..10 {
            peer.begin()?;
            count += 1;
        }
    }
    Ok(format!("{count} Initials from one address"))
}

/// Begins handshakes that answer a Retry, which proves their address, and then stop.
pub(crate) fn half_open(end: End) -> io::Result<String> {
    let mut peers = Vec::new();
    let (mut count, mut answers) = (0, 0);
    while end.pause(Duration::from_millis(10)) {
        let mut peer = Peer::new(b"waystation/1")?;
        answers += peer.begin().and_then(|connection| peer.answer(connection, 1))?;
        count += 1;
        peers.push(peer);
        if peers.len() > 200 {
            peers.remove(0);
        }
    }
    Ok(format!("{count} handshakes left half open, {answers} answers read"))
}

/// Connects with an ALPN that the server does not support.
pub(crate) fn wrong_alpn(end: End) -> io::Result<String> {
    let (mut count, mut refused) = (0, 0);
    while end.pause(Duration::from_millis(50)) {
        let mut peer = Peer::new(b"echo/7")?;
        refused += u32::from(peer.begin().and_then(|connection| peer.answer(connection, 8))? > 0);
        count += 1;
    }
    Ok(format!("{count} connections for another protocol, {refused} answered"))
}

/// A QUIC endpoint with a socket of its own.
struct Peer {
    socket: UdpSocket,
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Peer {
    fn new(alpn: &[u8]) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(SocketAddr::from(SERVER))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let provider = Arc::new(ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(io::Error::other)?));
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Ok(Self { socket, endpoint, config })
    }

    /// Starts a connection and sends its first packets.
    fn begin(&mut self) -> io::Result<Connection> {
        let connected = self.endpoint.connect(now(), self.config.clone(), SERVER.into(), "localhost");
        let (_, mut connection) = connected.map_err(io::Error::other)?;
        self.send(&mut connection);
        Ok(connection)
    }

    /// Handles up to `most` datagrams of the server. Returns how many arrived.
    fn answer(&mut self, mut connection: Connection, most: u32) -> io::Result<u32> {
        let mut buffer = [0; 2_048];
        for taken in 0..most {
            let Ok(length) = self.socket.recv(&mut buffer) else { return Ok(taken) };
            let datagram = BytesMut::from(&buffer[..length]);
            let event = self.endpoint.handle(now(), SERVER.into(), None, None, datagram, &mut Vec::new());
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                connection.handle_event(event);
                self.send(&mut connection);
            }
        }
        Ok(most)
    }

    fn send(&self, connection: &mut Connection) {
        let mut buffer = Vec::new();
        while connection.poll_transmit(now(), 1, &mut buffer).is_some() {
            // A datagram that cannot be sent is skipped.
            let _ = self.socket.send(&buffer);
            buffer.clear();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an attacker does not run in a tick")]
fn now() -> Instant {
    Instant::now()
}
