//! Calls that reach the game, and the sessions that its messages reach.

use bevy_app::{Last, Update};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce as _;
use waystation::arena::v1::{Echo, Input, Pellets, Say, You};
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::session::{Agent, Delivered, Session, SessionCounts, SessionState, SpawnAgent as _};
use waystation::testing::{Harness, Player, Via};

#[cfg(debug_assertions)]
use crate::support::logged;
use crate::support::{Heard, echoes, game, said, say};

/// Numbers of the echoes that were delivered to agents.
#[derive(Resource, Debug, Default)]
struct Delivery(Vec<u64>);

/// Returns a game, and an agent that is in `hall`.
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
    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").join("hall", "");
    game.exchange(&mut []);
    (game, agent)
}

/// Sends messages as a system of the game would have done in the last tick.
fn send(game: &mut Harness, what: impl FnOnce(&mut Sender) + Send + Sync + 'static) {
    let mut what = Some(what);
    let system = move |mut sender: Sender| {
        if let Some(what) = what.take() {
            what(&mut sender);
        }
    };
    game.app.world_mut().run_system_once(system).expect("the system runs");
}

fn entity(game: &Harness, player: &Player) -> Entity {
    game.entity(player.session()).expect("a live session")
}

fn echo(number: u64) -> Echo {
    Echo { number, taken: 0 }
}

#[test]
fn ow_17_a_message_to_a_list_reaches_each_listed_session_once_and_no_other() {
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
fn ow_17_a_broadcast_except_to_one_member_reaches_the_others() {
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
fn a_call_with_a_float_that_is_not_finite_is_dropped_and_is_no_protocol_error() {
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

#[test]
fn calls_that_are_read_in_the_last_schedule_do_not_count_as_unread() {
    let mut game = Harness::new();
    game.app.add_call::<Say>().add_systems(Last, |mut calls: MessageReader<Call<Say>>| {
        calls.read().count();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    say(&mut ada, 1..=3);
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<SessionCounts>().unread_call_count, 0);
}

#[test]
#[cfg(debug_assertions)]
fn calls_that_no_system_read_in_their_tick_are_counted_and_named() {
    #[derive(Resource)]
    struct Open(bool);
    fn read_when_open(mut calls: MessageReader<Call<You>>) {
        calls.clear();
    }
    let mut game = game();
    game.app
        .add_call::<Pellets>()
        .add_call::<You>()
        .insert_resource(Open(true))
        .add_systems(Update, read_when_open.run_if(|open: Res<Open>| open.0));
    let mut ada = game.member(Via::Alpha, "hall");
    let unread = |game: &Harness| game.resource::<SessionCounts>().unread_call_count;

    say(&mut ada, 1..=5);
    ada.send(&You::default());
    game.exchange(&mut [&mut ada]);
    assert_eq!(unread(&game), 0, "a system reads these calls in each tick");

    let log = logged(|| {
        ada.send(&Pellets::default());
        ada.send(&Pellets::default());
        game.exchange(&mut [&mut ada]);
        assert_eq!(unread(&game), 2, "no system reads Pellets");
        game.app.world_mut().resource_mut::<Open>().0 = false;
        ada.send(&You::default());
        game.run_with(&mut [&mut ada], 2_000);
    });

    assert_eq!(unread(&game), 3, "the reader of You did not run in that tick");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("no system read")).collect();
    assert!(lines.iter().any(|line| line.contains("arena.v1.Pellets") && line.contains("count=2")), "{log}");
    assert!(lines.iter().any(|line| line.contains("arena.v1.You") && line.contains("count=1")), "{log}");
    assert_eq!(lines.len(), 2, "{log}");
}
