//! The HTTP server: discovery, health, WebSocket, and the pages and routes of a game.
//!
//! | path | answer |
//! | --- | --- |
//! | `/v1/connect` | [discovery](crate::wire::discovery::Discovery): how clients open links to this server |
//! | `/healthz` | 200 while new sessions can open: the tick is alive and the server does not drain; otherwise 503 |
//! | `/livez` | 200 while the tick is alive, also during a drain; otherwise 503 |
//! | `/ws` | links over [WebSocket](crate::proxy::websocket) |
//! | others | routes that a game adds by [`HttpServer::routes`], then its [`Pages`] |
//!
//! The server runs on a thread named `http` and has no access to sessions. It listens with or without TLS. It can
//! also run behind a reverse proxy that terminates TLS. The number of connections and the lifetime of a connection
//! are bounded. If there are too many connections, an idle connection of the network with the most connections is
//! closed. The head of a request is limited to 16 KiB.
//!
//! If the thread panics, which is a bug, the panic is logged and the thread restarts on the same port. Its links
//! are lost, the tick continues, and clients resume. After five restarts within a minute the next failure ends the
//! thread. If the thread serves WebSocket, the server then stops with an error.
//!
//! Data flow: the tick → [`Health`], listeners → [`Offers`] → answers; for links, see
//! [WebSocket](crate::proxy::websocket).

mod check;
mod connect;
mod health;
mod pages;
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
use self::connect::ConnectHandler;
pub use self::health::Health;
pub use self::pages::Pages;
pub use self::relays::{Cidr, CidrError, RelayHeader, TrustedRelays};
use self::serve::ServeConfig;
use crate::proxy::link_memory::TLS_BYTES;
use crate::proxy::rates::Rate;
use crate::proxy::tls::{Tls, TlsError};
use crate::proxy::websocket::{WEBSOCKET_PATH, WebSocketProxy};
use crate::proxy::{self, AdapterPort, ListenerHandle, Listeners, Offers, Origins};
use crate::tick::UnixClock;
use crate::wire::ConfigError;
use crate::wire::discovery::WEBSOCKET;
use crate::wire::ticket::TicketKey;

crate::settings! {
    /// The configuration of an [`HttpServer`].
    #[derive(Debug, Clone)]
    pub struct HttpConfig {
        /// Address to listen on for HTTP: WebSocket, discovery, health, and pages. Default: `127.0.0.1:7780`, which
        /// only clients on this machine reach. With port 0, the operating system chooses the port.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
        /// Certificate for TLS. Default: `None`, which is plain HTTP, for clients on this machine or behind a reverse
        /// proxy that terminates TLS.
        pub tls: Option<Tls> = None => skipped,
        /// Name of the server in discovery. Default: `waystation`.
        pub name: String = "waystation".to_owned(),
        /// Origins whose pages may ask discovery. A page whose origin is the requested host may always ask. Default: no
        /// other pages.
        pub origins: Origins = Origins::Only(Vec::new()) => skipped,
        /// Clients that may ask discovery. Default: [`ConnectAuth::nobody`].
        pub connect_auth: ConnectAuth = ConnectAuth::nobody() => skipped,
        /// Key by which discovery mints a ticket for each answer. Default: `None`, with which discovery gives no
        /// tickets. With [`GatePolicy::Identified`](crate::gate::GatePolicy::Identified), use the same key as in the
        /// gate's [`tickets`](crate::gate::GateConfig::tickets).
        pub tickets: Option<TicketKey> = None => skipped,
        /// Relays (reverse proxies and load balancers) that report the addresses of their clients. Default: no relay is
        /// trusted. Then all clients behind a relay share the address of the relay and its limits.
        pub trusted_relays: TrustedRelays = TrustedRelays::default() => skipped,
        /// Number of answers that discovery gives at once to one network before it answers 429. Minimum: 1. Default:
        /// 512. That is enough for 300 players behind one address who start in the same second, some of whom ask twice.
        /// An answer takes about 50 µs.
        pub max_connects_per_address: u32 = 512,
        /// Number of answers per second that discovery gives to one network that has used up
        /// [`max_connects_per_address`](Self::max_connects_per_address). Minimum: 1. Default: 128. That is enough for
        /// 600 players over UDP who each lose their link every 5 s, because each new link needs a connect token. It
        /// takes less than 1 % of a core.
        pub connects_per_second: u32 = 128,
        /// Maximum number of connections that are not links over WebSocket. Minimum: 1. Default: 1,024, which occupy up
        /// to 64 MiB, or 192 MiB with TLS. For a further connection, the longest idle connection of the network with
        /// the most connections is closed.
        pub max_connections: usize = 1_024,
        /// True to exempt loopback from the limit of discovery by network. Default: false, because all clients of a
        /// relay on the same machine come from loopback.
        pub exempt_loopback: bool = false,
        /// Time in which a client has to complete the TLS handshake and to send the head of a request, and in which a
        /// relay has to send its PROXY header. Range: 100 ms to 10 min. Default: 10 s.
        pub header_timeout: Duration = Duration::from_secs(10),
        /// Clock of the Unix time by which discovery mints connect tokens and tickets. Default: the system clock of
        /// this process. It has to agree with the clock of [`RenetConfig`](crate::proxy::renet::RenetConfig), by which
        /// tokens expire.
        pub unix: UnixClock = UnixClock::system() => skipped,
    }
}

