//! Runs the UDP adapter on a stage, with its clients.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use bytes::Bytes;
use renet::RenetClient;
use renetcode::{ClientAuthentication, NetcodeClient};
use waystation::proxy::renet::{RenetConfig, RenetCounts, RenetProxy, RenetStats};
use waystation::proxy::{self, Listener as _, ListenerHandle, ProxyEventKind};
use waystation::tick::{Clock, UnixClock};
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, DEV_KEY, TokenMint, connection_config};
use waystation::wire::{Lane, lane_of};

use super::{Adapter, loopback, now};

/// A stage with the UDP adapter.
pub(crate) type Stage = super::Stage<Udp>;

/// The UDP adapter, and the mint of its connect tokens.
pub(crate) struct Udp {
    pub(crate) handle: ListenerHandle,
    stats: RenetStats,
    pub(crate) mint: TokenMint,
    unix: UnixClock,
}

impl Udp {
    /// Starts the adapter. Its connect tokens are minted and expire by this Unix clock.
    pub(crate) fn start(app: &mut App, unix: UnixClock) -> Self {
        let config = RenetConfig { listen: loopback(), unix: unix.clone(), ..RenetConfig::new(DEV_KEY) };
        let bound = RenetProxy::bind(config).expect("the port is free");
        let (mint, stats) = (bound.mint(), bound.stats());
        Self { handle: bound.start(proxy::attach(app, "udp")).expect("the thread starts"), stats, mint, unix }
    }

    /// Creates a client that has sent nothing.
    pub(crate) fn client(&self, id: u64, name: Option<&str>) -> Client {
        Client::new(self.mint.mint(self.unix.now(), id, name).expect("a token is minted"))
    }
}

impl Adapter for Udp {
    type Client = Client;
    type Counts = RenetCounts;

    fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    fn counts(&self) -> RenetCounts {
        self.stats.counts()
    }

    fn has_links(&self) -> bool {
        let counts = self.counts();
        counts.opened_count != counts.closed_count
    }

    fn add_newcomer(stage: &mut Stage) -> usize {
        stage.connect("newcomer")
    }
}

impl Stage {
    pub(crate) fn new(clock: Clock) -> Self {
        Self::with_unix(clock, UnixClock::system())
    }

    /// Creates a stage. Its connect tokens are minted and expire by this Unix clock.
    pub(crate) fn with_unix(clock: Clock, unix: UnixClock) -> Self {
        Self::start(clock, |app| Udp::start(app, unix))
    }

    /// Adds a client that has sent nothing. Returns its index.
    pub(crate) fn client(&mut self, name: &str) -> usize {
        let id = self.clients.len() as u64 + 1;
        self.add(self.adapter.client(id, Some(name)))
    }

    pub(crate) fn connect(&mut self, name: &str) -> usize {
        let id = self.client(name);
        self.until_open(id);
        id
    }

    /// Ticks until the client's link is open on both sides.
    pub(crate) fn until_open(&mut self, id: usize) {
        self.until("the client connects", |stage| {
            stage.clients[id].netcode.is_connected() && stage.link_of(id).is_some()
        });
    }

    pub(crate) fn identity_of(&self, client: usize) -> Option<&str> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Opened(info) => info.identity.as_deref(),
            _ => None,
        })
    }
}

/// A client of netcode and renet that a test can make misbehave.
pub(crate) struct Client {
    socket: UdpSocket,
    pub(crate) netcode: NetcodeClient,
    pub(crate) renet: RenetClient,
    pub(crate) reliable_room: usize,
    stepped: Instant,
    pub(crate) received: Vec<(Lane, Bytes)>,
    /// The packets that the client sent to connect: one of each kind.
    pub(crate) handshake: Vec<Vec<u8>>,
    /// All packets that the client has sent.
    pub(crate) sent: Vec<Vec<u8>>,
    /// If true, `step` does nothing.
    pub(crate) frozen: bool,
    /// If true, the client reads only the packets of netcode itself.
    pub(crate) deaf: bool,
}

impl Client {
    pub(crate) fn new(token: renetcode::ConnectToken) -> Self {
        let socket = UdpSocket::bind(loopback()).expect("the socket binds");
        socket.set_nonblocking(true).expect("the socket becomes non-blocking");
        socket
            .connect(token.server_addresses[0].expect("the token has an address"))
            .expect("the address is reachable");
        let secure = ClientAuthentication::Secure { connect_token: token };
        let renet = RenetClient::new(connection_config());
        Self {
            socket,
            netcode: NetcodeClient::new(Duration::ZERO, secure).expect("the token is valid"),
            reliable_room: renet.channel_available_memory(CHANNEL_RELIABLE),
            renet,
            stepped: now(),
            received: Vec::new(),
            handshake: Vec::new(),
            sent: Vec::new(),
            frozen: false,
            deaf: false,
        }
    }

