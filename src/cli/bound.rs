//! The listeners of a server: taken, served, and told to whoever looks.

use std::net::SocketAddr;

use bevy_app::App;
use waystation::admin::{Health, HttpHandle, HttpServer, Offers, QuicSource, UdpSource};
use waystation::proxy::quic::{QuicHandle, QuicProxy};
use waystation::proxy::renet::{RenetHandle, RenetProxy};
use waystation::proxy::websocket::WebSocketProxy;
use waystation::proxy::{self, AdapterPort};

use super::descriptors;
use super::listen::ListenArgs;

/// Listeners that nobody serves yet.
pub(crate) struct Bound {
    udp: Option<RenetProxy>,
    quic: Option<QuicProxy>,
    http: HttpServer,
    websocket: Option<WebSocketProxy>,
    offers: Offers,
    listening: String,
    advice: String,
}

/// Listeners that are served.
pub(crate) struct Running {
    udp: Option<RenetHandle>,
    quic: Option<QuicHandle>,
    http: HttpHandle,
}

impl Bound {
    /// Takes all ports, so that what is wrong with one is known before the server starts.
    pub(crate) fn new(args: &ListenArgs) -> anyhow::Result<Self> {
        args.check()?;
        let room = descriptors::make_room(args.room());
        let tls = args.tls()?;
        let udp = args.udp()?;
        let http = args.http(tls.as_ref(), room)?;
        let quic = args.quic(tls.as_ref(), http.local_addr())?;
        let websocket = args.websocket(room)?;
        let offers = Offers {
            udp: udp.as_ref().map(|(udp, address)| UdpSource { address: *address, mint: udp.mint() }),
            quic: quic
                .as_ref()
                .zip(tls.clone())
                .map(|(quic, tls)| QuicSource { address: args.quic_address(quic.local_addr()), tls }),
            websocket_url: args.websocket_url(),
            tickets: Some(args.tickets()?),
        };
        let udp = udp.map(|(udp, _)| udp);
        let listening = listening(&[
            ("udp", udp.as_ref().map(RenetProxy::local_addr)),
            ("quic", quic.as_ref().map(QuicProxy::local_addr)),
            (args.http_scheme(), Some(http.local_addr())),
        ]);
        let profile = if args.is_dev() { PROFILE_DEV } else { "" };
        let advice = advice(args, http.local_addr());
        Ok(Self { udp, quic, http, websocket, offers, listening: listening + profile, advice })
    }

    /// Where they listen: the first line of the output, there for programs that wait for it.
    pub(crate) fn listening(&self) -> &str {
        &self.listening
    }

    /// What to do next, for whoever has started the server.
    pub(crate) fn advice(&self) -> &str {
        &self.advice
    }

    /// Serves them in threads of their own.
    pub(crate) fn start(self, app: &mut App) -> anyhow::Result<Running> {
        let health = Health::watch(app);
        self.start_with(health, |name| proxy::attach(app, name))
    }

    /// The same, on ports that come from elsewhere.
    pub(crate) fn start_with(
        self,
        health: Health,
        mut attach: impl FnMut(&'static str) -> AdapterPort,
    ) -> anyhow::Result<Running> {
        let udp = self.udp.map(|udp| udp.start(attach("udp"))).transpose()?;
        let quic = self.quic.map(|quic| quic.start(attach("quic"))).transpose()?;
        let websocket = self.websocket.map(|websocket| (websocket, attach("websocket")));
        let http = self.http.start(self.offers, health, websocket)?;
        Ok(Running { udp, quic, http })
    }
}

impl Running {
    /// Waits until all of them have ended, which they do when the server is dropped.
    pub(crate) fn join(self) {
        if let Some(udp) = self.udp {
            udp.join();
        }
        if let Some(quic) = self.quic {
            quic.join();
        }
        self.http.join();
    }
}

fn listening(listeners: &[(&str, Option<SocketAddr>)]) -> String {
    let there: Vec<String> = listeners
        .iter()
        .filter_map(|(name, address)| address.map(|address| format!("{name} {address}")))
        .collect();
    format!("listening {}", there.join(", "))
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
