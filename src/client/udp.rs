//! Links over UDP: netcode for keys and the connection, renet for the lanes.
//!
//! One socket a link, without blocking and without a thread. Every link takes a fresh connect
//! token, because a used one never connects again.
//!
//! Data flow: datagram → guard → netcode → guard → renet → frames, and back.

#[cfg(test)]
pub(crate) mod host;
pub(super) mod socket;

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::TryRng as _;
use rand::rngs::SysRng;
use renet::RenetClient;
pub use renetcode::ConnectToken;
use renetcode::{ClientAuthentication, NETCODE_MAX_PACKET_BYTES, NetcodeClient};

use super::link::{Dial, DialError, Link, LinkStatus};
use crate::wire::udp::guard::{self, Content, PeerGuard};
use crate::wire::udp::outlet::Outlet;
use crate::wire::udp::{
    CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, NETCODE_PROTOCOL_ID, TokenError, TokenMint, connection_config,
};
use crate::wire::{Lane, lane_of};

/// Dials over UDP, with a connect token from its source for every try.
pub struct UdpDial {
    source: Box<dyn FnMut() -> Result<ConnectToken, String> + Send>,
}

/// A link over UDP.
#[derive(Debug)]
pub struct UdpLink {
    socket: UdpSocket,
    peer: SocketAddr,
    netcode: NetcodeClient,
    renet: RenetClient,
    guard: PeerGuard,
    outlet: Outlet,
    /// The time that has passed since the link was made, stalls left out.
    clock: Duration,
    /// What renet's reliable channel holds when it holds nothing.
    reliable_room: usize,
    /// Since packets last left.
    unflushed: Duration,
    closed: bool,
}

impl UdpDial {
    /// Dials with the tokens of `source`, which is asked once a try and on the thread that updates
    /// the client: fetch ahead if it takes long. Its error is logged with the try.
    pub fn new<E: fmt::Display>(
        mut source: impl FnMut() -> Result<ConnectToken, E> + Send + 'static,
    ) -> Self {
        Self { source: Box::new(move || source().map_err(|error| error.to_string())) }
    }

    /// Dials with tokens that it mints itself, so it must hold the server's key: for examples, tools
    /// and the `dev` profile. A player's client is given its tokens.
    ///
    /// It reads the wall clock once, here, and goes by the monotonic clock from then on, as the server
    /// does: so it goes on minting valid tokens when the machine's wall clock is set.
    ///
    /// ```
    /// use waystation::client::{Client, ClientConfig, UdpDial};
    /// use waystation::wire::udp::{DEV_KEY, TokenMint};
    ///
    /// let mint = TokenMint::new(DEV_KEY, vec![([127, 0, 0, 1], 7777).into()]);
    /// let client = Client::new(UdpDial::minting(mint), ClientConfig::default());
    /// # drop(client);
    /// ```
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "connect tokens expire by Unix time, on any machine")]
    pub fn minting(mint: TokenMint) -> Self {
        let unix_at_start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start = Instant::now();
        Self::new(move || {
            let unix_now = unix_at_start + start.elapsed();
            let link_id = SysRng.try_next_u64().map_err(|error| TokenError::Mint(error.to_string()))?;
            mint.mint(unix_now, link_id, None)
        })
    }
}

impl fmt::Debug for UdpDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpDial").finish_non_exhaustive()
    }
}

impl Dial for UdpDial {
    type Link = UdpLink;

    fn dial(&mut self) -> Result<UdpLink, DialError> {
        UdpLink::open((self.source)().map_err(DialError::Token)?)
    }
}

impl UdpLink {
    pub(super) fn open(connect_token: ConnectToken) -> Result<Self, DialError> {
        // netcode takes these for granted and panics without them.
        let peer = connect_token.server_addresses[0].ok_or(DialError::UnusableToken("it names no server"))?;
        if connect_token.expire_timestamp < connect_token.create_timestamp {
            return Err(DialError::UnusableToken("it expired before it was made"));
        }
        if connect_token.protocol_id != NETCODE_PROTOCOL_ID {
            return Err(DialError::UnusableToken("it is of another protocol"));
        }
        let socket =
            socket::open(peer).map_err(|error| DialError::Socket { peer, cause: error.to_string() })?;
        // On this side netcode only ever looks at differences of time.
        let netcode = NetcodeClient::new(Duration::ZERO, ClientAuthentication::Secure { connect_token })
            .map_err(|_| DialError::UnusableToken("netcode does not take it"))?;
        let renet = RenetClient::new(connection_config());
        Ok(Self {
            socket,
            peer,
            netcode,
            reliable_room: renet.channel_available_memory(CHANNEL_RELIABLE),
            renet,
            guard: PeerGuard::default(),
            outlet: Outlet::new(Duration::ZERO),
            clock: Duration::ZERO,
            unflushed: FLUSH_EVERY,
            closed: false,
        })
    }

