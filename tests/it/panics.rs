//! Tests panics: one in a game's system ends the server, and one in a network thread costs no client its
//! session.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bevy_app::{App, AppExit, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{Client, ClientConfig, ClientEvent, UdpDial};
use waystation::config::ServerConfig;
use waystation::proxy;
use waystation::proxy::renet::{RenetConfig, RenetProxy, RenetStats};
use waystation::proxy::{Listener as _, ListenerHandle};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::server::ServerPlugins;
use waystation::session::SessionCounts;
use waystation::testing::Via;
use waystation::tick::{self, Failure, StopHandle, TickTime, UnixClock};
use waystation::wire::WireMessage as _;
use waystation::wire::udp::DEV_KEY;
use waystation::wire::v1::{Closed, Joined, Reason};
use waystation::zone::Zone;

use crate::stage::now;
use crate::support::{CAUSED, fail_network_thread, game};

#[test]
fn a_panic_in_a_system_ends_the_server_with_an_error_and_closes_all_links() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);
    let mut eve = game.stranger(Via::Beta);
    game.tick();
    let last = game.resource::<TickTime>().tick().0 + 2;
    game.app.add_systems(Update, move |time: Res<TickTime>| {
        assert!(time.tick().0 < last, "a bug of the game's");
    });

    let exit = tick::run(&mut game.app, &StopHandle::default());

    assert!(exit.is_error());
    assert_eq!(game.resource::<TickTime>().tick().0, last, "no tick follows the panic");
    for player in [&mut ada, &mut bob, &mut eve] {
        player.pump();
        assert_eq!(player.closed(), Some(Reason::Shutdown));
        assert!(player.take::<Closed>().iter().all(|closed| closed.retry_after_ms > 0));
    }
}

#[test]
fn a_server_that_cannot_send_after_a_panic_ends_too() {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default());
    app.add_systems(Update, |world: &mut World| {
        world.remove_resource::<proxy::Proxies>();
        panic!("a bug of the game's");
    });

    assert!(tick::run(&mut app, &StopHandle::default()).is_error());
}

/// A server on UDP with a game that echoes, and one client.
struct Stage {
    app: App,
    handle: ListenerHandle,
    stats: RenetStats,
    client: Client<UdpDial>,
    stepped: Instant,
    events: Vec<ClientEvent>,
}

impl Stage {
    fn new() -> Self {
        let mut app = App::new();
        app.add_plugins(ServerPlugins::new(ServerConfig::default())).add_call::<Say>().add_systems(
            Update,
            |mut calls: MessageReader<Call<Say>>, mut sender: Sender| {
                for call in calls.read() {
                    sender.reply(call, &Echo { number: call.message.number, taken: 0 });
                }
            },
        );
        app.world_mut().spawn(Zone::new("hall"));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = RenetProxy::bind(RenetConfig { listen, ..RenetConfig::new(DEV_KEY) }).expect("a port");
        let (mint, stats) = (bound.mint(), bound.stats());
        let handle = bound.start(proxy::attach(&mut app, "udp")).expect("a thread");
        let mut next = 0;
        let dial = UdpDial::new(move || {
            next += 1;
            mint.mint(UnixClock::system().now(), next, None)
        });
        let client = Client::new(dial, ClientConfig { seed: Some(1), ..ClientConfig::default() });
        Self { app, handle, stats, client, stepped: now(), events: Vec::new() }
    }

    /// Ticks until `so` returns true. Panics at a generous deadline; the time until then is not part of the test.
    fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let deadline = now() + Duration::from_secs(30);
        while !so(self) {
            assert!(now() < deadline, "not reached: {what}; events: {:?}", self.events);
            self.app.update();
            let dt = self.stepped.elapsed();
            self.stepped = now();
            self.client.update(dt);
            self.events.extend(std::iter::from_fn(|| self.client.poll()));
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn echoes(&self) -> Vec<u64> {
        let frames = self.events.iter().filter_map(|event| match event {
            ClientEvent::Message(frame) => frame.decode::<Echo>().ok(),
            _ => None,
        });
        frames.map(|echo| echo.number).collect()
    }

    fn resume_count(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, ClientEvent::Resumed { resync: false, .. })).count()
    }
}

#[test]
fn a_network_thread_that_panics_restarts_and_its_clients_resume() {
    let mut stage = Stage::new();
    stage.until("connected", |stage| stage.client.session_id().is_some());
    let session = stage.client.session_id();
    stage.client.join("hall", Vec::new()).expect("it has a session");
    // Wait for the join: the server does not keep a session if its Welcome was never acknowledged.
    stage.until("in the hall", |stage| {
        stage
            .events
            .iter()
            .any(|event| matches!(event, ClientEvent::Message(frame) if frame.id == Joined::ID))
    });

    for fault in 1..=2 {
        let first = 20 * fault as u64 + 1;
        for number in first..first + 20 {
            stage.client.send(&Say { number }).expect("it has room");
        }
        fail_network_thread(&mut stage.app);
        stage.until("resumed", |stage| stage.resume_count() == fault);
        stage.until("all echoes", |stage| stage.echoes().len() == 20 * fault);
    }

    assert_eq!(stage.echoes(), (21..=60).collect::<Vec<_>>(), "each echo arrives once and in order");
    assert_eq!(stage.client.session_id(), session);
    assert_eq!(stage.stats.counts().restart_count, 2);
    let counts = stage.app.world().resource::<SessionCounts>();
    assert_eq!((counts.registered_count, counts.resumed_count, counts.expired_count), (1, 2, 0));
    assert!(stage.app.should_exit().is_none());
}

#[test]
fn a_network_thread_that_fails_repeatedly_ends_the_server_with_an_error() {
    let Stage { mut app, handle, stats, .. } = Stage::new();

    for fault in 1..=6 {
        fail_network_thread(&mut app);
        app.update();
        let deadline = now() + Duration::from_secs(30);
        while stats.counts().restart_count < fault && !handle.is_finished() {
            assert!(now() < deadline, "fault {fault} was not noticed");
            thread::sleep(Duration::from_millis(2));
        }
    }
    let exit: AppExit = tick::run(&mut app, &StopHandle::default());

    assert!(exit.is_error());
    assert!(handle.is_finished());
    let failure = app.world().resource::<Failure>().0.clone().expect("the failure is recorded");
    assert!(failure.contains("udp") && failure.contains(CAUSED), "{failure}");
}
