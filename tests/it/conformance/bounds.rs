//! Tests the bounds of a session as a client observes them.

use waystation::arena::v1::Echo;
use waystation::testing::Omitted;
use waystation::wire::OUTBOX_MAX_FRAMES;
use waystation::wire::v1::{Joined, Reason};

use super::delivery::kept;
use super::stage::Stage;
use super::transports::Way;
use crate::support::{echoes, said, say};

pub(super) fn wire_counting_an_outbox_that_overflows_ends_in_a_resync(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    stage.lose_link(ada);

    for number in 0..=OUTBOX_MAX_FRAMES as u64 {
        stage.broadcast("plaza", &Echo { number, taken: 0 });
    }
    stage.turn();
    let welcome = stage.resume(ada, over);
    let joined: Joined = stage.until_saw(ada);

    assert!(welcome.resync);
    assert_eq!((joined.request, joined.zone.as_str()), (0, "plaza"));
    assert_eq!(stage.echo(ada, 1_000), [1_000], "the resync discards the frames in the outbox");
}

pub(super) fn wire_reasons_an_outbox_that_overflows_on_a_link_is_slow(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");
    stage[ada].omits = Omitted::Acks;

    for number in 0..=OUTBOX_MAX_FRAMES as u64 {
        stage.broadcast("plaza", &Echo { number, taken: 0 });
        // A client that acknowledges in time does not overflow its outbox.
        if number % 100 == 0 {
            stage.until("all is acknowledged", |stage| kept(stage, bob) == 0);
        }
    }
    assert_eq!(stage.until_closed(ada), Reason::Slow);
    stage[ada].omits = Omitted::Never;
    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.resumed, welcome.resync, welcome.zone.as_str()), (true, true, "plaza"));
    stage[ada].take::<Echo>();
    assert_eq!(stage.echo(ada, 1_000), [1_000]);
    stage.echo(bob, 1_000);
    assert_eq!(stage[bob].closed(), None);
}

pub(super) fn wire_reasons_a_client_that_acknowledges_nothing_is_slow_and_may_resume(
    stage: &mut Stage,
    over: Way,
) {
    let ada = stage.member(over, "plaza");
    let session = stage[ada].session();
    stage[ada].omits = Omitted::Acks;
    stage.echo(ada, 1);

    stage.pass(9_000);
    assert_eq!(stage[ada].closed(), None);
    stage.pass(1_500);
    assert_eq!(stage.until_closed(ada), Reason::Slow);
    stage[ada].omits = Omitted::Never;
    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.session, welcome.zone.as_str(), welcome.resync), (session.0, "plaza", false));
    assert_eq!(stage.echo(ada, 2), [2]);
}

pub(super) fn pr_15_what_is_over_the_rate_waits_and_is_not_lost(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");

    // The player never has more than 500 unacknowledged calls, so its outbox does not overflow.
    say(&mut stage[ada], 1..=500);
    stage.until("the server takes the burst", |stage| said(&stage.game, &stage[ada]).len() >= 200);
    stage.pass(1_000);
    let taken = said(&stage.game, &stage[ada]).len();
    assert!(
        (240..450).contains(&taken),
        "the game received {taken} calls; the rate allows a burst of 240 and then 120 per second"
    );
    assert_eq!(stage.echo(bob, 1), [1], "the server still serves other sessions");
    let (mut seen, mut number) = (Vec::new(), 500);
    for _ in 0..20 {
        stage.pass(500);
        seen.extend(echoes(&mut stage[ada]));
        let room = (500 - stage[ada].unacked_count() as u64).min(900 - number);
        say(&mut stage[ada], number + 1..=number + room);
        number += room;
    }
    stage.until("all calls are answered", |stage| {
        seen.extend(echoes(&mut stage[ada]));
        seen.len() >= 900
    });

    assert_eq!(seen, (1..=900).collect::<Vec<_>>());
    assert_eq!(stage[ada].closed(), None);
}

pub(super) fn wire_limits_a_replay_is_not_measured(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    say(&mut stage[ada], 1..=200);
    stage.until("the server takes the calls", |stage| said(&stage.game, &stage[ada]).len() == 200);
    stage.lose_link(ada);
    say(&mut stage[ada], 201..=600);

    stage.resume(ada, over);

    let mut seen = Vec::new();
    stage.until("all calls are answered", |stage| {
        seen.extend(echoes(&mut stage[ada]));
        seen.len() >= 600
    });
    assert_eq!(seen, (1..=600).collect::<Vec<_>>());
}
