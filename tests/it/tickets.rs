//! Tests how clients open sessions on a server of the real profile, over real sockets: with the answer of
//! discovery, with a ticket in the URL, and without either.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use waystation::admin::{AddHttp as _, ConnectAuth, HttpConfig, HttpServer};
use waystation::client::{
    AnyDial, AnyLink, Client, ClientConfig, ClientEvent, Cut, Dial, Discovery, Fetch, Transport, UdpDial,
};
use waystation::config::ServerConfig;
use waystation::gate::GatePolicy;
use waystation::identity::Principal;
use waystation::proxy::AddListener as _;
use waystation::proxy::quic::{QuicConfig, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::server::ServerPlugins;
use waystation::session::SessionTable;
use waystation::tick::{TickRate, UnixClock};
use waystation::wire::ticket::{TICKET_EXPIRE, TicketKey};
use waystation::wire::udp::TokenMint;
use waystation::wire::v1::Reason;

/// The server's key: no key of the dev profile, so its connect tokens prove something.
const KEY: [u8; 32] = [0x5A; 32];
/// The bearers that discovery accepts: one for Ada, and one without an identity for a bot.
const BEARERS: [(&str, Option<&str>); 2] = [("bearer-of-ada", Some("ada")), ("bearer-of-a-bot", None)];

/// A server of the real profile, on every transport.
struct Server {
    app: App,
    http: SocketAddr,
    mint: TokenMint,
    quic: SocketAddr,
    sha256: String,
}

impl Server {
    fn new() -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let rate = TickRate::new(200).expect("in range");
        let mut config = ServerConfig { rate, ..ServerConfig::default() };
        config.gate.policy = GatePolicy::Identified;
        config.gate.tickets = Some(TicketKey::new(KEY));
        config.gate.exempt_loopback = true;
        // No session expires, even on a slow machine.
        config.session.timeout = Duration::from_secs(600);
        let mut app = App::new();
        app.add_plugins(ServerPlugins::new(config));
        let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
        let sha256 = tls.sha256().expect("self-signed").iter().map(|byte| format!("{byte:02x}")).collect();
        let udp = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(KEY) }).expect("a free port");
        let quic_config = QuicConfig { listen, ..QuicConfig::default() };
        let quic = QuicProxy::bind(quic_config, &tls).expect("a free port");
        let hook = |bearer: &str| {
            let known = BEARERS.iter().find(|(known, _)| *known == bearer);
            known.map(|(_, who)| who.map(str::to_owned)).ok_or_else(|| "nobody's".to_owned())
        };
        let http = HttpServer::bind(HttpConfig {
            listen,
            connect_auth: ConnectAuth::hook(hook),
            tickets: Some(TicketKey::new(KEY)),
            exempt_loopback: true,
            ..HttpConfig::default()
        })
        .expect("a free port");
        let mint = udp.mint();
        let addresses = (http.local_addr(), quic.local_addr());
        let websocket = WebSocketProxy::new(WebSocketConfig::default()).expect("limits");
        app.add_listener(udp).expect("a thread").add_listener(quic).expect("a thread");
        app.add_http(http, Some(websocket)).expect("a thread");
        Self { app, http: addresses.0, mint, quic: addresses.1, sha256 }
    }

    fn discovery(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Returns a URL that reaches the server over a transport without discovery, or `None` for UDP.
    fn direct(&self, transport: Transport) -> Option<String> {
        let quic = |scheme: &str, address: SocketAddr| {
            format!("{scheme}://localhost:{}?cert_sha256={}", address.port(), self.sha256)
        };
        match transport {
            Transport::Udp | Transport::Other(_) => None,
            Transport::Quic => Some(quic("quic", self.quic)),
            Transport::WebTransport => Some(quic("webtransport", self.quic)),
            Transport::WebSocket => Some(format!("ws://{}/ws", self.http)),
        }
    }

    fn ticket(&self, identity: &str) -> String {
        let now = UnixClock::system().now();
        TicketKey::new(KEY).mint(now, TICKET_EXPIRE, Some(identity)).expect("a ticket")
    }

    /// Returns the answer of discovery to a request with this bearer.
    fn ask(&mut self, bearer: &str) -> Discovery {
        let mut fetch = Fetch::new(&self.discovery(), Some(bearer)).expect("a URL");
        let mut answer = None;
        self.until("discovery answers", |_| {
            answer = answer.take().or_else(|| fetch.poll().expect("an answer"));
            answer.is_some()
        });
        answer.expect("it has come")
    }

    fn principal<D: Dial>(&self, player: &Player<D>) -> Principal {
        let world = self.app.world();
        let session = player.client.session_id().expect("a session");
        let entity = world.resource::<SessionTable>().find(session).expect("it lives");
        world.get::<Principal>(entity).expect("each session has one").clone()
    }

    /// Ticks the server until `done` returns true.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bound is generous")]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "not reached within a minute: {what}");
            thread::sleep(STEP);
            self.app.update();
        }
    }
}

/// A client, and the events that it has received.
struct Player<D: Dial> {
    client: Client<D>,
    closed: Option<(Option<Reason>, String)>,
}

impl<D: Dial> Player<D> {
    fn new(dial: D) -> Self {
        Self { client: Client::new(dial, ClientConfig::default()), closed: None }
    }

    fn update(&mut self) {
        self.client.update(STEP);
        while let Some(event) = self.client.poll() {
            if let ClientEvent::Closed { reason, detail } = event {
                self.closed = Some((reason, detail));
            }
        }
    }

