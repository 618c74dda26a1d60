//! Handles the datagrams, commands and batches of the QUIC adapter, with the endpoint and the links.
//!
//! The code reads no clock and no socket: it gets the time as an argument and sends datagrams by an [`Outgoing`]. A
//! connection is urgent while its handshake is under way or while it has much to send. Urgent connections send
//! whenever a datagram arrives for them. All others send once per tick, so that their acknowledgements share
//! packets with their data.
//!
//! Data flow: datagram → endpoint → connection → lanes → [`Links`]; command → lanes; batch: timers, then the
//! packets of each connection → [`Outgoing`].

mod commands;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent, Incoming, ServerConfig,
};

use super::QuicConfig;
use super::admission::{Admission, Verdict};
use super::links::{Links, Peer};
use super::stats::QuicStats;
use crate::proxy::port::PortSender;
use crate::proxy::pump::Transport;
use crate::proxy::udp::Outgoing;
use crate::proxy::{LinkEnd, ProxyCommand, ProxyEvent};
use crate::wire::discovery::QUIC;
use crate::wire::quic::{Ended, Exchanged, LaneEvent, Request, WEBTRANSPORT_PATH, exchange};
use crate::wire::v1::Reason;

/// The state of the adapter except its socket and its ports.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) links: Links,
    config: QuicConfig,
    endpoint_config: Arc<EndpointConfig>,
    server_config: Arc<ServerConfig>,
    endpoint: Endpoint,
    admission: Admission,
    stats: QuicStats,
    /// An instant and the reading of the clock at that instant. quinn needs instants.
    epoch: (Instant, Duration),
    /// Connections with datagrams or other changes that were not handled yet.
    touched: BTreeSet<usize>,
    /// Connections that send without waiting for a batch.
    urgent: BTreeSet<usize>,
    /// Time of the last sweep over all connections.
    swept_at: Duration,
    /// A reused buffer for an outgoing datagram.
    buffer: Vec<u8>,
}

