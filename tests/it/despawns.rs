//! Sessions and zones that a game despawns: tables, members and clients are updated.

use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::arena::v1::Echo;
use waystation::rpc::Sender;
use waystation::session::{Connected, Disconnected, Session, SessionState, SessionTable};
use waystation::testing::Via;
use waystation::wire::v1::{Bye, Members};
use waystation::zone::{InZone, Zone, ZoneParted};

use crate::support::{command, echoes, entity, exits, game, zone};

#[test]
fn a_session_that_the_game_despawns_is_removed_from_the_tables_and_its_link_is_closed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = entity(&game, &ada);

    game.app.world_mut().despawn(entity);
    exits(&mut game, |_| ada.pump());

    let table = game.resource::<SessionTable>();
    let left = (table.session_count(), table.link_count(), table.token_count());
    assert_eq!(left, (0, 0, 0), "sessions, links, tokens");
    assert!(ada.is_cut_off());
}

#[test]
fn members_receive_a_parted_for_a_member_that_the_game_despawned() {
    let mut game = game();
    game.open_zone(Zone::new("table").capacity(4));
    let mut ada = game.member(Via::Alpha, "table");
    let mut bob = game.member(Via::Beta, "table");
    game.exchange(&mut [&mut ada, &mut bob]);
    ada.take::<Members>();
    let bob_entity = entity(&game, &bob);

    game.app.world_mut().despawn(bob_entity);
    game.exchange(&mut [&mut ada]);

    let parted: Vec<u64> = ada.take::<Members>().into_iter().flat_map(|members| members.parted).collect();
    assert_eq!(parted, [bob.session().0]);
}

#[test]
fn a_member_that_is_despawned_with_its_zone_has_parted() {
    let mut game = game();
    let ada = game.member(Via::Alpha, "hall");
    let (hall, ada_entity) = (zone(&game, "hall"), entity(&game, &ada));

    command(&mut game, |commands| {
        commands.entity(hall).despawn();
        commands.entity(ada_entity).despawn();
    });
    // Updates the app directly, so that the harness does not check the violations that the audit finds.
    let mut told = 0;
    for _ in 0..3 {
        game.pass(Duration::from_millis(50));
        game.app.update();
        let messages = game.resource::<Messages<ZoneParted>>();
        told += messages.iter_current_update_messages().count();
    }

    assert_eq!(told, 1);
}

#[test]
fn a_broadcast_reaches_the_members_of_a_zone_that_the_game_then_despawns() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let hall = zone(&game, "hall");

    game.app.add_systems(Update, move |mut sender: Sender, mut commands: Commands, mut over: Local<bool>| {
        if !std::mem::replace(&mut *over, true) {
            sender.broadcast(hall, &Echo { number: 9, taken: 0 });
            commands.entity(hall).despawn();
        }
    });
    game.exchange(&mut [&mut ada]);

    assert_eq!(echoes(&mut ada), [9]);
}

#[test]
fn sessions_leave_a_zone_that_loses_its_component() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let hall = zone(&game, "hall");

    game.app.world_mut().entity_mut(hall).remove::<Zone>();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn an_observer_may_despawn_a_session_that_opens() {
    let mut game = game();
    game.app.add_observer(|came: On<Add<Session>>, mut commands: Commands| {
        commands.entity(came.entity).despawn();
    });
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert!(!ada.is_welcome());
}

#[test]
fn an_observer_may_despawn_a_session_that_becomes_connected() {
    let mut game = game();
    game.app.add_observer(|came: On<Add<Connected>>, mut commands: Commands| {
        commands.entity(came.entity).despawn();
    });
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<SessionTable>().session_count(), 0);
}

#[test]
fn an_observer_may_despawn_a_session_that_loses_its_link() {
    let mut game = game();
    game.app.add_observer(|lost: On<Add<Disconnected>>, mut commands: Commands| {
        commands.entity(lost.entity).despawn();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    ada.close();
    game.run_ms(150);

    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn an_observer_may_despawn_a_session_that_leaves_its_zone() {
    let mut game = game();
    game.app.add_observer(|left: On<Remove<InZone>>, mut commands: Commands| {
        commands.entity(left.entity).despawn();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), None);
}
