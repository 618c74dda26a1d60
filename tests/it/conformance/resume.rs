//! Tests how sessions are resumed over new links.

use waystation::arena::v1::Echo;
use waystation::session::{SessionCounts, SessionState};
use waystation::testing::Omitted;
use waystation::wire::v1::{Bye, Denied, Hello, Joined, Members, Parted, Reason, Resume, Welcome};
use waystation::wire::{self};

use super::stage::{Stage, Who};
use super::transports::Way;
use crate::support::{echoes, said, say};

/// Asserts that a new link cannot resume with a token.
fn assert_no_resume(stage: &mut Stage, token: bytes::Bytes, over: Way) {
    let eve = stage.stranger(over);
    stage[eve].resume_with(token, false);
    assert_eq!(stage.until_saw::<Denied>(eve).reason(), Reason::Token);
}

fn expires(stage: &mut Stage, who: Who) {
    let session = stage[who].session();
    stage.until("the session ends", |stage| stage.game.state(session).is_none());
}

pub(super) fn row_07_and_row_10_a_resume_keeps_session_and_zone(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");
    let (session, token) = (stage[ada].session(), stage[ada].token());
    stage[bob].take::<Members>();
    stage.lose_link(ada);
    stage.pass(4_000);

    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.session, welcome.resumed, welcome.resync), (session.0, true, false));
    assert_eq!((welcome.zone.as_str(), welcome.received), ("plaza", 1));
    assert_ne!(welcome.token, token);
    assert_eq!(stage.echo(ada, 1), [1]);
    stage[ada].expect_no::<Joined>();
    stage.echo(bob, 1);
    let told: Vec<Members> = stage[bob].take();
    let of = |ids: fn(&Members) -> &Vec<u64>| told.iter().flat_map(ids).copied().collect::<Vec<_>>();
    assert_eq!(of(|members| &members.unlinked), [session.0]);
    assert_eq!(of(|members| &members.linked), [session.0]);
    assert!(of(|members| &members.parted).is_empty() && of(|members| &members.joined).is_empty());
}

pub(super) fn row_07_silence_is_a_loss_and_may_be_resumed(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let session = stage[ada].session();
    // All frames of the player have arrived, so the silence begins now.
    stage.confirm(ada);
    stage.switch_off(ada);

    stage.pass(4_500);
    assert_eq!(stage.game.state(session), Some(SessionState::Active));
    // On a busy machine, a frame that arrives late restarts the silence.
    stage.pass_until("the link is lost", 5_500, |stage| {
        stage.game.state(session) == Some(SessionState::Disconnected)
    });
    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.session, welcome.zone.as_str()), (session.0, "plaza"));
}

pub(super) fn row_08_a_hard_zone_is_left_when_the_link_is_lost(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "pit");
    let bob = stage.member(over, "pit");
    stage[bob].take::<Members>();
    stage.lose_link(ada);

    let welcome = stage.resume(ada, over);
    stage.echo(bob, 1);

    assert_eq!((welcome.session, welcome.zone.as_str()), (stage[ada].session().0, ""));
    let parted: Vec<u64> =
        stage[bob].take::<Members>().into_iter().flat_map(|members| members.parted).collect();
    assert_eq!(parted, [stage[ada].session().0]);
}

pub(super) fn row_09_and_row_10_a_session_in_no_zone_is_resumed_too(stage: &mut Stage, over: Way) {
    let ada = stage.player(over);
    stage.confirm(ada);
    stage.lose_link(ada);

    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.session, welcome.zone.as_str()), (stage[ada].session().0, ""));
    assert_eq!(stage.join(ada, "plaza").zone, "plaza");
}

pub(super) fn row_11_and_oz_02_a_takeover_closes_the_old_link(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "pit");
    let bob = stage.member(over, "pit");
    stage[bob].take::<Members>();
    let former = stage.leave_behind(ada);

    let welcome = stage.resume(ada, over);

    assert_eq!((welcome.resumed, welcome.zone.as_str()), (true, "pit"));
    assert_eq!(stage.until_closed(former), Reason::Replaced);
    assert_eq!(stage.echo(ada, 1), [1]);
    stage.echo(bob, 1);
    // Nobody left the zone, although it is hard.
    let told: Vec<Members> = stage[bob].take();
    assert!(told.iter().all(|members| members.parted.is_empty()));
    assert_eq!(stage.game.resource::<SessionCounts>().registered_count, 2);
}

pub(super) fn row_12_what_an_old_link_still_says_is_ignored(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let former = stage.leave_behind(ada);
    // The old link reads no Closed(REPLACED), and continues to send.
    stage.switch_off(former);
    stage.resume(ada, over);

    stage[former].say(&Bye {});
    stage.switch_on(former);
    stage.until("the old link ends", |stage| stage[former].is_cut_off());

    assert_eq!(stage.echo(ada, 1), [1]);
    assert_eq!(stage[ada].closed(), None);
}

