//! Commands of the game for sessions and zones: each is applied soon or refused.

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::session::SessionState;
use waystation::testing::Via;
use waystation::wire::v1::{Join, Reason};
use waystation::zone::{InZone, MembershipCommands as _, MembershipError};

use crate::support::{Told, command, entity, game, game_with_club, parts, zone};

#[test]
fn a_client_that_joins_repeatedly_does_not_delay_commands_of_the_game() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    let eve_entity = entity(&game, &eve);

    command(&mut game, |commands| commands.part_zone(eve_entity));
    for request in 2..42 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
        game.run_with(&mut [&mut eve], 50);
    }

    assert_eq!(parts(&game, &eve), [Reason::Left], "the session leaves within two seconds of the command");
}

#[test]
fn commands_for_a_busy_client_do_not_accumulate() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    let eve_entity = entity(&game, &eve);

    // A game that repeats the command in each tick until it has been applied.
    game.app.add_systems(Update, move |inside: Query<(), With<InZone>>, mut commands: Commands| {
        if inside.contains(eve_entity) {
            commands.part_zone(eve_entity);
        }
    });
    for request in 2..202 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
        game.run_with(&mut [&mut eve], 50);
    }

    assert_ne!(parts(&game, &eve), [], "none of two hundred commands was applied");
}

#[test]
fn closing_a_zone_that_is_already_closed_is_refused() {
    let mut game = game_with_club();
    let ring = zone(&game, "ring");
    command(&mut game, |commands| commands.close_zone(ring));
    game.tick();

    command(&mut game, |commands| commands.close_zone(ring));
    game.run_ms(150);

    assert_eq!(game.resource::<Told>().refused, [MembershipError::NoSuchZone]);
}

#[test]
fn closing_an_entity_that_is_no_zone_does_not_end_a_session() {
    let mut game = game();
    let ada = game.member(Via::Alpha, "hall");
    let ada_entity = entity(&game, &ada);

    command(&mut game, |commands| commands.close_zone(ada_entity));
    game.run_ms(150);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}
