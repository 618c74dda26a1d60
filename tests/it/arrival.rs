//! Frames and link ends that arrive between two ticks take effect in order of arrival.

use std::time::Duration;

use waystation::session::{SessionCounts, SessionState};
use waystation::testing::News::Unregistered;
use waystation::testing::Via;
use waystation::wire::v1::{Ack, Bye, Denied, Hello, Join, Part, Reason, Resume};
use waystation::zone::MembershipCommands as _;

use crate::support::{command, entity, game, game_with_club, parts, shout, zone};

#[test]
fn a_first_ack_that_arrived_before_the_loss_keeps_the_session() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.tick();
    ada.pump();

    ada.send(&Part::default());
    ada.close();
    game.exchange(&mut []);

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert!(ada.take::<Denied>().is_empty());
}

#[test]
fn a_session_that_is_about_to_end_for_a_protocol_error_is_not_resumed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut next = game.stranger(Via::Beta);

    ada.say(&Ack { received: ada.received() + 1 });
    game.pass(Duration::from_millis(10));
    next.resume_with(ada.token(), false);
    game.exchange(&mut [&mut ada, &mut next]);

    assert_eq!(ada.closed(), Some(Reason::Protocol));
    assert_eq!(next.take::<Denied>()[0].reason(), Reason::Token);
}

#[test]
fn a_late_hello_with_the_token_that_an_ack_has_retired_is_denied() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let token = ada.token();
    ada.cut();
    let mut late = game.stranger(Via::Beta);
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.tick();
    ada.pump();

    game.pass(Duration::from_millis(10));
    late.resume_with(token, false);
    game.exchange(&mut [&mut ada, &mut late]);

    assert_eq!(ada.closed(), None);
    assert_eq!(late.take::<Denied>()[0].reason(), Reason::Token);
}

#[test]
fn an_ack_of_frames_that_were_not_sent_is_a_protocol_error() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.say(&Ack { received: ada.received() + 1 });
    shout(&mut game, 1);
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), Some(Reason::Protocol));
}

#[test]
fn a_bye_behind_waiting_frames_takes_effect_after_the_link_has_ended() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);
    let mut bob = game.member(Via::Beta, "hall");
    let (b, hall, attic) = (entity(&game, &bob), zone(&game, "hall"), zone(&game, "attic"));

    ada.send(&Join { request: 7, zone: "hall".to_owned(), ..Join::default() });
    ada.send(&Bye {});
    ada.close();
    command(&mut game, |commands| {
        commands.move_zone(b, attic);
        commands.move_zone(b, hall);
    });
    game.tick();
    bob.send(&Bye {});
    bob.close();
    game.exchange(&mut []);

    for player in [&ada, &bob] {
        assert_eq!(game.state(player.session()), None);
        assert!(game.news_of(player.session()).contains(&Unregistered));
    }
}

#[test]
fn impossible_counts_in_a_resume_are_ignored_each_time() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    for _ in 0..3 {
        ada.cut();
        ada.connect(&game, Via::Beta);
        let resume =
            Resume { token: ada.token(), received: 0, trimmed: u64::MAX, resync: false, ..Resume::default() };
        ada.say(&Hello { protocol: 1, resume: Some(resume), ..Hello::default() });
        game.exchange(&mut [&mut ada]);
    }

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(game.resource::<SessionCounts>().missed_count, 0);
}

#[test]
fn a_part_that_arrived_before_the_loss_in_a_hard_zone_takes_effect() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");

    ada.send(&Part { request: 7, payload: "good night".into() });
    ada.close();
    game.exchange(&mut [&mut ada]);

    assert_eq!(parts(&game, &ada), [Reason::Left]);
}