pub(super) fn row_13_and_ow_14_a_bad_token_is_denied_and_a_hello_is_heard_on_the_same_link(
    stage: &mut Stage,
    over: Way,
) {
    let mut answers = Vec::new();
    for token in [vec![7; 32], Vec::new(), vec![7; 1_000]] {
        let eve = stage.stranger(over);
        stage[eve].resume_with(token.into(), false);
        answers.push(stage.until_saw::<Denied>(eve));

        stage[eve].hello();
        assert!(!stage.until_saw::<Welcome>(eve).resumed);
    }

    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.reason() == Reason::Token));
}

pub(super) fn ow_13_the_first_ack_retires_the_token_that_was_presented(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let first = stage[ada].token();
    stage.lose_link(ada);
    stage.resume(ada, over);
    stage.echo(ada, 1);

    assert_no_resume(stage, first, over);

    let newest = stage[ada].token();
    stage[ada].close();
    let bob = stage.stranger(over);
    stage[bob].resume_with(newest, true);
    assert_eq!(stage.until_saw::<Welcome>(bob).session, stage[ada].session().0);
}

pub(super) fn ow_13_the_older_token_is_good_until_then(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let (session, first) = (stage[ada].session(), stage[ada].token());
    stage.lose_link(ada);
    // The player sends nothing after this Welcome, as if it had not arrived.
    stage[ada].omits = Omitted::Mute;
    stage.resume(ada, over);
    assert_ne!(stage[ada].token(), first);

    let again = stage.stranger(over);
    stage[again].resume_with(first, true);

    assert_eq!(stage.until_saw::<Welcome>(again).session, session.0);
    assert_eq!(stage.until_closed(ada), Reason::Replaced);
}

pub(super) fn row_14_a_session_that_nobody_resumes_expires(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let bob = stage.member(over, "plaza");
    stage[bob].take::<Members>();
    stage.lose_link(ada);

    stage.pass(5_250);
    expires(stage, ada);
    stage.echo(bob, 1);

    let parted: Vec<u64> =
        stage[bob].take::<Members>().into_iter().flat_map(|members| members.parted).collect();
    assert_eq!(parted, [stage[ada].session().0], "one Members message reports the part");
    let token = stage[ada].token();
    assert_no_resume(stage, token, over);
}

pub(super) fn ow_08_the_time_to_resume_is_full_each_time(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "plaza");
    let session = stage[ada].session();

    for _ in 0..3 {
        stage.lose_link(ada);
        stage.pass(4_500);
        assert_eq!(stage.resume(ada, over).session, session.0);
        stage.echo(ada, 1);
    }
}

pub(super) fn wire_counting_a_page_that_kept_its_token_adopts_the_counts(stage: &mut Stage, over: Way) {
    let ada = stage.member(over, "hall");
    let session = stage[ada].session();
    say(&mut stage[ada], 1..=9);
    stage.echo(ada, 10);
    let received = stage[ada].received();
    stage.lose_link(ada);
    stage.broadcast("hall", &Echo { number: 99, taken: 0 });
    stage.turn();

    stage[ada].reload();
    stage.connect(ada, over);
    let token = stage[ada].token();
    stage[ada].resume_with(token, true);
    let welcome: Welcome = stage.until_saw(ada);
    let joined: Joined = stage.until_saw(ada);

    assert_eq!((welcome.session, welcome.resumed, welcome.resync), (session.0, true, true));
    // The server received a Join and ten calls. The base counts the frames that the client received and the
    // broadcast that the resync discards.
    assert_eq!((welcome.received, welcome.base), (11, received + 1));
    assert_eq!((joined.request, joined.zone.as_str()), (0, "hall"));
    assert_eq!(stage.echo(ada, 11), [11]);
    assert_eq!(said(&stage.game, &stage[ada]), (1..=11).collect::<Vec<_>>());
}

pub(super) fn wire_counting_counts_that_cannot_be_end_in_a_resync(stage: &mut Stage, over: Way) {
    for is_of_the_client in [true, false] {
        let ada = stage.member(over, "plaza");
        stage.echo(ada, 1);
        let (token, true_count) = (stage[ada].token(), stage[ada].received());
        stage.lose_link(ada);
        // One of the two counts is impossible, and the other one is possible.
        let (received, trimmed) = if is_of_the_client { (true_count, 1_000_000) } else { (1_000_000, 0) };

        stage.connect(ada, over);
        let resume = Resume { token, received, trimmed, resync: false, ..Resume::default() };
        stage[ada].omits = Omitted::Mute;
        stage[ada].say(&Hello { protocol: wire::PROTOCOL, resume: Some(resume), ..Hello::default() });
        stage.until("an answer", |stage| stage[ada].is_welcome());

        let welcome: Welcome = stage[ada].expect();
        assert!(welcome.resumed && welcome.resync, "{welcome:?}");
        assert!(welcome.received >= trimmed);
    }
}

pub(super) fn row_01_a_session_whose_welcome_was_not_acknowledged_is_not_kept(stage: &mut Stage, over: Way) {
    let ada = stage.stranger(over);
    stage[ada].omits = Omitted::Mute;
    stage[ada].hello();
    stage.until_saw::<Welcome>(ada);
    let token = stage[ada].token();

    stage[ada].close();
    expires(stage, ada);

    assert_no_resume(stage, token, over);
    assert!(echoes(&mut stage[ada]).is_empty());
    stage[ada].expect_no::<Parted>();
}
