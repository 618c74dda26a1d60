//! A custom page on the HTTP port of the server, which shows the counters of the adapters.
//!
//! Run `cargo run --example status_page`. A client connects over WebSocket, and the example prints the page. It ends
//! by itself.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use waystation::admin::axum::{Router, routing};
use waystation::admin::{AddHttp as _, HttpConfig, HttpServer};
use waystation::client::{AnyDial, Client, ClientConfig};
use waystation::proxy::Proxies;
use waystation::proxy::websocket::{WebSocketConfig, WebSocketProxy};
use waystation::server::ServerPlugins;
use waystation::session::SessionTable;
use waystation::tick::{self, StopHandle, TickTime};

/// The text of the page. The tick writes it and the HTTP thread reads it.
#[derive(Resource, Clone, Default)]
struct Page(Arc<Mutex<String>>);

impl Page {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes the page every fifth tick.
fn write_page(page: Res<Page>, time: Res<TickTime>, table: Res<SessionTable>, proxies: Res<Proxies>) {
    if time.tick().0.is_multiple_of(5) {
        let counters: Vec<String> = proxies.counters().iter().map(ToString::to_string).collect();
        let text = format!("sessions={}\n{}\n", table.session_count(), counters.join("\n"));
        *page.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

fn serve(http: HttpServer, stop: &StopHandle) -> Result<(), Box<dyn Error + Send + Sync>> {
    let page = Page::default();
    let shown = page.clone();
    let routes = Router::new().route("/status", routing::get(move || std::future::ready(shown.text())));
    let mut app = App::new();
    let websocket = WebSocketProxy::new(WebSocketConfig::default())?;
    app.add_plugins(ServerPlugins::default())
        .insert_resource(page)
        .add_systems(Update, write_page)
        .add_http(http.routes(routes), Some(websocket))?;
    tick::run(&mut app, stop);
    Ok(())
}

/// Returns the HTTP response for a path.
fn ask(server: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let http = HttpServer::bind(HttpConfig { listen, ..HttpConfig::default() })?;
    let (server, stop) = (http.local_addr(), StopHandle::default());
    let stopped = stop.clone();
    let serving = thread::spawn(move || serve(http, &stopped));
    let dial = AnyDial::new([format!("ws://{server}/ws")])?;
    let mut client = Client::new(dial, ClientConfig::default());
    for _ in 0..100 {
        client.update(Duration::from_millis(20));
        while client.poll().is_some() {}
        thread::sleep(Duration::from_millis(20));
    }
    println!("{}", ask(server, "/status")?);
    client.bye();
    stop.stop();
    serving.join().map_err(|_| "the server panicked")?.map_err(|error| error.to_string().into())
}
