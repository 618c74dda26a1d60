//! Binds the listeners of a server and starts them.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use bevy_app::App;

use crate::admin::{Health, HttpServer, Pages};
use crate::proxy::websocket::WebSocketProxy;
use crate::proxy::{self, AdapterPort, Listener, ListenerHandle, Listeners, OfferSource, Offers};
use crate::wire::discovery::WEBSOCKET;

use super::config::LaunchConfig;
use super::descriptors;

/// Listeners that are bound and not started.
pub(super) struct Bound {
    /// The listeners of the transports that have a port of their own.
    listeners: Vec<BoundListener>,
    http: HttpServer,
    websocket: Option<WebSocketProxy>,
    listening: String,
    advice: String,
}

/// The parts of a game that the HTTP server serves and reports.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// The name of the game in discovery.
    pub(super) name: &'static str,
    pub(super) pages: Option<Pages>,
    pub(super) routes: Router,
    /// True if the game has a bot.
    pub(super) has_bot: bool,
}

/// A [`Listener`] of any type.
struct BoundListener {
    name: &'static str,
    address: SocketAddr,
    offers: Box<dyn OfferSource>,
    start: Box<dyn FnOnce(AdapterPort) -> io::Result<ListenerHandle>>,
}

impl BoundListener {
    fn new(listener: impl Listener) -> Self {
        Self {
            name: listener.name(),
            address: listener.local_addr(),
            offers: listener.offers(),
            start: Box::new(|port| listener.start(port)),
        }
    }
}

impl Bound {
    /// Binds all ports, so that an error is reported before the server starts.
    pub(super) fn new(config: &LaunchConfig, site: Site) -> anyhow::Result<Self> {
        let room = descriptors::make_room(config.room());
        let tls = config.tls()?;
        let mut listeners: Vec<BoundListener> = config.udp()?.into_iter().map(BoundListener::new).collect();
        let http = config.http(site.name, tls.as_ref(), room)?;
        listeners.extend(config.quic(tls.as_ref(), http.local_addr())?.map(BoundListener::new));
        let websocket = config.websocket(room)?;
        let mut listening: Vec<String> =
            listeners.iter().map(|listener| format!("{} {}", listener.name, listener.address)).collect();
        listening.push(format!("{} {}", config.http_scheme(), http.local_addr()));
        let profile = if config.is_dev() { PROFILE_DEV } else { "" };
        let listening = format!("listening {}{profile}", listening.join(", "));
        let advice = advice(config, http.local_addr(), &site);
        let http = http.routes(site.routes);
        let http = match site.pages {
            Some(pages) => http.pages(pages),
            None => http,
        };
        Ok(Self { listeners, http, websocket, listening, advice })
    }

    /// Returns the first line of the output, which lists the addresses. Programs can wait for this line.
    pub(super) fn listening(&self) -> &str {
        &self.listening
    }

    /// Returns a line for the operator that suggests what to do next.
    pub(super) fn advice(&self) -> &str {
        &self.advice
    }

    /// Starts the listeners on threads of their own. They run until the app is dropped. Discovery also answers with
    /// the offers of the listeners that the game has added.
    pub(super) fn start(self, app: &mut App) -> anyhow::Result<()> {
        let health = Health::watch(app);
        let offers = app.world_mut().get_resource_or_init::<Offers>().clone();
        let handles = self.start_with(offers, health, |name| proxy::attach(app, name))?;
        app.world_mut().get_resource_or_init::<Listeners>().0.extend(handles);
        Ok(())
    }

    /// Does the same as [`start`](Self::start), but `attach` makes the port of each listener, and the caller keeps the
    /// handles.
    pub(super) fn start_with(
        self,
        offers: Offers,
        health: Health,
        mut attach: impl FnMut(&'static str) -> AdapterPort,
    ) -> anyhow::Result<Vec<ListenerHandle>> {
        let mut handles = Vec::new();
        for listener in self.listeners {
            handles.push((listener.start)(attach(listener.name))?);
            offers.add(listener.offers);
        }
        let websocket = self.websocket.map(|websocket| (websocket, attach(WEBSOCKET)));
        handles.push(self.http.start(offers, health, websocket)?);
        Ok(handles)
    }
}

/// Returns a line that suggests what to do next.
fn advice(config: &LaunchConfig, http: SocketAddr, site: &Site) -> String {
    if config.is_dev() {
        let scheme = config.http_scheme();
        let server =
            if http.port() == PORT_HTTP { String::new() } else { format!(" --server {scheme}://{http}") };
        let page = site.pages.is_some().then(|| format!("open {scheme}://{http}/ in a browser"));
        let bot = site.has_bot.then(|| format!("run: {} bot --transport mix{server}", site.name));
        let discovery = format!("clients ask {scheme}://{http}/v1/connect");
        return match (page, bot) {
            (Some(page), Some(bot)) => format!("{page}, or {bot}"),
            (one, other) => one.or(other).unwrap_or(discovery),
        };
    }
    let url = config.http_url(http);
    let is_secured_by_relay = config.http_plain && url.starts_with("https:");
    let relay = if is_secured_by_relay { ", where a relay must add TLS" } else { "" };
    let who = if config.bearer_file.is_some() {
        "it answers clients that show the bearer token of --bearer-file"
    } else {
        "without --bearer-file it answers no client, so clients need tickets that you mint"
    };
    format!("clients ask /v1/connect at {url}{relay}; {who}")
}

/// The end of the first line in the dev profile.
const PROFILE_DEV: &str = ", profile dev: this machine only, and its key is not secret";
/// The port at which bots ask discovery by default.
const PORT_HTTP: u16 = 7_780;
