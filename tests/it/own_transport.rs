//! Tests the example's own transport: a client finds it by discovery, resumes over it, and it is counted.

use std::thread;
use std::time::Duration;

use bevy_app::App;
use waystation::admin::{AddHttp as _, ConnectAuth, HttpConfig, HttpServer};
use waystation::arena::ArenaPlugin;
use waystation::arena::v1::{Echo, Say};
use waystation::client::{AnyDial, Client, ClientConfig, ClientEvent, Cut, Transport};
use waystation::config::ServerConfig;
use waystation::proxy::{AddListener as _, Proxies};
use waystation::server::ServerPlugins;
use waystation::session::SessionCounts;
use waystation::tick::TickRate;

#[path = "../../examples/custom_transport/server.rs"]
mod server;
#[path = "../../examples/custom_transport/tcp.rs"]
mod tcp;

/// The time of an update on the client's clock, and its minimum in real time.
const STEP: Duration = Duration::from_millis(5);

#[test]
fn a_games_own_transport_is_offered_dialled_resumed_and_counted() {
    let listen = ([127, 0, 0, 1], 0).into();
    let mut config = ServerConfig { rate: TickRate::new(200).expect("in range"), ..ServerConfig::default() };
    config.gate.exempt_loopback = true;
    // No session expires, even on a slow machine.
    config.session.timeout = Duration::from_secs(600);
    let connect_auth = ConnectAuth::everybody();
    let http =
        HttpServer::bind(HttpConfig { listen, connect_auth, ..HttpConfig::default() }).expect("a port");
    let discovery = format!("http://{}", http.local_addr());
    let mut app = App::new();
    app.add_plugins((ServerPlugins::new(config), ArenaPlugin { agents: 0, ..ArenaPlugin::default() }));
    app.add_listener(server::TcpListening::bind(listen).expect("a port")).expect("a thread");
    app.add_http(http, None).expect("a thread");
    let dial = AnyDial::new([discovery]).expect("a URL").transport("tcp", |offer, _| tcp::dial(offer));
    let mut client = Client::new(dial, ClientConfig::default());

    let (mut echoes, mut resumed, mut over) = (Vec::new(), 0, None);
    for step in 0..20_000 {
        thread::sleep(STEP);
        app.update();
        client.update(STEP);
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => {
                    client.join("arena", "").expect("it has room");
                    client.send(&Say { number: 1 }).expect("it has room");
                }
                ClientEvent::Message(frame) => {
                    echoes.extend(frame.decode::<Echo>().map(|echo| echo.number));
                    if echoes == [1] && resumed == 0 && client.link().is_some() {
                        client.cut(Cut::Close { hold: Duration::ZERO });
                        client.send(&Say { number: 2 }).expect("it has room");
                        resumed = 1;
                    }
                }
                ClientEvent::Resumed { resync, .. } => {
                    assert!(!resync);
                    over = client.link().and_then(waystation::client::AnyLink::transport);
                }
                ClientEvent::Closed { reason, detail, .. } => {
                    panic!("after {step} steps: {reason:?} {detail}")
                }
                _ => {}
            }
        }
        if echoes == [1, 2] && over.is_some() {
            break;
        }
    }

    assert_eq!((echoes, over), (vec![1, 2], Some(Transport::named("tcp"))));
    let counts = app.world().resource::<SessionCounts>();
    assert_eq!((counts.registered_count, counts.resumed_count), (1, 1));
    let counters = app.world().resource::<Proxies>().counters();
    assert_eq!(counters[0].to_string(), "tcp.opened=2");
}
