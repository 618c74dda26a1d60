//! Overload: memory stays bounded, and a client that exceeds a bound does not affect other clients.

use waystation::arena::v1::Input;
use waystation::session::{LossCause, SessionConfig, SessionCounts, SessionState};
use waystation::testing::News::{Disconnected, Resumed};
use waystation::testing::{Harness, Omitted, Player, Via};
use waystation::wire::v1::{Ack, Joined, Reason, Welcome};
use waystation::wire::{FRAME_MAX_CLIENT, Lane};

use crate::support::{Heard, echoes, game, game_bounded, padded, said, say, shout};

/// Returns a game in which each outbox holds at most `max` frames.
fn game_with_outbox(max: usize) -> Harness {
    game_bounded(SessionConfig { outbox_max_frames: max, ..SessionConfig::default() })
}

/// Returns a game in which all outboxes together hold at most 600 bytes.
fn game_with_600_bytes() -> Harness {
    game_bounded(SessionConfig { outboxes_max_bytes: 600, ..SessionConfig::default() })
}

fn outbox_bytes(game: &Harness, player: &Player) -> usize {
    game.view(player.session()).map_or(0, |view| view.held_bytes)
}

/// Asserts that the inbox exceeds its bound by at most the 2,000 frames that arrive in one tick.
fn assert_little_waits(game: &Harness, player: &Player) {
    let waiting = game.view(player.session()).map_or(0, |view| view.waiting_count);
    let max = SessionConfig::default().inbox_max_frames + 2_000;
    assert!(waiting <= max, "{waiting} frames wait for dispatch, at most {max} are allowed");
}

#[test]
fn an_overflow_while_disconnected_ends_in_a_resync() {
    let mut game = game_with_outbox(16);
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.tick();
    for number in 1..=40 {
        shout(&mut game, number);
    }
    game.tick();

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    shout(&mut game, 41);
    game.exchange(&mut [&mut ada]);

    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resync));
    assert_eq!(echoes(&mut ada), [41]);
    assert_eq!(ada.take::<Joined>().last().map(|joined| joined.request), Some(0));
}

#[test]
fn an_overflow_while_connected_closes_the_link_as_slow_and_the_session_can_resume() {
    let mut game = game_with_outbox(16);
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    ada.omits = Omitted::Acks;
    for number in 1..=20 {
        shout(&mut game, number);
        game.tick();
        bob.pump();
    }
    ada.pump();

    assert_eq!(ada.closed(), Some(Reason::Slow));
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    assert!(game.news_of(ada.session()).contains(&Disconnected(LossCause::Slow)));
    assert_eq!(echoes(&mut bob).len(), 20);
    ada.omits = Omitted::Never;
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(game.news_of(ada.session()).contains(&Resumed { resync: true }));
}

#[test]
fn ten_seconds_without_an_ack_are_too_slow() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.omits = Omitted::Acks;
    shout(&mut game, 1);

    game.run_with(&mut [&mut ada], 9_900);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    game.run_with(&mut [&mut ada], 200);

    assert_eq!(ada.closed(), Some(Reason::Slow));
    // The outbox did not overflow, so the unacknowledged frames are sent again.
    ada.omits = Omitted::Never;
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert!(game.news_of(ada.session()).contains(&Resumed { resync: false }));
}

#[test]
fn a_busy_client_that_is_always_a_frame_behind_is_not_too_slow() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");

    for number in 1..=15 * 20 {
        shout(&mut game, number);
        game.tick();
        for player in [&mut ada, &mut bob] {
            player.omits = Omitted::Acks;
            player.pump();
            player.say(&Ack { received: player.received() - 1 });
            assert!(outbox_bytes(&game, player) > 0, "at least one frame is always unacknowledged");
        }
    }

    for player in [&mut ada, &mut bob] {
        assert_eq!((player.closed(), echoes(player).len()), (None, 15 * 20));
    }
}

#[test]
fn the_largest_outbox_is_dropped_when_all_together_exceed_their_bound() {
    let mut game = game_with_600_bytes();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.tick();
    for _ in 0..60 {
        shout(&mut game, u64::MAX);
    }
    game.run_ms(2_100);
    let mut bob = game.member(Via::Beta, "hall");
    assert!(game.view(ada.session()).is_some_and(|view| view.awaits_resync));
    shout(&mut game, 7);
    game.exchange(&mut [&mut bob]);

    assert_eq!(echoes(&mut bob), [7]);
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert!(game.news_of(ada.session()).contains(&Resumed { resync: true }));
}