    fn take_datagrams(&mut self) {
        let mut buffer = [0; NETCODE_MAX_PACKET_BYTES + 1];
        for _ in 0..DATAGRAMS_AN_UPDATE {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.take_datagram(&mut buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Nobody listens there, says the network. A forger may say so too, so an open
                    // link waits for its timeout; a try costs little.
                    if error.kind() == io::ErrorKind::ConnectionRefused && self.netcode.is_connecting() {
                        self.closed = true;
                        return;
                    }
                }
            }
        }
    }

    fn take_datagram(&mut self, datagram: &mut [u8]) {
        if !guard::admits_from_server(datagram) {
            return;
        }
        let Some(payload) = self.netcode.process_packet(datagram) else {
            return;
        };
        match self.guard.check(payload) {
            Ok(Content::Stale) => {}
            Ok(content) => {
                if content == Content::Ack {
                    self.outlet.note_acks(self.clock, payload);
                }
                self.renet.process_packet(payload);
            }
            Err(breach) => {
                tracing::debug!(%breach, "the server sent what renet cannot take; the link is closed");
                self.closed = true;
            }
        }
    }

    /// What renet holds of reliable frames, in bytes.
    fn unacked(&self) -> usize {
        self.reliable_room.saturating_sub(self.renet.channel_available_memory(CHANNEL_RELIABLE))
    }

    fn send_datagram(&self, datagram: &[u8]) {
        // What the socket does not take is lost like any datagram: renet sends it again.
        let _ = self.socket.send(datagram);
    }
}

impl Link for UdpLink {
    fn update(&mut self, dt: Duration) {
        if self.closed {
            return;
        }
        // After a stall netcode would call a peer silent that it had no time to hear.
        let dt = dt.min(STEP_MAX);
        self.unflushed += dt;
        self.clock += dt;
        self.take_datagrams();
        self.renet.update(dt);
        if let Some((datagram, peer)) = self.netcode.update(dt) {
            if peer != self.peer {
                // The token names several servers and the first one did not answer.
                self.peer = peer;
                self.closed |= self.socket.connect(peer).is_err();
            }
            let _ = self.socket.send(datagram);
        }
        self.closed |= self.netcode.is_disconnected();
        if self.netcode.is_connected() {
            self.renet.set_connected();
        }
    }

    fn status(&self) -> LinkStatus {
        if self.closed || self.renet.is_disconnected() {
            LinkStatus::Closed
        } else if self.netcode.is_connected() {
            LinkStatus::Open
        } else {
            LinkStatus::Opening
        }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        if let Some(frame) = self.renet.receive_message(CHANNEL_RELIABLE) {
            self.guard.note_read();
            return Some((Lane::Reliable, frame));
        }
        let frame = self.renet.receive_message(CHANNEL_UNRELIABLE)?;
        Some((Lane::Unreliable, frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.status() == LinkStatus::Open && self.outlet.push(frame, self.unacked())
    }

    fn flush(&mut self) {
        // Each flush costs a datagram of renet's acks, however little there is to send.
        let pause = if self.outlet.has_frames() { FLUSH_EVERY } else { ACK_EVERY };
        if self.unflushed < pause || self.status() != LinkStatus::Open {
            return;
        }
        self.unflushed = Duration::ZERO;
        let Some(frames) = self.outlet.take(self.clock, self.unacked()) else {
            return;
        };
        for frame in frames {
            let channel =
                if lane_of(&frame) == Lane::Reliable { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
            self.renet.send_message(channel, frame);
        }
        for packet in self.renet.get_packets_to_send() {
            self.outlet.note_sent(self.clock, &packet);
            match self.netcode.generate_payload_packet(&packet) {
                Ok((_, datagram)) => {
                    let _ = self.socket.send(datagram);
                }
                Err(error) => {
                    tracing::debug!(%error, "netcode does not take a packet");
                    return;
                }
            }
        }
    }

    fn close(&mut self) {
        // The server may count the link as open before this end has heard so.
        if !self.netcode.is_disconnected() {
            let datagram = self.netcode.disconnect().map(|(_, datagram)| datagram.to_vec());
            if let Ok(datagram) = datagram {
                for _ in 0..DISCONNECT_COPIES {
                    self.send_datagram(&datagram);
                }
            }
        }
        self.closed = true;
    }
}

/// Datagrams that an update takes: several megabytes, so that a flood cannot hold the caller.
const DATAGRAMS_AN_UPDATE: usize = 4_096;
/// Packets leave at most a hundred times a second, however often a game updates.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
/// Acknowledgements alone leave less often: a server reads them once a tick, and on a narrow network a
/// hundred of them a second would leave no room for anything else.
const ACK_EVERY: Duration = Duration::from_millis(50);
/// How far netcode's and renet's clocks move in an update: less than any of their timeouts.
const STEP_MAX: Duration = Duration::from_millis(250);
/// A disconnect is not acknowledged; three copies survive most bad moments.
const DISCONNECT_COPIES: usize = 3;

#[cfg(test)]
mod tests;
