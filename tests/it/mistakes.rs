//! Mistakes of a game that would leave it mute: each is counted, and named in one warning or when the app is built.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Pellets, Say, Scores, You};
use waystation::ident::MessageId;
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::session::{Agent, SessionCounts, SessionState, SpawnAgent as _};
use waystation::telemetry::Summary;
use waystation::testing::{Harness, Via};
use waystation::wire::v1::{Join, Joined};
use waystation::wire::{Lane, WireMessage};

use crate::support::{entity, game, logged, said, say, zone};

/// A message of a game with the id of [`Say`].
#[derive(Clone, PartialEq, prost::Message)]
struct Shout {
    #[prost(uint64, tag = "1")]
    number: u64,
}

impl WireMessage for Shout {
    const ID: MessageId = Say::ID;
    const NAME: &'static str = "shouts.v1.Shout";
}

fn counts(game: &Harness) -> SessionCounts {
    *game.resource::<SessionCounts>()
}

/// Returns the warnings in a log.
fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("WARN")).collect()
}

/// Runs one system of the game in one tick.
fn once(game: &mut Harness, what: impl FnOnce(&mut Sender) + Send + Sync + 'static) {
    let mut what = Some(what);
    game.app.add_systems(Update, move |mut sender: Sender| {
        if let Some(what) = what.take() {
            what(&mut sender);
        }
    });
    game.tick();
}

/// Returns the text of the panic of `build`.
fn refusal(build: impl FnOnce(&mut App)) -> String {
    let mut game = game();
    let panic = catch_unwind(AssertUnwindSafe(|| build(&mut game.app))).expect_err("the app was built");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn a_call_that_was_not_added_is_counted_and_named_once_and_the_session_goes_on() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    let log = logged(|| {
        for _ in 0..3 {
            ada.send(&Pellets::default());
            game.exchange(&mut [&mut ada]);
        }
    });

    assert_eq!(counts(&game).stray_frame_count, 3);
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("add_call") && warnings[0].contains(&Pellets::ID.to_string()), "{log}");
    assert!(Summary::of(game.app.world()).to_string().contains(" unknown_ids=3 "));
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);
    assert_eq!(said(&game, &ada), [1]);
}

#[test]
fn a_call_of_an_agent_that_was_not_added_is_counted_and_named() {
    let mut game = game();
    let guard = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();

    let log = logged(|| {
        game.app.world_mut().get_mut::<Agent>(guard).expect("an agent").call(You::default());
        game.tick();
    });

    assert_eq!(counts(&game).stray_frame_count, 1);
    assert!(warnings(&log)[0].contains(&You::ID.to_string()), "{log}");
}

#[test]
fn clients_that_send_unknown_ids_do_not_flood_the_log() {
    // Given ten clients, each of which sends nine ids that nobody else sends.
    let mut game = game();
    let log = logged(|| {
        for client in 0..10_u16 {
            let mut eve = game.player(Via::Alpha);
            for number in 0..9 {
                let id = 0x9000 + 9 * client + number;
                eve.say_bytes(Lane::Unreliable, id.to_be_bytes().to_vec());
            }
            game.exchange(&mut [&mut eve]);
        }
    });

    // Then all are counted, and some are named.
    assert_eq!(counts(&game).stray_frame_count, 90);
    assert_eq!(warnings(&log).len(), 32, "{log}");
}

#[test]
fn a_message_that_only_servers_send_is_counted_without_a_warning() {
    let mut game = game();
    let mut eve = game.player(Via::Alpha);

    let log = logged(|| {
        eve.send(&Joined::default());
        game.exchange(&mut [&mut eve]);
    });

    assert_eq!((counts(&game).stray_frame_count, warnings(&log).len()), (1, 0), "{log}");
}

#[test]
fn calls_in_no_zone_are_counted_and_named_once() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);

    let log = logged(|| {
        say(&mut ada, 1..=2);
        game.exchange(&mut [&mut ada]);
    });

    assert_eq!(counts(&game).nonmember_call_count, 2);
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("in no zone") && warnings[0].contains(Say::NAME), "{log}");
    assert!(Summary::of(game.app.world()).to_string().contains(" nonmember_calls=2 "));
}

#[test]
fn a_message_to_an_entity_that_is_no_session_is_counted_and_named_once() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let (hall, player) = (zone(&game, "hall"), entity(&game, &ada));

    let log = logged(|| {
        once(&mut game, move |sender| {
            sender.send(hall, &Echo::default());
            sender.send_to([hall, player], &Echo { number: 2, taken: 0 });
            sender.broadcast(player, &Scores::default());
        });
    });
    ada.pump();

    assert_eq!((counts(&game).misdirected_count, counts(&game).undelivered_count), (3, 2));
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[0].contains(&hall.to_string()) && warnings[0].contains(&Echo::ID.to_string()), "{log}");
    assert!(warnings[1].contains(&player.to_string()) && warnings[1].contains("is no zone"), "{log}");
    assert_eq!(ada.take::<Echo>().len(), 1, "the session in the list gets the message");
}

#[test]
fn a_message_to_a_session_that_has_ended_or_an_empty_zone_is_no_mistake() {
    let mut game = game();
    let ada = game.player(Via::Alpha);
    let (attic, gone) = (zone(&game, "attic"), entity(&game, &ada));
    game.app.world_mut().despawn(gone);

    let log = logged(|| {
        once(&mut game, move |sender| {
            sender.send(gone, &Echo::default());
            sender.broadcast(attic, &Echo::default());
            sender.broadcast(gone, &Echo::default());
        });
    });

    assert_eq!((counts(&game).misdirected_count, counts(&game).undelivered_count), (0, 1));
    assert_eq!(warnings(&log), Vec::<&str>::new());
}

#[test]
fn a_call_that_is_added_twice_is_read_and_watched_once() {
    let mut game = Harness::new();
    game.app.add_call::<Say>().add_call::<Say>().add_delivery::<Echo>().add_delivery::<Echo>();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Say { number: 1 });
    game.exchange(&mut [&mut ada]);

    let dispatched = game.app.world().resource::<Messages<Call<Say>>>().len();
    assert!(dispatched <= 1, "{dispatched} calls");
    assert_eq!(counts(&game).unread_call_count, u64::from(cfg!(debug_assertions)));
}

#[test]
fn two_messages_with_one_id_are_refused_when_the_app_is_built() {
    for refusal in [
        refusal(|app| _ = app.add_call::<Shout>()),
        refusal(|app| _ = app.add_delivery::<Say>().add_delivery::<Shout>()),
    ] {
        for part in ["mistakes::Shout", "arena::v1::Say", &Say::ID.to_string(), ".proto"] {
            assert!(refusal.contains(part), "{part} is missing in: {refusal}");
        }
    }
}

#[test]
fn a_message_with_an_id_of_the_server_is_refused_when_the_app_is_built() {
    for refusal in
        [refusal(|app| _ = app.add_call::<Join>()), refusal(|app| _ = app.add_delivery::<Joined>())]
    {
        assert!(refusal.contains("v1::Join") && refusal.contains("reserved"), "{refusal}");
    }
}
