//! A client that loses its link in three ways, and resumes the same session each time.
//!
//! Run `cargo run --example reconnect`. The server sends ten numbered beats a second. The client cuts its link twice
//! and checks that no beat is missing. Then it keeps only its token, as a restarted program would, and the resume is
//! a resync. The example takes eight seconds.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy_app::{App, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::client::{Client, ClientConfig, ClientEvent, Cut, UdpDial};
use waystation::ident::MessageId;
use waystation::proxy::{AddListener as _, renet};
use waystation::rpc::Sender;
use waystation::server::ServerPlugins;
use waystation::tick::{self, StopHandle};
use waystation::wire::{WireMessage, prost, udp::DEV_KEY};
use waystation::zone::{Zone, ZoneTicked};

#[derive(Clone, PartialEq, prost::Message)]
struct Beat {
    #[prost(uint64, tag = 1)]
    number: u64,
}
impl WireMessage for Beat {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "reconnect.Beat";
}

fn beat(mut ticks: MessageReader<ZoneTicked>, mut sender: Sender) {
    for tick in ticks.read() {
        sender.broadcast(tick.zone, &Beat { number: tick.frame });
    }
}

fn serve(udp: renet::RenetProxy, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("clock").hz(10)))
        .add_systems(Update, beat)
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

/// Updates the client for some steps. Checks the numbers of the beats and prints the other events.
fn listen(client: &mut Client<UdpDial>, last: &mut Option<u64>, steps: u32) -> Result<(), Box<dyn Error>> {
    let mut first = None;
    for _ in 0..steps {
        client.update(STEP);
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { session } => {
                    println!("connected as {session}");
                    client.join("clock", "")?;
                }
                ClientEvent::LinkLost => println!("  the link is lost"),
                ClientEvent::Resumed { session, resync } => {
                    println!("  resumed as {session}{}", if resync { ", with a resync" } else { "" });
                    // After a resync the beats that were in flight are void.
                    *last = last.filter(|_| !resync);
                }
                ClientEvent::Message(frame) => {
                    let Ok(Beat { number }) = frame.decode() else { continue };
                    first.get_or_insert(number);
                    if last.replace(number).is_some_and(|last| last + 1 != number) {
                        return Err(format!("beat {number} followed beat {last:?}").into());
                    }
                }
                ClientEvent::SessionLost { .. } => return Err("the session is lost".into()),
                ClientEvent::Closed { detail, .. } => return Err(detail.into()),
            }
        }
        thread::sleep(STEP);
    }
    println!("  beats {} to {}, none missing", first.unwrap_or(0), last.unwrap_or(0));
    Ok(())
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let listen_on = ([127, 0, 0, 1], 0).into();
    let config = renet::RenetConfig { listen: listen_on, ..renet::RenetConfig::new(DEV_KEY) };
    let udp = renet::RenetProxy::bind(config)?;
    let (mint, stop) = (udp.mint(), StopHandle::default());
    let stopped = stop.clone();
    let server = thread::spawn(move || serve(udp, &stopped));

    let mut last = None;
    let mut client = Client::new(UdpDial::minting(mint.clone()), ClientConfig::default());
    listen(&mut client, &mut last, 100)?;
    println!("cut: the server does not notice, and the client opens another link at once");
    client.cut(Cut::Silent { hold: Duration::ZERO });
    listen(&mut client, &mut last, 75)?;
    println!("cut: the server notices, and the client has no link for two seconds");
    client.cut(Cut::Close { hold: Duration::from_secs(2) });
    listen(&mut client, &mut last, 150)?;
    println!("restart: a new client has only the token");
    let token = client.token().ok_or("no token")?.to_vec();
    drop(client);
    let mut client = Client::resume_with_token(UdpDial::minting(mint), ClientConfig::default(), token);
    listen(&mut client, &mut last, 75)?;
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}

const STEP: Duration = Duration::from_millis(20);
