//! A server with the UDP adapter, and clients of it that can be made to misbehave.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use bytes::Bytes;
use renet::RenetClient;
use renetcode::{ClientAuthentication, NetcodeClient};
use waystation::ident::{LinkId, LinkKey, ProxyId};
use waystation::proxy::renet::{RenetConfig, RenetCounts, RenetHandle, RenetProxy};
use waystation::proxy::{self, LinkEnd, Proxies, ProxyCommand, ProxyEvent, ProxyEventKind, ProxyPlugin};
use waystation::tick::{Clock, TickInput, TickPlugin, UnixClock};
use waystation::wire::Lane;
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, DEV_KEY, TokenMint, connection_config};

/// A server with the adapter, and clients of it.
pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) handle: RenetHandle,
    mint: TokenMint,
    unix: UnixClock,
    pub(crate) events: Vec<ProxyEvent>,
    pub(crate) clients: Vec<Client>,
}

impl Stage {
    pub(crate) fn new(clock: Clock) -> Self {
        Self::with_unix(clock, UnixClock::system())
    }

    /// A server whose tokens are minted and expire by this Unix time.
    pub(crate) fn with_unix(clock: Clock, unix: UnixClock) -> Self {
        let mut app = App::new();
        app.add_plugins((TickPlugin { clock, ..TickPlugin::default() }, ProxyPlugin));
        let port = proxy::attach(&mut app, "udp");
        let config = RenetConfig { listen: loopback(), unix: unix.clone(), ..RenetConfig::new(DEV_KEY) };
        let bound = RenetProxy::bind(config).expect("a free port");
        let mint = bound.mint();
        Self {
            app,
            handle: bound.start(port).expect("a thread"),
            mint,
            unix,
            events: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// A client that has not said anything yet.
    pub(crate) fn client(&mut self, name: &str) -> usize {
        let id = self.clients.len();
        let token = self.mint.mint(self.unix.now(), id as u64 + 1, Some(name)).expect("a token");
        self.clients.push(Client::new(token));
        id
    }

    pub(crate) fn connect(&mut self, name: &str) -> usize {
        let id = self.client(name);
        self.until_open(id);
        id
    }

    /// Ticks until the link of a client is open on both sides.
    pub(crate) fn until_open(&mut self, id: usize) {
        self.until("the client is connected", |stage| {
            stage.clients[id].netcode.is_connected() && stage.link_of(id).is_some()
        });
    }

    pub(crate) fn tick(&mut self) {
        self.app.update();
        if let Some(input) = self.app.world().get_resource::<TickInput>() {
            self.events.extend(input.events.iter().map(|(_, event)| event.clone()));
        }
        for client in &mut self.clients {
            client.step();
        }
    }

    /// Ticks until it is so, or fails. How long it takes says nothing.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let deadline = now() + Duration::from_secs(30);
        loop {
            self.tick();
            if so(self) {
                return;
            }
            assert!(now() < deadline, "never: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn counts(&self) -> RenetCounts {
        self.handle.stats().counts()
    }

    pub(crate) fn events_of(&self, client: usize) -> impl Iterator<Item = &ProxyEventKind> {
        let link = self.link_of(client);
        self.events.iter().filter(move |event| Some(event.link) == link).map(|event| &event.kind)
    }

    pub(crate) fn link_of(&self, client: usize) -> Option<LinkId> {
        let address = self.clients[client].address();
        self.events.iter().find_map(|event| match &event.kind {
            ProxyEventKind::Opened(info) if info.address == Some(address) => Some(event.link),
            _ => None,
        })
    }

    pub(crate) fn identity_of(&self, client: usize) -> Option<&str> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Opened(info) => info.identity.as_deref(),
            _ => None,
        })
    }