impl HttpConfig {
    /// Returns an upper bound of the memory for one connection that is not a link, in bytes. The bound includes the
    /// buffers for the head of a request and for waiting answers, the task of the connection, and TLS if it is
    /// configured.
    #[must_use]
    pub fn connection_bytes_max(&self) -> usize {
        let tls = if self.tls.is_some() { TLS_BYTES } else { 0 };
        3 * serve::HEADERS_MAX_BYTES + CONNECTION_TASK_BYTES + tls
    }
}

/// An error of binding or starting an [`HttpServer`].
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The socket cannot be bound. Usually another process uses the port.
    #[error("cannot listen on TCP {address}: {cause}; choose a free address of this machine")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// A value of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system cannot start a thread.
    #[error(transparent)]
    Thread(io::Error),
}

/// A bound HTTP port whose thread does not run yet.
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
/// println!("http://{}/healthz", http.local_addr());
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
    pages: Option<Pages>,
}

impl HttpServer {
    /// Binds the port.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::Config`] if a value of the configuration is out of range, and [`HttpError::Bind`] if
    /// the port cannot be bound.
    pub fn bind(config: HttpConfig) -> Result<Self, HttpError> {
        config.check()?;
        let unbound = |cause| HttpError::Bind { address: config.listen, cause };
        let listener = listen(config.listen).map_err(unbound)?;
        let address = listener.local_addr().map_err(unbound)?;
        Ok(Self { config, listener, address, routes: Router::new(), pages: None })
    }

    /// Returns the bound address. If the configured port was 0, it contains the port that the operating system
    /// chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Adds routes, for example for pages of a game, a webhook, or a leaderboard.
    ///
    /// The routes share the connections, the limits and the only thread of the server, so a handler must not block.
    /// If a handler panics, its connection is closed. [`HttpConfig::origins`] and [`HttpConfig::connect_auth`]
    /// apply to discovery only and not to these routes.
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
    /// Panics if one of the routes was added before. [`start`](Self::start) panics if a route has a path of the
    /// server itself, or if the routes have a fallback.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Serves the pages of a game at all paths that the server itself and the [added routes](Self::routes) do not
    /// use. Without pages, such a path is answered with 404.
    #[must_use]
    pub fn pages(self, pages: Pages) -> Self {
        Self { pages: Some(pages), ..self }
    }

