//! Tests clients over different transports in one zone, and a session that changes its transport.

use waystation::arena::v1::Echo;
use waystation::wire::v1::{Members, Parted};

use super::stage::{Stage, Who};
use super::transports::ALL;
use crate::support::{echoes, said, say};

#[test]
fn clients_over_all_transports_play_in_one_zone() {
    let mut stage = Stage::new();
    let players: Vec<Who> = ALL.iter().map(|over| stage.member(*over, "plaza")).collect();

    stage.broadcast("plaza", &Echo { number: 100, taken: 0 });
    for who in &players {
        assert_eq!(stage.until_saw::<Echo>(*who).number, 100);
        assert_eq!(stage.echo(*who, 1), [1]);
    }

    // Each member was sent the joins of the members that joined after it.
    for (index, who) in players.iter().enumerate() {
        let told: Vec<u64> = stage[*who].take::<Members>().into_iter().flat_map(|m| m.joined).collect();
        let later: Vec<u64> = players[index + 1..].iter().map(|who| stage[*who].session().0).collect();
        assert!(told.ends_with(&later), "{told:?} {later:?}");
    }
}

#[test]
fn a_session_changes_its_transport_in_mid_flow_and_nobody_parts() {
    let mut stage = Stage::new();
    let ada = stage.member(ALL[0], "pit");
    let bob = stage.member(ALL[1], "pit");
    let session = stage[ada].session();
    stage[bob].take::<Members>();

    // Two rounds over all transports. Each change to the next transport is a takeover.
    let mut seen = Vec::new();
    let mut number = 0;
    for over in ALL.iter().cycle().skip(1).take(2 * ALL.len()) {
        say(&mut stage[ada], number + 1..=number + 25);
        number += 25;
        stage.turn();
        seen.extend(echoes(&mut stage[ada]));
        let former = stage.leave_behind(ada);
        let welcome = stage.resume(ada, *over);
        assert_eq!((welcome.session, welcome.resync, welcome.zone.as_str()), (session.0, false, "pit"));
        stage.until_closed(former);
    }
    seen.extend(stage.echo(ada, number + 1));
    stage.echo(bob, 1);

    assert_eq!(seen, (1..=number + 1).collect::<Vec<_>>());
    assert_eq!(said(&stage.game, &stage[ada]), (1..=number + 1).collect::<Vec<_>>());
    // The zone is hard: a session that loses its link leaves it. A takeover is not a loss.
    stage[ada].expect_no::<Parted>();
    assert!(stage[bob].take::<Members>().iter().all(|members| members.parted.is_empty()));
}
