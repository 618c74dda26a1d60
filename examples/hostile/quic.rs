//! Over QUIC: handshakes that are begun and left there, and such as want another protocol.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Connection, DatagramEvent, Endpoint, EndpointConfig};
use rustls::crypto::ring;

use crate::End;
use crate::whoever::Whoever;

const SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 7778);

/// Ten thousand Initials from one address, of connections that nobody goes on with.
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

/// Handshakes that answer a Retry, prove their address by it, and stop there.
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

/// Connections for another protocol.
pub(crate) fn wrong_alpn(end: End) -> io::Result<String> {
    let (mut count, mut refused) = (0, 0);
    while end.pause(Duration::from_millis(50)) {
        let mut peer = Peer::new(b"echo/7")?;
        refused += u32::from(peer.begin().and_then(|connection| peer.answer(connection, 8))? > 0);
        count += 1;
    }
    Ok(format!("{count} connections for another protocol, {refused} answered"))
}

/// An endpoint with a socket of its own.
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
            .with_custom_certificate_verifier(Arc::new(Whoever(provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(io::Error::other)?));
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Ok(Self { socket, endpoint, config })
    }

    /// Sends the first flight of a connection.
    fn begin(&mut self) -> io::Result<Connection> {
        let connected = self.endpoint.connect(now(), self.config.clone(), SERVER.into(), "localhost");
        let (_, mut connection) = connected.map_err(io::Error::other)?;
        self.send(&mut connection);
        Ok(connection)
    }

    /// Answers so many datagrams of the server, if they come.
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
            // What the system does not take is not needed.
            let _ = self.socket.send(&buffer);
            buffer.clear();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an attacker's own clock")]
fn now() -> Instant {
    Instant::now()
}
