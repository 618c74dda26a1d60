//! A client that has a server's URL and chooses among all of the server's transports.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use waystation::admin::{ConnectAuth, Health, HttpConfig, HttpServer};
use waystation::arena::ArenaPlugin;
use waystation::arena::v1::{Echo, Say};
use waystation::client::v1::{Joined, Parted};
use waystation::client::{AnyDial, AnyLink, Client, ClientConfig, ClientEvent, Cut, Transport};
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::quic::{QuicConfig, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::proxy::{self, Listener as _, ListenerHandle, Offers};
use waystation::server::ServerPlugins;
use waystation::session::{SessionCounts, SessionState, SessionTable};
use waystation::tick::TickRate;
use waystation::wire::udp::DEV_KEY;

/// Time between two updates: exactly this long on the client's clock, and at least this long in real time.
const STEP: Duration = Duration::from_millis(5);

/// A server with the arena, on every transport, on free ports.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) http: ListenerHandle,
    tls: Tls,
    scheme: &'static str,
    /// Addresses of the UDP transport and of QUIC.
    pub(crate) datagrams: [SocketAddr; 2],
    _datagrams: [ListenerHandle; 2],
}

/// Differences from a server of the dev profile.
#[derive(Default)]
pub(crate) struct Twist {
    /// Discovery offers UDP at an address where no server listens.
    udp_closed: bool,
    /// Discovery does not offer QUIC and WebTransport.
    quic_left_out: bool,
    /// Bearer that discovery requires. If it is set, HTTP uses TLS.
    bearer: Option<&'static str>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Twist::default())
    }

    pub(crate) fn with(twist: Twist) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config =
            ServerConfig { rate: TickRate::new(200).expect("in range"), ..ServerConfig::default() };
        config.gate.exempt_loopback = true;
        // Long enough that no session expires on a slow machine.
        config.session.timeout = Duration::from_secs(600);
        let mut app = App::new();
        app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
        let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
        let nobody = UdpSocket::bind(listen).and_then(|socket| socket.local_addr()).expect("a free port");
        let public_addresses = if twist.udp_closed { vec![nobody] } else { Vec::new() };
        let udp = RenetConfig { listen, public_addresses, ..RenetConfig::new(DEV_KEY) };
        let udp = RenetProxy::bind(udp).expect("a free port");
        let quic =
            QuicProxy::bind(QuicConfig { listen, ..QuicConfig::default() }, &tls).expect("a free port");
        let http = HttpServer::bind(HttpConfig {
            listen,
            tls: twist.bearer.map(|_| tls.clone()),
            connect_auth: twist.bearer.map_or_else(ConnectAuth::everybody, ConnectAuth::bearer),
            exempt_loopback: true,
            ..HttpConfig::default()
        });
        let offers = Offers::default();
        offers.add(udp.offers());
        if !twist.quic_left_out {
            offers.add(quic.offers());
        }
        let datagrams = [if twist.udp_closed { nobody } else { udp.local_addr() }, quic.local_addr()];
        let udp = udp.start(proxy::attach(&mut app, "udp")).expect("a thread");
        let quic = quic.start(proxy::attach(&mut app, "quic")).expect("a thread");
        let websocket = WebSocketProxy::new(WebSocketConfig::default()).expect("limits");
        let websocket = (websocket, proxy::attach(&mut app, "websocket"));
        let health = Health::watch(&mut app);
        let http = http.expect("a free port").start(offers, health, Some(websocket)).expect("a thread");
        let scheme = if twist.bearer.is_some() { "https" } else { "http" };
        Self { app, http, tls, scheme, datagrams, _datagrams: [udp, quic] }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.http.local_addr())
    }

    /// Returns the URL with the hash of the server's certificate, so that a client trusts only this certificate.
    fn pinned_url(&self) -> String {
        let sha256 = self.tls.sha256().expect("a certificate of its own");
        let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}?cert_sha256={hex}", self.url())
    }

    fn state(&self, session: SessionId) -> Option<SessionState> {
        let entity = self.app.world().resource::<SessionTable>().find(session).ok()?;
        SessionState::at(self.app.world(), entity)
    }

    fn counts(&self) -> SessionCounts {
        *self.app.world().resource::<SessionCounts>()
    }
}

