//! The steps of an examination, in order. Each leaves the client as the next one finds it: with a
//! bound link, or about to come with its token.

use std::time::Duration;

use super::exam::{Exam, Halt, Turn};
use super::game::IDLE_MAX;
use super::moves::{
    EARLY, GRACE, REPLAY_WITHIN, admit, check_first_ack, check_resume, cut_bound, resume, settle,
    settled_within,
};
use super::report::{Report, Verdict};
use super::unusual;
use crate::arena::v1::Scores;
use crate::wire::v1::{Beacon, Reason};
use crate::wire::{self, ACK_EVERY, ACK_EVERY_FRAMES, LINK_TIMEOUT, retry};

impl Exam {
    /// Examines the client that comes. `turn` is called over and over: it lets some milliseconds pass,
    /// and says whether to go on.
    pub fn run(mut self, mut turn: impl FnMut() -> bool) -> Report {
        run(&mut self, &mut turn);
        self.report
    }
}

/// Runs all steps, until the client is gone or all are done.
fn run(exam: &mut Exam, turn: Turn) {
    for (row, step) in STEPS {
        exam.row = row;
        // A step that lost the link has failed; the next one takes the client as it comes back.
        let ready = if exam.link.is_none() && *row != "hello" { resume(exam, turn) } else { Ok(()) };
        match ready.and_then(|()| step(exam, turn)) {
            Ok(()) => {}
            Err(Halt::Lost(did)) => exam.fail(exam.row, did),
            Err(Halt::Gone) => {
                exam.fail(exam.row, format!("nobody came within {} s", exam.patience().as_secs()));
                break;
            }
            Err(Halt::Left) => {
                exam.fail(exam.row, "it said Bye and left");
                break;
            }
            Err(Halt::Stopped) => break,
        }
    }
    if *exam.report.verdict("hello") == Verdict::Ok {
        for row in ["one-hello", "quiet", "acks", "frames", "messages"] {
            exam.report.pass(row);
        }
    }
}

