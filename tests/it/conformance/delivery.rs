//! Tests that counted frames arrive once and in order, and that both sides acknowledge them.

use waystation::arena::v1::{Echo, Input, Pellets, Say, Snapshot};
use waystation::session::Latency;
use waystation::testing::Omitted;
use waystation::wire::v1::{Ack, Beacon, Ping};
use waystation::wire::{self, ACK_EVERY_FRAMES, FRAME_MAX_CLIENT, FRAME_MAX_SERVER, Lane, WireMessage as _};

use super::stage::{Stage, Who};
use super::transports::Way;
use crate::support::{Heard, echoes, padded, said, say};

/// Returns the number of frames to a player that the server keeps because they are not acknowledged.
pub(super) fn kept(stage: &Stage, who: Who) -> usize {
    stage.game.view(stage[who].session()).map_or(0, |view| view.held_count)
}

pub(super) fn cc_11_answers_come_in_the_order_of_the_calls(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");

    say(&mut stage[ada], 1..=199);

    assert_eq!(stage.echo(ada, 200), (1..=200).collect::<Vec<_>>());
    assert_eq!(said(&stage.game, &stage[ada]), (1..=200).collect::<Vec<_>>());
}

pub(super) fn cc_08_and_cc_09_and_cc_10_a_cut_loses_nothing_and_doubles_nothing(
    stage: &mut Stage,
    over: Way,
) {
    let ada = stage.member(over, "plaza");
    let mut seen = Vec::new();

    // The link ends between calls and answers, at a different place in each round.
    for round in 0..6_u64 {
        say(&mut stage[ada], round * 20 + 1..=round * 20 + 20);
        for _ in 0..round {
            stage.turn();
        }
        seen.extend(echoes(&mut stage[ada]));
        if round % 2 == 0 {
            stage[ada].close();
        } else {
            stage[ada].cut();
        }
        let welcome = stage.resume(ada, over);
        assert!(welcome.resumed && !welcome.resync);
    }
    seen.extend(stage.echo(ada, 121));

    assert_eq!(seen, (1..=121).collect::<Vec<_>>());
    assert_eq!(said(&stage.game, &stage[ada]), (1..=121).collect::<Vec<_>>());
}

pub(super) fn cc_09_what_was_sent_while_away_comes_in_order(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    stage.lose_link(ada);

    for number in 1..=50 {
        stage.broadcast("plaza", &Echo { number, taken: 0 });
        stage.broadcast("plaza", &Snapshot { tick: number, ..Snapshot::default() });
    }
    stage.turn();
    stage.resume(ada, over);

    let replayed = stage.echo(ada, 51);
    assert_eq!(replayed, (1..=51).collect::<Vec<_>>());
    // Unreliable frames were dropped while the session had no link.
    stage[ada].expect_no::<Snapshot>();
}

pub(super) fn wire_counting_what_was_counted_is_acknowledged_every_64_frames(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");

    say(&mut stage[ada], 1..=ACK_EVERY_FRAMES);
    let ack: Ack = stage.until_saw(ada);

    assert!(ack.received >= ACK_EVERY_FRAMES, "{}", ack.received);
    assert!(stage[ada].unacked_count() <= 1);
}

pub(super) fn wire_counting_and_ow_19_beacons_come_each_second_and_acknowledge(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    stage.echo(ada, 1);

    stage.pass(3_000);
    stage.until("the server acknowledges the calls", |stage| stage[ada].unacked_count() == 0);
    let latency = |stage: &mut Stage| {
        let session = stage[ada].session();
        stage.game.component::<Latency>(session).and_then(Latency::round_trip)
    };
    stage.until("the round trip is measured", |stage| latency(stage).is_some());

    let beacons: Vec<Beacon> = stage[ada].take();
    assert!((2..=4).contains(&beacons.len()), "the server sent {} beacons in 3 s", beacons.len());
    assert!(beacons.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].tick < pair[1].tick));
    assert!(beacons.iter().any(|beacon| beacon.received == 2));
}

pub(super) fn ow_19_an_unknown_beacon_changes_nothing(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let session = stage[ada].session();

    stage[ada].say(&Ping { id: u64::MAX, received: 0 });
    stage.echo(ada, 1);

    assert_eq!(stage.game.component::<Latency>(session).and_then(Latency::round_trip), None);
    assert_eq!(stage[ada].closed(), None);
}

