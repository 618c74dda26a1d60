//! Tests the rows of the state table in `docs/sessions.md` over two proxies: how a session begins and goes on.

use std::time::Duration;

use waystation::ident::{Epoch, ZoneId};
use waystation::proxy::{LinkEnd, Proxies};
use waystation::session::{ExpiresAt, LossCause, Session, SessionCounts, SessionState, SessionTable};
use waystation::testing::News::{self, Disconnected, MemberDisconnected, MemberResumed, Registered, Resumed};
use waystation::testing::Via;
use waystation::wire::Lane;
use waystation::wire::v1::{Ack, Bye, Join, Joined, Part, Parted, Probe, Reason, Refused, Welcome};
use waystation::zone::InZone;

use crate::support::{game, said};

const HALL: ZoneId = ZoneId(1);
const SILENT: LossCause = LossCause::Silent;
const BY_PEER: LossCause = LossCause::Link(LinkEnd::ByPeer);

fn join(zone: &str) -> Join {
    Join { request: 7, zone: zone.to_owned(), ..Join::default() }
}

#[test]
fn row_01_a_hello_opens_a_session_and_is_answered_by_welcome() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    game.exchange(&mut [&mut ada]);

    let welcome = &ada.take::<Welcome>()[0];
    assert_eq!((welcome.resumed, welcome.received, welcome.base, welcome.resync), (false, 0, 0, false));
    assert_eq!((welcome.token.len(), welcome.tick_hz, welcome.timeout_ms), (32, 20, 5_000));
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert_eq!(game.news_of(ada.session()), [Registered]);
}

#[test]
fn row_02_a_link_without_hello_is_closed_after_five_seconds() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);

    game.run_ms(4_950);
    ada.pump();
    assert_eq!(ada.closed(), None);
    game.run_ms(100);
    ada.pump();

    assert_eq!(ada.closed(), Some(Reason::Timeout));
    assert_eq!(game.resource::<SessionTable>().session_count(), 0);
    assert_eq!(game.resource::<SessionCounts>().registered_count, 0);
}

#[test]
fn row_02_a_link_that_only_probes_is_closed_too() {
    let mut game = game();
    let mut ada = game.stranger(Via::Beta);

    for _ in 0..60 {
        ada.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
        game.run_with(&mut [&mut ada], 100);
    }

    assert_eq!(ada.closed(), Some(Reason::Timeout));
}

#[test]
fn row_03_a_join_makes_a_session_active() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);

    ada.send(&join("hall"));
    game.exchange(&mut [&mut ada]);

    let joined = &ada.take::<Joined>()[0];
    assert_eq!((joined.request, joined.zone.as_str(), joined.zone_id, joined.tick_hz), (7, "hall", 1, 20));
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(game.news_of(ada.session()), [Registered, News::Joined(HALL)]);
}

#[test]
fn row_04_a_join_that_cannot_be_is_refused() {
    let mut game = game();
    game.open_zone(waystation::zone::Zone::new("closet").capacity(1));
    let mut ada = game.member(Via::Alpha, "closet");
    let mut bob = game.player(Via::Beta);

    bob.send(&join("closet"));
    bob.send(&join("nowhere"));
    game.exchange(&mut [&mut ada, &mut bob]);

    let reasons: Vec<Reason> = bob.take::<Refused>().iter().map(Refused::reason).collect();
    assert_eq!(reasons, [Reason::Full, Reason::NoSuchZone]);
    assert_eq!(game.state(bob.session()), Some(SessionState::Connected));
    ada.send(&join("nowhere"));
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.take::<Refused>()[0].reason(), Reason::NoSuchZone);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

#[test]
fn row_05_a_part_makes_a_session_connected_again() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Part { request: 9, ..Part::default() });
    game.exchange(&mut [&mut ada]);

    let parted = &ada.take::<Parted>()[0];
    assert_eq!((parted.request, parted.zone.as_str(), parted.reason()), (9, "hall", Reason::Left));
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert_eq!(
        game.news_of(ada.session()),
        [Registered, News::Joined(HALL), News::Parted(HALL, Reason::Left)]
    );
}

#[test]
fn row_06_a_join_of_another_zone_moves_and_a_refused_one_stays() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&join("nowhere"));
    ada.send(&join("attic"));
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Refused>().len(), 1);
    assert_eq!(ada.zone(), Some("attic"));
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    let attic = ZoneId(2);
    assert_eq!(
        game.news_of(ada.session()),
        [Registered, News::Joined(HALL), News::Parted(HALL, Reason::Moved), News::Joined(attic)]
    );
}

