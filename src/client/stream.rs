//! A byte stream over TCP, plain or under TLS, that never blocks: what WebSocket and the asking of
//! discovery run on.
//!
//! It is no runtime: whoever holds it tries again with the next update. Data flow: addresses → the
//! first that accepts → the TLS handshake, if any → [`Read`] and [`Write`], which say `WouldBlock`
//! until then and whenever there is nothing to do.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, Socket, Type};

/// How a TLS server is known.
#[derive(Debug, Clone)]
pub(super) struct TlsPeer {
    /// What is trusted and which protocols are spoken.
    pub(super) config: Arc<ClientConfig>,
    /// Whom the certificate should name.
    pub(super) name: ServerName<'static>,
}

/// The stream. Dropping it closes the connection without a word.
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
    /// Begins to connect to the first address that accepts; the others are tried in turn, each when
    /// the one before it has refused.
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

    /// Lets another [`READ_MAX_BYTES`] be read: a peer that sends faster than they are taken would hold
    /// its reader for ever.
    pub(super) fn refill(&mut self) {
        self.allowance = READ_MAX_BYTES;
    }

    /// Goes on with connecting and the TLS handshake; whether both are done. An error ends the try.
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

    /// Returns true if the peer has accepted the connection, as far as was seen.
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

    /// Whoever reads or writes early is told to come again.
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

/// The addresses of a host. A name is looked up by the system, which may block for seconds where its
/// resolver does; an address in digits never does. `turn` says which comes first, so that a try
/// which failed is followed by one to another address.
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

/// A socket that connects to the first address for which the system has one.
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
    // Frames are small and leave once an update: what the system held back would only come late.
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if has_failed(&error) => return Err(error),
        Err(_) => {}
    }
    Ok(socket.into())
}

/// Whether the system does not connect on by itself. The usual error says that it does, which has no
/// stable name here; were one missing below, the try would end by its time.
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

/// Bytes that are read from one refill to the next: a replay of a whole outbox passes in one, and so
/// does all that discovery may answer.
const READ_MAX_BYTES: usize = crate::wire::OUTBOX_MAX_BYTES;
/// Bytes that wait in TLS while the socket takes none: one record, because what waits there cannot be
/// dropped any longer.
const TLS_WAITING_MAX_BYTES: usize = 16 * 1024;
/// Addresses of one name that are tried: more than any sensible name has.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Tries until it is ready; a test that waits for ever would fail by its runner.
    fn until<T>(mut ready: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        for _ in 0..20_000 {
            if let Some(value) = ready()? {
                return Ok(value);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("never ready");
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
        let mut heard = [0; 4];
        peer.read_exact(&mut heard).expect("four bytes");
        assert_eq!(&heard, b"ping");
    }

    #[test]
    fn nothing_is_read_or_written_before_it_is_open_and_an_idle_one_says_so() {
        let (listener, address) = listener();
        let mut stream = Stream::connect(&[address], None).expect("a socket");
        until(|| Ok(stream.poll_open()?.then_some(()))).expect("it accepts");
        let (_peer, _) = listener.accept().expect("a connection");

        let idle = stream.read(&mut [0; 8]).expect_err("nothing was sent");

        assert_eq!(idle.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn where_nobody_listens_the_last_refusal_is_told() {
        let addresses = [closed_port(), closed_port()];

        let refused = Stream::connect(&addresses, None)
            .and_then(|mut stream| until(|| Ok(stream.poll_open()?.then_some(()))));

        assert_eq!(refused.expect_err("nobody listens").kind(), io::ErrorKind::ConnectionRefused);
        assert!(Stream::connect(&[], None).is_err());
    }

    #[test]
    fn a_host_is_resolved_with_another_address_first_after_a_failure() {
        let v4 = resolve("127.0.0.1", 80, 3).expect("digits");
        let v6 = resolve("[::1]", 80, 0).expect("digits");

        assert_eq!(v4, [SocketAddr::from(([127, 0, 0, 1], 80))]);
        assert_eq!(v6[0].to_string(), "[::1]:80");
        assert!(resolve("no such host", 80, 0).is_err());
    }
}
