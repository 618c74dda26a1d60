//! Tests clients that send more than their rate allows: accepted messages are kept, and a throttled link does
//! not count as silent.

use std::time::Duration;

use waystation::arena::v1::{Input, Say};
use waystation::session::{Latency, LossCause, SessionConfig, SessionCounts, SessionState};
use waystation::testing::News::Disconnected;
use waystation::testing::{Harness, Omitted, Player, Via};
use waystation::wire::v1::{Ack, Join, Probe, ProbeReply};
use waystation::wire::{self, Lane};

use crate::support::{Heard, game, game_bounded, said, say, shout};

/// Starts a game with this message rate per session; the burst is one second's messages.
fn game_at(messages_per_second: u32, inbox_max_frames: usize) -> Harness {
    game_bounded(SessionConfig {
        messages_per_second,
        messages_burst: messages_per_second,
        inbox_max_frames,
        // A mute client acknowledges no frames. These tests do not examine that.
        unacked_max: if inbox_max_frames < 512 { Duration::MAX } else { wire::UNACKED_MAX },
        ..SessionConfig::default()
    })
}

fn throttled(game: &Harness) -> u64 {
    game.resource::<SessionCounts>().throttled_frame_count
}

/// Sends a number in a frame with `padding` bytes of padding.
fn say_padded(player: &mut Player, number: u64, padding: usize) {
    let mut frame = wire::encode(&Say { number }).to_vec();
    // Field 15 is unknown to the server. It holds bytes.
    frame.extend([0x7A, 0x80 | (padding & 0x7F) as u8, (padding >> 7) as u8]);
    frame.extend(vec![0; padding]);
    player.say_bytes(Lane::Reliable, frame);
}

#[test]
fn pr_15_messages_over_the_rate_wait_in_order_and_are_not_lost() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    game.run_with(&mut [&mut ada, &mut bob], 1_000);

    say(&mut ada, 1..=500);
    say(&mut bob, 1..=1);
    game.tick();

    // The burst is dispatched at once. After it, six messages are dispatched per tick.
    assert_eq!(said(&game, &ada).len(), 240);
    assert_eq!(said(&game, &bob), [1], "other sessions are served");
    game.run_with(&mut [&mut ada, &mut bob], 1_000);
    assert!((359..=360).contains(&said(&game, &ada).len()), "{}", said(&game, &ada).len());
    game.run_with(&mut [&mut ada, &mut bob], 1_500);
    assert_eq!(said(&game, &ada), (1..=500).collect::<Vec<_>>());
    assert_eq!(throttled(&game), 0);
}

#[test]
fn pr_15_a_link_that_is_paused_for_its_rate_is_not_silent() {
    let mut game = game_at(2, 16);
    let mut ada = game.member(Via::Alpha, "hall");
    ada.omits = Omitted::Mute;
    say(&mut ada, 1..=40);

    // Two at once, then two per second. The link is read again after 15 s, when eight messages are left.
    game.run_ms(14_000);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    game.run_ms(20_000);

    assert_eq!(said(&game, &ada), (1..=40).collect::<Vec<_>>());
    assert!(
        game.news_of(ada.session()).contains(&Disconnected(LossCause::Silent)),
        "the client was silent after the link was read again"
    );
}

#[test]
fn acks_and_pings_do_not_wait_behind_calls() {
    let mut game = game_at(10, 512);
    let mut ada = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut ada], 1_000);

    say(&mut ada, 1..=300);
    shout(&mut game, 1);
    game.run_with(&mut [&mut ada], 15_000);

    // If acks waited behind 29 s of calls, the session would be a slow consumer after ten seconds.
    assert_eq!(ada.closed(), None);
    assert!(said(&game, &ada).len() < 200);
    assert!(game.component::<Latency>(ada.session()).is_some_and(|latency| latency.round_trip_ms() < 200));
    game.run_with(&mut [&mut ada], 15_000);
    assert_eq!(said(&game, &ada).len(), 300);
}

#[test]
fn unreliable_messages_over_the_rate_are_dropped_and_counted() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut ada], 1_000);

    for tick in 1..=1_000 {
        ada.say(&Input { tick, ..Input::default() });
    }
    say(&mut ada, 1..=1);
    game.tick();

    let heard = game.resource::<Heard>().inputs.len();
    assert_eq!(heard, 240);
    assert!(said(&game, &ada).is_empty());
    // The call was neither overtaken nor lost.
    ada.say(&Input { tick: 1_001, ..Input::default() });
    game.exchange(&mut [&mut ada]);
    assert_eq!(said(&game, &ada), [1]);
    assert_eq!(game.resource::<Heard>().inputs.last(), Some(&(ada.session(), 1_001)));
    assert_eq!(throttled(&game), 760);
}

#[test]
fn bytes_are_limited_like_messages() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut ada], 1_000);

    for number in 1..=20 {
        say_padded(&mut ada, number, 8 * 1_024);
    }
    game.tick();

    assert_eq!(said(&game, &ada).len(), 8);
    game.run_ms(1_000);
    assert!((11..=12).contains(&said(&game, &ada).len()), "{}", said(&game, &ada).len());
    game.run_ms(3_000);
    assert_eq!(said(&game, &ada), (1..=20).collect::<Vec<_>>());
}

#[test]
fn replayed_messages_do_not_count_against_the_rate() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    say(&mut ada, 1..=240);
    game.exchange(&mut [&mut ada]);
    ada.close();
    game.tick();
    say(&mut ada, 241..=752);

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    game.exchange(&mut [&mut ada]);

    // There are 512 messages, and a tick dispatches at most 256.
    assert_eq!(said(&game, &ada), (1..=752).collect::<Vec<_>>());
}

#[test]
fn link_control_has_a_small_limit_of_its_own() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    game.run_with(&mut [&mut eve], 3_000);

    for _ in 0..1_000 {
        eve.say(&Ack { received: eve.received() });
    }
    say(&mut eve, 1..=240);
    game.tick();

    assert_eq!(throttled(&game), 880);
    assert_eq!(said(&game, &eve).len(), 240, "link control does not count against the rate of calls");
    game.run_with(&mut [&mut eve], 1_000);
    eve.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
    game.exchange(&mut [&mut eve]);
    assert_eq!(eve.take::<ProbeReply>().len(), 1);
    assert_eq!(game.view(eve.session()).map(|view| view.waiting_count), Some(0));
}

#[test]
fn joins_that_wait_do_not_keep_a_silent_link() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    for request in 2..302 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
    }

    game.run_ms(5_100);

    assert_eq!(game.state(eve.session()), Some(SessionState::Disconnected));
}

#[test]
fn a_session_that_resumes_repeatedly_is_held_to_its_rates() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");

    // In half a minute, 120 messages per second and the burst are 3,840 messages. The rate of replays allows
    // two outboxes.
    for _ in 0..30 {
        eve.connect(&game, Via::Beta);
        eve.resume();
        game.exchange(&mut [&mut eve]);
        say(&mut eve, 1..=500);
        game.run_with(&mut [&mut eve], 850);
    }

    let count = said(&game, &eve).len();
    assert!(count <= 3_840 + 2 * 512, "{count} messages in half a minute");
}
