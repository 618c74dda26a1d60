//! The steps of an examination, in order. After each step the client has a bound link, or is about to resume.

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
    /// Examines the client that connects. Calls `turn` repeatedly: it must wait for a few milliseconds, and return
    /// false to stop the examination.
    pub fn run(mut self, mut turn: impl FnMut() -> bool) -> Report {
        run(&mut self, &mut turn);
        self.report
    }
}

/// Runs the steps until all are done or the client is gone.
fn run(exam: &mut Exam, turn: Turn) {
    for (row, step) in STEPS {
        exam.row = row;
        // A step that has lost the link has failed. The next step first waits for a resume.
        let ready = if exam.link.is_none() && *row != "hello" { resume(exam, turn) } else { Ok(()) };
        match ready.and_then(|()| step(exam, turn)) {
            Ok(()) => {}
            Err(Halt::Lost(did)) => exam.fail(exam.row, did),
            Err(Halt::Gone) => {
                exam.fail(exam.row, format!("it did not connect within {} s", exam.patience().as_secs()));
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

/// A step, and the row that fails if the step cannot be done.
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

/// Denies the first Hello as THROTTLED. Sends an unreliable frame before the Welcome to the second one.
fn greet(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (mut link, hello) = exam.await_hello(turn)?;
    if hello.resume.is_some() {
        // The client has kept a token of another server.
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
        exam.fail("throttled", "its Hello has a token, but it was given none");
    }
    exam.row = "early";
    exam.proxies.send(link, wire::encode(&Beacon { id: EARLY, tick: 1, ..Beacon::default() }));
    // The Welcome must not overtake the Beacon.
    exam.attend(turn, EARLY_BY, |_| false)?;
    exam.withholds = true;
    exam.welcome(link, None, false);
    exam.row = "ack-at-once";
    check_first_ack(exam, turn)?;
    exam.row = "early";
    exam.attend(turn, ACK_EVERY, |exam| exam.pings.contains(&EARLY))?;
    if exam.pings.contains(&EARLY) {
        exam.fail("early", "it echoed a Beacon that arrived before Welcome");
    }
    exam.report.pass("early");
    Ok(())
}

/// Cuts the link as if the Join had been lost, so that the client must send it again.
fn withhold(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let patience = exam.patience();
    let came = exam.attend(turn, patience, |exam| exam.ledger.received > 0);
    cut_bound(exam);
    exam.withholds = false;
    if !came? {
        exam.fail("join", "it sent no Join");
    }
    exam.row = "cut";
    let (link, hello) = exam.await_hello(turn)?;
    exam.row = "outbox";
    exam.ledger.received = 0;
    admit(exam, link, &hello, "cut");
    check_first_ack(exam, turn)?;
    if !exam.attend(turn, REPLAY_WITHIN, |exam| exam.ledger.received > 0)? {
        exam.fail("outbox", "it did not send the Join again");
    }
    Ok(())
}

fn ping(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (before, came) = (exam.beacon_count, exam.pings.len());
    // Some Pings may be lost on an unreliable lane.
    let echoed = |exam: &Exam| {
        exam.pings.iter().filter(|id| (before + 1..=exam.beacon_count).contains(id)).count() >= 2
    };
    if exam.attend(turn, PINGS_WITHIN, echoed)? {
        exam.report.pass("ping");
    } else {
        let (sent, came) = (exam.beacon_count - before, exam.pings.len() - came);
        exam.fail("ping", format!("it answered {came} of {sent} Beacons"));
    }
    Ok(())
}

fn acknowledge(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    exam.send(&Scores::default());
    if settled_within(exam, turn, ACK_EVERY + GRACE)? {
        exam.report.pass("ack-second");
    } else {
        exam.fail("ack-second", format!("it sent no Ack within {} ms", (ACK_EVERY + GRACE).as_millis()));
    }
    exam.row = "ack-64";
    for _ in 0..ROUNDS {
        settle(exam, turn)?;
        // The client may have counted up to 63 frames since its last Ack. So after 127 further frames it must have
        // acknowledged at least 64 of them.
        let due = exam.ledger.sent + ACK_EVERY_FRAMES;
        (1..2 * ACK_EVERY_FRAMES).for_each(|_| exam.send(&Scores::default()));
        exam.fall_mute();
        let came = exam.attend(turn, GRACE, |exam| exam.ledger.acked >= due);
        exam.speak();
        if !came? {
            exam.fail("ack-64", format!("it did not acknowledge 64 frames within {} ms", GRACE.as_millis()));
            break;
        }
    }
    exam.report.pass("ack-64");
    Ok(())
}

/// Cuts the link while frames are in flight.
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
            exam.fail("base", format!("it acknowledged {acked} of {sent} frames"));
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
    // If this machine has slept in the meantime, no time is left.
    let left = (LINK_TIMEOUT - EARLIEST).saturating_sub(exam.now.saturating_sub(silent_since));
    exam.attend(turn, left, |_| false)?;
    let unheard = exam.now.saturating_sub(exam.heard_at);
    if unheard > IDLE_MAX {
        exam.fail("idle", format!("it sent no frame for {} ms", unheard.as_millis()));
    }
    exam.report.pass("idle");
    match exam.attend(turn, SILENCE_WITHIN, |_| false) {
        Err(Halt::Lost(_)) => {}
        Err(halt) => return Err(halt),
        Ok(_) => {
            let seconds = exam.now.saturating_sub(silent_since).as_secs();
            exam.fail("silence", format!("it kept a link on which nothing was sent for {seconds} s"));
            cut_bound(exam);
        }
    }
    resume(exam, turn)?;
    exam.report.pass("silence");
    Ok(())
}

/// Cuts the link instead of a Welcome, so that the new token does not arrive.
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
        exam.fail(row, format!("it waited {} of {} ms", pause.as_millis(), retry_after.as_millis()));
    } else if !retry_after.is_zero() {
        exam.report.pass(row);
    }
}

/// The wait that the examiner asks for. It is longer than the usual pauses of clients.
const RETRY_AFTER: Duration = Duration::from_millis(1_500);
/// How much too early a client may come, since it may read its clock only once per frame.
const COARSE: Duration = Duration::from_millis(50);
/// The time between the early Beacon and the Welcome.
const EARLY_BY: Duration = Duration::from_millis(250);
/// The time in which two of five Beacons must be answered.
const PINGS_WITHIN: Duration = Duration::from_millis(5_500);
/// The number of rounds of steps that a wrong client may pass by chance.
const ROUNDS: u32 = 3;
/// The number of frames in flight when a link is cut.
const IN_FLIGHT: usize = 30;
/// The time between the frames and the cut, times the number of the round. So none, some or all of them arrive.
const IN_FLIGHT_FOR: Duration = Duration::from_millis(10);
/// How much sooner than the link timeout a client with a coarse clock may take its link for lost.
const EARLIEST: Duration = Duration::from_millis(250);
/// The time after which a client must have taken a silent link for lost.
const SILENCE_WITHIN: Duration = Duration::from_secs(5);
