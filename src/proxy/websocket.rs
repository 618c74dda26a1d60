//! The adapter for WebSocket: each frame is one binary message.
//!
//! The adapter does not listen on a port. It consists of a [route](WebSocketProxy::route) of an HTTP server, by
//! convention `/ws`, and of [tasks](WebSocketAdapter::run) on the thread that serves HTTP. The server of
//! [`admin`](crate::admin) has the route. Any axum server on a current-thread runtime can have it too. Pages of
//! listed origins and of the server's own host may open links. A text message or a frame that is too long ends the
//! session. Compression is not negotiated.
//!
//! The data that waits for a client that does not read is bounded: first unreliable frames are dropped, then the
//! link ends.
//!
//! Between two ticks the adapter reads up to 68 KiB from each client and takes up to 1,024 steps for it. A step is
//! a read of the socket or a WebSocket frame of any kind. The rest stays in the client's socket, and so does what a
//! paused client sends. If a client violates RFC 6455, its link ends with the matching close code, and the client
//! has 1 s to read the code.
//!
//! Data flow: HTTP → [route](WebSocketProxy::route) → a task → event port; command port → one write per client and
//! tick → socket.

mod decoder;
mod handshake;
mod hub;
mod link;
mod output;
mod route;
mod stats;

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::routing::MethodRouter;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::unconstrained;
use tokio::time::{interval, sleep, timeout};
use url::Url;

use self::hub::{Hub, SharedHub};
use self::route::{PendingUpgrade, UpgradeRoute};
pub use self::stats::{WebSocketCounts, WebSocketStats};
use super::{AdapterPort, DiscoveryRequest, LinkEnd, OfferSource, Origins, ProxyCommand};
use crate::settings::{ConfigError, at_least, failures, first, within};
use crate::wire::discovery::{Offer, WEBSOCKET};

crate::settings! {
    /// The configuration of a [`WebSocketProxy`].
    #[derive(Debug, Clone)]
    pub struct WebSocketConfig {
        /// Maximum number of links, including those that are being opened. Range: 1 to 65,536
        /// ([`WEBSOCKET_LINKS_MAX`]). Default: 1,024. A further client gets status 503. With the default limits a link
        /// with a session occupies up to 1.4 MiB, or 1.5 MiB with TLS
        /// ([`LinkMemory::of_websocket`](super::link_memory::LinkMemory::of_websocket)), so 1,024 links occupy up to
        /// 1.5 GiB. A link whose client keeps up occupies about 20 KiB.
        pub max_links: usize = 1_024,
        /// Origins whose pages may open links. A page whose origin is the requested host may always open links.
        /// Default: no other pages.
        pub origins: Origins = Origins::Only(Vec::new()) => skipped,
        /// URL of the WebSocket offer in discovery, of the scheme `ws` or `wss`. Default: none, which stands for `/ws`
        /// at the host by which the client reached discovery. Set it if the server is behind a reverse proxy that does
        /// not forward the host.
        pub public_url: Option<String> = None,
        /// Maximum number of bytes that wait for a client that does not read. If more would wait, the link ends.
        /// Minimum: 384 KiB, a full outbox and two frames of 64 KiB, because a resume can send all of an outbox at
        /// once. Default: 512 KiB, which is twice a full outbox. Each link occupies up to 1.25 times this.
        pub send_buffer_bytes: usize = 2 * crate::wire::OUTBOX_MAX_BYTES,
    }
}

impl WebSocketConfig {
    /// Checks the values. [`WebSocketProxy::new`] calls this method.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for the first field whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        first(self.check_all())
    }

    /// Returns an error for each field whose value is out of range.
    #[must_use]
    pub fn check_all(&self) -> Vec<ConfigError> {
        failures([
            within(
                "WebSocketConfig::max_links",
                &self.max_links,
                1..=WEBSOCKET_LINKS_MAX,
                "one thread serves at most 65,536 links, and no client can connect with 0; the default is 1,024",
            ),
            at_least(
                "WebSocketConfig::send_buffer_bytes",
                &self.send_buffer_bytes,
                &SEND_BUFFER_MIN,
                "a whole outbox must fit, or a resume can end the link; the default is 512 KiB",
            ),
            self.check_public_url(),
        ])
    }

    fn check_public_url(&self) -> Result<(), ConfigError> {
        let is_websocket =
            |text: &String| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss"));
        match self.public_url.as_ref().filter(|url| !is_websocket(url)) {
            None => Ok(()),
            Some(url) => Err(ConfigError {
                field: "WebSocketConfig::public_url",
                value: format!("{url:?}"),
                range: "a URL of the scheme ws or wss".to_owned(),
                cure: "clients cannot connect to anything else; use a URL like wss://play.example/ws",
            }),
        }
    }
}

