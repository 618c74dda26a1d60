//! Tests the rules without a network and on virtual time, so that seconds of the game take milliseconds.

use game::messages::{Cheer, Cheered, Steer};
use game::{Dot, GamePlugin, ZONE};
use waystation::testing::{Harness, Player, Via};

/// A server with the game, and two players in it.
fn meadow() -> (Harness, Player, Player) {
    let mut server = Harness::new();
    server.app.add_plugins(GamePlugin);
    // The server has two transports without a network, `Alpha` and `Beta`.
    let ada = server.member(Via::Alpha, ZONE);
    let bob = server.member(Via::Beta, ZONE);
    (server, ada, bob)
}

fn dot_of(server: &Harness, player: &Player) -> Dot {
    *server.component::<Dot>(player.session()).expect("a player has a dot")
}

fn numbers(player: &mut Player) -> Vec<u64> {
    player.take::<Cheered>().iter().map(|cheered| cheered.number).collect()
}

#[test]
fn a_dot_flies_to_where_its_player_points_and_stays_on_the_meadow() {
    let (mut server, mut ada, mut bob) = meadow();

    ada.send(&Steer { x: 10.0, y: -20.0 });
    bob.send(&Steer { x: 1_000.0, y: 0.0 });
    server.run_with(&mut [&mut ada, &mut bob], 5_000);

    let ((x, y), edge) = (dot_of(&server, &ada).place, dot_of(&server, &bob).place);
    assert!((x - 10.0).abs() < 0.1 && (y + 20.0).abs() < 0.1, "it is at {x}, {y}");
    assert!(edge.0.hypot(edge.1) < 50.1, "it is at {edge:?}");
}

#[test]
fn a_lost_connection_costs_no_cheer_and_the_player_has_the_same_dot_again() {
    let (mut server, mut ada, mut bob) = meadow();
    let (session, dot) = (ada.session(), dot_of(&server, &ada));

    ada.cut();
    ada.send(&Cheer { number: 1 });
    bob.send(&Cheer { number: 7 });
    server.run_with(&mut [&mut bob], 3_000);
    ada.connect(&server, Via::Beta);
    ada.resume();
    server.run_with(&mut [&mut ada, &mut bob], 500);

    assert_eq!((ada.session(), dot_of(&server, &ada)), (session, dot));
    assert_eq!(numbers(&mut ada), [7, 1]);
    assert_eq!(numbers(&mut bob), [7, 1]);
}
