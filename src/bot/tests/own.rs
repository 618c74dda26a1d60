//! Tests the bot of a game other than the arena, on virtual time.

use super::*;
use crate::client::v1::{Reason, Refused};
use crate::ident::MessageId;
use crate::wire::prost;
use std::collections::BTreeSet;

#[derive(Clone, PartialEq, prost::Message)]
struct Throw {
    #[prost(uint64, tag = 1)]
    number: u64,
    #[prost(bytes = "bytes", tag = 2)]
    note: Bytes,
}

impl WireMessage for Throw {
    const ID: MessageId = MessageId::new(0x0200);
    const NAME: &'static str = "dice.Throw";
}

/// The answer to a Throw, which holds its number only.
#[derive(Clone, PartialEq, prost::Message)]
struct Thrown {
    #[prost(uint64, tag = 1)]
    number: u64,
}

impl WireMessage for Thrown {
    const ID: MessageId = MessageId::new(0x0201);
    const NAME: &'static str = "dice.Thrown";
}

/// Throws a die five times a second.
#[derive(Default)]
struct DiceBot {
    throw_at: Duration,
    /// True if the throws are not numbered.
    is_unchecked: bool,
    /// The length of the note of each throw.
    note_length: usize,
}

impl Bot for DiceBot {
    fn zone(&self) -> &str {
        "table"
    }

    fn join_payload(&self) -> Bytes {
        Bytes::from_static(b"a seat")
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        if play.now() < self.throw_at {
            return;
        }
        self.throw_at = play.now() + Duration::from_millis(200);
        let note = Bytes::from(vec![0; self.note_length]);
        if self.is_unchecked {
            play.call(&Throw { number: 0, note });
        } else {
            play.call_numbered(|number| Throw { number, note });
        }
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        if let Ok(thrown) = frame.decode::<Thrown>() {
            play.answered(thrown.number);
        }
    }
}

/// A game at a table: how many answers a throw gets, and what the answer to a Join is.
struct Table {
    answers: fn(u64) -> usize,
    admit: fn(&Join) -> Vec<Bytes>,
}

fn seat(join: &Join) -> Vec<Bytes> {
    vec![frame(&Joined { request: join.request, zone: join.zone.clone(), ..Joined::default() })]
}

fn refuse(join: &Join, reason: Reason, detail: &str) -> Vec<Bytes> {
    vec![frame(&Refused {
        request: join.request,
        reason: reason.into(),
        detail: detail.to_owned(),
        ..Refused::default()
    })]
}

const HONEST: Table = Table { answers: |_| 1, admit: seat };

/// Plays a bot of the same kind at a table, until the end of a run.
fn play_own<B: Bot + 'static>(
    options: &BotOptions,
    table: Table,
    mut make: impl FnMut() -> B,
    mut meddle: impl FnMut(&mut Server, Duration),
) -> BotReport {
    let net: Shared = Rc::new(RefCell::new(Net::default()));
    let mut server = Server::new(Rc::clone(&net));
    server.answer = Some(Box::new(move |_, received: &Frame| {
        if let Ok(throw) = received.decode::<Throw>() {
            vec![frame(&Thrown { number: throw.number }); (table.answers)(throw.number)]
        } else if let Ok(join) = received.decode::<Join>() {
            assert_eq!(join.payload, "a seat");
            (table.admit)(&join)
        } else {
            Vec::new()
        }
    }));
    let dials: Vec<_> = (0..options.clients).map(|_| TestDial(Rc::clone(&net))).collect();
    let mut run = BotRun::new(options, &[], dials, |_| None, |_| Box::new(make()));
    while !run.is_done() {
        meddle(&mut server, run.now());
        run.step(STEP);
        server.tick(STEP);
    }
    run.into_report()
}

fn short() -> BotOptions {
    BotOptions { duration: Duration::from_secs(6), cut_every: None, ..options() }
}

#[test]
fn a_bot_whose_answers_hold_only_numbers_is_cut_and_checked() {
    let report = play_own(&options(), HONEST, DiceBot::default, |_, _| {});

    assert!(report.passed(), "{report}");
    assert!(report.takeover.cuts >= 6 && report.close.cuts >= 6 && report.silent.cuts >= 6, "{report}");
    assert!(report.either.sent >= 6 * 4 * 55, "{report}");
    assert_eq!(report.either.sent, report.either.received);
    assert_eq!(report.call_count(), report.either.sent);
    assert!(report.echoes_timed > 1_000 && report.rtt_p50 >= STEP, "{report}");
    let table = report.to_string();
    assert!(table.contains("there and back") && !table.contains("client to server"), "{table}");
}

