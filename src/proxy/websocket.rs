//! Links over WebSocket: a frame is a binary message.
//!
//! The adapter has no port of its own: it is a [route](WebSocketProxy::route) of an HTTP server,
//! `/ws` by convention, and [tasks](WebSocketAdapter::run) on the thread that serves it. The server
//! of `admin` is one; any axum server on a current-thread runtime is another. Only pages of listed
//! origins may open links. Texts and frames that are too long end the session that sends them.
//! Compression is not negotiated.
//!
//! What waits for a client that does not read is bounded: first unreliable frames are dropped, then
//! the link ends. From one tick to the next the adapter reads at most 68 KiB of each client and takes at
//! most 1,024 steps for it: reads, and frames of any kind. The rest stays in the client's socket, and so
//! does what a paused client sends. A frame that WebSocket forbids ends the link with the close code for
//! it, after which the client has a second to take that.
//!
//! Data flow: HTTP → [route](WebSocketProxy::route) → a task → event port; command port → all
//! that a tick sends to a client, as one write → socket.

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

use self::hub::{Hub, SharedHub};
use self::route::{Door, Newcomer};
pub use self::stats::{WebSocketCounts, WebSocketStats};
use super::{AdapterPort, Asked, LinkEnd, OfferSource, Origins, ProxyCommand};
use crate::wire::discovery::{Offer, WEBSOCKET};
use crate::wire::{ConfigError, at_least, within};

/// Who may open links, and what one may hold.
#[derive(Debug, Clone)]
pub struct WebSocketConfig {
    /// Links at a time, those being opened included, 1 to [`WEBSOCKET_LINKS_MAX`]; a client beyond
    /// is answered 503. Default: 1,024. At worst each holds as much as
    /// [`Held::of_websocket`](super::held::Held::of_websocket) says. One that keeps up holds about 20 KiB.
    pub max_links: usize,
    /// Which pages may open links, besides those of the server itself: a page whose origin is the
    /// host that it asks always may. Default: no others.
    pub origins: Origins,
    /// The URL of WebSocket for discovery, where it is not at the host by which a client reached discovery: behind a
    /// relay that does not pass that host on. Default: `None`.
    pub public_url: Option<String>,
    /// Bytes that wait for a client which does not take them; beyond, its link ends, as that of a
    /// slow consumer. Default: 512 KiB, twice an outbox. Safe from
    /// [`OUTBOX_MAX_BYTES`](crate::wire::OUTBOX_MAX_BYTES) and a frame up: below, a replay would
    /// end the link.
    pub send_buffer_bytes: usize,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            max_links: 1_024,
            origins: Origins::Only(Vec::new()),
            public_url: None,
            send_buffer_bytes: 2 * crate::wire::OUTBOX_MAX_BYTES,
        }
    }
}

impl WebSocketConfig {
    /// Checks that links can work with these values. [`WebSocketProxy::new`] does it too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first field with whose value no link works.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "WebSocketConfig::max_links",
            &self.max_links,
            1..=WEBSOCKET_LINKS_MAX,
            "one thread serves no more, and without one nobody connects; 1,024 is the default",
        )?;
        at_least(
            "WebSocketConfig::send_buffer_bytes",
            &self.send_buffer_bytes,
            &SEND_BUFFER_MIN,
            "a replay of a whole outbox must fit, or a resume ends the link; 512 KiB is the default",
        )
    }
}

/// The adapter cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    /// A value with which no link can work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The adapter's route, before its tasks run.
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
/// // Serve this on a current-thread runtime, and beside it, in a `LocalSet`, run the adapter.
/// let router: Router = Router::new().route("/ws", websocket.route());
/// let mut adapter = websocket.into_adapter(proxy::attach(&mut app, "websocket"));
/// let served = async move { adapter.run().await };
/// # drop((router, served));
/// # Ok::<(), waystation::proxy::websocket::WebSocketError>(())
/// ```
#[derive(Debug)]
pub struct WebSocketProxy {
    door: Arc<Door>,
    newcomers: mpsc::Receiver<Newcomer>,
    public_url: Option<String>,
    max_links: usize,
    send_buffer_bytes: usize,
    stats: WebSocketStats,
}

/// The adapter's tasks: to be run on a current-thread runtime, within a
/// [`LocalSet`](tokio::task::LocalSet).
pub struct WebSocketAdapter {
    hub: SharedHub,
    port: AdapterPort,
    /// Taken from the port in this batch.
    commands: Vec<ProxyCommand>,
    newcomers: mpsc::Receiver<Newcomer>,
    /// The tick has flushed.
    ticked: Arc<Notify>,
    /// There are events.
    news: Rc<Notify>,
    stats: WebSocketStats,
}

impl WebSocketProxy {
    /// Prepares the adapter.
    ///
    /// # Errors
    ///
    /// All of [`WebSocketError`].
    pub fn new(config: WebSocketConfig) -> Result<Self, WebSocketError> {
        config.check()?;
        let (sender, newcomers) = mpsc::channel(NEWCOMERS_MAX);
        let places = Arc::new(Semaphore::new(config.max_links));
        Ok(Self {
            door: Arc::new(Door { origins: config.origins, places, newcomers: sender }),
            newcomers,
            public_url: config.public_url,
            max_links: config.max_links,
            send_buffer_bytes: config.send_buffer_bytes,
            stats: WebSocketStats::default(),
        })
    }

