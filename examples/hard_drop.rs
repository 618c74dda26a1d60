//! A lost link in a soft zone and in a hard zone.
//!
//! Run `cargo run --example hard_drop`. Ada is in a soft zone and Bob in a hard one. Each loses the link and
//! resumes the session after a second. Ada is still a member of her zone, and Bob is in no zone.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::client::{Client, ClientConfig, ClientEvent, Credentials, Cut, UdpDial};
use waystation::proxy::{AddListener as _, renet};
use waystation::server::ServerPlugins;
use waystation::session::{SessionDisconnected, SessionResumed};
use waystation::tick::{self, StopHandle};
use waystation::wire::udp::DEV_KEY;
use waystation::zone::{MemberDisconnected, MemberResumed, Zone, ZoneJoined, ZoneParted};

fn open(mut commands: Commands) {
    commands.spawn(Zone::new("soft"));
    commands.spawn(Zone::new("hard").hard());
}

/// Prints the news of members. A game would give a seat to a player here, keep it, or free it.
fn tell_of_members(
    mut joined: MessageReader<ZoneJoined>,
    mut away: MessageReader<MemberDisconnected>,
    mut back: MessageReader<MemberResumed>,
    mut parted: MessageReader<ZoneParted>,
) {
    joined.read().for_each(|news| println!("    game: {} joins", news.principal));
    away.read().for_each(|news| println!("    game: {} has no link and stays a member", news.principal));
    back.read().for_each(|news| println!("    game: {} has a link again", news.principal));
    parted.read().for_each(|news| println!("    game: {} leaves ({})", news.principal, news.reason));
}

/// Prints the news of sessions.
fn tell_of_sessions(mut away: MessageReader<SessionDisconnected>, mut back: MessageReader<SessionResumed>) {
    away.read().for_each(|news| println!("    game: the session of {} has lost its link", news.principal));
    back.read().for_each(|news| println!("    game: the session of {} is resumed", news.principal));
}

fn serve(udp: renet::RenetProxy, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_systems(Startup, open)
        .add_systems(Update, (tell_of_sessions, tell_of_members).chain())
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

/// Plays for four seconds, cuts the link after the first two, and ends the session.
fn play(name: &str, zone: &str, dial: UdpDial) -> Result<(), Box<dyn Error>> {
    let credentials = Credentials::Anonymous { name: name.to_owned() };
    let mut client = Client::new(dial, ClientConfig { credentials, ..ClientConfig::default() });
    for step in 0..200 {
        if step == 100 {
            println!("{name} loses the link");
            client.cut(Cut::Close { hold: Duration::from_secs(1) });
        }
        client.update(Duration::from_millis(20));
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => _ = client.join(zone, "")?,
                ClientEvent::Resumed { .. } => {
                    let zone = client.welcome().map(|welcome| welcome.zone.as_str()).unwrap_or_default();
                    println!("{name} has resumed, in {}", if zone.is_empty() { "no zone" } else { zone });
                }
                ClientEvent::Closed { detail, .. } if step < 195 => return Err(detail.into()),
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(20));
        if step == 195 {
            client.bye();
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = renet::RenetProxy::bind(renet::RenetConfig { listen, ..renet::RenetConfig::new(DEV_KEY) })?;
    let (mint, stop) = (udp.mint(), StopHandle::default());
    let stopped = stop.clone();
    let server = thread::spawn(move || serve(udp, &stopped));
    play("ada", "soft", UdpDial::minting(mint.clone()))?;
    play("bob", "hard", UdpDial::minting(mint))?;
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}
