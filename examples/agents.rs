//! Agents: sessions without a network, which play by the same calls as everybody.
//!
//! Run `cargo run --example agents`. Three agents guess a number. The game answers each guess and
//! does not know that they are agents; one hits, and the server stops.

#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use bevy_app::{App, AppExit, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::ident::MessageId;
use waystation::identity::Principal;
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::server::ServerPlugins;
use waystation::session::{Agent, Delivered, SpawnAgent as _};
use waystation::tick::{self, Dice, StopHandle};
use waystation::wire::{WireMessage, prost, v1::Joined};
use waystation::zone::Zone;

/// What a member thinks the number is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Guess {
    #[prost(uint64, tag = 1)]
    number: u64,
}
impl WireMessage for Guess {
    const ID: MessageId = MessageId::new(0x0100);
    const NAME: &'static str = "agents.Guess";
}

/// How a guess was: too low, too high, or neither.
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

/// What an agent knows, on its session's entity: the number is in between.
#[derive(Component)]
struct Mind {
    low: u64,
    high: u64,
}

fn open(mut commands: Commands, mut dice: ResMut<Dice>) {
    commands.spawn(Zone::new("booth"));
    commands.insert_resource(Secret(dice.below(1_000).into()));
    for (name, high) in [("bisector", 1_000), ("optimist", 100_000), ("plodder", 10_000_000)] {
        let mut agent = commands.spawn_agent(name);
        agent.insert(Mind { low: 0, high });
        agent.entry::<Agent>().and_modify(|mut agent| agent.join("booth"));
    }
}

/// The game: it would answer players in just this way.
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
            println!("{name} has it");
            exit.write(AppExit::Success);
        }
    }
}

/// The agents: they act on what they are told, as a client would.
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
