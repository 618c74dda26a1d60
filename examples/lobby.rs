//! A zone that asks the game about each Join, and moves between zones.
//!
//! Run `cargo run --example lobby`. Ada and Bob join the lobby and then the match, first with a wrong password. The
//! match asks the game, which accepts a Join with the right password. Two seconds after both have joined, the match
//! is over, and the game moves both back to the lobby. The example ends by itself.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::client::{Client, ClientConfig, ClientEvent, UdpDial};
use waystation::proxy::{AddListener as _, renet};
use waystation::server::ServerPlugins;
use waystation::tick::{self, StopHandle};
use waystation::wire::{udp::DEV_KEY, v1};
use waystation::zone::{JoinRequested, Members, MembershipCommands as _, Zone, ZoneTicked, Zones};

fn open(mut commands: Commands) {
    commands.spawn(Zone::new("lobby"));
    commands.spawn((Zone::new("match").capacity(2).hz(1).asks(), Match::default()));
}

/// For how many ticks of its zone the match has had two members.
#[derive(Component, Default)]
struct Match(u32);

/// Answers each ask. An ask without an answer is cancelled after five seconds. A session that the game accepts is
/// still refused if the zone has no room.
fn doorman(mut requests: MessageReader<JoinRequested>, mut commands: Commands) {
    for request in requests.read() {
        if request.payload == "swordfish" {
            commands.accept_join_with(request, "good luck".into());
        } else {
            commands.refuse_join(request, "wrong password");
        }
    }
}

fn end_match(
    mut ticks: MessageReader<ZoneTicked>,
    mut matches: Query<(&mut Match, &Members)>,
    zones: Res<Zones>,
    mut commands: Commands,
) {
    for tick in ticks.read() {
        let Ok((mut played, members)) = matches.get_mut(tick.zone) else { continue };
        played.0 = if members.count() == 2 { played.0 + 1 } else { 0 };
        let Some(lobby) = zones.find("lobby").filter(|_| played.0 >= 2) else { continue };
        members.entities().for_each(|member| commands.move_zone(member, lobby));
    }
}

fn serve(udp: renet::RenetProxy, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_systems(Startup, open)
        .add_systems(Update, (doorman, end_match))
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

/// Prints the server's messages about memberships.
fn report(name: &str, event: &ClientEvent) {
    let ClientEvent::Message(frame) = event else { return };
    if let Ok(joined) = frame.decode::<v1::Joined>() {
        let payload = String::from_utf8_lossy(&joined.payload).into_owned();
        println!("{name} is in the {}{}{payload}", joined.zone, if payload.is_empty() { "" } else { ": " });
    } else if let Ok(parted) = frame.decode::<v1::Parted>() {
        println!("{name} has left the {} ({})", parted.zone, parted.reason());
    } else if let Ok(refused) = frame.decode::<v1::Refused>() {
        println!("{name} is refused ({}): {}", refused.reason(), refused.detail);
    }
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
    let mut players = ["ada", "bob"]
        .map(|name| (name, Client::new(UdpDial::minting(mint.clone()), ClientConfig::default())));
    for step in 0..300 {
        for (name, client) in &mut players {
            match (step, *name) {
                (50, _) => _ = client.join("lobby", "")?,
                (75, _) => _ = client.join("match", "please")?,
                (100, _) => _ = client.join("match", "swordfish")?,
                _ => {}
            }
            client.update(Duration::from_millis(20));
            while let Some(event) = client.poll() {
                report(name, &event);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}