/// An error of [`WebSocketProxy::new`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    /// A value of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The WebSocket adapter before its tasks run. It provides the route.
///
/// ```
/// use axum::Router;
/// use bevy_app::App;
/// use waystation::proxy;
/// use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
/// use waystation::server::ServerPlugins;
///
/// let mut app = App::new();
/// app.add_plugins(ServerPlugins::default());
/// let websocket = WebSocketProxy::new(WebSocketConfig::default())?;
/// // Serve the router on a current-thread runtime. Run the adapter beside it in a `LocalSet`.
/// let router: Router = Router::new().route("/ws", websocket.route());
/// let mut adapter = websocket.into_adapter(proxy::attach(&mut app, "websocket"));
/// let served = async move { adapter.run().await };
/// # drop((router, served));
/// # Ok::<(), waystation::proxy::websocket::WebSocketError>(())
/// ```
#[derive(Debug)]
pub struct WebSocketProxy {
    door: Arc<UpgradeRoute>,
    newcomers: mpsc::Receiver<PendingUpgrade>,
    public_url: Option<String>,
    max_links: usize,
    send_buffer_bytes: usize,
    stats: WebSocketStats,
}

/// The tasks of the WebSocket adapter. Run them on a current-thread runtime within a
/// [`LocalSet`](tokio::task::LocalSet).
pub struct WebSocketAdapter {
    hub: SharedHub,
    port: AdapterPort,
    /// The commands of this batch, taken from the port.
    commands: Vec<ProxyCommand>,
    newcomers: mpsc::Receiver<PendingUpgrade>,
    /// Notified when the tick has flushed.
    ticked: Arc<Notify>,
    /// Notified when there are events.
    news: Rc<Notify>,
    stats: WebSocketStats,
}

impl WebSocketProxy {
    /// Creates an adapter whose tasks do not run yet.
    ///
    /// # Errors
    ///
    /// Returns a [`WebSocketError`] if the configuration is invalid.
    pub fn new(config: WebSocketConfig) -> Result<Self, WebSocketError> {
        config.check()?;
        let (sender, newcomers) = mpsc::channel(NEWCOMERS_MAX);
        let places = Arc::new(Semaphore::new(config.max_links));
        Ok(Self {
            door: Arc::new(UpgradeRoute { origins: config.origins, places, newcomers: sender }),
            newcomers,
            public_url: config.public_url,
            max_links: config.max_links,
            send_buffer_bytes: config.send_buffer_bytes,
            stats: WebSocketStats::default(),
        })
    }

    /// Returns the GET route on which clients open links. The client's address is taken from the
    /// [`ConnectInfo`](axum::extract::ConnectInfo) of the request. Without it, limits by network do not apply.
    pub fn route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        route::route(Arc::clone(&self.door))
    }

    /// Returns the source of the adapter's offer for discovery. The URL of the offer is
    /// [`WebSocketConfig::public_url`], or `/ws` at the host by which the client reached discovery.
    #[must_use]
    pub fn offers(&self) -> Box<dyn OfferSource> {
        Box::new(AtHost { public_url: self.public_url.clone() })
    }

    /// Returns the counters of the adapter.
    #[must_use]
    pub fn stats(&self) -> WebSocketStats {
        self.stats.clone()
    }

    /// Returns the tasks of the adapter, on a port that [`attach`](super::attach) has returned.
    #[must_use]
    pub fn into_adapter(self, mut port: AdapterPort) -> WebSocketAdapter {
        port.set_places(self.max_links);
        port.set_counters(self.stats());
        let ticked = Arc::new(Notify::new());
        let waker = Arc::clone(&ticked);
        port.commands.set_waker(move || waker.notify_one());
        let news = Rc::new(Notify::new());
        let hub = Hub::new(port.clock.clone(), self.send_buffer_bytes, Rc::clone(&news));
        WebSocketAdapter {
            hub: Rc::new(RefCell::new(hub)),
            port,
            commands: Vec::new(),
            newcomers: self.newcomers,
            ticked,
            news,
            stats: self.stats,
        }
    }
}

/// Makes an offer at the public URL, or at the host by which the client reached discovery.
struct AtHost {
    public_url: Option<String>,
}

impl OfferSource for AtHost {
    fn offers(&self, asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let scheme = if asked.is_tls { "wss" } else { "ws" };
        let at_host = || format!("{scheme}://{}{WEBSOCKET_PATH}", asked.authority);
        Ok(vec![Offer::new(WEBSOCKET, self.public_url.clone().unwrap_or_else(at_host))])
    }
}