/// A client, with a record of its events.
pub(crate) struct Ada {
    pub(crate) client: Client<AnyDial>,
    /// Time that has passed on the client's clock.
    pub(crate) time: Duration,
    /// Time that passes on the client's clock per update.
    pub(crate) step: Duration,
    number: u64,
    echoes: Vec<u64>,
    /// "joined" for each Joined and "parted" for each Parted, in order of arrival.
    moves: Vec<&'static str>,
    /// Transport of each link that the session was bound to.
    pub(crate) over: Vec<Option<Transport>>,
    closed: Option<String>,
}

impl Ada {
    pub(crate) fn new(dial: AnyDial) -> Self {
        Self::with(dial, ClientConfig::default())
    }

    fn with(dial: AnyDial, config: ClientConfig) -> Self {
        let client = Client::new(dial, config);
        Self {
            client,
            time: Duration::ZERO,
            step: STEP,
            number: 0,
            echoes: Vec::new(),
            moves: Vec::new(),
            over: Vec::new(),
            closed: None,
        }
    }

    /// Returns a client that is in the arena, and its session.
    pub(crate) fn joined(dial: AnyDial, server: &mut Server) -> (Self, SessionId) {
        let mut ada = Self::new(dial);
        let session = ada.join(server);
        (ada, session)
    }

    /// Waits until the client has a session, joins the arena, and returns the session.
    pub(crate) fn join(&mut self, server: &mut Server) -> SessionId {
        self.until(server, "the client has a session", |ada, _| ada.client.session_id().is_some());
        let session = self.client.session_id().expect("a session");
        self.client.join("arena", "").expect("the client has a session");
        self.until(server, "the client has joined", |ada, _| ada.moves == ["joined"]);
        session
    }

    /// Updates both sides until `done` returns true. Panics after a minute.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bound is generous")]
    pub(crate) fn until(
        &mut self,
        server: &mut Server,
        what: &str,
        mut done: impl FnMut(&Self, &Server) -> bool,
    ) {
        let begun = Instant::now();
        while !done(self, server) {
            assert!(begun.elapsed() < Duration::from_secs(60), "did not happen within a minute: {what}");
            thread::sleep(STEP);
            server.app.update();
            self.update();
        }
    }

    /// Updates the client by one step and records its events.
    pub(crate) fn update(&mut self) {
        self.client.update(self.step);
        self.time += self.step;
        while let Some(event) = self.client.poll() {
            match event {
                ClientEvent::Connected { .. } | ClientEvent::Resumed { .. } => {
                    self.over.push(self.client.link().and_then(AnyLink::transport));
                }
                ClientEvent::Message(frame) if frame.decode::<Joined>().is_ok() => self.moves.push("joined"),
                ClientEvent::Message(frame) if frame.decode::<Parted>().is_ok() => self.moves.push("parted"),
                ClientEvent::Message(frame) => {
                    self.echoes.extend(frame.decode::<Echo>().map(|echo| echo.number));
                }
                ClientEvent::Closed { detail, .. } => self.closed = Some(detail),
                ClientEvent::LinkLost | ClientEvent::SessionLost { .. } => {}
            }
        }
    }

    fn say_five(&mut self) {
        for _ in 0..5 {
            self.number += 1;
            self.client.send(&Say { number: self.number }).expect("room");
        }
    }

    /// Cuts the link between calls, and waits until the session has resumed and every call is echoed.
    fn survive(&mut self, server: &mut Server, cut: Cut) {
        self.say_five();
        self.client.cut(cut);
        self.say_five();
        let links = self.over.len() + 1;
        self.until(server, "the client has resumed", |ada, _| ada.over.len() == links);
        self.until(server, "every call is echoed", |ada, _| ada.echoes.len() as u64 >= ada.number);
        assert_eq!(self.echoes, (1..=self.number).collect::<Vec<_>>());
    }
}

