//! What a lost link means in a soft zone, and what in a hard one.
//!
//! Run `cargo run --example hard_drop`. Ada sits at a soft table and Bob at a hard one; both are
//! cut off and back after a second. Ada kept her seat; Bob has the same session, and none.

#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
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

/// What the game is told. Each of these would be where a game seats a player, holds the seat, or
/// gives it to somebody else.
fn tell_of_members(
    mut joined: MessageReader<ZoneJoined>,
    mut away: MessageReader<MemberDisconnected>,
    mut back: MessageReader<MemberResumed>,
    mut parted: MessageReader<ZoneParted>,
) {
    joined.read().for_each(|news| println!("    game: {} joins", news.principal));
    away.read().for_each(|news| println!("    game: {} is away, and still a member", news.principal));
    back.read().for_each(|news| println!("    game: {} is back, and never left", news.principal));
    parted.read().for_each(|news| println!("    game: {} is out ({})", news.principal, news.reason));
}

fn tell_of_sessions(mut away: MessageReader<SessionDisconnected>, mut back: MessageReader<SessionResumed>) {
    away.read().for_each(|news| println!("    game: session of {} has no link", news.principal));
    back.read().for_each(|news| println!("    game: session of {} goes on", news.principal));
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

/// Plays for four seconds, with a cut after the second one, and leaves.
fn play(name: &str, zone: &str, dial: UdpDial) -> Result<(), Box<dyn Error>> {
    let credentials = Credentials::Anonymous { name: name.to_owned() };
    let mut client = Client::new(dial, ClientConfig { credentials, ..ClientConfig::default() });
    for step in 0..200 {
        if step == 100 {
            println!("{name} is cut off");
            client.cut(Cut::Close { hold: Duration::from_secs(1) });
        }
        client.update(Duration::from_millis(20));
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => _ = client.join(zone, "")?,
                ClientEvent::Resumed { .. } => {
                    let zone = client.welcome().map(|welcome| welcome.zone.as_str()).unwrap_or_default();
                    println!("{name} is back, in {}", if zone.is_empty() { "no zone" } else { zone });
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

fn main() -> Result<(), Box<dyn Error>> {
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
