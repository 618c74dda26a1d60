//! What is served over HTTP: discovery, health, the page in a browser, and WebSocket.
//!
//! | path | answers |
//! | --- | --- |
//! | `/v1/connect` | where and how clients reach this server ([`Discovery`](crate::wire::discovery::Discovery)), a connect token included |
//! | `/healthz` | 200 while new players can come in: the tick is alive and the server does not drain; else 503 |
//! | `/livez` | 200 while the tick is alive, also while the server drains; else 503 |
//! | `/play` | the arena in a browser |
//! | `/ws` | links over [WebSocket](crate::proxy::websocket) |
//! | others | what a game adds by [`HttpServer::routes`] |
//!
//! The server is a thread of its own, called `http`, and knows no session. It listens plainly or
//! under TLS; a relay that ends TLS before it works too. Connections are bounded in number and in
//! time: when there are too many, an idle one of the network that has most is closed. What one may
//! send before it is answered is some kilobytes.
//!
//! A panic of the thread, which would be a bug, is logged, and the thread begins anew on the same
//! port: its links are lost, the tick goes on, and clients resume. After five such in a minute it
//! gives up, and the server stops with an error.
//!
//! Data flow: the tick → [`Health`], listeners → [`Offers`] → answers; WebSocket as in its own room.

mod check;
mod connect;
mod health;
mod play;
mod pool;
mod proxy_header;
mod relays;
mod serve;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The HTTP framework of [`HttpServer::routes`].
pub use axum;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::get;
use bevy_app::App;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

pub use self::connect::ConnectAuth;
use self::connect::Desk;
pub use self::health::Health;
pub use self::relays::{Cidr, CidrError, ToldBy, TrustedRelays};
use self::serve::Site;
use crate::proxy::held::TLS_BYTES;
use crate::proxy::rates::Rate;
use crate::proxy::tls::{Tls, TlsError};
use crate::proxy::websocket::{WEBSOCKET_PATH, WebSocketProxy};
use crate::proxy::{self, AdapterPort, ListenerHandle, Listeners, Offers, Origins};
use crate::tick::UnixClock;
use crate::wire::ConfigError;
use crate::wire::discovery::WEBSOCKET;
use crate::wire::ticket::TicketKey;

/// How to listen, and for whom.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen. Default: `127.0.0.1:7780`, which only this machine reaches. Port 0 lets
    /// the system choose one.
    pub listen: SocketAddr,
    /// The certificate to listen under TLS with. Default: none, which is plain HTTP: for this
    /// machine, or behind a relay that ends TLS.
    pub tls: Option<Tls>,
    /// The server's name, as discovery shows it. Default `waystation`.
    pub name: String,
    /// Which pages may ask discovery, besides those of the server itself. Default: no others.
    pub origins: Origins,
    /// Who may ask discovery. Default: nobody.
    pub connect_auth: ConnectAuth,
    /// What discovery mints a ticket with for each answer. Default: `None`, and discovery gives no tickets. With
    /// [`GatePolicy::Identified`](crate::gate::GatePolicy::Identified) it has to be the gate's
    /// [`tickets`](crate::gate::GateConfig::tickets).
    pub tickets: Option<TicketKey>,
    /// Relays in front of the server, whose word about their clients' addresses is taken. Default: no
    /// relay is trusted, and everybody behind one shares its address, and the limits of that.
    pub trusted_relays: TrustedRelays,
    /// How often discovery is answered at once to one IPv4 address, or IPv6 network of 64 bits, before
    /// it is told 429. Default 512: a school or an event behind one address starts 300 games in the
    /// same second, some of which ask twice. An answer costs some 50 µs.
    pub max_connects_per_address: u32,
    /// How often in a second discovery is answered to one address when it has used up what it may ask
    /// at once. Default 128, which costs less than a hundredth of a core: 600 players over UDP, each
    /// of whom loses the link every five seconds and needs a token for the next.
    pub connects_per_second: u32,
    /// Connections at a time that are not WebSocket, those under way included, from 1 up. Default
    /// 1,024, at worst 64 MiB, and 192 MiB under TLS. When there is one more, the longest idle
    /// connection of the network that has most of them is closed.
    pub max_connections: usize,
    /// Whether the limits by address leave loopback alone. Default no: behind a relay on the same
    /// machine, everybody comes from there.
    pub exempt_loopback: bool,
    /// How long a client may take for the head of a request, for the one before it too, and for the
    /// handshake of TLS. Default 10 s.
    pub header_timeout: Duration,
    /// The Unix time from which connect tokens are valid. Default: the clock of this process, which is
    /// also that of [`RenetConfig`](crate::proxy::renet::RenetConfig), where tokens expire.
    pub unix: UnixClock,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
            tls: None,
            name: "waystation".to_owned(),
            origins: Origins::Only(Vec::new()),
            connect_auth: ConnectAuth::nobody(),
            tickets: None,
            trusted_relays: TrustedRelays::default(),
            max_connects_per_address: 512,
            connects_per_second: 128,
            max_connections: 1_024,
            exempt_loopback: false,
            header_timeout: Duration::from_secs(10),
            unix: UnixClock::system(),
        }
    }
}

