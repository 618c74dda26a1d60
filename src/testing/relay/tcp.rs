//! Relays TCP connections, with a pair of streams for each.
//!
//! The bytes that are read from one end are cut into segments. The network decides when each segment arrives at the
//! other end. If a direction holds too many bytes, the relay stops reading it. So its sender has to wait, as on a
//! congested network.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Direction;
use super::counts::Tally;
use super::dues::Cargo;
use super::path::{self, Path, SegmentFate};
use super::udp::Work;

/// All routes and connections over TCP.
#[derive(Debug, Default)]
pub(super) struct Connections {
    routes: BTreeMap<usize, Route>,
    /// The connections, by the token of the client's end. The token of the server's end is one higher.
    by_token: BTreeMap<usize, Connection>,
    /// The number of connections so far.
    count: u64,
}

#[derive(Debug)]
struct Route {
    listener: TcpListener,
    server: SocketAddr,
}

#[derive(Debug)]
struct Connection {
    /// The client's end and the server's end. `None` if an end is closed.
    ends: [Option<TcpStream>; 2],
    ways: [Way; 2],
    path: Path,
    /// True if one end is gone and the other end has not been reset yet. What the other end sends is discarded.
    is_half: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    /// True if the sender's socket may have more bytes.
    is_readable: bool,
    /// True if the sender has ended the stream.
    has_ended: bool,
    /// The number of bytes in flight.
    under_way: usize,
    /// The bytes that have arrived and that the receiver's socket has not taken.
    arrived: VecDeque<u8>,
    /// True if the end of the stream has arrived, behind `arrived`.
    end_arrived: bool,
    /// True if the receiver's stream was ended.
    is_shut: bool,
}

/// The state of a connection after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Open,
    Over,
}

