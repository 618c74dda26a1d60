//! Relays datagrams, with a socket to the server for each socket of a client.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::Direction;
use super::counts::Tally;
use super::dues::{Cargo, Dues};
use super::path::{Event, Moment, Path};

/// All routes and flows over UDP.
#[derive(Debug, Default)]
pub(super) struct Flows {
    routes: BTreeMap<usize, Route>,
    by_token: BTreeMap<usize, Flow>,
    by_client: BTreeMap<(usize, SocketAddr), usize>,
    /// The number of flows so far.
    count: u64,
}

#[derive(Debug)]
struct Route {
    listener: UdpSocket,
    server: SocketAddr,
}

#[derive(Debug)]
struct Flow {
    route: usize,
    client: SocketAddr,
    /// The socket to the server.
    outer: UdpSocket,
    path: Path,
    /// When the flow last carried a datagram.
    used_at: Duration,
}

/// The context in which an event is handled.
pub(super) struct Work<'a> {
    pub(super) moment: Moment,
    pub(super) dues: &'a mut Dues,
    pub(super) tally: &'a mut Tally,
    pub(super) registry: &'a Registry,
    /// The token of the next socket.
    pub(super) next_token: &'a mut usize,
    pub(super) buffer: &'a mut [u8],
}

impl Work<'_> {
    /// Returns an unused token for a socket.
    pub(super) fn token(&mut self) -> usize {
        *self.next_token += 1;
        *self.next_token
    }
}

impl Flows {
    /// Listens for clients of a server. Returns the bound address.
    pub(super) fn listen(
        &mut self,
        token: usize,
        listen: SocketAddr,
        server: SocketAddr,
        registry: &Registry,
    ) -> io::Result<SocketAddr> {
        let mut listener = UdpSocket::bind(listen)?;
        enlarge(&listener);
        registry.register(&mut listener, Token(token), Interest::READABLE)?;
        let address = listener.local_addr()?;
        self.routes.insert(token, Route { listener, server });
        Ok(address)
    }

    /// Reads the datagrams of a socket. Returns false if the token does not belong to a flow or a route.
    pub(super) fn read(&mut self, token: usize, work: &mut Work<'_>) -> bool {
        if self.routes.contains_key(&token) {
            self.read_clients(token, work);
            return true;
        }
        let Some(flow) = self.by_token.get_mut(&token) else { return false };
        // The socket reports an error if no server listens. Further datagrams may follow the error.
        loop {
            match flow.outer.recv(work.buffer) {
                Ok(length) => flow.carry(token, Direction::Down, length, work),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        true
    }

    fn read_clients(&mut self, route: usize, work: &mut Work<'_>) {
        loop {
            let Some(listener) = self.routes.get(&route).map(|route| &route.listener) else { return };
            match listener.recv_from(work.buffer) {
                Ok((length, client)) => self.carry_up(route, client, length, work),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn carry_up(&mut self, route: usize, client: SocketAddr, length: usize, work: &mut Work<'_>) {
        let token = match self.by_client.get(&(route, client)) {
            Some(token) => *token,
            None => match self.open(route, client, work) {
                Ok(token) => token,
                Err(_) => {
                    work.tally.counts.refused_count += 1;
                    return;
                }
            },
        };
        let Some(server) = self.routes.get(&route).map(|route| route.server) else { return };
        let Some(flow) = self.by_token.get_mut(&token) else { return };
        if flow.path.is_due(Event::Rebind, work.moment.network.rebind_every, work.moment)
            && let Ok(outer) = outer_socket(server, token, work.registry)
        {
            flow.outer = outer;
            work.tally.counts.rebind_count += 1;
        }
        flow.carry(token, Direction::Up, length, work);
    }

    /// Opens a flow for a client's socket. If there are too many flows, closes the one that was silent for longest.
    fn open(&mut self, route: usize, client: SocketAddr, work: &mut Work<'_>) -> io::Result<usize> {
        if self.by_token.len() >= FLOWS_MAX {
            let silent = self.by_token.iter().min_by_key(|(_, flow)| flow.used_at).map(|(token, _)| *token);
            silent.into_iter().for_each(|token| self.remove(token));
        }
        let server = self.routes.get(&route).map(|route| route.server).ok_or(io::ErrorKind::NotFound)?;
        let token = work.token();
        let outer = outer_socket(server, token, work.registry)?;
        let flow = Flow { route, client, outer, path: Path::of_flow(self.count), used_at: work.moment.now };
        self.count += 1;
        work.tally.counts.flow_count += 1;
        self.by_token.insert(token, flow);
        self.by_client.insert((route, client), token);
        Ok(token)
    }

    fn remove(&mut self, token: usize) {
        if let Some(flow) = self.by_token.remove(&token) {
            self.by_client.remove(&(flow.route, flow.client));
        }
    }

    /// Closes the flows that were silent for [`SILENT_MAX`].
    pub(super) fn sweep(&mut self, now: Duration) {
        let is_silent = |flow: &Flow| now.saturating_sub(flow.used_at) > SILENT_MAX;
        let silent: Vec<usize> =
            self.by_token.iter().filter(|(_, flow)| is_silent(flow)).map(|(token, _)| *token).collect();
        silent.into_iter().for_each(|token| self.remove(token));
    }

    /// Sends a datagram that has arrived to its receiver.
    pub(super) fn deliver(&mut self, token: usize, direction: Direction, bytes: &[u8], tally: &mut Tally) {
        let Some(flow) = self.by_token.get(&token) else { return };
        let sent = match direction {
            Direction::Up => flow.outer.send(bytes),
            Direction::Down => match self.routes.get(&flow.route) {
                Some(route) => route.listener.send_to(bytes, flow.client),
                None => return,
            },
        };
        // A datagram that the system does not take is lost, as on a real network.
        if sent.is_ok() {
            let way = tally.way_mut(direction);
            way.delivered_count += 1;
            way.byte_count += bytes.len() as u64;
        }
    }
}

impl Flow {
    /// Queues a datagram that was read, once for each copy that arrives.
    fn carry(&mut self, token: usize, direction: Direction, length: usize, work: &mut Work<'_>) {
        self.used_at = work.moment.now;
        let arrivals = self.path.datagram(direction, length, work.moment, work.tally);
        for at in arrivals.into_iter().flatten() {
            let bytes = work.buffer[..length].to_vec();
            if !work.dues.push(at, Cargo::Datagram { flow: token, direction, bytes }) {
                work.tally.way_mut(direction).dropped_count += 1;
            }
        }
    }
}

/// Opens a socket to a server.
fn outer_socket(server: SocketAddr, token: usize, registry: &Registry) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let mut socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    enlarge(&socket);
    registry.register(&mut socket, Token(token), Interest::READABLE)?;
    Ok(socket)
}

/// Enlarges the buffers of a socket, so that they hold the datagrams that arrive while the thread does not run.
fn enlarge(socket: &UdpSocket) {
    // If the system grants less, it drops more datagrams.
    let _ = SockRef::from(socket).set_recv_buffer_size(BUFFER_BYTES);
    let _ = SockRef::from(socket).set_send_buffer_size(BUFFER_BYTES);
}

/// The most flows at a time: about four times what 1,000 bots need.
const FLOWS_MAX: usize = 4_096;
/// A flow that carries no datagram for this long is closed. No open link is silent for so long.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// The size of socket buffers in bytes, as far as the system grants it.
const BUFFER_BYTES: usize = 1 << 20;
