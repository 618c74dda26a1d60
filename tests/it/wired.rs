//! Tests the client library over real UDP, against a server with its gate, sessions and zones.

use std::thread;
use std::time::{Duration, Instant};

use bevy_app::App;
use waystation::arena::ArenaPlugin;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, Cut, UdpDial};
use waystation::config::ServerConfig;
use waystation::ident::SessionId;
use waystation::proxy::AddListener as _;
use waystation::proxy::renet::{RenetConfig, RenetProxy};
use waystation::server::ServerPlugins;
use waystation::session::{SessionCounts, SessionState, SessionTable};
use waystation::testing::{Watch, WatchedDial};
use waystation::tick::TickRate;
use waystation::wire::udp::DEV_KEY;

/// A server with the arena on a free port, and one client.
struct Stage {
    app: App,
    client: Client<WatchedDial<UdpDial>>,
    echoes: Vec<u64>,
    resyncs: Vec<bool>,
}

impl Stage {
    fn new() -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let bound =
            RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a free port");
        let mut config =
            ServerConfig { rate: TickRate::new(200).expect("in range"), ..ServerConfig::default() };
        config.gate.exempt_loopback = true;
        // No session expires, even on a slow machine.
        config.session.timeout = Duration::from_secs(600);
        let mut app = App::new();
        app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
        let dial = Watch::of(&mut app).dial(UdpDial::minting(bound.mint()));
        let client = Client::new(dial, ClientConfig::default());
        app.add_listener(bound).expect("a thread");
        Self { app, client, echoes: Vec::new(), resyncs: Vec::new() }
    }

    /// Updates both sides until `done` returns true.
    #[allow(clippy::disallowed_methods, reason = "real sockets take real time; the bound is generous")]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        let step = Duration::from_millis(5);
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(60), "not reached within a minute: {what}");
            thread::sleep(step);
            self.client.update(step);
            self.app.update();
            while let Some(event) = self.client.poll() {
                match event {
                    ClientEvent::Message(frame) => {
                        self.echoes.extend(frame.decode::<Echo>().map(|echo| echo.number));
                    }
                    ClientEvent::Resumed { resync, .. } => self.resyncs.push(resync),
                    _ => {}
                }
            }
        }
    }

    fn state(&self, session: SessionId) -> Option<SessionState> {
        let entity = self.app.world().resource::<SessionTable>().find(session).ok()?;
        SessionState::at(self.app.world(), entity)
    }
}

#[test]
fn ow_15_a_resume_works_end_to_end_over_the_wire() {
    let mut stage = Stage::new();
    stage.until("the client has a session", |stage| stage.client.session_id().is_some());
    let session = stage.client.session_id().expect("a session");
    stage.client.join("arena", Vec::new()).expect("it has a session");
    stage.until("the client has joined", |stage| stage.state(session) == Some(SessionState::Active));

    let mut number = 0;
    for cut in [Cut::Silent { hold: Duration::ZERO }, Cut::Close { hold: Duration::from_millis(50) }] {
        for _ in 0..5 {
            number += 1;
            stage.client.send(&Say { number }).expect("room");
        }
        stage.client.cut(cut);
        let resumes = stage.resyncs.len() + 1;
        stage.until("the client has resumed", |stage| stage.resyncs.len() == resumes);
        stage.until("all messages are echoed", |stage| stage.echoes.len() as u64 >= number);
    }
    stage.client.bye();
    stage.until("the session has ended", |stage| stage.state(session).is_none());

    assert_eq!(stage.client.session_id().unwrap_or(session), session);
    assert_eq!(stage.echoes, (1..=10).collect::<Vec<_>>());
    assert_eq!(stage.resyncs, [false, false]);
    let counts = stage.app.world().resource::<SessionCounts>();
    assert_eq!((counts.registered_count, counts.resumed_count, counts.unregistered_count), (1, 2, 1));
}