    /// Opens links, by GET. The client's address is taken from the request's
    /// [`ConnectInfo`](axum::extract::ConnectInfo), if it has one: without it, limits by address do
    /// not apply.
    pub fn route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        route::route(Arc::clone(&self.door))
    }

    /// What discovery tells clients: [`WebSocketConfig::public_url`], or `/ws` at the host by which they reached
    /// discovery.
    #[must_use]
    pub fn offers(&self) -> Box<dyn OfferSource> {
        Box::new(AtHost { public_url: self.public_url.clone() })
    }

    /// What it will count.
    #[must_use]
    pub fn stats(&self) -> WebSocketStats {
        self.stats.clone()
    }

    /// The adapter's tasks, on a port as [`attach`](super::attach) returns it.
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

/// Offers WebSocket at the host by which the client reached discovery: that host works for the client.
struct AtHost {
    public_url: Option<String>,
}

impl OfferSource for AtHost {
    fn offers(&self, asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        let scheme = if asked.is_tls { "wss" } else { "ws" };
        let at_host = || format!("{scheme}://{}{WEBSOCKET_PATH}", asked.authority);
        Ok(vec![Offer::new(WEBSOCKET, self.public_url.clone().unwrap_or_else(at_host))])
    }
}

impl WebSocketAdapter {
    /// Serves links until the server is dropped; then it is to be [finished](Self::finish).
    ///
    /// # Panics
    ///
    /// Outside of a [`LocalSet`](tokio::task::LocalSet).
    pub async fn run(&mut self) {
        let mut look = interval(LOOK_EVERY);
        while !self.port.commands.is_closed() {
            tokio::select! {
                // A batch writes to all links, which is more than tokio grants a task before it yields.
                () = self.ticked.notified() => unconstrained(async { self.batch() }).await,
                () = self.news.notified() => {}
                Some(newcomer) = self.newcomers.recv() => self.admit(newcomer),
                _ = look.tick() => {}
            }
            self.deliver();
        }
    }

    /// Does what was commanded before the end, tells all clients that the server goes, waits for
    /// them a second at most, and ends their links.
    pub async fn finish(&mut self) {
        self.batch();
        self.hub.borrow_mut().go_away();
        for _ in 0..LINGER_TURNS {
            if self.hub.borrow().is_empty() {
                break;
            }
            sleep(LINGER_TURN).await;
            // No tick does it any longer.
            self.hub.borrow_mut().begin_batch();
        }
        self.hub.borrow_mut().end_all(LinkEnd::ByServer);
        self.deliver();
    }

    /// The thread has failed, and its runtime is gone: all links are lost.
    pub(crate) fn abandon(&mut self) {
        self.commands.clear();
        self.hub.borrow_mut().end_all(LinkEnd::Failed);
        self.hub.borrow_mut().tally.restart_count += 1;
        self.deliver();
    }

    /// The thread has failed too often: the server is told to stop, and that all links are gone.
    pub(crate) fn give_up(&mut self, why: String) {
        self.port.give_up(why);
        while !self.hub.borrow().is_delivered() && !self.port.events.is_closed() {
            thread::sleep(LINGER_TURN);
            self.deliver();
        }
    }

    fn admit(&self, newcomer: Newcomer) {
        let hub = Rc::clone(&self.hub);
        tokio::task::spawn_local(async move {
            let Newcomer { upgrade, address, place } = newcomer;
            match timeout(UPGRADE_TIMEOUT, upgrade).await {
                Ok(Ok(socket)) => link::serve(hub, TokioIo::new(socket), address).await,
                _ => tracing::debug!(?address, "a client was gone before it could speak WebSocket"),
            }
            drop(place);
        });
    }

    fn batch(&mut self) {
        let mut hub = self.hub.borrow_mut();
        // The tick does not wait for the port for longer than it takes to move what is in it.
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
/// Links that one adapter serves at most: what one thread can write to in a tick.
pub const WEBSOCKET_LINKS_MAX: usize = 65_536;
/// Least that waits for a client: a replay, a frame more, and link control.
const SEND_BUFFER_MIN: usize = crate::wire::OUTBOX_MAX_BYTES + 2 * crate::wire::FRAME_MAX_SERVER;
/// Clients between the answer to their request and their task: those of one turn of the thread.
const NEWCOMERS_MAX: usize = 1_024;
/// How long a client may take for the few bytes that answer its request.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks whether the server is still there.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the end waits for clients to take their last frames: a second in all.
const LINGER_TURNS: u32 = 50;
const LINGER_TURN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_with_which_no_link_works_are_refused() {
        let none = WebSocketConfig { max_links: 0, ..WebSocketConfig::default() };
        let narrow = WebSocketConfig { send_buffer_bytes: 65_536, ..WebSocketConfig::default() };

        assert!(matches!(WebSocketProxy::new(none), Err(WebSocketError::Config(_))));
        assert!(matches!(WebSocketProxy::new(narrow), Err(WebSocketError::Config(_))));
        assert!(WebSocketProxy::new(WebSocketConfig::default()).is_ok());
    }
}
