//! A flood of logins, on a server on which 20 clients play.
//!
//! Run `cargo run --release --example login_flood -- 30`. It sends 1,000 logins a second for 30 seconds. The
//! authenticator never answers one login of ten, and panics at another one of ten. The example exits with an error if
//! a call of a player has no reply.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

mod clients;

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Say};
use waystation::client::UdpDial;
use waystation::gate::{AddAuthenticator as _, Authenticator, Question};
use waystation::identity::{CredentialKind, Credentials, Principal};
use waystation::proxy::loopback::Loopback;
use waystation::proxy::{self, AddListener as _, renet};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::server::ServerPlugins;
use waystation::session::SessionCounts;
use waystation::tick::{self, StopHandle, TickStats, Verdict};
use waystation::wire::udp::DEV_KEY;
use waystation::zone::Zone;

/// Accepts players at once. Denies all others after 20 ms, except that it never answers some and panics at some.
struct Slow;

impl Authenticator for Slow {
    async fn check(&self, question: Question) -> Verdict {
        let Credentials::Password { user, .. } = question.credentials else {
            return Verdict::Deny(String::new());
        };
        if user != "player" {
            match question.id.0 % 10 {
                0 => std::future::pending().await,
                1 => panic!("intended"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            return Verdict::Deny("no such user".to_owned());
        }
        Verdict::Accept(Principal::named(&user))
    }
}

fn echo(mut calls: MessageReader<Call<Say>>, mut sender: Sender) {
    for call in calls.read() {
        sender.reply(call, &Echo { number: call.message.number, taken: 0 });
    }
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let seconds: u32 = std::env::args().nth(1).map_or(Ok(30), |text| text.parse())?;
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = renet::RenetProxy::bind(renet::RenetConfig { listen, ..renet::RenetConfig::new(DEV_KEY) })?;
    let (mint, stop) = (udp.mint(), StopHandle::default());
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_authenticator([CredentialKind::Password], Slow)
        .add_call::<Say>()
        .add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("hall")))
        .add_systems(Update, echo);
    let links = Loopback::new(proxy::attach(&mut app, "loopback"));
    app.add_listener(udp)?;
    let players: Vec<_> = (0..20)
        .map(|_| UdpDial::minting(mint.clone()))
        .map(|dial| thread::spawn(move || clients::play(dial, seconds * 100)))
        .collect();
    let flooding = thread::spawn(move || clients::flood(&links, seconds * 100));
    let stopped = stop.clone();
    let ends = thread::spawn(move || {
        let played: Vec<_> = players.into_iter().map(thread::JoinHandle::join).collect();
        _ = flooding.join();
        stopped.stop();
        played
    });
    tick::run(&mut app, &stop);
    let world = app.world();
    println!("ticks {:?}", world.resource::<TickStats>().summary());
    println!("denied {}", world.resource::<SessionCounts>().denied_count);
    for played in ends.join().map_err(|_| "a thread panicked")? {
        let (sent, answered) = played.map_err(|_| "a player panicked")??;
        println!("sent {sent}, answered {answered}");
        if sent != answered || sent == 0 {
            return Err("a call of a player has no reply".into());
        }
    }
    Ok(())
}