impl Core {
    pub(super) fn new(
        config: QuicConfig,
        server_config: Arc<ServerConfig>,
        stats: QuicStats,
        epoch: (Instant, Duration),
    ) -> Self {
        let mut endpoint_config = EndpointConfig::default();
        endpoint_config.supported_versions(vec![QUIC_VERSION]);
        let endpoint_config = Arc::new(endpoint_config);
        Self {
            links: Links::new(),
            endpoint: endpoint(&endpoint_config, &server_config),
            config,
            endpoint_config,
            server_config,
            admission: Admission::default(),
            stats,
            epoch,
            touched: BTreeSet::new(),
            urgent: BTreeSet::new(),
            swept_at: epoch.1,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    fn instant(&self, at: Duration) -> Instant {
        self.epoch.0 + at.saturating_sub(self.epoch.1)
    }

    /// Handles the first datagram of a new connection.
    fn meet(&mut self, incoming: Incoming, at: Duration, out: &mut Outgoing) {
        let now = self.instant(at);
        let verdict = if self.links.has_room() {
            let count = self.links.connection_count();
            let ip = incoming.remote_address().ip();
            self.admission.judge(ip, incoming.remote_address_validated(), count, &self.config)
        } else {
            Verdict::Ignore
        };
        self.buffer.clear();
        let answer = match verdict {
            Verdict::Accept(network) => {
                self.make_room(at, out);
                self.buffer.clear();
                match self.endpoint.accept(incoming, now, &mut self.buffer, None) {
                    Ok((handle, connection)) => {
                        let half_open = self.admission.enter(network, handle);
                        let deadline = at + self.config.handshake_timeout;
                        self.links.insert(handle, connection, half_open, deadline);
                        self.urgent.insert(handle.0);
                        self.touched.insert(handle.0);
                        None
                    }
                    Err(error) => {
                        self.links.tally.handshake_failed_count += 1;
                        error.response
                    }
                }
            }
            Verdict::Retry => {
                self.links.tally.retry_count += 1;
                // This fails only for a client that answers a Retry, and that client is validated.
                self.endpoint.retry(incoming, &mut self.buffer).ok()
            }
            Verdict::Refuse => {
                self.links.tally.turned_away_count += 1;
                Some(self.endpoint.refuse(incoming, &mut self.buffer))
            }
            Verdict::Ignore => {
                self.links.tally.turned_away_count += 1;
                self.endpoint.ignore(incoming);
                None
            }
        };
        if let Some(answer) = answer {
            out.send(&self.buffer[..answer.size], answer.destination);
        }
    }

    /// Ends the oldest handshake of the network with the most handshakes, if there is no room for another one.
    fn make_room(&mut self, at: Duration, out: &mut Outgoing) {
        let Some(handle) = self.admission.surplus(&self.config) else { return };
        self.links.tally.turned_away_count += 1;
        self.hang_up_on(handle, Reason::Throttled as u32, LinkEnd::Failed, self.instant(at), at);
        self.transmit(handle, at, out);
        if self.links.get(handle).is_some() {
            // A closed connection would otherwise keep its memory for some more round trips.
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            self.forget(handle, at);
        }
    }

    /// Handles what has happened on a connection, and reads its frames.
    fn look(&mut self, handle: ConnectionHandle, at: Duration) {
        let now = self.instant(at);
        loop {
            let Some(peer) = self.links.get(handle) else { return };
            peer.lanes.update(&mut peer.connection);
            let mut happened = peer.lanes.poll();
            if happened.is_none() {
                self.links.read(handle, at);
                happened = self.links.get(handle).and_then(|peer| peer.lanes.poll());
            }
            match happened {
                Some(LaneEvent::SessionRequested(request)) => self.answer(handle, &request),
                Some(LaneEvent::Opened(kind)) => {
                    let half_open = self.links.open(handle, kind, at);
                    half_open.inspect(|half_open| self.admission.leave(*half_open));
                }
                Some(LaneEvent::ProtocolViolation(what)) => self.violation(handle, what, at),
                Some(LaneEvent::Finished) => {
                    let code = self.links.get(handle).map_or(0, |peer| peer.code);
                    self.hang_up_on(handle, code, LinkEnd::ByServer, now, at);
                }
                Some(LaneEvent::Ended(ended)) => {
                    self.links.read(handle, at);
                    let end = match ended {
                        Ended::ByPeer(_) => LinkEnd::ByPeer,
                        Ended::Silent => LinkEnd::Silent,
                        Ended::Failed => LinkEnd::Failed,
                    };
                    self.hang_up_on(handle, 0, end, now, at);
                }
                None => return,
            }
        }
    }

    /// Answers the request for a WebTransport session.
    fn answer(&mut self, handle: ConnectionHandle, request: &Request) {
        let status = if request.path != WEBTRANSPORT_PATH {
            NOT_FOUND
        } else if !self.config.origins.allow(request.origin.as_deref()) {
            FORBIDDEN
        } else {
            OK
        };
        if status != OK {
            self.links.tally.session_refused_count += 1;
            tracing::debug!(
                status,
                path = request.path,
                origin = request.origin,
                "refused a WebTransport session"
            );
        }
        if let Some(peer) = self.links.get(handle) {
            peer.lanes.answer(status, &mut peer.connection);
        }
    }

    /// Handles a violation of the protocol. If the connection is a link, the gate ends the link and its session.
    /// Otherwise this method closes the connection.
    fn violation(&mut self, handle: ConnectionHandle, what: &'static str, at: Duration) {
        self.links.violation(handle, what, at);
        if self.links.get(handle).is_some_and(|peer| peer.id().is_none()) {
            tracing::debug!(what, "a client violated the protocol during the handshake");
            let now = self.instant(at);
            self.hang_up_on(handle, Reason::Protocol as u32, LinkEnd::Failed, now, at);
        }
    }

    /// Closes a connection, and ends its link or its handshake.
    fn hang_up_on(&mut self, handle: ConnectionHandle, code: u32, end: LinkEnd, now: Instant, at: Duration) {
        let Some(peer) = self.links.get(handle) else { return };
        peer.lanes.close(code, &mut peer.connection, now);
        peer.pending = true;
        if let Some(half_open) = self.links.end(handle, end, at) {
            self.links.tally.handshake_failed_count += 1;
            self.admission.leave(half_open);
        }
        self.touched.insert(handle.0);
    }

    /// Checks the timers of a connection and the deadline of its handshake.
    fn serve_timers(&mut self, handle: ConnectionHandle, at: Duration) {
        let now = self.instant(at);
        let Some(peer) = self.links.get(handle) else { return };
        let is_due = peer.connection.poll_timeout().is_some_and(|due| due <= now);
        if is_due {
            peer.connection.handle_timeout(now);
            peer.pending = true;
        }
        let is_late = peer.deadline().is_some_and(|deadline| deadline <= at);
        if is_late {
            self.hang_up_on(handle, Reason::Timeout as u32, LinkEnd::Silent, now, at);
        }
        if is_due || is_late {
            self.look(handle, at);
        }
    }

    /// Sends the packets of a connection, and removes the connection if it is drained.
    fn transmit(&mut self, handle: ConnectionHandle, at: Duration, out: &mut Outgoing) {
        let now = self.instant(at);
        let Some(peer) = self.links.get(handle) else { return };
        peer.pending = false;
        let before = peer.lanes.waiting_bytes();
        peer.lanes.flush(&mut peer.connection, now);
        if before > BUSY_BYTES {
            peer.busy_until = at + BUSY_FOR;
        }
        loop {
            self.buffer.clear();
            let Some(transmit) = peer.connection.poll_transmit(now, 1, &mut self.buffer) else { break };
            out.send(&self.buffer[..transmit.size], transmit.destination);
        }
        let counts = peer.lanes.take_counts();
        if peer.lanes.is_pressed() {
            peer.busy_until = peer.busy_until.max(at + BUSY_FOR);
        }
        let exchanged = exchange(&mut self.endpoint, handle, &mut peer.connection);
        peer.pending |= exchanged == Exchanged::News;
        if peer.is_urgent(at) {
            self.urgent.insert(handle.0);
        } else {
            self.urgent.remove(&handle.0);
        }
        self.links.report_room(handle, at);
        let tally = &mut self.links.tally;
        tally.oversize_count += counts.oversize_count;
        tally.unreliable_dropped_count += counts.unreliable_dropped_count;
        if exchanged == Exchanged::Drained {
            self.forget(handle, at);
        }
    }

    /// Removes a drained connection after handling its last events. The endpoint may reuse its handle afterwards.
    fn forget(&mut self, handle: ConnectionHandle, at: Duration) {
        self.look(handle, at);
        let half_open = self.links.remove(handle, at);
        half_open.inspect(|half_open| self.admission.leave(*half_open));
        self.urgent.remove(&handle.0);
        self.touched.remove(&handle.0);
    }

    /// Handles the connections with changes, and sends the packets of urgent and closed ones.
    fn serve_touched(&mut self, at: Duration, out: &mut Outgoing) {
        while let Some(index) = self.touched.pop_first() {
            let handle = ConnectionHandle(index);
            self.look(handle, at);
            let is_urgent = self.urgent.contains(&index)
                || self.links.get(handle).is_some_and(|peer| peer.connection.is_closed());
            if is_urgent {
                self.transmit(handle, at, out);
            }
        }
    }

    /// Handles the timers of all connections, and sends their packets.
    fn sweep(&mut self, at: Duration, out: &mut Outgoing) {
        self.swept_at = at;
        self.serve_touched(at, out);
        for handle in self.links.handles() {
            self.serve_timers(handle, at);
            if self.links.get(handle).is_some_and(|peer| peer.pending) {
                self.transmit(handle, at, out);
            }
        }
        self.touched.clear();
    }
}

impl Transport for Core {
    const NAME: &'static str = QUIC;
    const DATAGRAM_MAX: usize = DATAGRAM_MAX;
    // For a first datagram, a Retry takes 6 µs, and accepting the handshake takes 180 µs.
    const DATAGRAMS_PER_TURN: usize = 256;
    const GATHER: Duration = Duration::from_millis(1);

    fn receive(&mut self, datagram: &mut [u8], from: SocketAddr, at: Duration, out: &mut Outgoing) {
        self.links.tally.datagram_in_count += 1;
        let now = self.instant(at);
        self.buffer.clear();
        let data = BytesMut::from(&*datagram);
        match self.endpoint.handle(now, from, None, None, data, &mut self.buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(peer) = self.links.get(handle) {
                    peer.connection.handle_event(event);
                    peer.pending = true;
                    self.touched.insert(handle.0);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.meet(incoming, at, out),
            Some(DatagramEvent::Response(answer)) => {
                out.send(&self.buffer[..answer.size], answer.destination);
            }
            None => {}
        }
    }

    fn settle(&mut self, now: Duration, out: &mut Outgoing) {
        self.serve_touched(now, out);
        if now.saturating_sub(self.swept_at) >= SWEEP_EVERY {
            self.sweep(now, out);
            return;
        }
        for index in std::mem::take(&mut self.urgent) {
            let handle = ConnectionHandle(index);
            self.serve_timers(handle, now);
            let Some(peer) = self.links.get(handle) else { continue };
            if peer.is_urgent(now) {
                self.urgent.insert(index);
            }
            if peer.pending {
                self.transmit(handle, now, out);
            }
        }
    }

    fn due(&mut self) -> Option<Duration> {
        let mut due = self.swept_at + SWEEP_EVERY;
        for index in &self.urgent {
            if let Some(peer) = self.links.get(ConnectionHandle(*index)) {
                due = peer.next_due(self.epoch).map_or(due, |next| next.min(due));
            }
        }
        Some(due)
    }

    fn command(&mut self, command: ProxyCommand, now: Duration, out: &mut Outgoing) {
        match command {
            ProxyCommand::Send { link, frame } => self.send(link, &frame, now),
            ProxyCommand::Close { link, frame } => self.close(link, frame, now),
            ProxyCommand::Cut { link } => self.cut(link, 0, LinkEnd::ByServer, now, out),
            ProxyCommand::Pause { link } => self.pause(link, true, now),
            ProxyCommand::Unpause { link } => self.pause(link, false, now),
        }
    }

    fn batch(&mut self, now: Duration, out: &mut Outgoing) {
        for handle in self.links.handles() {
            if self.links.begin_batch(handle) {
                self.touched.insert(handle.0);
            }
        }
        self.sweep(now, out);
    }

    fn deliver(&mut self, port: &PortSender<ProxyEvent>, now: Duration, out: &mut Outgoing) {
        if self.links.deliver(port) {
            for (id, handle) in self.links.unread() {
                if !self.links.has_room() {
                    break;
                }
                self.look(handle, now);
                self.links.cursor = id;
            }
            self.links.deliver(port);
        }
        let tally = &mut self.links.tally;
        tally.datagram_out_count += std::mem::take(&mut out.sent_count);
        tally.socket_error_count += std::mem::take(&mut out.error_count);
        self.stats.add(tally);
    }

    fn is_delivered(&self) -> bool {
        self.links.is_delivered()
    }

    fn any_closing(&self) -> bool {
        self.links.any_closing()
    }

    fn disconnect_all(&mut self, end: LinkEnd, now: Duration, out: &mut Outgoing) {
        let at = self.instant(now);
        let reason = if end == LinkEnd::ByServer { Reason::Shutdown } else { Reason::Dropped };
        for handle in self.links.handles() {
            self.transmit(handle, now, out);
            self.hang_up_on(handle, reason as u32, end, at, now);
            self.transmit(handle, now, out);
        }
    }

    fn hang_up(&mut self, now: Duration, out: &mut Outgoing) {
        self.disconnect_all(LinkEnd::Failed, now, out);
    }

    /// Keeps only the configuration with its keys, and the events that are not in the port yet. By the keys,
    /// clients of lost connections get stateless resets.
    fn restart(&mut self, now: Duration) {
        self.links.abandon(now);
        self.endpoint = endpoint(&self.endpoint_config, &self.server_config);
        self.admission = Admission::default();
        (self.touched, self.urgent) = (BTreeSet::new(), BTreeSet::new());
        self.swept_at = now;
    }

    fn note_restart(&mut self) {
        self.links.tally.restart_count += 1;
    }
}

impl Peer {
    /// Returns true if the connection sends without waiting for a batch.
    fn is_urgent(&self, at: Duration) -> bool {
        self.deadline().is_some() || self.busy_until > at
    }

    /// Returns the time of the next timer or deadline, by the port's clock.
    fn next_due(&mut self, epoch: (Instant, Duration)) -> Option<Duration> {
        let timer =
            self.connection.poll_timeout().map(|due| epoch.1 + due.saturating_duration_since(epoch.0));
        self.deadline().into_iter().chain(timer).min()
    }
}

fn endpoint(config: &Arc<EndpointConfig>, server: &Arc<ServerConfig>) -> Endpoint {
    // The socket does not forbid fragmentation, so path MTU discovery is off.
    Endpoint::new(Arc::clone(config), Some(Arc::clone(server)), false, None)
}

/// The version of QUIC in RFC 9000. Draft versions are not supported.
const QUIC_VERSION: u32 = 1;
/// Length of the longest incoming datagram. quinn announces the same length to its peers.
const DATAGRAM_MAX: usize = 1_472;
/// Capacity of the buffer for an outgoing datagram.
const BUFFER_BYTES: usize = 1_500;
/// Longest time between two sweeps over all connections. The timers of connections that are not urgent can be late
/// by this time.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
/// A link is urgent if more than this number of bytes waits, for example after a resume or for a large snapshot.
const BUSY_BYTES: usize = 8 * 1024;
/// How long a link stays urgent after [`BUSY_BYTES`] waited or its client read too slowly.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// HTTP status codes.
const OK: u16 = 200;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

#[cfg(test)]
mod tests;