    /// Starts the thread. Discovery answers with `offers`.
    ///
    /// If `websocket` is given, with a port that [`attach`](crate::proxy::attach) has returned, the thread also
    /// serves links, and WebSocket is added to `offers`. The thread then ends when the app of the port is dropped.
    /// For an app, [`add_http`](AddHttp::add_http) does all of this.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::Tls`] if the certificate cannot be used, and [`HttpError::Thread`] if the operating
    /// system cannot start a thread.
    ///
    /// # Panics
    ///
    /// Panics if an [added route](Self::routes) has a path of the server itself, or if the routes have a fallback.
    pub fn start(
        self,
        offers: Offers,
        health: Health,
        websocket: Option<(WebSocketProxy, AdapterPort)>,
    ) -> Result<ListenerHandle, HttpError> {
        let Self { config, listener, address, routes, pages } = self;
        let tls = config.tls.as_ref().map(|tls| tls.server_config(&[b"http/1.1"])).transpose()?;
        if let Some((websocket, _)) = &websocket {
            offers.add(websocket.offers());
        }
        let desk = ConnectHandler {
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
        let site = ServeConfig {
            router: with_pages(
                routes.merge(router(desk, health, websocket.as_ref().map(|(proxy, _)| proxy))),
                pages,
            ),
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

/// An extension of [`App`] that adds an HTTP server.
pub trait AddHttp {
    /// Starts an HTTP server that ends when the app is dropped. Discovery answers with the offers of the app's
    /// [listeners](crate::proxy::AddListener). If `websocket` is given, the server also serves links over
    /// WebSocket.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::Tls`] if the certificate cannot be used, and [`HttpError::Thread`] if the operating
    /// system cannot start a thread.
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

fn router(desk: ConnectHandler, health: Health, websocket: Option<&WebSocketProxy>) -> Router {
    let desk = Arc::new(desk);
    let connect = move |request: Request| std::future::ready(desk.answer(&request));
    let is_live = health.clone();
    let router = Router::new()
        .route("/v1/connect", get(connect.clone()).options(connect))
        .route("/healthz", get(move || std::future::ready(health.answer_ready())))
        .route("/livez", get(move || std::future::ready(is_live.answer_live())));
    match websocket {
        Some(websocket) => router.route(WEBSOCKET_PATH, websocket.route()),
        None => router,
    }
}

/// Adds the pages, or an answer to all other paths.
fn with_pages(router: Router, pages: Option<Pages>) -> Router {
    match pages {
        Some(pages) => pages.serve(router),
        None => router.fallback((
            StatusCode::NOT_FOUND,
            "not found; this server has /v1/connect, /healthz, /livez and /ws\n",
        )),
    }
}

/// Binds a nonblocking listener.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server can bind the port while old connections are in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Connections inherit these sizes. By default the kernel lets the buffers grow to megabytes. Data in a large
    // send buffer would reach a slow client too late to be useful.
    let _ = socket.set_send_buffer_size(KERNEL_SEND_BYTES);
    let _ = socket.set_recv_buffer_size(KERNEL_RECEIVE_BYTES);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Default port of HTTP and WebSocket.
const PORT_DEFAULT: u16 = 7_780;
/// Bytes for the task of one connection, without its buffers.
const CONNECTION_TASK_BYTES: usize = 16 * 1024;
/// Maximum number of connections that wait to be accepted: enough for all clients of a server that has just
/// restarted.
const BACKLOG: i32 = 1_024;
/// Size of the kernel's send buffer of a connection: a full outbox.
const KERNEL_SEND_BYTES: usize = crate::wire::OUTBOX_MAX_BYTES;
/// Maximum number of bytes that the kernel accepts before it can send them: a few ticks of data. The rest waits in
/// the WebSocket link, which drops unreliable frames that have expired. So a slow network delays frames by this
/// number of bytes and not by the whole send buffer.
#[cfg(target_os = "linux")]
const KERNEL_UNSENT_BYTES: u32 = 4 * 1024;
/// Size of the kernel's receive buffer of a connection: the burst size of a session, or four of the longest frames.
const KERNEL_RECEIVE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_with_the_address() {
        let config = || HttpConfig { listen: ([127, 0, 0, 1], 0).into(), ..HttpConfig::default() };
        let first = HttpServer::bind(config()).expect("a free port");

        let second = HttpServer::bind(HttpConfig { listen: first.local_addr(), ..config() });

        let error = second.expect_err("the port is taken").to_string();
        assert!(error.contains(&first.local_addr().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_accepts_little_data_that_it_cannot_send() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        listener.set_nonblocking(false).expect("a socket");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("room");

        let (accepted, _) = listener.accept().expect("a connection");

        let unsent = socket2::SockRef::from(&accepted).tcp_notsent_lowat().expect("Linux has this option");
        assert_eq!(unsent, KERNEL_UNSENT_BYTES);
    }
}