impl Connections {
    /// Listens for clients of a server. Returns the bound address.
    pub(super) fn listen(
        &mut self,
        token: usize,
        listen: SocketAddr,
        server: SocketAddr,
        registry: &Registry,
    ) -> io::Result<SocketAddr> {
        let socket = new_socket(listen)?;
        socket.set_reuse_address(true)?;
        socket.bind(&listen.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        let address = listener.local_addr()?;
        self.routes.insert(token, Route { listener, server });
        Ok(address)
    }

    /// Handles an event of a socket: accepts, reads and writes.
    pub(super) fn handle(&mut self, event: &Event, work: &mut Work<'_>) {
        let token = event.token().0;
        if self.routes.contains_key(&token) {
            self.accept(token, work);
            return;
        }
        // Other flags of the event are not needed: reading and writing report them as errors.
        let client = if self.by_token.contains_key(&token) { token } else { token.saturating_sub(1) };
        let Some(connection) = self.by_token.get_mut(&client) else { return };
        connection.ways[token - client].is_readable |= event.is_readable() || event.is_error();
        self.go_on(client, work);
    }

    /// Passes on a segment that has arrived.
    pub(super) fn deliver(&mut self, token: usize, direction: Direction, bytes: &[u8], work: &mut Work<'_>) {
        let Some(connection) = self.by_token.get_mut(&token) else { return };
        let way = &mut connection.ways[direction.index()];
        way.under_way -= bytes.len();
        way.arrived.extend(bytes);
        way.end_arrived |= bytes.is_empty();
        self.go_on(token, work);
    }

    /// Resets both ends of a connection, if it exists, and counts the reset.
    pub(super) fn reset(&mut self, token: usize, tally: &mut Tally) {
        if let Some(connection) = self.by_token.remove(&token) {
            tally.counts.reset_count += 1;
            connection.ends.into_iter().flatten().for_each(abort);
        }
    }

    /// Resets the remaining ends of a connection, without counting a reset.
    pub(super) fn end(&mut self, token: usize) {
        if let Some(connection) = self.by_token.remove(&token) {
            connection.ends.into_iter().flatten().for_each(abort);
        }
    }

    fn accept(&mut self, route: usize, work: &mut Work<'_>) {
        loop {
            let Some(Route { listener, server }) = self.routes.get(&route) else { return };
            let (client, server) = match listener.accept() {
                Ok((client, _)) => (client, *server),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client is gone, or there are too many open files. The next connection is a new event.
                Err(_) => {
                    work.tally.counts.refused_count += 1;
                    return;
                }
            };
            if self.by_token.len() >= CONNECTIONS_MAX || self.open(client, server, work).is_err() {
                work.tally.counts.refused_count += 1;
            }
        }
    }

    fn open(&mut self, mut client: TcpStream, server: SocketAddr, work: &mut Work<'_>) -> io::Result<()> {
        let socket = new_socket(server)?;
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if is_under_way(&error) => {}
            Err(error) => return Err(error),
        }
        let mut server = TcpStream::from_std(socket.into());
        let (token, server_token) = (work.token(), work.token());
        for (stream, token) in [(&mut client, token), (&mut server, server_token)] {
            // Only the simulated network adds delays.
            let _ = stream.set_nodelay(true);
            work.registry.register(stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        }
        let connection = Connection {
            ends: [Some(client), Some(server)],
            ways: Default::default(),
            path: Path::of_connection(self.count),
            is_half: false,
        };
        self.count += 1;
        work.tally.counts.connection_count += 1;
        self.by_token.insert(token, connection);
        Ok(())
    }

    /// Writes the bytes that have arrived, and reads as many as there is room for.
    fn go_on(&mut self, token: usize, work: &mut Work<'_>) {
        let Some(connection) = self.by_token.get_mut(&token) else { return };
        for direction in Direction::BOTH {
            // If a socket fails, its end is gone.
            let went_on = match connection.write(direction, work.tally) {
                Ok(()) => connection.read(token, direction, work).map_err(|_| direction),
                Err(_) => Err(direction.back()),
            };
            match went_on {
                Ok(Rest::Open) => {}
                // The reset of the other end arrives over the network. The client or the server has caused it, so it
                // does not count as a reset of the network.
                Err(from) if !connection.is_half => connection.lose(from, token, work),
                Ok(Rest::Over) | Err(_) => return self.end(token),
            }
        }
        if connection.is_half {
            if connection.discard(work.buffer) == Rest::Over {
                self.end(token);
            }
            return;
        }
        if connection.ways.iter().all(|way| way.is_shut) {
            self.by_token.remove(&token);
        }
    }
}

impl Connection {
    /// Writes the bytes that have arrived in a direction, and then the end of the stream.
    fn write(&mut self, direction: Direction, tally: &mut Tally) -> io::Result<()> {
        let way = &mut self.ways[direction.index()];
        let Some(stream) = &mut self.ends[direction.end()] else { return Ok(()) };
        while !way.arrived.is_empty() {
            match stream.write(way.arrived.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    way.arrived.drain(..length);
                    tally.way_mut(direction).byte_count += length as u64;
                }
                Err(error) if is_under_way(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if way.end_arrived && !way.is_shut {
            way.is_shut = true;
            // An error means that the end is gone.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Reads a direction and queues the segments, while there is room.
    fn read(&mut self, token: usize, direction: Direction, work: &mut Work<'_>) -> io::Result<Rest> {
        let room = room(work.moment.network.rate, work.moment.network.queue);
        loop {
            let way = &mut self.ways[direction.index()];
            let has_room = way.under_way + way.arrived.len() < room;
            if self.is_half || !way.is_readable || way.has_ended || !has_room {
                return Ok(Rest::Open);
            }
            let Some(stream) = &mut self.ends[direction.index()] else { return Ok(Rest::Open) };
            let length = match stream.read(&mut work.buffer[..SEGMENT_MAX]) {
                Ok(length) => length,
                Err(error) if is_under_way(&error) => {
                    way.is_readable = false;
                    return Ok(Rest::Open);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            way.has_ended = length == 0;
            way.under_way += length;
            if direction == Direction::Up && self.happens(work) == Rest::Over {
                return Ok(Rest::Over);
            }
            if self.is_half {
                return Ok(Rest::Open);
            }
            let bytes = work.buffer[..length].to_vec();
            match self.path.segment(direction, length, work.moment, work.tally) {
                SegmentFate::Arrives(at) => {
                    work.dues.push(at, Cargo::Segment { connection: token, direction, bytes })
                }
                SegmentFate::GivesUp(at) => work.dues.push(at, Cargo::Reset { connection: token }),
            };
        }
    }

    /// Rebinds the client or resets the connection, if that is due.
    fn happens(&mut self, work: &mut Work<'_>) -> Rest {
        let network = work.moment.network;
        if self.path.is_due(path::Event::Rebind, network.rebind_every, work.moment) {
            work.tally.counts.rebind_count += 1;
            self.ends[Direction::Up.index()].take().into_iter().for_each(abort);
            self.is_half = true;
            return Rest::Open;
        }
        if self.path.is_due(path::Event::Reset, network.reset_every, work.moment) {
            work.tally.counts.reset_count += 1;
            return Rest::Over;
        }
        Rest::Open
    }

    /// Handles the loss of the end that sends in the direction `from`. Queues a reset of the other end. Segments that
    /// arrive before the reset are still delivered.
    fn lose(&mut self, from: Direction, token: usize, work: &mut Work<'_>) {
        self.ends[from.index()] = None;
        self.is_half = true;
        let at = self.path.reset(from, work.moment, work.tally);
        work.dues.push(at, Cargo::Gone { connection: token });
    }

    /// Discards what the remaining end sends.
    fn discard(&mut self, buffer: &mut [u8]) -> Rest {
        let Some(stream) = self.ends.iter_mut().flatten().next() else { return Rest::Over };
        loop {
            match stream.read(buffer) {
                Ok(0) => return Rest::Over,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Rest::Open,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Rest::Over,
            }
        }
    }
}

/// Returns how many bytes a direction may hold: those that the rate permits in the time of the queue, without those
/// that the kernel holds.
fn room(rate: Option<u32>, queue: Duration) -> usize {
    let Some(rate) = rate else { return ROOM_MAX };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is positive, and a large float saturates"
    )]
    let bytes = (f64::from(rate) * queue.as_secs_f64()) as usize;
    bytes.saturating_sub(RECEIVE_BUFFER).clamp(2 * SEGMENT_MAX, ROOM_MAX)
}

/// Opens a stream socket with small segments and a small receive buffer, so that bytes wait at their sender.
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    #[cfg(unix)]
    socket.set_tcp_mss(SEGMENT_MAX as u32)?;
    Ok(socket)
}

/// Closes a stream with a reset.
fn abort(stream: TcpStream) {
    // If this fails, the stream is closed without a reset.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Returns true if an error means "try again later". A connection that is not established yet reports such errors.
fn is_under_way(error: &io::Error) -> bool {
    let is_begun = error.raw_os_error() == Some(IN_PROGRESS);
    is_begun || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// The most bytes of a segment: about those of a full Ethernet packet.
const SEGMENT_MAX: usize = 1_400;
/// The most bytes that a direction holds. They exceed the product of rate and delay in tests.
const ROOM_MAX: usize = 64 * 1_024;
/// The size of the kernel's receive buffer in bytes. The kernel doubles it for its overhead.
const RECEIVE_BUFFER: usize = 4 * 1_024;
/// The most connections at a time.
const CONNECTIONS_MAX: usize = 1_024;
/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// `EINPROGRESS` of Linux. `io::ErrorKind` has no stable variant for it.
const IN_PROGRESS: i32 = 115;