#[test]
fn row_06a_a_join_of_its_own_zone_is_answered_and_nothing_else() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.take::<Joined>();

    ada.send(&join("hall"));
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Joined>()[0].request, 7);
    assert_eq!(game.news_of(ada.session()), [Registered, News::Joined(HALL)]);
}

#[test]
fn row_07_a_member_who_loses_its_link_stays_in_a_soft_zone() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let session = ada.session();

    ada.close();
    game.tick();
    game.tick();

    assert_eq!(game.state(session), Some(SessionState::Disconnected));
    assert!(game.component::<InZone>(session).is_some());
    assert!(game.component::<ExpiresAt>(session).is_some());
    assert_eq!(game.news_of(session)[2..], [Disconnected(BY_PEER), MemberDisconnected(HALL)]);
}

#[test]
fn row_07_silence_is_a_loss_after_five_seconds_on_every_proxy() {
    for via in [Via::Alpha, Via::Beta] {
        let mut game = game();
        let mut ada = game.member(via, "hall");
        let session = ada.session();
        ada.say(&Ack { received: ada.received() });
        ada.cut();
        let last_heard = game.now();

        game.run_ms(4_900);
        assert_eq!(game.state(session), Some(SessionState::Active));
        game.run_ms(200);

        assert_eq!(game.state(session), Some(SessionState::Disconnected));
        let told = game.told_at(session, Disconnected(SILENT)).expect("the game received the event");
        assert!(told - last_heard <= Duration::from_millis(5_100), "{:?}", told - last_heard);
    }
}

#[test]
fn row_09_a_session_in_no_zone_waits_too() {
    let mut game = game();
    let mut ada = game.player(Via::Beta);
    let session = ada.session();

    ada.close();
    game.tick();
    game.tick();

    assert_eq!(game.state(session), Some(SessionState::Disconnected));
    assert_eq!(game.news_of(session), [Registered, Disconnected(BY_PEER)]);
}

#[test]
fn row_10_and_oz_10_a_valid_token_resumes_the_session_over_another_proxy() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let (session, token) = (ada.session(), ada.token());
    ada.close();
    game.run_ms(1_000);

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.session(), session);
    assert_ne!(ada.token(), token);
    assert_eq!(ada.zone(), Some("hall"));
    assert_eq!(game.state(session), Some(SessionState::Active));
    assert_eq!(game.component::<Session>(session).map(Session::epoch), Some(Epoch(2)));
    assert!(game.component::<ExpiresAt>(session).is_none());
    assert_eq!(
        game.news_of(session)[2..],
        [Disconnected(BY_PEER), MemberDisconnected(HALL), Resumed { resync: false }, MemberResumed(HALL)]
    );
}

#[test]
fn row_10_a_session_in_no_zone_is_connected_after_a_resume() {
    let mut game = game();
    let mut ada = game.player(Via::Alpha);
    ada.close();
    game.run_ms(500);

    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
    assert_eq!(ada.zone(), None);
}

#[test]
fn row_11_and_oz_02_a_resume_takes_over_from_a_living_link() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let old = ada.cut().expect("a link");

    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(
        game.news_of(ada.session())[2..],
        [Disconnected(LossCause::Replaced), Resumed { resync: false }, MemberResumed(HALL)]
    );
    let last = std::iter::from_fn(|| old.receive()).last().expect("a last frame");
    assert_eq!(&last[..2], &[0x00, 0x05]);
    assert!(old.is_closed());
}

#[test]
fn row_11a_a_loss_and_a_resume_in_one_tick_are_a_takeover() {
    let mut game = game();
    let mut ada = game.member(Via::Beta, "hall");

    ada.close();
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(
        game.news_of(ada.session())[2..],
        [Disconnected(LossCause::Replaced), Resumed { resync: false }, MemberResumed(HALL)]
    );
}

#[test]
fn row_11a_a_resume_whose_own_link_closed_in_the_same_tick_is_skipped() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let old = ada.cut().expect("a link");

    ada.connect(&game, Via::Beta);
    ada.resume();
    ada.close();
    game.tick();
    game.tick();

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(!old.is_closed());
    assert_eq!(game.news_of(ada.session()).len(), 2);
}

#[test]
fn a_resume_does_not_wait_for_a_link_that_its_client_closed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    // The loss and the resume are in one tick: row 11a.
    ada.close();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert!(ada.is_welcome());
    assert_eq!(game.resource::<Proxies>().closing_count(), 0);
}

#[test]
fn row_12_frames_from_an_old_link_are_ignored_and_counted() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let old = ada.cut().expect("a link");
    ada.connect(&game, Via::Beta);
    ada.resume();
    // In the tick of the takeover the old link has not received its Closed yet.
    old.send(Lane::Reliable, waystation::wire::encode(&Bye {})).expect("open");
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert!(said(&game, &ada).is_empty());
}
