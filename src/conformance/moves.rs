//! Parts that several steps of an examination share.

use std::time::Duration;

use super::exam::{Exam, Halt, Turn};
use crate::ident::LinkKey;
use crate::wire::ACK_EVERY;
use crate::wire::WireMessage as _;
use crate::wire::v1::{Ack, Hello, Resume};

/// Waits for the client to resume its session, and welcomes it.
pub(super) fn resume(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (link, hello) = exam.await_hello(turn)?;
    admit(exam, link, &hello, exam.row);
    check_first_ack(exam, turn)
}

/// Welcomes the client. If its Hello does not resume the session, the row fails, and the client gets a new session.
pub(super) fn admit(exam: &mut Exam, link: LinkKey, hello: &Hello, row: &'static str) {
    let resume = check_resume(exam, hello, row);
    exam.welcome(link, resume, false);
}

/// Checks that a Hello resumes the session. Returns its `Resume`, or `None` if a row has failed.
pub(super) fn check_resume<'a>(exam: &mut Exam, hello: &'a Hello, row: &'static str) -> Option<&'a Resume> {
    let Some(resume) = &hello.resume else {
        exam.fail(row, "its Hello has no `resume`");
        return None;
    };
    if resume.token != exam.ledger.token {
        exam.fail(row, "its Hello does not have the newest token");
        return None;
    }
    let (acked, sent, told) = (exam.ledger.acked, exam.ledger.sent, exam.ledger.told);
    if !(acked..=sent).contains(&resume.received) || resume.resync {
        let received = resume.received;
        exam.fail(
            "count",
            format!("its Resume has received = {received}, but {acked} were acknowledged and {sent} sent"),
        );
        return None;
    }
    if resume.trimmed > told {
        let trimmed = resume.trimmed;
        exam.fail(
            "outbox",
            format!("its Resume has trimmed = {trimmed}, but {told} were acknowledged to it"),
        );
    }
    if row == "cut" {
        exam.report.pass("cut");
    }
    exam.report.pass("count");
    Some(resume)
}

pub(super) fn check_first_ack(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let came = exam.attend(turn, ACK_EVERY, |exam| exam.first.is_some())?;
    match exam.first {
        Some((Ack::ID, _)) => exam.report.pass("ack-at-once"),
        Some((id, _)) => exam.fail("ack-at-once", format!("it sent message {id} before the Ack")),
        None => exam.fail("ack-at-once", format!("it sent no Ack within {} ms", ACK_EVERY.as_millis())),
    }
    debug_assert_eq!(came, exam.first.is_some());
    Ok(())
}

/// Waits until all frames are acknowledged, for as long as a client may take.
pub(super) fn settle(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settled_within(exam, turn, ACK_EVERY + GRACE).map(drop)
}

/// Waits until all frames are acknowledged, for at most `limit`. Returns false if the limit has passed. Sends nothing
/// in the meantime: the echo of a Beacon would hide a missing Ack, and further frames would hide a missing frame.
pub(super) fn settled_within(exam: &mut Exam, turn: Turn, limit: Duration) -> Result<bool, Halt> {
    exam.fall_mute();
    let settled = exam.attend(turn, limit, |exam| exam.ledger.acked == exam.ledger.sent);
    exam.speak();
    settled
}

pub(super) fn cut_bound(exam: &mut Exam) {
    if let Some(link) = exam.link {
        exam.cut(link);
    }
}

/// The id of the Beacon before Welcome, which the client must not echo.
pub(super) const EARLY: u64 = 0xEA51;
/// How long a client may take for an action at once: some frames of a slow game, and the network.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// How long a client may take to send its outbox again.
pub(super) const REPLAY_WITHIN: Duration = Duration::from_millis(1_500);
