//! The HTTP server with its WebSocket adapter on a stage, and its clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bevy_app::App;
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use waystation::admin::{ConnectAuth, Health, HttpConfig, HttpServer};
use waystation::proxy::websocket::{WebSocketConfig, WebSocketCounts, WebSocketProxy, WebSocketStats};
use waystation::proxy::{self, ListenerHandle, Offers};
use waystation::tick::Clock;
use waystation::wire::{Lane, lane_of};

use super::{Adapter, WATCHDOG, loopback};

/// A server with the HTTP server and its WebSocket adapter.
pub(crate) type Stage = super::Stage<Http>;

/// The HTTP server with its WebSocket adapter.
pub(crate) struct Http {
    pub(crate) handle: ListenerHandle,
    stats: WebSocketStats,
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
                listen: loopback(),
                connect_auth: ConnectAuth::everybody(),
                ..HttpConfig::default()
            },
            websocket: WebSocketConfig::default(),
            offers: Offers::default(),
        }
    }
}

impl Http {
    pub(crate) fn start(app: &mut App, setup: Setup) -> Self {
        let websocket = WebSocketProxy::new(setup.websocket).expect("limits that work");
        let stats = websocket.stats();
        let port = proxy::attach(app, "websocket");
        let health = Health::watch(app);
        let handle = HttpServer::bind(setup.http)
            .expect("a free port")
            .start(setup.offers, health, Some((websocket, port)))
            .expect("a thread");
        Self { handle, stats }
    }
}

impl Adapter for Http {
    type Client = Client;
    type Counts = WebSocketCounts;

    fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    fn counts(&self) -> WebSocketCounts {
        self.stats.counts()
    }

    fn has_links(&self) -> bool {
        let counts = self.counts();
        counts.opened_count != counts.closed_count
    }

    fn add_newcomer(stage: &mut Stage) -> usize {
        stage.connect()
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        Self::start(setup.clock.clone(), |app| Http::start(app, setup))
    }

    /// A client whose link is open.
    pub(crate) fn connect(&mut self) -> usize {
        self.open(Client::new(self.local_addr()))
    }

    /// One whose kernel takes little of what it does not read.
    pub(crate) fn connect_narrow(&mut self) -> usize {
        let server = self.local_addr();
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        socket.connect(&server.into()).expect("a connection");
        self.open(Client::over(socket.into(), server))
    }

    fn open(&mut self, client: Client) -> usize {
        let id = self.add(client);
        self.until("the link is open", |stage| stage.link_of(id).is_some());
        id
    }

    /// The frames of a client without their lanes: a WebSocket has one.
    pub(crate) fn bytes_of(&self, client: usize) -> Vec<Bytes> {
        self.frames_of(client).into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// A client of tungstenite's, and what it takes to misbehave.
pub(crate) struct Client {
    pub(crate) socket: tungstenite::WebSocket<TcpStream>,
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
}

impl super::Client for Client {
    fn opened_from(&self) -> SocketAddr {
        self.address
    }

    fn step(&mut self) {
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

    fn say(&mut self, frame: Bytes) {
        self.send(Message::Binary(frame));
    }

    fn heard(&self) -> Vec<(Lane, Bytes)> {
        self.received.iter().map(|frame| (lane_of(frame), frame.clone())).collect()
    }

    /// Reads what there is for it, so that the server has nothing to wait for.
    fn hang_up(&mut self) {
        self.deaf = false;
        // It may be over on the other side already.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// The whole answer to a request, written as it is on a connection of its own.
pub(crate) fn ask(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(WATCHDOG)).expect("a socket");
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
    stream.set_read_timeout(Some(WATCHDOG)).expect("a socket");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("room");
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
