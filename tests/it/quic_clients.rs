//! Tests the client library over QUIC and WebTransport, against a server with its gate, sessions and zones.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use sha2::{Digest as _, Sha256};
use waystation::arena::ArenaPlugin;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{
    Client, ClientConfig, ClientEvent, Cut, Dial, DialError, Link, QuicDial, QuicRoute, QuicTarget, Trust,
    UdpDial,
};
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::AddListener as _;
use waystation::proxy::quic::{QuicConfig, QuicProxy, QuicStats};
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::server::ServerPlugins;
use waystation::session::{SessionCounts, SessionState, SessionTable};
use waystation::testing::{Watch, WatchedDial};
use waystation::tick::TickRate;
use waystation::wire::quic::WEBTRANSPORT_PATH;
use waystation::wire::udp::{DEV_KEY, TokenMint};

/// A server with the arena, on free UDP and QUIC ports.
struct Server {
    app: App,
    quic: SocketAddr,
    stats: QuicStats,
    mint: TokenMint,
    tls: Tls,
    watch: Watch,
}

impl Server {
    fn new() -> Self {
        Self::with(Tls::self_signed(&["localhost".to_owned()]).expect("a certificate"))
    }

    fn with(tls: Tls) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config =
            ServerConfig { rate: TickRate::new(200).expect("in range"), ..ServerConfig::default() };
        config.gate.exempt_loopback = true;
        // No session expires, even on a slow machine.
        config.session.timeout = Duration::from_secs(600);
        let mut app = App::new();
        app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
        let udp = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a free port");
        let mint = udp.mint();
        let quic =
            QuicProxy::bind(QuicConfig { listen, ..QuicConfig::default() }, &tls).expect("a free port");
        let (address, stats) = (quic.local_addr(), quic.stats());
        app.add_listener(udp).expect("a thread").add_listener(quic).expect("a thread");
        Self { watch: Watch::of(&mut app), quic: address, stats, app, mint, tls }
    }

    /// Returns the target of a client that pins the server's certificate.
    fn target(&self, route: QuicRoute) -> QuicTarget {
        self.target_with(self.tls.sha256().expect("a certificate of its own"), route)
    }

    fn target_with(&self, sha256: [u8; 32], route: QuicRoute) -> QuicTarget {
        QuicTarget {
            address: self.quic,
            server_name: "localhost".to_owned(),
            trust: Trust::Sha256(sha256),
            route,
        }
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
struct Ada<D: Dial> {
    client: Client<WatchedDial<D>>,
    number: u64,
    echoes: Vec<u64>,
    resyncs: Vec<bool>,
    lost_count: u64,
    closed: Option<String>,
}

impl<D: Dial> Ada<D> {
    fn new(dial: D, server: &Server) -> Self {
        Self::with(dial, server, ClientConfig::default())
    }

    /// Creates a client that gives up after two attempts.
    fn trying_twice(dial: D, server: &Server) -> Self {
        Self::with(dial, server, ClientConfig { tries: 2, ..ClientConfig::default() })
    }

    fn with(dial: D, server: &Server, config: ClientConfig) -> Self {
        let client = Client::new(server.watch.dial(dial), config);
        Self { client, number: 0, echoes: Vec::new(), resyncs: Vec::new(), lost_count: 0, closed: None }
    }

    /// Creates a client and waits until it has joined the arena.
    fn joined(dial: D, server: &mut Server) -> (Self, SessionId) {
        let mut ada = Self::new(dial, server);
        ada.until(server, "the client has a session", |ada, _| ada.client.session_id().is_some());
        let session = ada.client.session_id().expect("a session");
        ada.client.join("arena", Vec::new()).expect("it has a session");
        ada.until(server, "the client has joined", |_, server| {
            server.state(session) == Some(SessionState::Active)
        });
        (ada, session)
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
                    ClientEvent::LinkLost => self.lost_count += 1,
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
        self.hear_all(server);
    }

    fn hear_all(&mut self, server: &mut Server) {
        self.until(server, "all messages are echoed", |ada, _| ada.echoes.len() as u64 >= ada.number);
        assert_eq!(self.echoes, (1..=self.number).collect::<Vec<_>>());
    }
}

fn webtransport() -> QuicRoute {
    QuicRoute::WebTransport { path: WEBTRANSPORT_PATH.to_owned() }
}

#[test]
fn a_session_that_goes_silent_resumes_over_quic_and_over_webtransport() {
    for route in [QuicRoute::Quic, webtransport()] {
        let mut server = Server::new();
        let dial = QuicDial::new(server.target(route));
        let (mut ada, session) = Ada::joined(dial, &mut server);

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
fn a_client_that_changes_its_socket_keeps_its_link() {
    for route in [QuicRoute::Quic, webtransport()] {
        let mut server = Server::new();
        let dial = QuicDial::new(server.target(route));
        let (mut ada, session) = Ada::joined(dial, &mut server);

        for _ in 0..3 {
            ada.say_five();
            ada.client.link_mut().expect("a link").get_mut().rebind().expect("a socket");
            ada.say_five();
            ada.hear_all(&mut server);
        }

        assert_eq!(ada.client.session_id(), Some(session));
        assert_eq!((ada.lost_count, ada.client.resume_count()), (0, 0));
        assert_eq!(server.state(session), Some(SessionState::Active));
        let counts = server.counts();
        assert_eq!((counts.registered_count, counts.disconnected_count, counts.resumed_count), (1, 0, 0));
    }
}

#[test]
fn a_session_moves_from_transport_to_transport() {
    let mut server = Server::new();
    let ways = Ways {
        udp: UdpDial::minting(server.mint.clone()),
        quic: QuicDial::new(server.target(QuicRoute::Quic)),
        webtransport: QuicDial::new(server.target(webtransport())),
        next: Rc::new(Cell::new(Way::Udp)),
    };
    let next = Rc::clone(&ways.next);
    let (mut ada, session) = Ada::joined(ways, &mut server);

    for (way, cut) in [
        (Way::Quic, Cut::Silent { hold: Duration::ZERO }),
        (Way::WebTransport, Cut::Close { hold: Duration::ZERO }),
        (Way::Udp, Cut::Silent { hold: Duration::from_millis(50) }),
        (Way::WebTransport, Cut::Silent { hold: Duration::ZERO }),
        (Way::Quic, Cut::Close { hold: Duration::ZERO }),
    ] {
        next.set(way);
        ada.survive(&mut server, cut);
        assert_eq!(server.state(session), Some(SessionState::Active), "{way:?}");
    }

    assert_eq!(ada.client.session_id(), Some(session));
    assert_eq!(ada.resyncs, [false; 5]);
    let counts = server.stats.counts();
    assert_eq!((counts.quic_opened_count, counts.webtransport_opened_count), (2, 2));
}

#[test]
fn a_client_that_expects_another_certificate_reports_both_and_gives_up() {
    let mut server = Server::new();
    let mut ada = Ada::trying_twice(QuicDial::new(server.target_with([7; 32], QuicRoute::Quic)), &server);

    ada.until(&mut server, "the client gives up", |ada, _| ada.closed.is_some());

    let told = ada.closed.expect("a reason");
    assert!(told.contains(&"07".repeat(32)) && told.contains("ask its discovery again"), "{told}");
    assert_eq!(server.counts().registered_count, 0);
}

#[test]
fn a_replaced_certificate_is_used_for_new_links_and_ends_no_link() {
    let files = Files::new();
    let old = files.write();
    let mut server = Server::with(Tls::from_files(&files.certificate, &files.key).expect("a certificate"));
    let (mut ada, _) = Ada::joined(QuicDial::new(server.target_with(old, QuicRoute::Quic)), &mut server);

    let new = files.write();
    assert!(server.tls.reload().expect("both files are whole"));

    ada.say_five();
    ada.hear_all(&mut server);
    assert_eq!(ada.lost_count, 0);
    let (mut bob, _) = Ada::joined(QuicDial::new(server.target_with(new, webtransport())), &mut server);
    bob.say_five();
    bob.hear_all(&mut server);
    let mut late = Ada::trying_twice(QuicDial::new(server.target_with(old, QuicRoute::Quic)), &server);
    late.until(&mut server, "the client gives up", |late, _| late.closed.is_some());
}

/// A certificate and its key in files, which are removed when the test ends.
struct Files {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("waystation-quic-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self { certificate: folder.join("cert.pem"), key: folder.join("key.pem"), folder }
    }

    /// Writes a new pair, and returns the hash of its certificate.
    fn write(&self) -> [u8; 32] {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
        fs::write(&self.certificate, pair.cert.pem()).expect("room");
        fs::write(&self.key, pair.signing_key.serialize_pem()).expect("room");
        Sha256::digest(pair.cert.der()).into()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client's dial that uses the route that the test sets.
struct Ways {
    udp: UdpDial,
    quic: QuicDial,
    webtransport: QuicDial,
    next: Rc<Cell<Way>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp,
    Quic,
    WebTransport,
}

impl Dial for Ways {
    type Link = Box<dyn Link>;

    fn dial(&mut self) -> Result<Box<dyn Link>, DialError> {
        Ok(match self.next.get() {
            Way::Udp => Box::new(self.udp.dial()?),
            Way::Quic => Box::new(self.quic.dial()?),
            Way::WebTransport => Box::new(self.webtransport.dial()?),
        })
    }
}
