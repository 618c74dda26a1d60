//! A server with the HTTP server and its WebSocket adapter, and clients of it that can be made to
//! misbehave.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};
use waystation::admin::{ConnectAuth, Health, HttpConfig, HttpHandle, HttpServer, Offers};
use waystation::ident::{LinkId, LinkKey, ProxyId};
use waystation::proxy::websocket::{WebSocketConfig, WebSocketCounts, WebSocketProxy, WebSocketStats};
use waystation::proxy::{self, LinkEnd, Proxies, ProxyCommand, ProxyEvent, ProxyEventKind, ProxyPlugin};
use waystation::tick::{Clock, TickInput, TickPlugin};

/// A server with the adapter, and clients of it.
pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) http: HttpHandle,
    stats: WebSocketStats,
    pub(crate) events: Vec<ProxyEvent>,
    pub(crate) clients: Vec<Client>,
}

/// How a stage is set up; what matters to a test is changed.
pub(crate) struct Setup {
    pub(crate) clock: Clock,
    pub(crate) http: HttpConfig,
    pub(crate) websocket: WebSocketConfig,
    pub(crate) offers: Offers,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            clock: Clock::wall(),
            http: HttpConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                connect_auth: ConnectAuth::everybody(),
                ..HttpConfig::default()
            },
            websocket: WebSocketConfig::default(),
            offers: Offers::default(),
        }
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let mut app = App::new();
        app.add_plugins((TickPlugin { clock: setup.clock, ..TickPlugin::default() }, ProxyPlugin));
        let port = proxy::attach(&mut app, "websocket");
        let websocket = WebSocketProxy::new(setup.websocket).expect("limits that work");
        let stats = websocket.stats();
        let health = Health::watch(&mut app);
        let http = HttpServer::bind(setup.http)
            .expect("a free port")
            .start(setup.offers, health, Some((websocket, port)))
            .expect("a thread");
        Self { app, http, stats, events: Vec::new(), clients: Vec::new() }
    }

    /// A client whose link is open.
    pub(crate) fn connect(&mut self) -> usize {
        let id = self.clients.len();
        self.clients.push(Client::new(self.http.local_addr()));
        self.until("the link is open", |stage| stage.link_of(id).is_some());
        id
    }

    /// One whose kernel takes little of what it does not read.
    pub(crate) fn connect_narrow(&mut self) -> usize {
        let id = self.clients.len();
        let server = self.http.local_addr();
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        socket.connect(&server.into()).expect("a connection");
        self.clients.push(Client::over(socket.into(), server));
        self.until("the link is open", |stage| stage.link_of(id).is_some());
        id
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

    pub(crate) fn counts(&self) -> WebSocketCounts {
        self.stats.counts()
    }

    fn events_of(&self, client: usize) -> impl Iterator<Item = &ProxyEventKind> {
        let link = self.link_of(client);
        self.events.iter().filter(move |event| Some(event.link) == link).map(|event| &event.kind)
    }

    pub(crate) fn link_of(&self, client: usize) -> Option<LinkId> {
        let address = self.clients[client].address;
        self.events.iter().find_map(|event| match &event.kind {
            ProxyEventKind::Opened(info) if info.address == Some(address) => Some(event.link),
            _ => None,
        })
    }

    pub(crate) fn frames_of(&self, client: usize) -> Vec<Bytes> {
        let frames = self.events_of(client).filter_map(|kind| match kind {
            ProxyEventKind::Frame { bytes, .. } => Some(bytes.clone()),
            _ => None,
        });
        frames.collect()
    }

    pub(crate) fn breaches_of(&self, client: usize) -> usize {
        self.events_of(client).filter(|kind| matches!(kind, ProxyEventKind::Breach(_))).count()
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
        self.clients[client].say(frame(0x01, 77));
        self.until("the frame is with the server", |stage| {
            stage.frames_of(client).contains(&frame(0x01, 77))
        });
        self.send(client, frame(0x01, 78));
        self.until("the frame is with the client", |stage| {
            stage.clients[client].received.contains(&frame(0x01, 78))
        });
    }

    /// A newcomer is served.
    pub(crate) fn assert_serves_others(&mut self) {
        let newcomer = self.connect();
        self.assert_echo(newcomer);
        assert!(!self.http.is_finished());
    }
}

impl Drop for Stage {
    /// All clients go, and nothing is left of them: no link in the adapter, and none in the tick.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.clients.clear();
        self.until("nothing is left of the links", |stage| {
            let counts = stage.counts();
            let proxies = stage.app.world().get_resource::<Proxies>();
            counts.opened_count == counts.closed_count
                && proxies.is_none_or(|proxies| {
                    proxies.closing_count() == 0 && proxies.link_counts().iter().all(|(_, count)| *count == 0)
                })
        });
    }
}

/// A client of tungstenite's, and what it takes to misbehave.
pub(crate) struct Client {
    pub(crate) socket: WebSocket<TcpStream>,
    pub(crate) address: SocketAddr,
    pub(crate) received: Vec<Bytes>,
    pub(crate) pongs: Vec<Bytes>,
    /// The code of the close that it got.
    pub(crate) closed: Option<u16>,
    /// Its connection is over.
    pub(crate) is_over: bool,
    /// It reads nothing.
    pub(crate) deaf: bool,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect(server).expect("a connection"), server)
    }

    fn over(stream: TcpStream, server: SocketAddr) -> Self {
        let address = stream.local_addr().expect("bound");
        let (socket, _) = tungstenite::client(format!("ws://{server}/ws"), stream).expect("WebSocket");
        socket.get_ref().set_nonblocking(true).expect("a socket");
        Self {
            socket,
            address,
            received: Vec::new(),
            pongs: Vec::new(),
            closed: None,
            is_over: false,
            deaf: false,
        }
    }

    pub(crate) fn say(&mut self, frame: Bytes) {
        self.send(Message::Binary(frame));
    }

    pub(crate) fn send(&mut self, message: Message) {
        match self.socket.send(message) {
            Ok(()) => {}
            // It is queued, and leaves with the next step.
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Bytes as they are, whatever WebSocket says of them.
    pub(crate) fn throw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("room");
    }

    /// All that a client does in a frame of its game.
    pub(crate) fn step(&mut self) {
        // An error is found below.
        let _ = self.socket.flush();
        while !self.deaf && !self.is_over {
            match self.socket.read() {
                Ok(Message::Binary(frame)) => self.received.push(frame),
                Ok(Message::Pong(payload)) => self.pongs.push(payload),
                Ok(Message::Close(close)) => {
                    let code = close.map_or(CloseCode::Status, |close| close.code);
                    self.closed = Some(code.into());
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_over = true;
                    // As tungstenite asks of its user. It may be over on the other side already.
                    let _ = self.socket.get_ref().shutdown(Shutdown::Both);
                }
            }
        }
    }
}

/// The whole answer to a request, written as it is on a connection of its own.
pub(crate) fn ask(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(request.as_bytes()).expect("room");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, and its end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The whole answer to a GET, with these headers.
pub(crate) fn get(server: SocketAddr, path: &str, headers: &str) -> String {
    ask(server, &format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n{headers}\r\n"))
}

/// The answer to a handshake, with these headers besides.
pub(crate) fn shake(server: SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("room");
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

pub(crate) fn frame(high: u8, tag: u8) -> Bytes {
    Bytes::from(vec![high, 0x50, tag])
}

#[allow(clippy::disallowed_methods, reason = "real sockets take real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
