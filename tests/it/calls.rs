//! What reaches a game of what it is sent, and whom its answers reach.

use bevy_app::Update;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce as _;
use waystation::arena::v1::{Echo, Input};
use waystation::rpc::{AppRpc as _, Sender};
use waystation::session::{Agent, Delivered, Session, SessionCounts, SessionState, SpawnAgent as _};
use waystation::testing::{Harness, Player, Via};

use crate::support::{Heard, echoes, game, said, say};

/// Echoes that agents were delivered.
#[derive(Resource, Debug, Default)]
struct Delivery(Vec<u64>);

/// A game with an agent in `hall`.
fn game_with_agent() -> (Harness, Entity) {
    let mut game = game();
    game.app.add_delivery::<Echo>().init_resource::<Delivery>().add_systems(
        Update,
        |mut echoes: MessageReader<Delivered<Echo>>, mut delivery: ResMut<Delivery>| {
            delivery.0.extend(echoes.read().map(|echo| echo.message.number));
        },
    );
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();
    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").join("hall");
    game.exchange(&mut []);
    (game, agent)
}

/// What a system of the game's would send, had it run in the last tick.
fn send(game: &mut Harness, what: impl FnOnce(&mut Sender) + Send + Sync + 'static) {
    let mut what = Some(what);
    let system = move |mut sender: Sender| {
        if let Some(what) = what.take() {
            what(&mut sender);
        }
    };
    game.app.world_mut().run_system_once(system).expect("it runs");
}

fn entity(game: &Harness, player: &Player) -> Entity {
    game.entity(player.session()).expect("a live session")
}

fn echo(number: u64) -> Echo {
    Echo { number, taken: 0 }
}

#[test]
fn ow_17_a_list_reaches_those_on_it_once_and_nobody_else() {
    let (mut game, agent) = game_with_agent();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);
    let mut eve = game.member(Via::Beta, "hall");
    let list = [entity(&game, &ada), agent, entity(&game, &bob), entity(&game, &ada)];

    send(&mut game, move |sender| {
        sender.send_to(list, &echo(1));
        sender.send_to([], &echo(2));
        sender.send(list[0], &echo(3));
    });
    game.exchange(&mut [&mut ada, &mut bob, &mut eve]);

    assert_eq!(echoes(&mut ada), [1, 3], "in the order of the calls");
    assert_eq!((echoes(&mut bob), echoes(&mut eve)), (vec![1], vec![]));
    assert_eq!(game.resource::<Delivery>().0, [1]);
}

#[test]
fn ow_17_a_broadcast_but_for_one_reaches_the_other_members() {
    let (mut game, _) = game_with_agent();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let mut eve = game.member(Via::Beta, "attic");
    let (hall, adas) = (game.zone("hall").expect("a zone"), entity(&game, &ada));

    send(&mut game, move |sender| sender.broadcast_except(hall, adas, &echo(1)));
    game.exchange(&mut [&mut ada, &mut bob, &mut eve]);

    assert_eq!((echoes(&mut ada), echoes(&mut bob), echoes(&mut eve)), (vec![], vec![1], vec![]));
    assert_eq!(game.resource::<Delivery>().0, [1]);
}

#[test]
fn a_call_with_a_float_that_is_no_number_is_dropped_and_no_offence() {
    let (mut game, agent) = game_with_agent();
    let mut ada = game.member(Via::Alpha, "hall");

    for (tick, x) in [(1, f32::NAN), (2, f32::INFINITY), (3, f32::NEG_INFINITY), (4, f32::MAX)] {
        let input = Input { tick, x, y: 0.0 };
        ada.send(&input);
        game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").call(input);
    }
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);

    let agents = game.app.world().get::<Session>(agent).expect("a session").id();
    assert_eq!(game.resource::<Heard>().inputs, [(agents, 4), (ada.session(), 4)]);
    assert_eq!(game.resource::<SessionCounts>().nonfinite_call_count, 6);
    assert_eq!(said(&game, &ada), [1]);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}