#[test]
fn a_game_that_loses_or_doubles_an_answer_fails_the_run_of_its_bot() {
    let spoiled = |answers| {
        let report = play_own(&short(), Table { answers, ..HONEST }, DiceBot::default, |_, _| {});
        assert_eq!(report.passed(), report.either.is_clean(), "{report}");
        assert_eq!(
            report.to_string().contains("a direction that is not known"),
            !report.passed(),
            "{report}"
        );
        (report.either.lost, report.either.doubled, report.either.disordered)
    };

    assert_eq!(spoiled(|_| 1), (0, 0, 0));
    assert_eq!(spoiled(|number| usize::from(number != 3)), (6, 0, 0));
    assert_eq!(spoiled(|number| 1 + usize::from(number == 3)), (0, 6, 0));
}

#[test]
fn a_game_that_answers_none_of_the_last_calls_fails_the_run_of_its_bot() {
    let last_are_lost = |number| usize::from(number <= 10);

    let report = play_own(&short(), Table { answers: last_are_lost, ..HONEST }, DiceBot::default, |_, _| {});

    assert!(!report.passed());
    assert_eq!((report.unsettled, report.up.lost), (6, 0), "the calls were acknowledged: {report}");
    assert_eq!(report.either.lost, report.either.sent - 60, "{report}");
}

#[test]
fn a_bot_without_numbered_calls_is_cut_and_the_report_says_that_no_call_was_checked() {
    let make = || DiceBot { is_unchecked: true, ..DiceBot::default() };

    let report = play_own(&options(), Table { answers: |_| 0, ..HONEST }, make, |_, _| {});

    assert!(report.passed(), "{report}");
    assert!(report.takeover.cuts >= 6 && report.takeover.same_id == report.takeover.cuts, "{report}");
    assert_eq!(report.call_count(), 0);
    assert!(report.to_string().ends_with("no call was checked: the bots have made no numbered call\npassed"));
}

#[test]
fn a_session_that_is_lost_fails_the_run_of_a_bot_without_numbered_calls() {
    let make = || DiceBot { is_unchecked: true, ..DiceBot::default() };
    let mut forgot = false;

    let report = play_own(&options(), Table { answers: |_| 0, ..HONEST }, make, |server, now| {
        if now >= Duration::from_secs(30) && !std::mem::replace(&mut forgot, true) {
            server.sessions.clear();
        }
    });

    assert!(!report.passed());
    assert_eq!((report.sessions_lost, report.joined), (6, 6), "{report}");
}

#[test]
fn a_call_that_is_too_long_fails_the_run() {
    let make = || DiceBot { note_length: 20_000, ..DiceBot::default() };

    let report = play_own(&short(), HONEST, make, |_, _| {});

    assert!(!report.passed());
    assert!(report.to_string().contains("a call can never be sent: message 0x0200 takes 200"), "{report}");
    assert_eq!(report.call_count(), 0);
}

/// Throws when it joins, and again after each answer. After the tenth answer it moves to another zone.
#[derive(Default)]
struct EagerBot {
    answers: u64,
    zones: Rc<RefCell<Vec<String>>>,
}

impl Bot for EagerBot {
    fn zone(&self) -> &str {
        "table"
    }

    fn join_payload(&self) -> Bytes {
        Bytes::from_static(b"a seat")
    }

    fn on_join(&mut self, joined: &Joined, play: &mut Play<'_>) {
        self.zones.borrow_mut().push(format!("{} {}", play.name(), joined.zone));
        assert!(play.session().is_some());
        play.call_numbered(|number| Throw { number, ..Throw::default() });
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        let Ok(thrown) = frame.decode::<Thrown>() else { return };
        play.answered(thrown.number);
        self.answers += 1;
        if self.answers == 10 {
            assert!(play.join("vault", "a seat"));
        } else {
            play.call_numbered(|number| Throw { number, ..Throw::default() });
        }
    }
}

#[test]
fn a_bot_that_answers_each_message_moves_between_zones_and_ends_with_the_run() {
    let zones = Rc::new(RefCell::new(Vec::new()));
    let make = || EagerBot { answers: 0, zones: Rc::clone(&zones) };

    let report = play_own(&BotOptions { clients: 2, ..short() }, HONEST, make, |_, _| {});

    assert!(report.passed(), "{report}");
    assert!(report.call_count() > 2 * 100, "{report}");
    let expected = ["bot 1 table", "bot 2 table", "bot 1 vault", "bot 2 vault"];
    assert_eq!(*zones.borrow(), expected);
}

