//! The listeners of a server: taken, served, and told to whoever looks.

use std::io;
use std::net::SocketAddr;

use bevy_app::App;
use waystation::admin::{Health, HttpServer};
use waystation::proxy::websocket::WebSocketProxy;
use waystation::proxy::{self, AdapterPort, Listener, ListenerHandle, OfferSource, Offers};
use waystation::wire::discovery::WEBSOCKET;

use super::descriptors;
use super::listen::ListenArgs;

/// Listeners that nobody serves yet.
pub(crate) struct Bound {
    /// Those of the transports that have a port of their own.
    listeners: Vec<BoundListener>,
    http: HttpServer,
    websocket: Option<WebSocketProxy>,
    listening: String,
    advice: String,
}

/// Any [`Listener`].
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
    /// Takes all ports, so that what is wrong with one is known before the server starts.
    pub(crate) fn new(args: &ListenArgs) -> anyhow::Result<Self> {
        args.check()?;
        let room = descriptors::make_room(args.room());
        let tls = args.tls()?;
        let mut listeners: Vec<BoundListener> = args.udp()?.into_iter().map(BoundListener::new).collect();
        let http = args.http(tls.as_ref(), room)?;
        listeners.extend(args.quic(tls.as_ref(), http.local_addr())?.map(BoundListener::new));
        let websocket = args.websocket(room)?;
        let mut listening: Vec<String> =
            listeners.iter().map(|listener| format!("{} {}", listener.name, listener.address)).collect();
        listening.push(format!("{} {}", args.http_scheme(), http.local_addr()));
        let profile = if args.is_dev() { PROFILE_DEV } else { "" };
        let listening = format!("listening {}{profile}", listening.join(", "));
        let advice = advice(args, http.local_addr());
        Ok(Self { listeners, http, websocket, listening, advice })
    }

    /// Where they listen: the first line of the output, there for programs that wait for it.
    pub(crate) fn listening(&self) -> &str {
        &self.listening
    }

    /// What to do next, for whoever has started the server.
    pub(crate) fn advice(&self) -> &str {
        &self.advice
    }

    /// Serves them in threads of their own, until their handles are dropped.
    pub(crate) fn start(self, app: &mut App) -> anyhow::Result<Vec<ListenerHandle>> {
        let health = Health::watch(app);
        self.start_with(health, |name| proxy::attach(app, name))
    }

    /// The same, on ports that come from elsewhere.
    pub(crate) fn start_with(
        self,
        health: Health,
        mut attach: impl FnMut(&'static str) -> AdapterPort,
    ) -> anyhow::Result<Vec<ListenerHandle>> {
        let offers = Offers::default();
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

fn advice(args: &ListenArgs, http: SocketAddr) -> String {
    if args.is_dev() {
        let scheme = args.http_scheme();
        let server =
            if http.port() == PORT_HTTP { String::new() } else { format!(" --server {scheme}://{http}") };
        return format!(
            "open {scheme}://{http}/play in a browser, or run: waystation bot --transport mix{server}"
        );
    }
    let url = args.http_url(http);
    let is_secured_by_relay = args.http_plain && url.starts_with("https:");
    let relay = if is_secured_by_relay { ", which a relay serves as HTTPS" } else { "" };
    let who = if args.bearer_file.is_some() {
        "whoever shows the bearer of --bearer-file"
    } else {
        "nobody, and no session can be opened: it has no --bearer-file"
    };
    format!("clients ask /v1/connect at {url}{relay}; it answers {who}")
}

/// What the first line says of the dev profile.
const PROFILE_DEV: &str = ", profile dev: this machine only, and its key is no secret";
/// Where bots ask for discovery unless told otherwise.
const PORT_HTTP: u16 = 7_780;
