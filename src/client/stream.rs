//! Implements a byte stream over TCP, plain or under TLS, that does not block. WebSocket and discovery use it.
//!
//! The owner calls the stream again in each update. Data flow: addresses → the first that accepts → the TLS
//! handshake, if any → [`Read`] and [`Write`], which return `WouldBlock` until the stream is open and while no
//! data can be transferred.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

/// The TLS parameters of a server.
#[derive(Debug, Clone)]
pub(super) struct TlsPeer {
    /// Accepted certificates and application protocols.
    pub(super) config: Arc<ClientConfig>,
    /// Name for which the certificate must be valid.
    pub(super) name: ServerName<'static>,
}

/// The stream. Dropping it closes the connection without a TLS close.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    /// Addresses to try if this one does not accept.
    others: VecDeque<SocketAddr>,
    is_connected: bool,
    tls: Option<Box<ClientConnection>>,
    /// Bytes that may still be read before the next [`refill`](Stream::refill).
    allowance: usize,
}

impl Stream {
    /// Begins to connect. The addresses are tried in order: each one after the one before it has refused.
    pub(super) fn connect(addresses: &[SocketAddr], tls: Option<TlsPeer>) -> io::Result<Self> {
        let mut others: VecDeque<_> = addresses.iter().copied().collect();
        let socket = first_of(&mut others)?;
        let tls = match tls {
            Some(peer) => {
                let mut connection =
                    ClientConnection::new(peer.config, peer.name).map_err(io::Error::other)?;
                connection.set_buffer_limit(Some(TLS_WAITING_MAX_BYTES));
                Some(Box::new(connection))
            }
            None => None,
        };
        Ok(Self { socket, others, is_connected: false, tls, allowance: READ_MAX_BYTES })
    }

    /// Allows another [`READ_MAX_BYTES`] to be read. Without this limit, an update could read for ever from a peer that
    /// sends fast.
    pub(super) fn refill(&mut self) {
        self.allowance = READ_MAX_BYTES;
    }

    /// Advances the connection and the TLS handshake. Returns true if both are complete. An error ends the try.
    pub(super) fn poll_open(&mut self) -> io::Result<bool> {
        if !self.poll_connected()? {
            return Ok(false);
        }
        let Some(tls) = self.tls.as_deref_mut().filter(|tls| tls.is_handshaking()) else {
            return Ok(true);
        };
        match tls.complete_io(&mut self.socket) {
            Ok(_) => Ok(!tls.is_handshaking()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns true if [`poll_open`](Self::poll_open) has found that the peer accepted the connection.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    fn poll_connected(&mut self) -> io::Result<bool> {
        while !self.is_connected {
            let failed = match self.socket.take_error()? {
                Some(error) => error,
                None => match self.socket.peer_addr() {
                    Ok(_) => {
                        self.is_connected = true;
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
                    Err(error) => error,
                },
            };
            if self.others.is_empty() {
                return Err(failed);
            }
            self.socket = first_of(&mut self.others)?;
        }
        Ok(true)
    }

    /// Returns `WouldBlock` until the stream is open.
    fn opened(&mut self) -> io::Result<()> {
        if self.poll_open()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.opened()?;
        if self.allowance == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(self.allowance);
        let buffer = &mut buffer[..most];
        let count = match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer),
            None => self.socket.read(buffer),
        }?;
        self.allowance -= count;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.opened()?;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).write(bytes),
            None => self.socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.opened()?;
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).flush(),
            None => self.socket.flush(),
        }
    }
}

/// Returns the addresses of a host. The system looks up a host name, which may block for seconds; an IP address
/// never blocks. `turn` selects the address that is first, so that a failed try is followed by a try of another
/// address.
pub(super) fn resolve(host: &str, port: u16, turn: usize) -> io::Result<Vec<SocketAddr>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let turn = turn % addresses.len();
    addresses.rotate_left(turn);
    Ok(addresses)
}

/// Returns a socket that connects to the first address for which the system provides a socket.
fn first_of(addresses: &mut VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "there is no address");
    while let Some(address) = addresses.pop_front() {
        match begin(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Frames are small and leave once per update, so Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if has_failed(&error) => return Err(error),
        Err(_) => {}
    }
    Ok(socket.into())
}

/// Returns true if connecting has failed. The usual error means that the connection is in progress, but its
/// `ErrorKind` is not stable, so this function lists the failures. After a failure that is missing here, the try
/// ends by its timeout.
fn has_failed(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;

    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::AddrInUse
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied
            | Kind::InvalidInput
            | Kind::Unsupported
    )
}

/// The most bytes that are read from one refill to the next: a whole outbox, or the longest answer of discovery.
const READ_MAX_BYTES: usize = crate::wire::OUTBOX_MAX_BYTES;
/// The most bytes that TLS queues while the socket is blocked: one record, because frames in this queue can no
/// longer be dropped.
const TLS_WAITING_MAX_BYTES: usize = 16 * 1024;
/// The most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Polls until `ready` returns a value, and panics after some 20 s.
    fn until<T>(mut ready: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        for _ in 0..20_000 {
            if let Some(value) = ready()? {
                return Ok(value);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("it was not ready in time");
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// A port that was free a moment ago.
    fn closed_port() -> SocketAddr {
        listener().1
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next() {
        let (listener, address) = listener();

        let mut stream = Stream::connect(&[closed_port(), address], None).expect("a socket");
        until(|| Ok(stream.poll_open()?.then_some(()))).expect("the second accepts");
        stream.write_all(b"ping").expect("room");

        let (mut peer, _) = listener.accept().expect("a connection");
        let mut received = [0; 4];
        peer.read_exact(&mut received).expect("four bytes");
        assert_eq!(&received, b"ping");
    }

    #[test]
    fn a_read_without_data_would_block() {
        let (listener, address) = listener();
        let mut stream = Stream::connect(&[address], None).expect("a socket");
        until(|| Ok(stream.poll_open()?.then_some(()))).expect("it accepts");
        let (_peer, _) = listener.accept().expect("a connection");

        let idle = stream.read(&mut [0; 8]).expect_err("nothing was sent");

        assert_eq!(idle.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_error_of_the_last_address_is_returned_if_all_refuse() {
        let addresses = [closed_port(), closed_port()];

        let refused = Stream::connect(&addresses, None)
            .and_then(|mut stream| until(|| Ok(stream.poll_open()?.then_some(()))));

        assert_eq!(refused.expect_err("nothing listens").kind(), io::ErrorKind::ConnectionRefused);
        assert!(Stream::connect(&[], None).is_err());
    }

    #[test]
    fn an_ip_address_is_resolved_and_an_invalid_name_is_an_error() {
        let v4 = resolve("127.0.0.1", 80, 3).expect("digits");
        let v6 = resolve("[::1]", 80, 0).expect("digits");

        assert_eq!(v4, [SocketAddr::from(([127, 0, 0, 1], 80))]);
        assert_eq!(v6[0].to_string(), "[::1]:80");
        assert!(resolve("no such host", 80, 0).is_err());
    }
}
