//! Delivery: counted frames arrive once and in order, even if links end.

use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Say, Score, Scores};
use waystation::rpc::Sender;
use waystation::session::{SessionCounts, SessionState};
use waystation::testing::{Omitted, Via};
use waystation::wire::v1::{Ack, Beacon, Bye, Closed, Joined};
use waystation::wire::{self, Lane, WireMessage as _};

use crate::support::{echoes, entity, game, said, say, shout};

#[test]
fn cc_01_what_is_sent_while_a_session_registers_comes_after_its_welcome() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    let mut bob = game.member(Via::Beta, "hall");
    bob.take::<Joined>();

    ada.hello();
    shout(&mut game, 5);
    game.exchange(&mut [&mut ada, &mut bob]);

    // `Player` asserts that no frame arrives before its Welcome.
    assert!(ada.is_welcome());
    assert_eq!(echoes(&mut bob), [5]);
}

#[test]
fn cc_05_something_received_in_the_tick_of_the_timeout_keeps_the_link() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.omits = Omitted::Mute;

    for _ in 0..3 {
        ada.say(&Ack { received: ada.received() });
        // The Ack arrived at the beginning of this tick. The link times out 100 ticks later.
        game.run_ms(4_950);
        assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    }
    game.run_ms(100);

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
}

#[test]
fn cc_07_a_ticks_messages_leave_as_one_batch_in_order() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.take::<Joined>();

    for number in 1..=20 {
        shout(&mut game, number);
    }
    game.tick();
    ada.pump();

    assert_eq!(echoes(&mut ada), (1..=20).collect::<Vec<_>>());
}

#[test]
fn cc_09_after_a_resume_unacknowledged_messages_arrive_in_order_and_once() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    say(&mut ada, 1..=3);
    game.exchange(&mut [&mut ada]);
    assert_eq!(echoes(&mut ada), [1, 2, 3]);

    // The link ends before the player receives the answers to these calls.
    say(&mut ada, 4..=6);
    game.tick();
    ada.close();
    game.run_ms(200);
    shout(&mut game, 100);
    game.run_ms(200);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(said(&game, &ada), [1, 2, 3, 4, 5, 6]);
    assert_eq!(echoes(&mut ada), [4, 5, 6, 100]);
    assert_eq!(ada.unacked_count(), 0);
    assert_eq!(game.view(ada.session()).map(|view| view.held_count), Some(0));
}

#[test]
fn cc_10_what_was_counted_is_never_run_twice() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    // The server receives these calls, but its Ack is lost with the link.
    say(&mut ada, 1..=5);
    game.tick();
    ada.cut();
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    say(&mut ada, 6..=6);
    game.exchange(&mut [&mut ada]);

    assert_eq!(said(&game, &ada), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn cc_11_replies_and_broadcasts_arrive_in_the_order_of_the_calls() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    say(&mut ada, 1..=2);
    shout(&mut game, 50);
    game.exchange(&mut [&mut ada]);

    // `echo` runs before `shout_all`.
    assert_eq!(echoes(&mut ada), [1, 2, 50]);
}

#[test]
fn cc_12_a_stall_expires_no_session() {
    for stall in [1, 3, 10, 60].map(Duration::from_secs) {
        let mut game = game();
        let mut ada = game.member(Via::Alpha, "hall");
        let mut bob = game.member(Via::Beta, "hall");
        bob.close();
        game.tick();

        game.tick_after(stall);
        ada.pump();
        ada.take::<Beacon>();
        game.run_with(&mut [&mut ada], 3_000);

        assert_eq!(game.state(ada.session()), Some(SessionState::Active), "{stall:?}");
        assert_eq!(game.state(bob.session()), Some(SessionState::Disconnected), "{stall:?}");
        let beacons = ada.take::<Beacon>().len();
        assert!((2..=4).contains(&beacons), "{beacons} Beacons in the 3 s after a stall of {stall:?}");
        bob.connect(&game, Via::Alpha);
        bob.resume();
        game.exchange(&mut [&mut bob]);
        assert_eq!(game.state(bob.session()), Some(SessionState::Active), "{stall:?}");
    }
}

#[test]
fn the_server_acknowledges_after_64_frames_and_with_each_beacon() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    say(&mut ada, 1..=70);
    game.tick();
    ada.pump();
    // The Join is a counted frame too.
    assert_eq!(ada.take::<Ack>().iter().map(|ack| ack.received).collect::<Vec<_>>(), [71]);
    say(&mut ada, 71..=75);
    game.run_with(&mut [&mut ada], 1_100);

    assert!(ada.take::<Ack>().is_empty());
    assert_eq!(ada.unacked_count(), 0);
}

#[test]
fn cc_03_what_is_sent_to_a_session_that_ends_is_dropped_and_counted() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");

    // The call before the Bye is answered, and the answer is sent before Closed.
    say(&mut ada, 1..=1);
    ada.send(&Bye {});
    shout(&mut game, 2);
    game.tick();
    shout(&mut game, 3);
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!(echoes(&mut ada), [1, 2]);
    assert_eq!(ada.take::<Closed>().len(), 1);
    assert_eq!(echoes(&mut bob), [2, 3]);
}

#[test]
fn unreliable_frames_are_dropped_while_there_is_no_link() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.say_bytes(Lane::Unreliable, vec![0x81, 0x00, 0xFF]);
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), None);
    assert_eq!(game.resource::<SessionCounts>().malformed_frame_count, 1);
}

#[test]
fn a_frame_that_is_too_long_for_the_wire_is_not_sent() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = entity(&game, &ada);
    let send = move |mut sender: Sender, mut done: Local<bool>| {
        if !std::mem::replace(&mut *done, true) {
            let score = Score { name: "x".repeat(70_000), ..Score::default() };
            sender.send(entity, &Scores { scores: vec![score] });
            sender.send(entity, &Echo { number: 1, taken: 0 });
        }
    };
    game.app.add_systems(Update, send);
    game.exchange(&mut [&mut ada]);

    assert!(ada.take::<Scores>().is_empty());
    assert_eq!(echoes(&mut ada), [1]);
    assert!(wire::encode(&Say { number: 1 }).starts_with(&Say::ID.value().to_be_bytes()));
}

#[test]
fn link_control_that_a_game_sends_does_not_change_the_counts() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = entity(&game, &ada);

    game.app.add_systems(Update, move |mut sender: Sender, mut sent: Local<bool>| {
        if !std::mem::replace(&mut *sent, true) {
            sender.send(entity, &Ack { received: 0 });
        }
    });
    game.run_with(&mut [&mut ada], 11_000);

    assert_eq!(ada.closed(), None);
}
