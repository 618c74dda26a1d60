//! Tests the client library over WebSocket, plain and under TLS, against a server with its gate, sessions and
//! zones.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use waystation::admin::{AddHttp as _, HttpConfig, HttpServer};
use waystation::arena::ArenaPlugin;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, Cut, Trust, WebSocketDial};
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::server::ServerPlugins;
use waystation::session::{SessionCounts, SessionState, SessionTable};
use waystation::testing::{Watch, WatchedDial};
use waystation::tick::TickRate;

/// A server with the arena, over WebSocket on a free port.
struct Server {
    app: App,
    http: SocketAddr,
    watch: Watch,
}

impl Server {
    fn new(tls: Option<Tls>) -> Self {
        let mut config =
            ServerConfig { rate: TickRate::new(200).expect("in range"), ..ServerConfig::default() };
        config.gate.exempt_loopback = true;
        // No session expires, even on a slow machine.
        config.session.timeout = Duration::from_secs(600);
        let mut app = App::new();
        app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
        let websocket = WebSocketProxy::new(WebSocketConfig::default()).expect("the defaults");
        let listen = ([127, 0, 0, 1], 0).into();
        let http =
            HttpServer::bind(HttpConfig { listen, tls, ..HttpConfig::default() }).expect("a free port");
        let address = http.local_addr();
        app.add_http(http, Some(websocket)).expect("a thread");
        Self { watch: Watch::of(&mut app), app, http: address }
    }

    fn dial(&self, scheme: &str, trust: Trust) -> WatchedDial<WebSocketDial> {
        // A host name, because a TLS handshake sends one.
        let url = format!("{scheme}://localhost:{}/ws", self.http.port());
        self.watch.dial(WebSocketDial::new(&url, trust).expect("a URL"))
    }

    fn state(&self, session: SessionId) -> Option<SessionState> {
        let entity = self.app.world().resource::<SessionTable>().find(session).ok()?;
        SessionState::at(self.app.world(), entity)
    }

    fn counts(&self) -> SessionCounts {
        *self.app.world().resource::<SessionCounts>()
    }
}

/// A client, and the events that it has received.
struct Ada {
    client: Client<WatchedDial<WebSocketDial>>,
    number: u64,
    echoes: Vec<u64>,
    resyncs: Vec<bool>,
    closed: Option<String>,
}

impl Ada {
    fn new(dial: WatchedDial<WebSocketDial>) -> Self {
        // A client that soon gives up if it cannot connect.
        let client = Client::new(dial, ClientConfig { tries: 2, ..ClientConfig::default() });
        Self { client, number: 0, echoes: Vec::new(), resyncs: Vec::new(), closed: None }
    }

    /// Updates both sides until `done` returns true.
    #[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bound is generous")]
    fn until(&mut self, server: &mut Server, what: &str, mut done: impl FnMut(&mut Self, &Server) -> bool) {
        let begun = Instant::now();
        let step = Duration::from_millis(5);
        while !done(self, server) {
            assert!(begun.elapsed() < Duration::from_secs(60), "not reached within a minute: {what}");
            thread::sleep(step);
            self.client.update(step);
            server.app.update();
            while let Some(event) = self.client.poll() {
                match event {
                    ClientEvent::Message(frame) => {
                        self.echoes.extend(frame.decode::<Echo>().map(|echo| echo.number));
                    }
                    ClientEvent::Resumed { resync, .. } => self.resyncs.push(resync),
                    ClientEvent::Closed { detail, .. } => self.closed = Some(detail),
                    _ => {}
                }
            }
        }
    }

    fn say_five(&mut self) {
        for _ in 0..5 {
            self.number += 1;
            self.client.send(&Say { number: self.number }).expect("room");
        }
    }

    /// Cuts the link while messages are on their way, and waits until the client has resumed and has all echoes.
    fn survive(&mut self, server: &mut Server, cut: Cut) {
        self.say_five();
        self.client.cut(cut);
        self.say_five();
        let resumes = self.resyncs.len() + 1;
        self.until(server, "the client has resumed", |ada, _| ada.resyncs.len() == resumes);
        self.until(server, "all messages are echoed", |ada, _| ada.echoes.len() as u64 >= ada.number);
        assert_eq!(self.echoes, (1..=self.number).collect::<Vec<_>>());
    }
}

#[test]
fn a_session_survives_its_links_over_websocket_plain_and_under_tls() {
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let pinned = Trust::Sha256(tls.sha256().expect("self-signed"));
    for (scheme, tls, trust) in [("ws", None, Trust::WebPki), ("wss", Some(tls), pinned)] {
        let mut server = Server::new(tls);
        let mut ada = Ada::new(server.dial(scheme, trust));
        ada.until(&mut server, "it has a session", |ada, _| ada.client.session_id().is_some());
        let session = ada.client.session_id().expect("a session");
        ada.client.join("arena", Vec::new()).expect("it has a session");
        ada.until(&mut server, "the client has joined", |_, server| {
            server.state(session) == Some(SessionState::Active)
        });

        ada.survive(&mut server, Cut::Silent { hold: Duration::ZERO });
        ada.survive(&mut server, Cut::Close { hold: Duration::from_millis(50) });
        ada.client.bye();
        ada.until(&mut server, "the session has ended", |_, server| server.state(session).is_none());

        assert_eq!(ada.resyncs, [false, false]);
        let counts = server.counts();
        assert_eq!((counts.registered_count, counts.resumed_count, counts.unregistered_count), (1, 2, 1));
    }
}

#[test]
fn a_client_that_expects_another_certificate_or_none_reports_it_and_gives_up() {
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let mut server = Server::new(Some(tls));
    let mut other = Ada::new(server.dial("wss", Trust::Sha256([7; 32])));
    let mut plain = Ada::new(server.dial("ws", Trust::WebPki));

    other.until(&mut server, "the client gives up", |other, _| other.closed.is_some());
    plain.until(&mut server, "the client gives up", |plain, _| plain.closed.is_some());

    let told = other.closed.expect("a reason");
    assert!(told.contains(&"07".repeat(32)) && told.contains("ask its discovery again"), "{told}");
    assert!(plain.closed.is_some_and(|told| !told.is_empty()));
    assert_eq!(server.counts().registered_count, 0);
}