pub(super) fn wire_counting_a_lower_ack_is_ignored(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    stage.echo(ada, 1);

    for received in [1, 0] {
        stage[ada].say(&Ack { received });
    }
    stage.echo(ada, 2);

    assert_eq!(stage[ada].closed(), None);
    stage.until("the client acknowledges all frames", |stage| kept(stage, ada) == 0);
}

pub(super) fn wire_counting_acks_ride_the_unreliable_lane_too(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    stage[ada].omits = Omitted::Acks;
    stage.echo(ada, 1);
    assert!(kept(stage, ada) > 0);

    let received = stage[ada].received();
    stage.until("the ack has arrived", |stage| {
        // Any of these frames may be lost.
        stage[ada].say(&Ping { id: 0, received });
        kept(stage, ada) == 0
    });

    assert_eq!(stage[ada].closed(), None);
}

pub(super) fn ow_18_a_call_of_a_non_member_does_nothing_and_is_counted(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);

    say(&mut stage[ada], 1..=3);
    stage.join(ada, "plaza");

    // The calls arrived before the Join, so they were dispatched before the session was a member.
    assert_eq!(stage.echo(ada, 4), [4]);
    assert_eq!(said(&stage.game, &stage[ada]), [4]);
    stage.pass(1_250);
    stage.until("the server acknowledges all calls", |stage| stage[ada].unacked_count() == 0);
    assert_eq!(stage[ada].closed(), None);
}

pub(super) fn wire_frame_unreliable_calls_arrive(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");

    let mut tick = 0;
    stage.until("an input has arrived", |stage| {
        tick += 1;
        stage[ada].say(&Input { tick, x: 1.0, y: 0.0 });
        !stage.game.resource::<Heard>().inputs.is_empty()
    });
    stage.until("a snapshot has arrived", |stage| {
        stage.broadcast("plaza", &Snapshot { tick: 5, ..Snapshot::default() });
        stage[bob].ids().contains(&Snapshot::ID)
    });

    assert_eq!(stage.game.resource::<Heard>().inputs[0].0, stage[ada].session());
    assert_eq!(stage[bob].expect::<Snapshot>().tick, 5);
}

pub(super) fn wire_frame_a_call_of_16_kib_and_an_answer_of_64_kib_fit(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let call = padded(&Say { number: 1 }, FRAME_MAX_CLIENT);
    // One byte for each id, and six bytes for the message id, the tag and the length.
    let pellets = Pellets { id: vec![1; FRAME_MAX_SERVER - 6], ..Pellets::default() };
    assert_eq!(wire::encode(&pellets).len(), FRAME_MAX_SERVER);

    stage[ada].say_bytes(Lane::Reliable, call);
    assert_eq!(stage.until_saw::<Echo>(ada).number, 1);
    stage.broadcast("plaza", &pellets);
    // An unreliable frame that exceeds a datagram is sent on the stream, if the transport has one.
    let wide = Snapshot { tick: 9, id: vec![1; 4_000], ..Snapshot::default() };
    let seen: Pellets = stage.until_saw(ada);
    stage.until("a wide snapshot has arrived", |stage| {
        stage.broadcast("plaza", &wide);
        stage[ada].ids().contains(&Snapshot::ID)
    });

    assert_eq!(seen.id.len(), FRAME_MAX_SERVER - 6);
    assert_eq!(stage[ada].expect::<Snapshot>(), wide);
}

pub(super) fn wire_limits_a_nan_is_dropped_and_the_session_goes_on(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");

    stage.until("an input has arrived", |stage| {
        stage[ada].say(&Input { tick: 1, x: f32::NAN, y: 0.0 });
        stage[ada].say(&Input { tick: 2, x: 0.0, y: f32::INFINITY });
        stage[ada].say(&Input { tick: 3, x: 0.0, y: 1.0 });
        stage.game.resource::<Heard>().inputs.iter().any(|(_, tick)| *tick == 3)
    });
    stage.echo(ada, 1);

    assert!(stage.game.resource::<Heard>().inputs.iter().all(|(_, tick)| *tick == 3));
    assert_eq!(stage[ada].closed(), None);
}
