//! Agents: sessions without a network, which send and receive the same messages as players.
//!
//! Run `cargo run --example agents`. Three agents guess a number. The game answers each guess with the same code
//! that would answer a player. When an agent finds the number, the server stops.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use bevy_app::{App, AppExit, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::ident::MessageId;
use waystation::identity::Principal;
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::server::ServerPlugins;
use waystation::session::{Agent, Delivered, SpawnAgent as _};
use waystation::tick::{self, GameRng, StopHandle};
use waystation::wire::{WireMessage, prost, v1::Joined};
use waystation::zone::Zone;

/// A call: the number that a member guesses.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Guess {
    #[prost(uint64, tag = 1)]
    number: u64,
}
impl WireMessage for Guess {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "agents.Guess";
}

/// The reply to a guess. The number is found if the guess is neither too low nor too high.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Answer {
    #[prost(uint64, tag = 1)]
    number: u64,
    #[prost(bool, tag = 2)]
    is_low: bool,
    #[prost(bool, tag = 3)]
    is_high: bool,
}
impl WireMessage for Answer {
    const ID: MessageId = MessageId::new(0x0101);
    const NAME: &'static str = "agents.Answer";
}

#[derive(Resource)]
struct Secret(u64);

/// The numbers between which an agent searches, on the entity of its session.
#[derive(Component)]
struct Mind {
    low: u64,
    high: u64,
}

fn open(mut commands: Commands, mut rng: ResMut<GameRng>) {
    commands.spawn(Zone::new("booth"));
    commands.insert_resource(Secret(rng.below(1_000).into()));
    for (name, high) in [("bisector", 1_000), ("optimist", 100_000), ("plodder", 10_000_000)] {
        let mut agent = commands.spawn_agent(name);
        agent.insert(Mind { low: 0, high });
        agent.entry::<Agent>().and_modify(|mut agent| agent.join("booth", ""));
    }
}

/// The game: answers guesses, of agents and players alike.
fn answer(
    mut guesses: MessageReader<Call<Guess>>,
    secret: Res<Secret>,
    names: Query<&Principal>,
    mut sender: Sender,
    mut exit: MessageWriter<AppExit>,
) {
    for call in guesses.read() {
        let number = call.message.number;
        sender.reply(call, &Answer { number, is_low: number < secret.0, is_high: number > secret.0 });
        let name = names.get(call.entity).map_or("somebody", Principal::name);
        println!("tick {}: {name} guesses {number}", call.tick);
        if number == secret.0 {
            println!("{name} has found the number");
            exit.write(AppExit::Success);
        }
    }
}

/// The agents: guess after each answer, as a client would.
fn think(
    mut joined: MessageReader<Delivered<Joined>>,
    mut answers: MessageReader<Delivered<Answer>>,
    mut minds: Query<(&mut Agent, &mut Mind)>,
) {
    let joined = joined.read().map(|joined| (joined.entity, Answer::default()));
    let answers = answers.read().map(|answer| (answer.entity, *answer.message));
    for (entity, answer) in joined.chain(answers) {
        let Ok((mut agent, mut mind)) = minds.get_mut(entity) else { continue };
        if answer.is_low {
            mind.low = answer.number + 1;
        } else if answer.is_high {
            mind.high = answer.number;
        }
        agent.call(Guess { number: mind.low.midpoint(mind.high) });
    }
}

fn main() {
    let mut app = App::new();
    app.add_plugins(ServerPlugins::default())
        .add_call::<Guess>()
        .add_delivery::<Answer>()
        .add_systems(Startup, open)
        .add_systems(Update, (answer, think).chain());
    tick::run(&mut app, &StopHandle::default());
}
