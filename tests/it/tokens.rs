//! Tests which tokens resume a session, and from which counts both sides go on.

use waystation::testing::News::Resumed;
use waystation::testing::{Omitted, Via};
use waystation::wire::v1::{Denied, Hello, Joined, Reason, Resume, Welcome};

use crate::support::{echoes, game, said, say, shout};

#[test]
fn a_lost_welcome_costs_nothing() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let token = ada.token();
    say(&mut ada, 1..=3);
    game.tick();

    // Three resumes in a row, each with a lost Welcome: the client's token stays the same.
    for via in [Via::Beta, Via::Alpha, Via::Beta] {
        ada.cut();
        ada.connect(&game, via);
        ada.resume();
        game.tick();
        assert_eq!(ada.token(), token);
    }
    ada.cut();
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_ne!(ada.token(), token);
    assert_eq!(said(&game, &ada), [1, 2, 3]);
    assert_eq!(echoes(&mut ada), [1, 2, 3]);
}

#[test]
fn the_first_ack_retires_the_token_that_was_presented() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let first = ada.token();
    ada.cut();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    let mut eve = game.stranger(Via::Alpha);
    eve.resume_with(first, false);
    game.tick();
    eve.pump();

    assert_eq!(eve.take::<Denied>()[0].reason(), Reason::Token);
}

#[test]
fn two_resumes_in_one_batch_keep_the_session_for_their_client_in_either_order() {
    let mut replaced_count = 0;
    for (first, second) in [(Via::Alpha, Via::Beta), (Via::Beta, Via::Alpha)] {
        // given a client that sent a Hello, got no answer in time, and sends it again on another link
        let mut game = game();
        let mut ada = game.member(Via::Alpha, "hall");
        let (session, presented) = (ada.session(), ada.token());
        say(&mut ada, 1..=3);
        game.tick();
        ada.cut();
        ada.connect(&game, first);
        ada.resume();
        let mut late = ada.leave_behind();
        ada.connect(&game, second);
        ada.resume();

        // when both arrive at the same instant, the order of the proxies decides which is handled last
        game.exchange(&mut [&mut ada]);
        late.pump();
        if ada.closed() == Some(Reason::Replaced) {
            // The session is bound to the link that the client does not read. The presented token is still valid.
            replaced_count += 1;
            ada.cut();
            ada.connect(&game, second);
            ada.resume_with(presented, false);
            game.exchange(&mut [&mut ada]);
        }

        // then one session exists, and the client can use it
        assert_eq!((ada.session(), ada.is_welcome(), ada.closed()), (session, true, None));
        assert_eq!(game.news_counts().len(), 1);
        say(&mut ada, 4..=6);
        game.exchange(&mut [&mut ada]);
        game.exchange(&mut [&mut ada]);
        assert_eq!(said(&game, &ada), [1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(replaced_count, 1, "one order replaces the client's link, the other does not");
}

#[test]
fn the_newest_token_and_the_previous_one_are_valid_until_one_is_used() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let first = ada.token();
    ada.cut();
    ada.connect(&game, Via::Beta);
    ada.omits = Omitted::Mute;
    ada.resume();
    game.exchange(&mut [&mut ada]);
    let second = ada.token();
    assert_ne!(first, second);

    // The client has the newest token, but did not acknowledge it. Both tokens are valid until one is used.
    let mut mallory = game.stranger(Via::Alpha);
    mallory.resume_with(first.clone(), true);
    game.tick();
    mallory.pump();
    let mut late = game.stranger(Via::Alpha);
    late.resume_with(second, true);
    game.tick();
    late.pump();

    assert_eq!(mallory.take::<Welcome>().len(), 1);
    assert_eq!(late.take::<Denied>()[0].reason(), Reason::Token);
}

#[test]
fn a_reloaded_page_resumes_with_only_its_token() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    say(&mut ada, 1..=3);
    game.exchange(&mut [&mut ada]);
    let session = ada.session();
    ada.close();
    ada.reload();
    game.run_ms(100);

    ada.connect(&game, Via::Beta);
    ada.resume_with(ada.token(), true);
    game.exchange(&mut [&mut ada]);
    let welcome = ada.take::<Welcome>().remove(0);
    say(&mut ada, 4..=4);
    shout(&mut game, 9);
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.session(), session);
    assert!(welcome.resync && welcome.received == 4);
    assert!(game.news_of(session).contains(&Resumed { resync: true }));
    assert_eq!(ada.take::<Joined>()[0].request, 0);
    assert_eq!(said(&game, &ada), [1, 2, 3, 4]);
    assert_eq!(echoes(&mut ada), [4, 9]);
}

#[test]
fn frames_past_the_counts_of_any_client_are_not_believed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.tick();

    ada.connect(&game, Via::Beta);
    let resume = Resume {
        token: ada.token(),
        received: u64::MAX,
        trimmed: u64::MAX,
        resync: false,
        ..Resume::default()
    };
    ada.say(&Hello { protocol: 1, resume: Some(resume), ..Default::default() });
    game.exchange(&mut [&mut ada]);
    shout(&mut game, 1);
    game.exchange(&mut [&mut ada]);

    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resync));
    assert_eq!(echoes(&mut ada), [1]);
}