    /// Waits until the client has a session.
    #[track_caller]
    fn gets_in(mut self, server: &mut Server) -> Self {
        server.until("the client has a session", |_| {
            self.update();
            assert_eq!(self.closed, None);
            self.client.welcome().is_some()
        });
        self
    }

    /// Waits until the client stops, and returns the reason and the detail from the server.
    #[track_caller]
    fn fails_to_get_in(mut self, server: &mut Server) -> String {
        server.until("the client stops", |_| {
            self.update();
            assert_eq!(self.client.session_id(), None, "it has a session");
            self.closed.is_some()
        });
        let (reason, detail) = self.closed.expect("it stopped");
        assert_eq!(reason, Some(Reason::Unauthenticated), "{detail}");
        detail
    }
}

fn dial(url: &str) -> AnyDial {
    AnyDial::new([url]).expect("a URL")
}

#[test]
fn a_client_with_a_bearer_opens_sessions_over_every_transport_with_its_identity() {
    let mut server = Server::new();

    for transport in Transport::ALL {
        for (bearer, identity) in BEARERS {
            let url = format!("{}#{transport}", server.discovery());
            let player = Player::new(dial(&url).bearer(bearer)).gets_in(&mut server);

            assert_eq!(player.client.link().and_then(AnyLink::transport), Some(transport));
            let expected = identity.map_or(Principal::anonymous(""), Principal::named);
            assert_eq!(server.principal(&player), expected, "{transport}");
        }
    }
}

#[test]
fn a_direct_url_opens_a_session_by_a_ticket_and_only_once() {
    let mut server = Server::new();

    for transport in Transport::ALL {
        let Some(url) = server.direct(transport) else { continue };
        let with =
            |ticket: &str| format!("{url}{}ticket={ticket}", if url.contains('?') { '&' } else { '?' });
        let good = with(&server.ticket("ada"));

        let words = Player::new(dial(&url)).fails_to_get_in(&mut server);
        assert!(words.contains("/v1/connect"), "{transport}: {words}");
        let forged = Player::new(dial(&with("AXN0aWNrZXQ"))).fails_to_get_in(&mut server);
        let ada = Player::new(dial(&good)).gets_in(&mut server);
        assert_eq!(server.principal(&ada), Principal::named("ada"), "{transport}");
        let used = Player::new(dial(&good)).fails_to_get_in(&mut server);
        assert_eq!(forged, used, "a forged ticket and a used one get the same answer");
    }
}

#[test]
fn a_connect_token_proves_a_new_session_over_udp_by_itself() {
    let mut server = Server::new();

    let bob = Player::new(UdpDial::minting(server.mint.clone())).gets_in(&mut server);

    assert_eq!(server.principal(&bob), Principal::anonymous(""));
}

#[test]
fn a_session_moves_over_all_transports_and_keeps_the_identity_of_its_ticket() {
    let mut server = Server::new();
    let rotating = dial(&server.discovery()).bearer("bearer-of-ada").rotate_from(Transport::WebSocket);
    let mut ada = Player::new(rotating).gets_in(&mut server);
    let session = ada.client.session_id();
    assert_eq!(server.principal(&ada), Principal::named("ada"));

    for round in 1..=5 {
        ada.client.cut(Cut::Close { hold: Duration::ZERO });
        server.until("the client has resumed", |_| {
            ada.update();
            assert_eq!(ada.closed, None);
            ada.client.resume_count() == round
        });
        assert_eq!(ada.client.session_id(), session);
        assert_eq!(server.principal(&ada), Principal::named("ada"));
    }
}

#[test]
fn a_restarted_server_accepts_its_own_tickets_and_no_ticket_of_the_previous_run() {
    let mut first = Server::new();
    let early = first.ask("bearer-of-ada").ticket.expect("offered");
    drop(first);

    let mut second = Server::new();
    let url = |ticket: &str, server: &Server| {
        format!("{}?ticket={ticket}", server.direct(Transport::WebSocket).expect("a URL"))
    };
    let before = url(&early, &second);
    Player::new(dial(&before)).fails_to_get_in(&mut second);
    let late = second.ticket("ada");
    let ada = Player::new(dial(&url(&late, &second))).gets_in(&mut second);
    let offered = second.ask("bearer-of-ada").ticket.expect("offered");
    let again = Player::new(dial(&url(&offered, &second))).gets_in(&mut second);

    for player in [&ada, &again] {
        assert_eq!(second.principal(player), Principal::named("ada"));
    }
}

#[test]
fn a_client_that_lost_its_session_fetches_a_new_ticket_by_itself() {
    let mut server = Server::new();
    let url = format!("{}#ws", server.discovery());
    let mut ada = Player::new(dial(&url).bearer("bearer-of-ada")).gets_in(&mut server);
    let session = ada.client.session_id();
    let entity = server.app.world().resource::<SessionTable>().find(session.expect("one")).expect("it lives");
    ada.client.cut(Cut::Close { hold: Duration::ZERO });
    // The game ends the session while its client is away.
    server.app.world_mut().despawn(entity);

    server.until("the client has another session", |_| {
        ada.update();
        assert_eq!(ada.closed, None);
        ada.client.session_id().is_some_and(|id| Some(id) != session)
    });

    assert_eq!(server.principal(&ada), Principal::named("ada"));
}

/// The time between two updates of both sides.
const STEP: Duration = Duration::from_millis(5);
