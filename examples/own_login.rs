//! A custom authenticator, which asks an HTTP endpoint about each login while the tick goes on.
//!
//! Run `cargo run --example own_login`. Ada logs in with the right password and Eve with a wrong one. The endpoint
//! takes half a second for each answer. The example ends by itself.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use waystation::client::{Client, ClientConfig, ClientEvent, UdpDial};
use waystation::gate::{AddAuthenticator as _, Authenticator, Question};
use waystation::identity::{CredentialKind, Credentials, Principal};
use waystation::proxy::{AddListener as _, renet};
use waystation::server::ServerPlugins;
use waystation::session::SessionRegistered;
use waystation::tick::{self, StopHandle, Verdict};
use waystation::wire::udp::DEV_KEY;
use waystation::zone::Zone;

/// Asks the HTTP endpoint at this address. It answers 200 if the name and the password are right.
struct HttpLogin(SocketAddr);

impl Authenticator for HttpLogin {
    async fn check(&self, question: Question) -> Verdict {
        let Credentials::Password { user, password, .. } = question.credentials else {
            return Verdict::Deny("log in with a name and a password".to_owned());
        };
        match self.ask(&format!("{user}:{password}")).await {
            Ok(200) => Verdict::Accept(Principal::named(&user)),
            Ok(_) => Verdict::Deny("wrong name or password".to_owned()),
            Err(_) => Verdict::RetryAfter(Duration::from_secs(2)),
        }
    }
}

impl HttpLogin {
    /// Sends a request and returns the status of the response. A real game would use an HTTP client, and TLS.
    async fn ask(&self, body: &str) -> Result<u16, Box<dyn Error + Send + Sync>> {
        let mut stream = tokio::net::TcpStream::connect(self.0).await?;
        let length = body.len();
        let request = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.split(' ').nth(1).ok_or("no status")?.parse()?)
    }
}

/// Serves the endpoint. In production it is another server.
fn answer_logins(listener: &TcpListener) -> std::io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        let lines = BufReader::new(stream.try_clone()?).lines();
        let body = lines.skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).nth(1);
        thread::sleep(Duration::from_millis(500));
        let is_right = body.transpose()?.as_deref() == Some("ada:swordfish");
        let status = if is_right { "200 OK" } else { "403 Forbidden" };
        write!(stream, "HTTP/1.0 {status}\r\n\r\n")?;
    }
    Ok(())
}

fn greet(mut registered: MessageReader<SessionRegistered>) {
    registered.read().for_each(|news| println!("server: a session for {}", news.principal));
}

fn serve(udp: renet::RenetProxy, login: HttpLogin, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_authenticator([CredentialKind::Password], login)
        .add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("hall")))
        .add_systems(Update, greet)
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

/// Logs in over a link of its own, and prints the outcome.
fn log_in(dial: UdpDial, user: &str, password: &str) {
    let (realm, slot) = (String::new(), String::new());
    let credentials = Credentials::Password { user: user.into(), realm, password: password.into(), slot };
    let mut client = Client::new(dial, ClientConfig { credentials, ..ClientConfig::default() });
    let outcome = loop {
        client.update(Duration::from_millis(10));
        match client.poll() {
            Some(ClientEvent::Connected { session }) => break format!("has session {session}"),
            Some(ClientEvent::Closed { detail, .. }) => break format!("is denied: {detail}"),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    };
    println!("{user} {outcome}");
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let endpoint = TcpListener::bind("127.0.0.1:0")?;
    let login = HttpLogin(endpoint.local_addr()?);
    thread::spawn(move || answer_logins(&endpoint));
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = renet::RenetProxy::bind(renet::RenetConfig { listen, ..renet::RenetConfig::new(DEV_KEY) })?;
    let (mint, stop) = (udp.mint(), StopHandle::default());
    let stopped = stop.clone();
    let server = thread::spawn(move || serve(udp, login, &stopped));
    log_in(UdpDial::minting(mint.clone()), "ada", "swordfish");
    log_in(UdpDial::minting(mint), "eve", "guess");
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}
