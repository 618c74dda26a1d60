//! Tests the rows of the state table in `docs/sessions.md` over two proxies: how a session ends or is denied.

use std::time::Duration;

use waystation::arena::v1::Say;
use waystation::ident::ZoneId;
use waystation::proxy::LinkEnd;
use waystation::session::{EndCause, LossCause, ResumeTimeout, SessionState, SessionTable};
use waystation::testing::News::{
    self, Closed, Disconnected, Expired, MemberDisconnected, Registered, Unregistered,
};
use waystation::testing::{Omitted, Via};
use waystation::wire::v1::{Ack, Bye, Denied, Hello, Join, Joined, Part, Parted, Reason, Refused, Welcome};
use waystation::wire::{self, FRAME_MAX_CLIENT, Lane};

use crate::support::{echoes, entity, game, game_with_club, padded, parts, said, say};

const HALL: ZoneId = ZoneId(1);
const BY_PEER: LossCause = LossCause::Link(LinkEnd::ByPeer);

fn join(zone: &str) -> Join {
    Join { request: 7, zone: zone.to_owned(), ..Join::default() }
}

#[test]
fn row_13_and_ow_14_every_bad_token_gets_the_same_answer() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let used = ada.token();
    ada.close();
    game.run_ms(200);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    let mut gone = game.player(Via::Alpha);
    gone.send(&Bye {});
    game.exchange(&mut [&mut gone, &mut ada]);

    let mut answers = Vec::new();
    for token in [used, gone.token(), vec![7; 32].into(), vec![].into()] {
        let mut eve = game.stranger(Via::Alpha);
        eve.resume_with(token, false);
        game.tick();
        eve.pump();
        answers.extend(eve.take::<Denied>());
    }

    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.reason() == Reason::Token));
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

#[test]
fn row_13_a_network_that_guesses_tokens_is_slowed_but_may_open_sessions() {
    let mut game = game();
    let mut eve = game.stranger(Via::Alpha);

    let mut ticks = Vec::new();
    for _ in 0..3 {
        eve.resume_with(vec![7; 32].into(), false);
        let mut count = 0;
        while eve.take::<Denied>().is_empty() {
            game.tick();
            eve.pump();
            count += 1;
        }
        ticks.push(count);
    }
    eve.hello();
    game.exchange(&mut [&mut eve]);

    assert_eq!(ticks, [1, 10, 20]);
    assert_eq!(game.state(eve.session()), Some(SessionState::Connected));
}

#[test]
fn a_valid_resume_that_arrived_in_time_wins_even_if_it_is_slowed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.run_ms(4_850);
    ada.connect(&game, Via::Beta);
    ada.resume_with(vec![7; 32].into(), false);
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.take::<Denied>().len(), 1);

    // The resume arrives in the tick of the deadline.
    ada.resume();
    game.run_with(&mut [&mut ada], 2_000);

    assert!(ada.is_welcome());
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);
    assert_eq!(said(&game, &ada), [1]);
}

#[test]
fn row_14_and_cc_02_a_session_that_is_not_resumed_expires() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let session = ada.session();
    ada.close();
    game.run_ms(5_000);
    assert_eq!(game.state(session), Some(SessionState::Disconnected));

    game.run_ms(100);

    assert_eq!(game.state(session), None);
    assert_eq!(
        game.news_of(session)[3..],
        [
            MemberDisconnected(HALL),
            News::Parted(HALL, Reason::Expired),
            Expired(EndCause::Timeout),
            Closed(EndCause::Timeout)
        ]
    );
    let lost = game.told_at(session, Disconnected(BY_PEER)).expect("told");
    let expired = game.told_at(session, Expired(EndCause::Timeout)).expect("told");
    assert_eq!(expired - lost, Duration::from_secs(5));
}

#[test]
fn row_14a_a_resume_in_the_tick_of_the_deadline_wins() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.tick();
    game.run_ms(4_950);

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(!game.news_of(ada.session()).contains(&Expired(EndCause::Timeout)));
}

#[test]
fn a_session_may_be_kept_for_ever() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = entity(&game, &ada);

    game.app.world_mut().entity_mut(entity).insert(ResumeTimeout(Duration::MAX));
    ada.close();
    game.tick();

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
}

#[test]
fn row_15_and_cc_02_bye_ends_a_session() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), Some(Reason::Bye));
    assert!(ada.is_cut_off());
    assert_eq!(
        game.news_of(ada.session())[2..],
        [News::Parted(HALL, Reason::Left), Unregistered, Closed(EndCause::Bye)]
    );
    assert_eq!(game.resource::<SessionTable>().token_count(), 0);
}

#[test]
fn row_15_a_bye_that_arrived_before_the_loss_counts() {
    let mut game = game();
    let mut ada = game.member(Via::Beta, "hall");
    let session = ada.session();

    ada.send(&Say { number: 1 });
    ada.send(&Bye {});
    ada.close();
    game.tick();
    game.tick();

    assert_eq!(said(&game, &ada), [1]);
    assert_eq!(
        game.news_of(session)[2..],
        [
            Disconnected(BY_PEER),
            MemberDisconnected(HALL),
            News::Parted(HALL, Reason::Left),
            Unregistered,
            Closed(EndCause::Bye)
        ]
    );
}

#[test]
fn row_15_a_client_that_sends_bye_and_closes_leaves_a_hard_zone_too() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");

    ada.send(&Bye {});
    ada.close();
    game.exchange(&mut [&mut ada]);

    assert_eq!(parts(&game, &ada), [Reason::Left]);
}