impl WebSocketAdapter {
    /// Serves links until the app is dropped. Call [`finish`](Self::finish) afterwards.
    ///
    /// # Panics
    ///
    /// Panics outside of a [`LocalSet`](tokio::task::LocalSet).
    pub async fn run(&mut self) {
        let mut look = interval(LOOK_EVERY);
        while !self.port.commands.is_closed() {
            tokio::select! {
                // A batch writes to all links, which exceeds tokio's budget for a task.
                () = self.ticked.notified() => unconstrained(async { self.batch() }).await,
                () = self.news.notified() => {}
                Some(newcomer) = self.newcomers.recv() => self.admit(newcomer),
                _ = look.tick() => {}
            }
            self.deliver();
        }
    }

    /// Carries out the pending commands, closes all links with the code 1001, waits up to 1 s for the clients, and
    /// ends the links.
    pub async fn finish(&mut self) {
        self.batch();
        self.hub.borrow_mut().go_away();
        for _ in 0..LINGER_TURNS {
            if self.hub.borrow().is_empty() {
                break;
            }
            sleep(LINGER_TURN).await;
            // There are no more ticks to begin a batch.
            self.hub.borrow_mut().begin_batch();
        }
        self.hub.borrow_mut().end_all(LinkEnd::ByServer);
        self.deliver();
    }

    /// Ends all links after the thread has failed and its runtime was dropped.
    pub(crate) fn abandon(&mut self) {
        self.commands.clear();
        self.hub.borrow_mut().end_all(LinkEnd::Failed);
        self.hub.borrow_mut().tally.restart_count += 1;
        self.deliver();
    }

    /// Gives up after the thread has failed too often: the server stops. Waits until all events are in the port.
    pub(crate) fn give_up(&mut self, why: String) {
        self.port.give_up(why);
        while !self.hub.borrow().is_delivered() && !self.port.events.is_closed() {
            thread::sleep(LINGER_TURN);
            self.deliver();
        }
    }

    fn admit(&self, newcomer: PendingUpgrade) {
        let hub = Rc::clone(&self.hub);
        tokio::task::spawn_local(async move {
            let PendingUpgrade { upgrade, address, place } = newcomer;
            match timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(socket)) => link::serve(hub, TokioIo::new(socket), address).await,
                _ => tracing::debug!(?address, "a client disconnected during the WebSocket handshake"),
            }
            drop(place);
        });
    }

    fn batch(&mut self) {
        let mut hub = self.hub.borrow_mut();
        // The port is locked only while its commands are moved.
        self.port.commands.drain_all(|command| self.commands.push(command));
        for command in self.commands.drain(..) {
            hub.command(command);
        }
        hub.begin_batch();
        hub.flush();
    }

    fn deliver(&mut self) {
        let mut hub = self.hub.borrow_mut();
        hub.deliver(&self.port.events);
        self.stats.add(&mut hub.tally);
    }
}

impl fmt::Debug for WebSocketAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketAdapter").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The path of WebSocket on the HTTP server.
pub(crate) const WEBSOCKET_PATH: &str = "/ws";
/// Largest number of links of one adapter: as many as one thread can write to in a tick.
pub const WEBSOCKET_LINKS_MAX: usize = 65_536;
/// Minimum of [`WebSocketConfig::send_buffer_bytes`]: a full outbox, one more frame, and link control.
const SEND_BUFFER_MIN: usize = crate::wire::OUTBOX_MAX_BYTES + 2 * crate::wire::FRAME_MAX_SERVER;
/// Maximum number of clients between the answer to their request and the start of their task, in one turn of the
/// thread.
const NEWCOMERS_MAX: usize = 1_024;
/// Time in which a client has to receive the answer to its request.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two checks that the app still exists.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Number of turns in which [`WebSocketAdapter::finish`] waits for clients. Together they last 1 s.
const LINGER_TURNS: u32 = 50;
const LINGER_TURN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_range_are_refused() {
        let none = WebSocketConfig { max_links: 0, ..WebSocketConfig::default() };
        let narrow = WebSocketConfig { send_buffer_bytes: 65_536, ..WebSocketConfig::default() };

        assert!(matches!(WebSocketProxy::new(none), Err(WebSocketError::Config(_))));
        assert!(matches!(WebSocketProxy::new(narrow), Err(WebSocketError::Config(_))));
        assert!(WebSocketProxy::new(WebSocketConfig::default()).is_ok());
    }
}
