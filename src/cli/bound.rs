//! Binds the listeners of a server and starts them.

use std::io;
use std::net::SocketAddr;

use bevy_app::App;
use waystation::admin::{Health, HttpServer};
use waystation::proxy::websocket::WebSocketProxy;
use waystation::proxy::{self, AdapterPort, Listener, ListenerHandle, OfferSource, Offers};
use waystation::wire::discovery::WEBSOCKET;

use super::descriptors;
use super::listen::ListenArgs;

/// Listeners that are bound and not started.
pub(crate) struct Bound {
    /// The listeners of the transports that have a port of their own.
    listeners: Vec<BoundListener>,
    http: HttpServer,
    websocket: Option<WebSocketProxy>,
    listening: String,
    advice: String,
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

    /// Returns the first line of the output, which lists the addresses. Programs can wait for this line.
    pub(crate) fn listening(&self) -> &str {
        &self.listening
    }

    /// Returns a line for the operator: what to do next.
    pub(crate) fn advice(&self) -> &str {
        &self.advice
    }

    /// Starts the listeners on threads of their own. They run until their handles are dropped.
    pub(crate) fn start(self, app: &mut App) -> anyhow::Result<Vec<ListenerHandle>> {
        let health = Health::watch(app);
        self.start_with(health, |name| proxy::attach(app, name))
    }

    /// As [`start`](Self::start), but `attach` makes the port of each listener.
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
    let relay = if is_secured_by_relay { ", where a relay must add TLS" } else { "" };
    let who = if args.bearer_file.is_some() {
        "it answers clients that show the bearer token of --bearer-file"
    } else {
        "without --bearer-file it answers no client, and no session can be opened"
    };
    format!("clients ask /v1/connect at {url}{relay}; {who}")
}

/// The end of the first line in the dev profile.
const PROFILE_DEV: &str = ", profile dev: this machine only, and its key is not secret";
/// The port at which bots ask discovery by default.
const PORT_HTTP: u16 = 7_780;