/// What is done to the client, and what fails if that cannot be done.
type Step = (&'static str, fn(&mut Exam, Turn) -> Result<(), Halt>);

const STEPS: &[Step] = &[
    ("hello", greet),
    ("join", withhold),
    ("ping", ping),
    ("ack-second", acknowledge),
    ("unknown", unusual::send_unknown),
    ("count", cut_in_mid_flow),
    ("idle", fall_silent),
    ("lost-welcome", lose_welcome),
    ("slow", |exam, turn| close(exam, turn, Reason::Slow, Duration::ZERO)),
    ("timeout", |exam, turn| close(exam, turn, Reason::Timeout, Duration::ZERO)),
    ("dropped", |exam, turn| close(exam, turn, Reason::Dropped, Duration::ZERO)),
    ("shutdown", |exam, turn| close(exam, turn, Reason::Shutdown, RETRY_AFTER)),
    ("resync", unusual::resync),
    ("token", unusual::forget_session),
    ("stop", unusual::kick),
];

/// The first Hello is asked to come later, and the second one is welcome, after a frame that came early.
fn greet(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (mut link, hello) = exam.await_hello(turn)?;
    if hello.resume.is_some() {
        // It has kept the token of another server.
        exam.deny(link, Reason::Token, Duration::ZERO);
        link = exam.await_hello(turn)?.0;
    }
    exam.report.pass("hello");
    exam.row = "throttled";
    exam.deny(link, Reason::Throttled, RETRY_AFTER);
    let denied_at = exam.now;
    let (link, hello) = exam.await_hello(turn)?;
    check_pause(exam, "throttled", denied_at, RETRY_AFTER);
    if hello.resume.is_some() {
        exam.fail("throttled", "it shows a token, and was given none");
    }
    exam.row = "early";
    exam.proxies.send(link, wire::encode(&Beacon { id: EARLY, tick: 1, ..Beacon::default() }));
    // It must not be overtaken by the Welcome, or it would be none that came early.
    exam.attend(turn, EARLY_BY, |_| false)?;
    exam.withholds = true;
    exam.welcome(link, None, false);
    exam.row = "ack-at-once";
    check_first_ack(exam, turn)?;
    exam.row = "early";
    exam.attend(turn, ACK_EVERY, |exam| exam.pings.contains(&EARLY))?;
    if exam.pings.contains(&EARLY) {
        exam.fail("early", "it echoed a Beacon that came before Welcome");
    }
    exam.report.pass("early");
    Ok(())
}

/// The Join is taken for lost, and so is the link.
fn withhold(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let patience = exam.patience();
    let came = exam.attend(turn, patience, |exam| exam.ledger.received > 0);
    cut_bound(exam);
    exam.withholds = false;
    if !came? {
        exam.fail("join", "no Join came");
    }
    exam.row = "cut";
    let (link, hello) = exam.await_hello(turn)?;
    exam.row = "outbox";
    exam.ledger.received = 0;
    admit(exam, link, &hello, "cut");
    check_first_ack(exam, turn)?;
    if !exam.attend(turn, REPLAY_WITHIN, |exam| exam.ledger.received > 0)? {
        exam.fail("outbox", "the Join did not come again");
    }
    Ok(())
}

fn ping(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (before, came) = (exam.beacon_count, exam.pings.len());
    // One of them may be lost on an unreliable lane.
    let echoed = |exam: &Exam| {
        exam.pings.iter().filter(|id| (before + 1..=exam.beacon_count).contains(id)).count() >= 2
    };
    if exam.attend(turn, PINGS_WITHIN, echoed)? {
        exam.report.pass("ping");
    } else {
        let (sent, came) = (exam.beacon_count - before, exam.pings.len() - came);
        exam.fail("ping", format!("{sent} Beacons were sent, {came} Pings came back with an id of theirs"));
    }
    Ok(())
}

fn acknowledge(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    exam.send(&Scores::default());
    if settled_within(exam, turn, ACK_EVERY + GRACE)? {
        exam.report.pass("ack-second");
    } else {
        exam.fail("ack-second", format!("no Ack within {} ms", (ACK_EVERY + GRACE).as_millis()));
    }
    exam.row = "ack-64";
    for _ in 0..ROUNDS {
        settle(exam, turn)?;
        // Since its last Ack the client may have counted up to 63: of twice 64 less one, 64 are due.
        let due = exam.ledger.sent + ACK_EVERY_FRAMES;
        (1..2 * ACK_EVERY_FRAMES).for_each(|_| exam.send(&Scores::default()));
        exam.fall_mute();
        let came = exam.attend(turn, GRACE, |exam| exam.ledger.acked >= due);
        exam.speak();
        if !came? {
            exam.fail("ack-64", format!("64 frames, and no Ack of them within {} ms", GRACE.as_millis()));
            break;
        }
    }
    exam.report.pass("ack-64");
    Ok(())
}

/// Frames are under way when the link is cut.
fn cut_in_mid_flow(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    for round in 1..=ROUNDS {
        settle(exam, turn)?;
        (0..IN_FLIGHT).for_each(|_| exam.send(&Scores::default()));
        exam.attend(turn, IN_FLIGHT_FOR * round, |_| false)?;
        cut_bound(exam);
        exam.row = "count";
        resume(exam, turn)?;
        exam.row = "base";
        if !settled_within(exam, turn, ACK_EVERY + GRACE)? {
            let (acked, sent) = (exam.ledger.acked, exam.ledger.sent);
            exam.fail("base", format!("it acknowledged {acked} frames of {sent}"));
        }
        exam.row = "count";
    }
    exam.report.pass("base");
    exam.row = "no-resend";
    exam.attend(turn, REPLAY_WITHIN, |_| false)?;
    exam.report.pass("no-resend");
    Ok(())
}

fn fall_silent(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    exam.fall_mute();
    let silent_since = exam.said_at;
    exam.row = "silence";
    // Nothing is left of it where this machine has slept meanwhile.
    let left = (LINK_TIMEOUT - EARLIEST).saturating_sub(exam.now.saturating_sub(silent_since));
    exam.attend(turn, left, |_| false)?;
    let unheard = exam.now.saturating_sub(exam.heard_at);
    if unheard > IDLE_MAX {
        exam.fail("idle", format!("nothing was heard for {} ms", unheard.as_millis()));
    }
    exam.report.pass("idle");
    match exam.attend(turn, SILENCE_WITHIN, |_| false) {
        Err(Halt::Lost(_)) => {}
        Err(halt) => return Err(halt),
        Ok(_) => {
            let seconds = exam.now.saturating_sub(silent_since).as_secs();
            exam.fail("silence", format!("it holds a link on which nothing came for {seconds} s"));
            cut_bound(exam);
        }
    }
    resume(exam, turn)?;
    exam.report.pass("silence");
    Ok(())
}

/// A Welcome is lost with its link, so the new token never arrives.
fn lose_welcome(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    cut_bound(exam);
    let (link, hello) = exam.await_hello(turn)?;
    check_resume(exam, &hello, "lost-welcome");
    exam.cut(link);
    let (link, hello) = exam.await_hello(turn)?;
    admit(exam, link, &hello, "lost-welcome");
    check_first_ack(exam, turn)?;
    exam.report.pass("lost-welcome");
    Ok(())
}

fn close(exam: &mut Exam, turn: Turn, reason: Reason, retry_after: Duration) -> Result<(), Halt> {
    let row = exam.row;
    if let Some(link) = exam.link {
        exam.close(link, reason, retry::in_ms(retry_after));
    }
    let closed_at = exam.now;
    let (link, hello) = exam.await_hello(turn)?;
    check_pause(exam, row, closed_at, retry_after);
    admit(exam, link, &hello, row);
    check_first_ack(exam, turn)?;
    exam.report.pass(row);
    Ok(())
}

fn check_pause(exam: &mut Exam, row: &'static str, since: Duration, retry_after: Duration) {
    let pause = exam.now.saturating_sub(since);
    if pause + COARSE < retry_after {
        exam.fail(row, format!("it came back after {} ms of {}", pause.as_millis(), retry_after.as_millis()));
    } else if !retry_after.is_zero() {
        exam.report.pass(row);
    }
}

/// What clients are asked to wait: more than they would of their own accord.
const RETRY_AFTER: Duration = Duration::from_millis(1_500);
/// How much sooner a client may come that looks at its clock once a frame.
const COARSE: Duration = Duration::from_millis(50);
/// How long it goes ahead of the Welcome.
const EARLY_BY: Duration = Duration::from_millis(250);
/// When two of five Beacons must have come back.
const PINGS_WITHIN: Duration = Duration::from_millis(5_500);
/// How often what may go well by chance is tried.
const ROUNDS: u32 = 3;
/// Frames that are under way when a link is cut, and for how long: from none taken to all.
const IN_FLIGHT: usize = 30;
const IN_FLIGHT_FOR: Duration = Duration::from_millis(10);
/// How much sooner than the link timeout a client with a coarse clock may give up.
const EARLIEST: Duration = Duration::from_millis(250);
/// When a client must have given up a silent link.
const SILENCE_WITHIN: Duration = Duration::from_secs(5);
