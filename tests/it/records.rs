//! Tests session records: one server writes a session, and another server restores it.

use waystation::session::{EndCause, LossCause, RecordError, SessionCounts, SessionRecord, SessionState};
use waystation::testing::News::{Closed, Disconnected, Expired, Registered, Resumed};
use waystation::testing::{Harness, Player, Via};
use waystation::wire::v1::Welcome;

use crate::support::{echoes, entity, game, said, say, shout};

fn record_of(game: &Harness, player: &Player) -> SessionRecord {
    SessionRecord::of(game.app.world(), entity(game, player)).expect("a client's live session")
}

#[test]
fn a_session_continues_on_another_server_without_loss() {
    let mut before = game();
    let mut ada = before.member(Via::Alpha, "hall");
    say(&mut ada, 1..=3);
    before.exchange(&mut [&mut ada]);
    assert_eq!(echoes(&mut ada), [1, 2, 3]);
    ada.cut();
    shout(&mut before, 50);
    before.tick();
    let record = record_of(&before, &ada);
    assert_eq!(record.zone, "hall");
    drop(before);

    let mut after = game();
    after.tick();
    record.restore(after.app.world_mut()).expect("a good record");
    after.tick();
    assert_eq!(after.state(ada.session()), Some(SessionState::Disconnected));
    ada.connect(&after, Via::Beta);
    ada.resume();
    after.exchange(&mut [&mut ada]);

    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resumed && !welcome.resync));
    assert_eq!(echoes(&mut ada), [50], "the held message arrives once");
    after.join(&mut ada, "hall");
    say(&mut ada, 4..=5);
    after.exchange(&mut [&mut ada]);
    assert_eq!((echoes(&mut ada), said(&after, &ada)), (vec![4, 5], vec![4, 5]));
    let news = after.news_of(ada.session());
    assert_eq!(news[..3], [Registered, Disconnected(LossCause::Restart), Resumed { resync: false }]);
}

#[test]
fn an_older_record_leads_to_a_resync_that_counts_missing_frames() {
    let mut before = game();
    let mut ada = before.member(Via::Alpha, "hall");
    let record = record_of(&before, &ada);
    say(&mut ada, 1..=3);
    before.run_with(&mut [&mut ada], 1_500);
    ada.cut();
    drop(before);

    let mut after = game();
    record.restore(after.app.world_mut()).expect("a good record");
    ada.connect(&after, Via::Alpha);
    ada.resume();
    after.exchange(&mut [&mut ada]);

    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resync));
    assert_eq!(after.resource::<SessionCounts>().missed_count, 3);
}

#[test]
fn a_restored_session_that_is_not_resumed_expires() {
    let mut before = game();
    let ada = before.member(Via::Alpha, "hall");
    let record = record_of(&before, &ada);
    let mut after = game();

    record.restore(after.app.world_mut()).expect("a good record");
    after.run_ms(6_000);

    let news = after.news_of(ada.session());
    assert_eq!(news[2..], [Expired(EndCause::Timeout), Closed(EndCause::Timeout)]);
}

#[test]
fn a_damaged_record_and_one_of_an_existing_session_are_refused() {
    let mut before = game();
    let ada = before.member(Via::Alpha, "hall");
    let good = record_of(&before, &ada);
    let refusal = |change: &dyn Fn(&mut SessionRecord)| {
        let mut record = good.clone();
        change(&mut record);
        record.restore(game().app.world_mut()).err()
    };

    assert_eq!(refusal(&|_| ()), None);
    assert_eq!(refusal(&|record| record.session = 0), Some(RecordError::Id));
    assert_eq!(refusal(&|record| record.newest_token = vec![1; 31].into()), Some(RecordError::Token(31)));
    let twice = |record: &mut SessionRecord| record.presented_token = record.newest_token.clone();
    assert_eq!(refusal(&twice), Some(RecordError::Tokens));
    assert_eq!(refusal(&|record| record.received = u64::MAX), Some(RecordError::Count));
    assert_eq!(refusal(&|record| record.acked = u64::MAX), Some(RecordError::Count));
    assert_eq!(refusal(&|record| record.epoch = u32::MAX), Some(RecordError::Count));
    assert_eq!(refusal(&|record| record.outbox = vec![vec![0x81, 0].into()]), Some(RecordError::Frame(2)));
    assert_eq!(
        refusal(&|record| record.outbox = vec![vec![1; 70_000].into()]),
        Some(RecordError::Frame(70_000))
    );
    let exists = Some(RecordError::Exists(ada.session()));
    assert_eq!(good.restore(before.app.world_mut()).err(), exists);
    let mut other = good.clone();
    other.session += 1;
    assert!(
        matches!(other.restore(before.app.world_mut()), Err(RecordError::Exists(_))),
        "the token is taken"
    );
}
