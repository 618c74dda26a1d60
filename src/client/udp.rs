//! Opens links over UDP: netcode encrypts and keeps the connection, and renet implements the lanes.
//!
//! Each link has a socket that does not block, and needs no thread. Each link needs a fresh connect token,
//! because a connect token opens one link.
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
use crate::wire::udp::send_queues::SendQueues;
use crate::wire::udp::{
    CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, NETCODE_PROTOCOL_ID, TokenError, TokenMint, connection_config,
};
use crate::wire::{Lane, lane_of};

/// Dials over UDP. For each try, it takes a connect token from its source.
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
    queues: SendQueues,
    /// Time since the link was created, without stalls.
    clock: Duration,
    /// Room of renet's reliable channel when it is empty, in bytes.
    reliable_room: usize,
    /// Time since packets were last sent.
    unflushed: Duration,
    closed: bool,
}

impl UdpDial {
    /// Creates a dial that takes its connect tokens from `source`. The dial calls `source` once per try, on the
    /// thread that updates the client, so `source` should not block for long. An error of `source` fails the try
    /// and is logged.
    pub fn new<E: fmt::Display>(
        mut source: impl FnMut() -> Result<ConnectToken, E> + Send + 'static,
    ) -> Self {
        Self { source: Box::new(move || source().map_err(|error| error.to_string())) }
    }

    /// Creates a dial that mints its own connect tokens, for examples, tools and the `dev` profile. It needs the
    /// server's key, which a player's client must not have.
    ///
    /// This function reads the wall clock once. From then on the dial uses the monotonic clock, as the server does,
    /// so its tokens stay valid when the machine's wall clock is changed.
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
        // netcode panics if one of these checks fails.
        let peer = connect_token.server_addresses[0].ok_or(DialError::UnusableToken("it names no server"))?;
        if connect_token.expire_timestamp < connect_token.create_timestamp {
            return Err(DialError::UnusableToken("it expired before it was minted"));
        }
        if connect_token.protocol_id != NETCODE_PROTOCOL_ID {
            return Err(DialError::UnusableToken("it belongs to another protocol"));
        }
        let socket =
            socket::open(peer).map_err(|error| DialError::Socket { peer, cause: error.to_string() })?;
        // On a client, netcode uses differences of time only.
        let netcode = NetcodeClient::new(Duration::ZERO, ClientAuthentication::Secure { connect_token })
            .map_err(|_| DialError::UnusableToken("netcode does not accept it"))?;
        let renet = RenetClient::new(connection_config());
        Ok(Self {
            socket,
            peer,
            netcode,
            reliable_room: renet.channel_available_memory(CHANNEL_RELIABLE),
            renet,
            guard: PeerGuard::default(),
            queues: SendQueues::new(Duration::ZERO),
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
                    // The network reports that nothing listens there. Such reports can be forged, so an open
                    // link ignores them and waits for its timeout.
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
                    self.queues.note_acks(self.clock, payload);
                }
                self.renet.process_packet(payload);
            }
            Err(violation) => {
                tracing::debug!(%violation, "the server sent an invalid packet of renet; the link is closed");
                self.closed = true;
            }
        }
    }

    /// Returns the bytes of reliable frames that renet holds.
    fn unacked(&self) -> usize {
        self.reliable_room.saturating_sub(self.renet.channel_available_memory(CHANNEL_RELIABLE))
    }

    fn send_datagram(&self, datagram: &[u8]) {
        // A datagram that the socket does not take counts as lost.
        let _ = self.socket.send(datagram);
    }
}

impl Link for UdpLink {
    fn update(&mut self, dt: Duration) {
        if self.closed {
            return;
        }
        // Without this limit netcode would time the peer out after a stall.
        let dt = dt.min(STEP_MAX);
        self.unflushed += dt;
        self.clock += dt;
        self.take_datagrams();
        self.renet.update(dt);
        if let Some((datagram, peer)) = self.netcode.update(dt) {
            if peer != self.peer {
                // The token names several servers, and the last one did not answer.
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
        self.status() == LinkStatus::Open && self.queues.push(frame, self.unacked())
    }

    fn flush(&mut self) {
        // Each flush sends at least a datagram with renet's acks.
        let pause = if self.queues.has_frames() { FLUSH_EVERY } else { ACK_EVERY };
        if self.unflushed < pause || self.status() != LinkStatus::Open {
            return;
        }
        self.unflushed = Duration::ZERO;
        let Some(frames) = self.queues.take(self.clock, self.unacked()) else {
            return;
        };
        for frame in frames {
            let channel =
                if lane_of(&frame) == Lane::Reliable { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
            self.renet.send_message(channel, frame);
        }
        for packet in self.renet.get_packets_to_send() {
            self.queues.note_sent(self.clock, &packet);
            match self.netcode.generate_payload_packet(&packet) {
                Ok((_, datagram)) => {
                    let _ = self.socket.send(datagram);
                }
                Err(error) => {
                    tracing::debug!(%error, "netcode does not accept a packet");
                    return;
                }
            }
        }
    }

    fn close(&mut self) {
        // The link may be open at the server already while it is still opening here.
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

/// The most datagrams that an update receives: several megabytes, so that a flood cannot block the caller.
const DATAGRAMS_AN_UPDATE: usize = 4_096;
/// The shortest time between two flushes with frames, however often a game updates.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
/// The shortest time between two flushes without frames, which carry renet's acks only. The server reads them once
/// a tick, and 100 of them a second could fill a slow network.
const ACK_EVERY: Duration = Duration::from_millis(50);
/// The most by which netcode's and renet's clocks advance in one update: less than any of their timeouts.
const STEP_MAX: Duration = Duration::from_millis(250);
/// Copies of a disconnect, because it is not acknowledged.
const DISCONNECT_COPIES: usize = 3;

#[cfg(test)]
mod tests;
