//! Runs the HTTP server and its WebSocket adapter on a stage, with their clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bevy_app::App;
use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use waystation::admin::{ConnectAuth, Health, HttpConfig, HttpServer, Pages};
use waystation::proxy::websocket::{WebSocketConfig, WebSocketCounts, WebSocketProxy, WebSocketStats};
use waystation::proxy::{self, ListenerHandle, Offers};
use waystation::tick::Clock;
use waystation::wire::{Lane, lane_of};

use super::{Adapter, WATCHDOG, loopback};

/// A stage with the HTTP server and its WebSocket adapter.
pub(crate) type Stage = super::Stage<Http>;

/// The HTTP server and its WebSocket adapter.
pub(crate) struct Http {
    pub(crate) handle: ListenerHandle,
    stats: WebSocketStats,
}

/// The configuration of a stage. A test changes only the fields that matter to it.
pub(crate) struct Setup {
    pub(crate) clock: Clock,
    pub(crate) http: HttpConfig,
    pub(crate) websocket: WebSocketConfig,
    pub(crate) offers: Offers,
    pub(crate) pages: Option<Pages>,
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
            pages: None,
        }
    }
}

impl Http {
    pub(crate) fn start(app: &mut App, setup: Setup) -> Self {
        let websocket = WebSocketProxy::new(setup.websocket).expect("the limits are valid");
        let stats = websocket.stats();
        let port = proxy::attach(app, "websocket");
        let health = Health::watch(app);
        let http = HttpServer::bind(setup.http).expect("the port is free");
        let http = match setup.pages {
            Some(pages) => http.pages(pages),
            None => http,
        };
        let handle = http.start(setup.offers, health, Some((websocket, port))).expect("the thread starts");
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

    /// Adds a client with an open link.
    pub(crate) fn connect(&mut self) -> usize {
        self.open(Client::new(self.local_addr()))
    }

    /// Adds a client with an open link and a receive buffer of 16 KiB, which fills soon when the client does not read.
    pub(crate) fn connect_narrow(&mut self) -> usize {
        let server = self.local_addr();
        let socket =
            Socket::new(Domain::for_address(server), Type::STREAM, None).expect("the socket is created");
        socket.set_recv_buffer_size(16 * 1024).expect("the buffer size is set");
        socket.connect(&server.into()).expect("the server accepts the connection");
        self.open(Client::over(socket.into(), server))
    }

    fn open(&mut self, client: Client) -> usize {
        let id = self.add(client);
        self.until("the link opens", |stage| stage.link_of(id).is_some());
        id
    }

    /// Returns the frames of a client without their lanes.
    pub(crate) fn bytes_of(&self, client: usize) -> Vec<Bytes> {
        self.frames_of(client).into_iter().map(|(_, bytes)| bytes).collect()
    }
}

/// A tungstenite client that a test can make misbehave.
pub(crate) struct Client {
    pub(crate) socket: tungstenite::WebSocket<TcpStream>,
    pub(crate) address: SocketAddr,
    pub(crate) received: Vec<Bytes>,
    pub(crate) pongs: Vec<Bytes>,
    /// The close code that the client has received.
    pub(crate) closed: Option<u16>,
    /// True once the connection has ended.
    pub(crate) is_over: bool,
    /// If true, the client reads nothing.
    pub(crate) deaf: bool,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self::over(TcpStream::connect(server).expect("the server accepts the connection"), server)
    }

    fn over(stream: TcpStream, server: SocketAddr) -> Self {
        let address = stream.local_addr().expect("the socket is bound");
        let (socket, _) =
            tungstenite::client(format!("ws://{server}/ws"), stream).expect("the handshake succeeds");
        socket.get_ref().set_nonblocking(true).expect("the socket becomes non-blocking");
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
            // The message is queued and is sent with the next step.
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("cannot send to the server: {error}"),
        }
    }

    /// Sends bytes unchanged, without WebSocket framing.
    pub(crate) fn throw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("the socket accepts data");
    }
}

impl super::Client for Client {
    fn opened_from(&self) -> SocketAddr {
        self.address
    }

    fn step(&mut self) {
        // The read below reports an error of the connection.
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
                    // tungstenite requires this. An error is ignored: the server may have closed the connection.
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

    /// Closes the connection. Lets `step` read all frames that arrive, so that the server does not wait for the client.
    fn hang_up(&mut self) {
        self.deaf = false;
        // The server may have closed the connection already, so an error is ignored.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// Sends a request unchanged on a new connection. Returns the whole answer.
pub(crate) fn ask(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("the server accepts the connection");
    stream.set_read_timeout(Some(WATCHDOG)).expect("the timeout is set");
    stream.write_all(request.as_bytes()).expect("the socket accepts data");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers and closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a GET with these headers. Returns the whole answer.
pub(crate) fn get(server: SocketAddr, path: &str, headers: &str) -> String {
    ask(server, &format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n{headers}\r\n"))
}

/// Sends a WebSocket handshake with these additional headers. Returns the answer.
pub(crate) fn shake(server: SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("the server accepts the connection");
    stream.set_read_timeout(Some(WATCHDOG)).expect("the timeout is set");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the socket accepts data");
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).expect("the server answers");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