#[test]
fn a_smaller_outbox_is_dropped_before_that_of_a_client_that_has_just_acknowledged() {
    let mut game = game_with_600_bytes();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    (ada.omits, bob.omits) = (Omitted::Acks, Omitted::Acks);
    (0..10).for_each(|_| shout(&mut game, u64::MAX));
    game.exchange(&mut [&mut ada, &mut bob]);
    game.join(&mut bob, "attic");
    (0..20).for_each(|_| shout(&mut game, u64::MAX));
    game.run_with(&mut [&mut ada, &mut bob], 2_100);
    let both = outbox_bytes(&game, &ada) + outbox_bytes(&game, &bob);
    assert!(outbox_bytes(&game, &ada) > 2 * outbox_bytes(&game, &bob) && both <= 600, "{both} bytes");

    ada.say(&Ack { received: 2 });
    (0..10).for_each(|_| shout(&mut game, u64::MAX));
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!((ada.closed(), bob.closed()), (None, Some(Reason::Slow)));
    assert_eq!(echoes(&mut ada).len(), 40);
}

#[test]
fn an_idle_client_is_not_dropped_for_the_bytes_of_others() {
    let mut game = game_with_600_bytes();
    let mut idle = game.member(Via::Alpha, "attic");
    let mut busy = game.member(Via::Beta, "hall");
    game.run_with(&mut [&mut idle, &mut busy], 3_000);
    assert_eq!(outbox_bytes(&game, &idle), 0);

    for _ in 0..60 {
        shout(&mut game, u64::MAX);
    }
    game.run_with(&mut [&mut idle, &mut busy], 200);

    assert_eq!(idle.closed(), None);
    assert_eq!(game.state(idle.session()), Some(SessionState::Active));
}

#[test]
fn outboxes_stay_within_their_bound_while_clients_acknowledge_slowly() {
    let mut game = game_with_600_bytes();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.omits = Omitted::Acks;
    for _ in 0..120 {
        shout(&mut game, u64::MAX);
    }
    game.exchange(&mut [&mut ada]);

    for received in 2..8 {
        ada.say(&Ack { received });
        game.run_with(&mut [&mut ada], 1_000);
    }

    assert!(
        outbox_bytes(&game, &ada) <= 600,
        "{} bytes in the outbox after seven seconds",
        outbox_bytes(&game, &ada)
    );
}

#[test]
fn a_client_that_sends_too_much_is_read_slowly_and_loses_nothing() {
    let session = SessionConfig { dispatch_max_frames: 16, inbox_max_frames: 32, ..SessionConfig::default() };
    let mut game = game_bounded(session);
    let mut ada = game.member(Via::Alpha, "hall");

    say(&mut ada, 1..=100);
    game.tick();
    assert_eq!(said(&game, &ada).len(), 16);
    // The inbox is over its bound, so the link is not read and new frames stay in the port.
    say(&mut ada, 101..=200);
    game.tick();
    assert!(game.view(ada.session()).is_some_and(|view| view.waiting_count < 100));
    game.run_with(&mut [&mut ada], 1_000);

    assert_eq!(said(&game, &ada), (1..=200).collect::<Vec<_>>());
    assert_eq!(game.view(ada.session()).map(|view| view.received), Some(201));
}

#[test]
fn an_unreliable_call_of_16_kib_is_received_and_a_longer_one_is_dropped_and_counted() {
    let mut game = game();
    for via in [Via::Alpha, Via::Beta] {
        let mut ada = game.member(via, "hall");
        let before = game.resource::<SessionCounts>().malformed_frame_count;

        for (tick, length) in [(1, FRAME_MAX_CLIENT), (2, FRAME_MAX_CLIENT + 1), (3, FRAME_MAX_CLIENT + 64)] {
            let input = Input { tick, ..Input::default() };
            ada.say_bytes(Lane::Unreliable, padded(&input, length));
        }
        game.exchange(&mut [&mut ada]);

        assert_eq!(game.resource::<SessionCounts>().malformed_frame_count, before + 2);
        assert_eq!(ada.closed(), None);
    }
    let heard: Vec<u64> = game.resource::<Heard>().inputs.iter().map(|(_, tick)| *tick).collect();
    assert_eq!(heard, [1, 1]);
}

#[test]
fn what_waits_for_dispatch_is_bounded_on_the_unreliable_lane_too() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");

    for _ in 0..20 {
        for tick in 0..2_000 {
            eve.say(&Input { tick, ..Input::default() });
        }
        game.tick();
    }

    assert_little_waits(&game, &eve);
}

#[test]
fn unknown_link_control_does_not_accumulate_behind_waiting_calls() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    eve.omits = Omitted::Mute;
    say(&mut eve, 1..=500);

    for _ in 0..10 {
        for _ in 0..2_000 {
            eve.say_bytes(Lane::Unreliable, vec![0x80, 0xF0]);
        }
        game.tick();
    }

    assert_little_waits(&game, &eve);
}