    pub(crate) fn frames_of(&self, client: usize) -> Vec<(Lane, Bytes)> {
        self.events_of(client)
            .filter_map(|kind| match kind {
                ProxyEventKind::Frame { lane, bytes } => Some((*lane, bytes.clone())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn end_of(&self, client: usize) -> Option<LinkEnd> {
        self.events_of(client).find_map(|kind| match kind {
            ProxyEventKind::Closed(end) => Some(*end),
            _ => None,
        })
    }

    pub(crate) fn send(&mut self, client: usize, frame: Bytes) {
        let link = self.link_of(client).expect("a link");
        let key = LinkKey { proxy: ProxyId(0), link };
        self.app.world_mut().resource_mut::<Proxies>().send(key, frame);
    }

    pub(crate) fn command(&mut self, client: usize, command: impl FnOnce(LinkId) -> ProxyCommand) {
        let link = self.link_of(client).expect("a link");
        self.app.world_mut().resource_mut::<Proxies>().command(ProxyId(0), command(link));
    }

    /// A frame there and one back, on a link that is open already.
    pub(crate) fn assert_echo(&mut self, client: usize) {
        self.clients[client].send(CHANNEL_RELIABLE, frame(0x01, 77));
        self.until("the frame is with the server", |stage| {
            stage.frames_of(client).contains(&(Lane::Reliable, frame(0x01, 77)))
        });
        self.send(client, frame(0x01, 78));
        self.until("the frame is with the client", |stage| {
            stage.clients[client].received.contains(&(CHANNEL_RELIABLE, frame(0x01, 78)))
        });
    }

    /// A newcomer is served.
    pub(crate) fn assert_serves_others(&mut self) {
        let newcomer = self.connect("newcomer");
        self.assert_echo(newcomer);
        assert!(!self.handle.is_finished());
    }
}

/// A client of netcode and renet, and what it takes to misbehave.
pub(crate) struct Client {
    socket: UdpSocket,
    pub(crate) netcode: NetcodeClient,
    pub(crate) renet: RenetClient,
    pub(crate) reliable_room: usize,
    stepped: Instant,
    pub(crate) received: Vec<(u8, Bytes)>,
    /// What it has sent to connect: one of each kind.
    pub(crate) handshake: Vec<Vec<u8>>,
    /// All that it has sent.
    pub(crate) sent: Vec<Vec<u8>>,
    /// It does nothing by itself.
    pub(crate) frozen: bool,
    /// It reads nothing but netcode's own.
    pub(crate) deaf: bool,
}

impl Client {
    pub(crate) fn new(token: renetcode::ConnectToken) -> Self {
        let socket = UdpSocket::bind(loopback()).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket.connect(token.server_addresses[0].expect("an address")).expect("a route");
        let secure = ClientAuthentication::Secure { connect_token: token };
        let renet = RenetClient::new(connection_config());
        Self {
            socket,
            netcode: NetcodeClient::new(Duration::ZERO, secure).expect("a token"),
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub(crate) fn send(&mut self, channel: u8, frame: Bytes) {
        self.renet.send_message(channel, frame);
    }

    /// All that a client does in a frame of its game.
    pub(crate) fn step(&mut self) {
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
                // The server is gone, and the system says so.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
                Err(error) => panic!("{error}"),
            }
        }
        for channel in [CHANNEL_RELIABLE, CHANNEL_UNRELIABLE] {
            while let Some(bytes) = self.renet.receive_message(channel) {
                self.received.push((channel, bytes));
            }
        }
    }

    /// Sends what renet has to send.
    pub(crate) fn flush(&mut self) {
        for packet in self.renet.get_packets_to_send() {
            self.throw_payload(&packet);
        }
    }

    pub(crate) fn leave(&mut self) {
        self.frozen = true;
        let (_, packet) = self.netcode.disconnect().expect("a packet");
        let packet = packet.to_vec();
        self.throw(&packet);
    }

    /// Sends a payload of its own making, encrypted as it should be.
    pub(crate) fn throw_payload(&mut self, payload: &[u8]) {
        if let Ok((_, packet)) = self.netcode.generate_payload_packet(payload) {
            let packet = packet.to_vec();
            self.throw(&packet);
        }
    }

    /// Sends a datagram as it is.
    pub(crate) fn throw(&mut self, datagram: &[u8]) {
        self.sent.push(datagram.to_vec());
        loop {
            match self.socket.send(datagram) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                // An earlier one met a closed port, or this one is lost: so it may be with UDP.
                _ => return,
            }
        }
    }

    /// The first packet of the handshake.
    pub(crate) fn say_hello(&mut self) {
        let (packet, _) = self.netcode.update(Duration::ZERO).expect("a request");
        let packet = packet.to_vec();
        self.throw(&packet);
    }

    /// Whether the server has answered the first packet of the handshake.
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

pub(crate) fn frame(high: u8, tag: u8) -> Bytes {
    Bytes::from(vec![high, 0x50, tag])
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[allow(clippy::disallowed_methods, reason = "real sockets take real time")]
fn now() -> Instant {
    Instant::now()
}

pub(crate) fn unix_now() -> Duration {
    UnixClock::system().now()
}

/// Kinds of renet packets.
pub(crate) const SMALL_RELIABLE: u8 = 0;
pub(crate) const SMALL_UNRELIABLE: u8 = 1;
pub(crate) const RELIABLE_SLICE: u8 = 2;
pub(crate) const UNRELIABLE_SLICE: u8 = 3;
