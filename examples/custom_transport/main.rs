//! A custom transport: frames over TCP, each behind its length.
//!
//! Run `cargo run --example custom_transport`. A client asks discovery, which offers `tcp`, and joins the arena. The
//! example ends by itself. The module `tcp` has the link, which both ends use, and `server` has the listener and the
//! adapter.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

mod server;
mod tcp;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::App;
use waystation::admin::{AddHttp as _, ConnectAuth, HttpConfig, HttpServer};
use waystation::arena::ArenaPlugin;
use waystation::client::{AnyDial, AnyLink, Client, ClientConfig, ClientEvent, Transport};
use waystation::proxy::AddListener as _;
use waystation::server::ServerPlugins;
use waystation::tick::{self, StopHandle};
use waystation::wire::{WireMessage as _, v1::Joined};

fn serve(http: HttpServer, stop: &StopHandle) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tcp = server::TcpListening::bind(([127, 0, 0, 1], 0).into())?;
    let mut app = App::new();
    app.add_plugins((ServerPlugins::default(), ArenaPlugin::default()))
        .add_listener(tcp)?
        .add_http(http, None)?;
    tick::run(&mut app, stop);
    Ok(())
}

fn play(discovery: SocketAddr) -> Result<(), Box<dyn Error>> {
    let dial = AnyDial::new([format!("http://{discovery}")])?.transport("tcp", |offer, _| tcp::dial(offer));
    let mut client = Client::new(dial, ClientConfig::default());
    for _ in 0..500 {
        client.update(Duration::from_millis(10));
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => _ = client.join("arena", "")?,
                ClientEvent::Message(frame) if frame.id == Joined::ID => {
                    let over = client.link().and_then(AnyLink::transport);
                    println!("joined the arena over {}", over.map_or("nothing", Transport::name));
                    client.bye();
                    return Ok(());
                }
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err("the client has not joined the arena within five seconds".into())
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let (listen, connect_auth) = (([127, 0, 0, 1], 0).into(), ConnectAuth::everybody());
    let http = HttpServer::bind(HttpConfig { listen, connect_auth, ..HttpConfig::default() })?;
    let (discovery, stop) = (http.local_addr(), StopHandle::default());
    let stopped = stop.clone();
    let serving = thread::spawn(move || serve(http, &stopped));
    let played = play(discovery);
    stop.stop();
    serving.join().map_err(|_| "the server panicked")?.map_err(|error| error.to_string())?;
    played
}