impl HttpConfig {
    /// What one connection that is no WebSocket may make the server hold, in bytes: the head of a request
    /// in a buffer that doubles as it grows, as much of answers that wait, the connection's task, and TLS
    /// where it is spoken.
    #[must_use]
    pub fn connection_bytes_max(&self) -> usize {
        let tls = if self.tls.is_some() { TLS_BYTES } else { 0 };
        3 * serve::HEADERS_MAX_BYTES + CONNECTION_TASK_BYTES + tls
    }
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port cannot be had; as a rule another server has it.
    #[error("cannot listen on TCP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A value with which no client is answered.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no thread.
    #[error(transparent)]
    Thread(io::Error),
}

/// A port that nobody serves yet.
///
/// ```
/// use bevy_app::App;
/// use waystation::admin::{AddHttp as _, ConnectAuth, HttpConfig, HttpServer};
/// use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
/// use waystation::server::ServerPlugins;
///
/// let mut app = App::new();
/// let listen = ([127, 0, 0, 1], 0).into();
/// let connect_auth = ConnectAuth::everybody();
/// let http = HttpServer::bind(HttpConfig { listen, connect_auth, ..HttpConfig::default() })?;
/// let websocket = WebSocketProxy::new(WebSocketConfig::default())?;
/// println!("http://{}/play", http.local_addr());
/// app.add_plugins(ServerPlugins::default()).add_http(http, Some(websocket))?;
/// app.update();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HttpServer {
    config: HttpConfig,
    listener: TcpListener,
    address: SocketAddr,
    routes: Router,
}

impl HttpServer {
    /// Takes the port, so that what is wrong with it is known before the server starts.
    ///
    /// # Errors
    ///
    /// [`HttpError::Config`] and [`HttpError::Bind`].
    pub fn bind(config: HttpConfig) -> Result<Self, HttpError> {
        config.check()?;
        let unbound = |cause| HttpError::Bind { address: config.listen, cause };
        let listener = listen(config.listen).map_err(unbound)?;
        let address = listener.local_addr().map_err(unbound)?;
        Ok(Self { config, listener, address, routes: Router::new() })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves these routes too: pages of a game, a webhook, a leaderboard. They share the connections and the limits of
    /// the server, and its one thread, so a handler must not block it. A handler that panics closes its connection.
    /// Only the server's own discovery looks at [`HttpConfig::origins`] and [`HttpConfig::connect_auth`].
    ///
    /// ```
    /// use waystation::admin::axum::Router;
    /// use waystation::admin::axum::routing::get;
    /// use waystation::admin::{HttpConfig, HttpServer};
    ///
    /// let listen = ([127, 0, 0, 1], 0).into();
    /// let best = Router::new().route("/best", get(|| std::future::ready("ada, 30 points")));
    /// let http = HttpServer::bind(HttpConfig { listen, ..HttpConfig::default() })?.routes(best);
    /// # Ok::<(), waystation::admin::HttpError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if there is a route already that these routes have too. [`start`](Self::start) panics if one of them is a
    /// path of the server's own, or if they have a fallback, which is the server's.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Starts the thread. Discovery answers with `offers`. With WebSocket, on a port as
    /// [`attach`](crate::proxy::attach) returns it, the thread serves links too, adds WebSocket to `offers`, and ends
    /// when the server that they belong to is dropped. [`add_http`](AddHttp::add_http) does all of this for an app.
    ///
    /// # Errors
    ///
    /// [`HttpError::Tls`] and [`HttpError::Thread`].
    pub fn start(
        self,
        offers: Offers,
        health: Health,
        websocket: Option<(WebSocketProxy, AdapterPort)>,
    ) -> Result<ListenerHandle, HttpError> {
        let Self { config, listener, address, routes } = self;
        let tls = config.tls.as_ref().map(|tls| tls.server_config(&[b"http/1.1"])).transpose()?;
        if let Some((websocket, _)) = &websocket {
            offers.add(websocket.offers());
        }
        let desk = Desk {
            name: config.name,
            offers,
            tickets: config.tickets,
            auth: config.connect_auth,
            origins: config.origins,
            rates: Mutex::default(),
            rate: Rate { per_second: config.connects_per_second, burst: config.max_connects_per_address },
            exempt_loopback: config.exempt_loopback,
            health: health.clone(),
            unix: config.unix,
            address,
            is_tls: tls.is_some(),
        };
        let site = Site {
            router: routes.merge(router(desk, health, websocket.as_ref().map(|(proxy, _)| proxy))),
            tls: tls.map(serve::acceptor),
            max_connections: config.max_connections,
            trusted_relays: config.trusted_relays,
            header_timeout: config.header_timeout,
        };
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let websocket = websocket.map(|(proxy, port)| proxy.into_adapter(port));
            serve::run(&listener, site, websocket, &stopped);
        };
        ListenerHandle::spawn("http", address, move || stop.notify_one(), serve).map_err(HttpError::Thread)
    }
}