/// Numbers an unreliable call, which may be lost.
struct LooseBot;

#[derive(Clone, PartialEq, prost::Message)]
struct Shout {}

impl WireMessage for Shout {
    const ID: MessageId = MessageId::new(0x8200);
    const NAME: &'static str = "dice.Shout";
}

impl Bot for LooseBot {
    fn zone(&self) -> &str {
        "table"
    }

    fn join_payload(&self) -> Bytes {
        Bytes::from_static(b"a seat")
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        assert!(!play.call_numbered(|_| Shout {}));
    }
}

#[test]
fn a_number_in_an_unreliable_call_fails_the_run() {
    let report = play_own(&short(), HONEST, || LooseBot, |_, _| {});

    assert!(!report.passed());
    assert!(report.to_string().contains("only a reliable call can have a number"), "{report}");
}

#[test]
fn a_bot_in_a_hard_zone_joins_again_after_each_cut() {
    let make = || DiceBot { is_unchecked: true, ..DiceBot::default() };
    let (mut outside, mut left, mut rejoined) = (BTreeSet::new(), 0, 0);

    let report = play_own(&options(), Table { answers: |_| 0, ..HONEST }, make, |server, _| {
        for session in &mut server.sessions {
            if session.link.is_none() && !std::mem::take(&mut session.zone).is_empty() {
                left += 1;
                outside.insert(session.id);
            } else if !session.zone.is_empty() && outside.remove(&session.id) {
                rejoined += 1;
            }
        }
    });

    assert!(report.passed(), "{report}");
    assert!(left >= 6, "sessions whose link was closed have left the zone: {left}");
    assert_eq!((rejoined, outside.len()), (left, 0), "{report}");
}

#[test]
fn a_bot_that_never_joins_says_why() {
    let absent = |admit, meddle: fn(&mut Server)| {
        let options = BotOptions { clients: 3, ..short() };
        let table = Table { admit, ..HONEST };
        let report = play_own(&options, table, DiceBot::default, |server, _| meddle(server));
        assert!(!report.passed() && report.joined == 0, "{report}");
        let text = report.to_string();
        let mut causes = text.lines().filter_map(|line| line.strip_prefix("- never joined: "));
        let cause = causes.next().map(str::to_owned);
        assert_eq!(causes.next(), None, "{text}");
        cause.expect("a cause")
    };

    let full = absent(|join| refuse(join, Reason::Full, ""), |_| {});
    let unknown = absent(|join| refuse(join, Reason::NoSuchZone, "no zone has this \"name\""), |_| {});
    let unanswered = absent(|_| Vec::new(), |_| {});
    let denied = absent(seat, |server| server.deny = Some((Reason::Draining, 2_000)));
    let turned_away = absent(seat, |server| server.deny = Some((Reason::Unauthenticated, 0)));
    let mute = absent(seat, |server| server.mute = true);
    let stuck = absent(seat, |server| server.net.borrow_mut().stuck = true);

    assert_eq!(full, "3 bots: refused FULL for zone \"table\"");
    assert_eq!(unknown, "3 bots: refused NO_SUCH_ZONE \"no zone has this \\\"name\\\"\" for zone \"table\"");
    assert_eq!(unanswered, "3 bots: no answer to Join for zone \"table\" within 5 s");
    assert_eq!(denied, "3 bots: no session: the server denied the Hello: DRAINING");
    assert_eq!(turned_away, "3 bots: closed UNAUTHENTICATED");
    assert_eq!(mute, "3 bots: no session: the Hello was not answered");
    assert_eq!(stuck, "3 bots: no session: no link could be opened");
}

#[test]
fn bots_that_never_join_are_counted_by_their_causes() {
    let mut refused = 0;
    let mut report = BotReport { clients: 20, joined: 3, ..BotReport::default() };
    for cause in 1..=10 {
        report.never_joined.insert(format!("cause {cause}"), cause.min(2));
        refused += cause.min(2);
    }
    report.clients = report.joined + refused;

    let text = report.to_string();

    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("- never joined: ")).collect();
    assert_eq!(lines.len(), 9, "{text}");
    assert_eq!(lines[0], "- never joined: 2 bots: cause 10");
    assert_eq!(lines[8], "- never joined: 3 bots: other causes");
}
