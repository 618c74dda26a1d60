//! A bot of a game's own: it throws dice, its links are cut, and each throw must be answered exactly once.
//!
//! Run `cargo run --example own_bot`. Server and bots are in one process, and exchange their messages over UDP. Eight
//! bots throw dice for 20 seconds, and their report is printed.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use waystation::admin::{AddHttp as _, ConnectAuth, HttpConfig, HttpServer};
use waystation::bot::{self, Bot, BotOptions, BotReport, Play};
use waystation::client::Frame;
use waystation::ident::MessageId;
use waystation::prelude::*;
use waystation::proxy::renet;
use waystation::tick::{self, StopHandle};
use waystation::wire::{prost, udp::DEV_KEY};

/// A call from a player: throws one die. A client that is no bot leaves the number out.
#[derive(Clone, PartialEq, prost::Message)]
struct Throw {
    #[prost(uint64, tag = 1)]
    number: u64,
}
impl WireMessage for Throw {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "dice.Throw";
}

/// A broadcast to the table: the name of the player, the result, and the number of the Throw.
#[derive(Clone, PartialEq, prost::Message)]
struct Thrown {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(uint32, tag = 2)]
    pips: u32,
    #[prost(uint64, tag = 3)]
    number: u64,
}
impl WireMessage for Thrown {
    const ID: MessageId = MessageId::new(0x0101);
    const NAME: &'static str = "dice.Thrown";
}

#[derive(Default)]
struct DiceBot {
    throw_at: Duration,
}

impl Bot for DiceBot {
    fn zone(&self) -> &str {
        "table"
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        if play.now() >= self.throw_at {
            self.throw_at = play.now() + Duration::from_millis(100);
            play.call_numbered(|number| Throw { number });
        }
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        // The bot also sees the throws of others.
        if let Ok(thrown) = frame.decode::<Thrown>()
            && thrown.name == play.name()
        {
            play.answered(thrown.number);
        }
    }
}

fn throw(
    mut calls: MessageReader<Call<Throw>>,
    names: Query<&Principal>,
    mut rng: ResMut<GameRng>,
    mut sender: Sender,
) {
    for call in calls.read() {
        let pips = rng.below(6) + 1;
        let name = names.get(call.entity).map_or("nobody", Principal::name).to_owned();
        sender.broadcast(call.zone, &Thrown { name, pips, number: call.message.number });
    }
}

/// Serves the game on free ports of this machine, and runs bots on it.
pub(crate) fn play(options: &BotOptions) -> Result<BotReport, Box<dyn Error>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let udp = renet::RenetProxy::bind(renet::RenetConfig { listen, ..renet::RenetConfig::new(DEV_KEY) })?;
    let connect_auth = ConnectAuth::everybody();
    let http = HttpServer::bind(HttpConfig { listen, connect_auth, ..HttpConfig::default() })?;
    let options = BotOptions { server: format!("http://{}", http.local_addr()), ..options.clone() };
    let stop = StopHandle::default();
    let stopped = stop.clone();
    let server = thread::spawn(move || -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut app = App::new();
        app.add_plugins(ServerPlugins::default()).add_call::<Throw>().add_systems(Update, throw);
        app.add_systems(Startup, |mut commands: Commands| _ = commands.spawn(Zone::new("table")));
        app.add_listener(udp)?.add_http(http, None)?;
        tick::run(&mut app, &stopped);
        Ok(())
    });
    let report = bot::run(&options, |_| DiceBot::default());
    stop.stop();
    server.join().map_err(|_| "the server panicked")?.map_err(|error| error.to_string())?;
    Ok(report?)
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = BotOptions { clients: 8, cut_every: Some(Duration::from_secs(3)), ..BotOptions::default() };
    println!("{}", play(&options)?);
    Ok(())
}