/// Adds an HTTP server to an app.
pub trait AddHttp {
    /// Serves HTTP, and WebSocket if it is given, with what the app's [listeners](crate::proxy::AddListener) offer. It
    /// ends when the app is dropped.
    ///
    /// # Errors
    ///
    /// [`HttpError::Tls`] and [`HttpError::Thread`].
    fn add_http(
        &mut self,
        http: HttpServer,
        websocket: Option<WebSocketProxy>,
    ) -> Result<&mut Self, HttpError>;
}

impl AddHttp for App {
    fn add_http(
        &mut self,
        http: HttpServer,
        websocket: Option<WebSocketProxy>,
    ) -> Result<&mut Self, HttpError> {
        let health = Health::watch(self);
        let websocket = websocket.map(|websocket| (websocket, proxy::attach(self, WEBSOCKET)));
        let offers = self.world_mut().get_resource_or_init::<Offers>().clone();
        let handle = http.start(offers, health, websocket)?;
        self.world_mut().get_resource_or_init::<Listeners>().0.push(handle);
        Ok(self)
    }
}

fn router(desk: Desk, health: Health, websocket: Option<&WebSocketProxy>) -> Router {
    let desk = Arc::new(desk);
    let connect = move |request: Request| std::future::ready(desk.answer(&request));
    let is_live = health.clone();
    let router = Router::new()
        .route("/v1/connect", get(connect.clone()).options(connect))
        .route("/healthz", get(move || std::future::ready(health.answer_ready())))
        .route("/livez", get(move || std::future::ready(is_live.answer_live())))
        .merge(play::routes())
        .fallback((StatusCode::NOT_FOUND, "here are /play, /v1/connect, /healthz, /livez and /ws\n"));
    match websocket {
        Some(websocket) => router.route(WEBSOCKET_PATH, websocket.route()),
        None => router,
    }
}

/// Listens, without blocking whoever asks for a connection.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that starts again at once finds its port as its last connections left it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Connections inherit all of them. What the kernel takes for a client that does not read, the client
    // would read too late anyhow; what it takes from one that is not read, it would otherwise let
    // grow to megabytes.
    let _ = socket.set_send_buffer_size(KERNEL_SEND_BYTES);
    let _ = socket.set_recv_buffer_size(KERNEL_RECEIVE_BYTES);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The port of HTTP and WebSocket.
const PORT_DEFAULT: u16 = 7_780;
/// The task of one connection: its buffers aside, the request and the answer that it is at.
const CONNECTION_TASK_BYTES: usize = 16 * 1024;
/// Connections that wait to be taken: all clients of a server that has just restarted.
const BACKLOG: i32 = 1_024;
/// What the kernel holds of what is sent to one client: a replay fits.
const KERNEL_SEND_BYTES: usize = crate::wire::OUTBOX_MAX_BYTES;
/// What the kernel takes of that before it can send it: a few ticks' worth. The rest waits where a WebSocket
/// link drops state that is stale, so that a slow network is late by this much and not by all of the buffer.
#[cfg(target_os = "linux")]
const KERNEL_UNSENT_BYTES: u32 = 4 * 1024;
/// What the kernel holds of what one client sends: as much as a session may send at once, or four of
/// the longest frames.
const KERNEL_RECEIVE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_that_names_it() {
        let config = || HttpConfig { listen: ([127, 0, 0, 1], 0).into(), ..HttpConfig::default() };
        let first = HttpServer::bind(config()).expect("a free port");

        let second = HttpServer::bind(HttpConfig { listen: first.local_addr(), ..config() });

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_takes_little_of_a_connection_that_it_cannot_send() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        listener.set_nonblocking(false).expect("a socket");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("room");

        let (accepted, _) = listener.accept().expect("a connection");

        let unsent = socket2::SockRef::from(&accepted).tcp_notsent_lowat().expect("Linux tells");
        assert_eq!(unsent, KERNEL_UNSENT_BYTES);
    }
}
