//! The smallest game: a server moves a ball, and a client pushes and draws it.
//!
//! Run `cargo run --example hello`. For five seconds a ball rolls along a line. When it reaches an end of the line,
//! the client sends a push, and the server moves the ball back. Server and client are in one process, and exchange
//! their messages over UDP.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use waystation::client::{Client, ClientConfig, ClientEvent, UdpDial};
use waystation::ident::MessageId;
use waystation::prelude::*;
use waystation::proxy::renet;
use waystation::tick::{self, StopHandle};
use waystation::wire::{prost, udp::DEV_KEY, udp::TokenMint};

/// A call from the client: pushes the ball. A real game declares its messages in `.proto` files, and the feature
/// `build` generates this code.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(prost_path = "waystation::wire::prost")]
struct Push {
    #[prost(bool, tag = 1)]
    to_the_right: bool,
}
impl WireMessage for Push {
    const ID: MessageId = MessageId::new(0x0100); // 0x0100 to 0x7FFF: reliable.
    const NAME: &'static str = "hello.Push";
}

/// A broadcast from the server: the position of the ball.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(prost_path = "waystation::wire::prost")]
struct Place {
    #[prost(float, tag = 1)]
    x: f32,
}
impl WireMessage for Place {
    const ID: MessageId = MessageId::new(0x8100); // 0x8100 to 0xFFFF: unreliable.
    const NAME: &'static str = "hello.Place";
}

/// The state of the game, on the entity of the zone: the position of the ball, and its speed.
#[derive(Component, Default)]
struct Ball(f32, f32);

fn take_pushes(mut pushes: MessageReader<Call<Push>>, mut balls: Query<&mut Ball>) {
    for push in pushes.read() {
        let Ok(mut ball) = balls.get_mut(push.zone) else { continue };
        ball.1 = if push.message.to_the_right { SPEED } else { -SPEED };
    }
}

fn roll(mut ticks: MessageReader<ZoneTicked>, mut balls: Query<&mut Ball>, mut sender: Sender) {
    for tick in ticks.read() {
        let Ok(mut ball) = balls.get_mut(tick.zone) else { continue };
        ball.0 = (ball.0 + ball.1 * tick.dt.as_secs_f32()).clamp(0.0, LINE);
        sender.broadcast(tick.zone, &Place { x: ball.0 });
    }
}

fn serve(udp: renet::RenetProxy, stop: &StopHandle) -> std::io::Result<()> {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_call::<Push>()
        .add_systems(Startup, |mut commands: Commands| {
            _ = commands.spawn((Zone::new("line"), Ball::default()))
        })
        .add_systems(Update, (take_pushes, roll).chain())
        .add_listener(udp)?;
    tick::run(&mut app, stop);
    Ok(())
}

fn play(mint: TokenMint) -> Result<(), Box<dyn Error>> {
    let mut client = Client::new(UdpDial::minting(mint), ClientConfig::default());
    for _ in 0..300 {
        client.update(FRAME);
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => _ = client.join("line", "")?,
                ClientEvent::Message(frame) => {
                    let Ok(Place { x }) = frame.decode() else { continue };
                    println!("|{:>1$}", "o", 1 + x as usize);
                    if x <= 0.0 || x >= LINE {
                        client.send(&Push { to_the_right: x <= 0.0 })?;
                    }
                }
                ClientEvent::Closed { detail, .. } => return Err(detail.into()),
                _ => {}
            }
        }
        thread::sleep(FRAME);
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
    play(mint)?;
    stop.stop();
    Ok(server.join().map_err(|_| "the server panicked")??)
}

const LINE: f32 = 60.0;
const SPEED: f32 = 40.0;
const FRAME: Duration = Duration::from_millis(16);