#[test]
fn a_session_resumes_over_every_transport_in_turn_and_keeps_its_id_and_its_zone() {
    let mut server = Server::new();
    let dial = AnyDial::new([server.url()]).expect("a URL").rotate_from(Transport::Udp);
    let (mut ada, session) = Ada::joined(dial, &mut server);

    for cut in [
        Cut::Silent { hold: Duration::ZERO },
        Cut::Close { hold: Duration::ZERO },
        Cut::Silent { hold: Duration::from_millis(50) },
        Cut::Close { hold: Duration::from_millis(50) },
        Cut::Silent { hold: Duration::ZERO },
    ] {
        ada.survive(&mut server, cut);
        assert_eq!(server.state(session), Some(SessionState::Active), "{:?}", ada.over);
    }

    let in_turn: Vec<_> = Transport::ALL.into_iter().cycle().take(6).map(Some).collect();
    assert_eq!(ada.over, in_turn);
    assert_eq!(ada.client.session_id(), Some(session));
    assert_eq!(ada.moves, ["joined"], "the session never left the zone");
    let counts = server.counts();
    assert_eq!((counts.registered_count, counts.resumed_count, counts.resync_count), (1, 5, 0));
}

#[test]
fn if_udp_is_closed_a_client_falls_back_to_websocket_and_keeps_using_it() {
    let mut server = Server::with(Twist { udp_closed: true, quic_left_out: true, ..Twist::default() });

    let (mut ada, session) = Ada::joined(AnyDial::new([server.url()]).expect("a URL"), &mut server);
    ada.survive(&mut server, Cut::Silent { hold: Duration::ZERO });

    assert_eq!(ada.over, [Some(Transport::WebSocket); 2]);
    assert_eq!(server.state(session), Some(SessionState::Active));
}

#[test]
fn a_client_uses_the_first_transport_that_opens_and_resumes_over_it() {
    let mut server = Server::new();

    // The client's clock runs slowly, so that UDP opens before WebSocket is tried, also on a busy machine.
    let mut ada = Ada::new(AnyDial::new([server.url()]).expect("a URL"));
    ada.step = STEP / 10;
    ada.join(&mut server);
    ada.survive(&mut server, Cut::Close { hold: Duration::ZERO });

    assert_eq!(ada.over, [Some(Transport::Udp); 2]);
}

#[test]
fn a_url_may_name_one_transport_or_reach_one_without_discovery() {
    let mut server = Server::new();
    let websocket = format!("ws://{}/ws", server.http.local_addr());
    let urls = Transport::ALL.map(|transport| (format!("{}#{transport}", server.url()), transport));

    for (url, transport) in urls.into_iter().chain([(websocket, Transport::WebSocket)]) {
        let (ada, _) = Ada::joined(AnyDial::new([&url]).expect("a URL"), &mut server);

        assert_eq!(ada.over, [Some(transport)], "{url}");
    }
}

#[test]
fn discovery_over_https_requires_the_bearer_and_errors_name_what_is_missing() {
    let mut server = Server::with(Twist { bearer: Some("a-bearer-of-20-bytes"), ..Twist::default() });
    let url = server.pinned_url();
    let impatient = || ClientConfig { tries: 2, ..ClientConfig::default() };

    for transport in Transport::ALL {
        let dial =
            AnyDial::new([format!("{url}#{transport}")]).expect("a URL").bearer("a-bearer-of-20-bytes");
        let (ada, _) = Ada::joined(dial, &mut server);
        assert_eq!(ada.over, [Some(transport)]);
    }

    let without = AnyDial::new([&url]).expect("a URL");
    let stranger = AnyDial::new([server.url()]).expect("a URL").bearer("a-bearer-of-20-bytes");
    for (dial, says) in [(without, "requires a bearer"), (stranger, "certificate")] {
        let mut bob = Ada::with(dial, impatient());
        bob.until(&mut server, "the client gives up", |bob, _| bob.closed.is_some());
        let told = bob.closed.expect("a reason");
        assert!(told.contains(says), "{told}");
    }
}