    pub(crate) fn send(&mut self, channel: u8, frame: Bytes) {
        self.renet.send_message(channel, frame);
    }

    pub(crate) fn receive(&mut self) {
        let mut buffer = [0; 2_048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let payload = self.netcode.process_packet(&mut buffer[..length]);
                    if let Some(payload) = payload.filter(|_| !self.deaf) {
                        self.renet.process_packet(payload);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server's socket is closed, and the system reports it.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
                Err(error) => panic!("cannot receive from the server: {error}"),
            }
        }
        for (lane, channel) in [(Lane::Reliable, CHANNEL_RELIABLE), (Lane::Unreliable, CHANNEL_UNRELIABLE)] {
            while let Some(bytes) = self.renet.receive_message(channel) {
                self.received.push((lane, bytes));
            }
        }
    }

    /// Sends all packets that renet has ready.
    pub(crate) fn flush(&mut self) {
        for packet in self.renet.get_packets_to_send() {
            self.throw_payload(&packet);
        }
    }

    pub(crate) fn leave(&mut self) {
        self.frozen = true;
        let (_, packet) = self.netcode.disconnect().expect("netcode makes a disconnect packet");
        let packet = packet.to_vec();
        self.throw(&packet);
    }

    /// Sends the payload in a valid, encrypted packet of netcode.
    pub(crate) fn throw_payload(&mut self, payload: &[u8]) {
        if let Ok((_, packet)) = self.netcode.generate_payload_packet(payload) {
            let packet = packet.to_vec();
            self.throw(&packet);
        }
    }

    /// Sends a datagram unchanged.
    pub(crate) fn throw(&mut self, datagram: &[u8]) {
        self.sent.push(datagram.to_vec());
        loop {
            match self.socket.send(datagram) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                // An earlier datagram reached a closed port, or this one is lost. Both are normal for UDP.
                _ => return,
            }
        }
    }

    /// Sends the first packet of the handshake.
    pub(crate) fn say_hello(&mut self) {
        let (packet, _) = self.netcode.update(Duration::ZERO).expect("netcode makes a connection request");
        let packet = packet.to_vec();
        self.throw(&packet);
    }

    /// Returns true if the server has answered the first packet of the handshake.
    pub(crate) fn is_challenged(&self) -> bool {
        let mut buffer = [0; 2_048];
        self.socket.peek(&mut buffer).is_ok()
    }

    pub(crate) fn keep_alive(&mut self) {
        self.throw_payload(&[SMALL_UNRELIABLE, 0, CHANNEL_UNRELIABLE, 0, 1, 1, 0x80]);
    }

    pub(crate) fn note_handshake(&mut self, packet: &[u8]) {
        let kind = packet[0] & 0x0F;
        let is_known = self.handshake.iter().any(|known| known[0] & 0x0F == kind);
        if (kind == 0 || kind == 3) && !is_known {
            self.handshake.push(packet.to_vec());
        }
    }
}

impl super::Client for Client {
    fn opened_from(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is bound")
    }

    fn step(&mut self) {
        let elapsed = self.stepped.elapsed();
        self.stepped = now();
        if self.frozen {
            return;
        }
        self.receive();
        self.renet.update(elapsed);
        let hello = self.netcode.update(elapsed).map(|(packet, _)| packet.to_vec());
        if let Some(packet) = hello {
            self.note_handshake(&packet);
            self.throw(&packet);
        }
        if self.netcode.is_connected() {
            self.renet.set_connected();
            self.flush();
        }
    }

    fn say(&mut self, frame: Bytes) {
        match lane_of(&frame) {
            Lane::Reliable => self.send(CHANNEL_RELIABLE, frame),
            Lane::Unreliable => self.send(CHANNEL_UNRELIABLE, frame),
        }
    }

    fn heard(&self) -> Vec<(Lane, Bytes)> {
        self.received.clone()
    }

    fn hang_up(&mut self) {
        self.leave();
    }
}

/// Kinds of renet packets.
pub(crate) const SMALL_RELIABLE: u8 = 0;
pub(crate) const SMALL_UNRELIABLE: u8 = 1;
pub(crate) const RELIABLE_SLICE: u8 = 2;
pub(crate) const UNRELIABLE_SLICE: u8 = 3;
