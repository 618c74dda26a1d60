//! Tests how sessions join and leave zones.

use waystation::arena::v1::Echo;
use waystation::wire::v1::{Join, Joined, Members, Part, Parted, Reason, Refused};
use waystation::zone::MembershipCommands as _;

use super::stage::{Stage, Who};
use super::transports::Way;
use crate::support::{self, Told, echoes};

fn ask(stage: &mut Stage, who: Who, request: u32, zone: &str) {
    stage[who].send(&Join { request, zone: zone.to_owned(), ..Join::default() });
}

pub(super) fn row_03_and_row_05_join_and_part_are_answered_with_their_request(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);
    let bob = stage.member(over, "plaza");

    ask(stage, ada, 7, "plaza");
    let joined: Joined = stage.until_saw(ada);
    stage[ada].send(&Part { request: 8, ..Part::default() });
    let parted: Parted = stage.until_saw(ada);

    assert_eq!((joined.request, joined.zone.as_str(), joined.tick_hz), (7, "plaza", 20));
    assert_ne!(joined.zone_id, 0);
    let mut members = joined.members;
    members.sort_unstable();
    let mut both = [stage[ada].session().0, stage[bob].session().0];
    both.sort_unstable();
    assert_eq!(members, both);
    assert_eq!((parted.request, parted.zone.as_str(), parted.reason()), (8, "plaza", Reason::Left));
    let told: Vec<Members> = stage[bob].take();
    assert!(told.iter().any(|members| members.joined == [stage[ada].session().0]));
}

pub(super) fn row_04_a_join_that_cannot_be_is_refused(stage: &mut Stage, over: Way) {
    stage.member(over, "closet");
    let bob = stage.member(over, "plaza");

    ask(stage, bob, 2, "closet");
    let full: Refused = stage.until_saw(bob);
    ask(stage, bob, 3, "nowhere");
    let unknown: Refused = stage.until_saw(bob);

    assert_eq!((full.request, full.reason()), (2, Reason::Full));
    assert_eq!((unknown.request, unknown.reason()), (3, Reason::NoSuchZone));
    assert_eq!(stage[bob].zone(), Some("plaza"));
    stage.echo(bob, 1);
}

pub(super) fn row_04_a_part_of_no_zone_is_refused(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);

    stage[ada].send(&Part { request: 4, ..Part::default() });
    let refused: Refused = stage.until_saw(ada);

    assert_eq!((refused.request, refused.reason()), (4, Reason::NotInZone));
}

pub(super) fn row_06_a_join_of_another_zone_moves(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");

    ask(stage, ada, 9, "attic");
    let joined: Joined = stage.until_saw(ada);
    let told = |stage: &mut Stage| -> Vec<u64> {
        stage[bob].take::<Members>().into_iter().flat_map(|members| members.parted).collect()
    };
    let mut parted = Vec::new();
    stage.until("the other members receive the part", |stage| {
        parted.extend(told(stage));
        !parted.is_empty()
    });

    assert_eq!((joined.request, joined.zone.as_str()), (9, "attic"));
    assert_eq!(parted, [stage[ada].session().0]);
    stage.echo(ada, 1);
}

pub(super) fn row_06a_a_join_of_its_own_zone_is_answered_again(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");
    stage[bob].take::<Members>();

    ask(stage, ada, 5, "plaza");
    let joined: Joined = stage.until_saw(ada);
    stage.echo(bob, 1);

    assert_eq!((joined.request, joined.zone.as_str()), (5, "plaza"));
    stage[bob].expect_no::<Members>();
    stage[ada].expect_no::<Parted>();
}

pub(super) fn row_06b_an_ask_that_nobody_answers_is_cancelled(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);

    ask(stage, ada, 5, "club");
    stage.until("the game is asked", |stage| !stage.game.resource::<Told>().requested.is_empty());
    stage.pass(5_250);
    let refused: Refused = stage.until_saw(ada);

    assert_eq!((refused.request, refused.reason()), (5, Reason::Cancelled));
}

pub(super) fn row_06b_an_ask_is_answered_by_the_game(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);
    let bob = stage.player(over);

    for (who, request) in [(ada, 5), (bob, 6)] {
        ask(stage, who, request, "club");
        stage.until("the game is asked", |stage| !stage.game.resource::<Told>().requested.is_empty());
        let asked = stage.game.app.world_mut().resource_mut::<Told>().requested.remove(0);
        if who == ada {
            stage.command(|commands| commands.accept_join_with(&asked, "sit down".into()));
        } else {
            stage.command(|commands| commands.refuse_join(&asked, "no"));
        }
    }
    let joined: Joined = stage.until_saw(ada);
    let refused: Refused = stage.until_saw(bob);

    assert_eq!((joined.request, &*joined.payload), (5, &b"sit down"[..]));
    assert_eq!((refused.request, refused.reason(), &*refused.detail), (6, Reason::Refused, "no"));
}

pub(super) fn row_18_a_zone_that_closes_parts_its_members(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "attic");
    let attic = support::zone(&stage.game, "attic");

    stage.command(|commands| commands.close_zone(attic));
    let parted: Parted = stage.until_saw(ada);
    ask(stage, ada, 3, "attic");
    let refused: Refused = stage.until_saw(ada);

    assert_eq!((parted.request, parted.zone.as_str(), parted.reason()), (0, "attic", Reason::ZoneClosed));
    assert_eq!(refused.reason(), Reason::NoSuchZone);
    assert_eq!(stage.join(ada, "plaza").zone, "plaza");
}

pub(super) fn ow_17_a_broadcast_reaches_the_members_of_its_zone_alone(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");
    let eve = stage.member(over, "attic");

    stage.broadcast("plaza", &Echo { number: 100, taken: 0 });
    for who in [ada, bob] {
        assert_eq!(stage.until_saw::<Echo>(who).number, 100);
    }

    assert_eq!(stage.echo(eve, 1), [1]);
    assert!(echoes(&mut stage[ada]).is_empty());
}