#[test]
fn row_16a_a_protocol_error_ends_only_its_own_session() {
    let offences: [(Lane, Vec<u8>); 8] = [
        // A counted frame that does not parse.
        (Lane::Reliable, vec![0x00, 0x40, 0xFF]),
        // Link control that does not parse.
        (Lane::Reliable, vec![0x00, 0x06, 0xFF]),
        // A second Hello.
        (Lane::Reliable, wire::encode(&Hello { protocol: 1, ..Hello::default() }).to_vec()),
        // An ack of frames that were never sent.
        (Lane::Reliable, wire::encode(&Ack { received: 1_000 }).to_vec()),
        // A reliable message on the unreliable lane.
        (Lane::Unreliable, wire::encode(&Say { number: 1 }).to_vec()),
        // A counted frame that is too long.
        (Lane::Reliable, padded(&Say { number: 1 }, FRAME_MAX_CLIENT + 1).to_vec()),
        // Link control that is too long.
        (Lane::Reliable, padded(&Ack { received: 0 }, FRAME_MAX_CLIENT + 1).to_vec()),
        // A frame too short for an id.
        (Lane::Reliable, vec![1]),
    ];
    for (lane, offence) in offences {
        let mut game = game();
        let mut ada = game.member(Via::Alpha, "hall");
        let mut bob = game.member(Via::Beta, "hall");

        ada.say_bytes(lane, offence.clone());
        game.exchange(&mut [&mut ada, &mut bob]);

        assert_eq!(ada.closed(), Some(Reason::Protocol), "{offence:?}");
        assert_eq!(ada.take::<Parted>()[0].reason(), Reason::Protocol);
        assert_eq!(
            game.news_of(ada.session())[2..],
            [News::Parted(HALL, Reason::Protocol), Expired(EndCause::Protocol), Closed(EndCause::Protocol)]
        );
        assert_eq!(game.state(bob.session()), Some(SessionState::Active));
        ada.connect(&game, Via::Beta);
        ada.resume();
        game.exchange(&mut [&mut ada]);
        assert_eq!(ada.take::<Denied>()[0].reason(), Reason::Token);
    }
}

#[test]
fn row_16a_the_tenth_stray_message_is_a_protocol_error() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    for _ in 0..9 {
        ada.say_bytes(Lane::Reliable, vec![0x7F, 0x00]);
    }
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.closed(), None);
    // In the wrong direction.
    ada.say_bytes(Lane::Reliable, wire::encode(&Joined::default()));
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), Some(Reason::Protocol));
}

#[test]
fn row_19_a_join_without_a_link_is_refused_and_a_part_is_done() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);
    let mut bob = game.member(Via::Beta, "hall");

    ada.send(&join("hall"));
    ada.close();
    bob.send(&Part { request: 3, ..Part::default() });
    bob.close();
    game.tick();
    for player in [&mut ada, &mut bob] {
        player.connect(&game, Via::Alpha);
        player.resume();
    }
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!(ada.take::<Refused>()[0].reason(), Reason::Disconnected);
    assert_eq!(bob.take::<Parted>()[0].request, 3);
    for player in [&ada, &bob] {
        assert_eq!(game.state(player.session()), Some(SessionState::Connected));
    }
}

#[test]
fn cc_14_a_session_that_has_ended_is_unknown_and_its_entity_goes_a_tick_later() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = game.entity(ada.session()).expect("alive");

    ada.send(&Bye {});
    game.tick();

    assert!(game.resource::<SessionTable>().find(ada.session()).is_err());
    assert!(game.app.world().get_entity(entity).is_ok(), "the game can read it in the next tick");
    game.tick();
    assert!(game.app.world().get_entity(entity).is_ok());
    game.tick();
    assert!(game.app.world().get_entity(entity).is_err());
    ada.pump();
    assert!(echoes(&mut ada).is_empty());
}

#[test]
fn a_session_whose_welcome_was_never_acknowledged_is_not_kept() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    ada.omits = Omitted::Mute;
    ada.hello();
    game.exchange(&mut [&mut ada]);

    ada.close();
    game.tick();
    game.tick();

    assert_eq!(
        game.news_of(ada.session()),
        [Registered, Disconnected(BY_PEER), Expired(EndCause::Timeout), Closed(EndCause::Timeout)]
    );
}

#[test]
fn a_session_whose_client_fell_silent_before_its_welcome_was_acknowledged_is_kept_and_resumed() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    ada.omits = Omitted::Mute;
    ada.hello();
    game.exchange(&mut [&mut ada]);

    // The client's Ack is late by more than the link's timeout.
    game.run_ms(9_500);
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    ada.omits = Omitted::Never;
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert!(ada.take::<Welcome>().iter().any(|welcome| welcome.resumed));
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn a_session_whose_welcome_was_acknowledged_just_before_the_loss_is_kept_and_resumed() {
    for with_a_call in [false, true] {
        let mut game = game();
        let mut ada = game.stranger(Via::Alpha);
        ada.hello();
        game.tick();
        // The client acknowledges the Welcome at once. The link closes in the same batch of events.
        ada.pump();
        if with_a_call {
            ada.send(&Part { request: 9, ..Part::default() });
        }
        ada.close();
        game.tick();
        game.tick();
        assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));

        game.run_ms(4_800);
        ada.connect(&game, Via::Beta);
        ada.resume();
        game.exchange(&mut [&mut ada]);

        assert!(ada.take::<Welcome>().iter().any(|welcome| welcome.resumed));
        assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    }
}

#[test]
fn a_resume_counts_as_an_ack_of_the_welcome() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.tick();
    // The client's Ack is lost with the link. The client still has its token.
    ada.omits = Omitted::Mute;
    ada.pump();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.tick();
    ada.pump();
    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resumed));

    ada.close();
    game.tick();

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
}
