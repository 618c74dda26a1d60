//! What several steps of an examination are made of.

use std::time::Duration;

use super::exam::{Exam, Halt, Turn};
use crate::ident::LinkKey;
use crate::wire::ACK_EVERY;
use crate::wire::WireMessage as _;
use crate::wire::v1::{Ack, Hello, Resume};

/// The client comes back to its session.
pub(super) fn resume(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    let (link, hello) = exam.await_hello(turn)?;
    admit(exam, link, &hello, exam.row);
    check_first_ack(exam, turn)
}

/// Welcomes the client. If its Hello does not resume the session, the row fails, and the client gets a new one.
pub(super) fn admit(exam: &mut Exam, link: LinkKey, hello: &Hello, row: &'static str) {
    let resume = check_resume(exam, hello, row);
    exam.welcome(link, resume, false);
}

/// What a Hello resumes, if it resumes the session at all.
pub(super) fn check_resume<'a>(exam: &mut Exam, hello: &'a Hello, row: &'static str) -> Option<&'a Resume> {
    let Some(resume) = &hello.resume else {
        exam.fail(row, "its Hello resumes nothing");
        return None;
    };
    if resume.token != exam.ledger.token {
        exam.fail(row, "it shows another token than the newest");
        return None;
    }
    let (acked, sent, told) = (exam.ledger.acked, exam.ledger.sent, exam.ledger.told);
    if !(acked..=sent).contains(&resume.received) || resume.resync {
        let received = resume.received;
        exam.fail(
            "count",
            format!("Resume has received = {received}, of {acked} acknowledged and {sent} sent"),
        );
        return None;
    }
    if resume.trimmed > told {
        let trimmed = resume.trimmed;
        exam.fail("outbox", format!("Resume has trimmed = {trimmed}, and {told} were acknowledged to it"));
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
        Some((id, _)) => exam.fail("ack-at-once", format!("message {id} came before the Ack")),
        None => exam.fail("ack-at-once", format!("nothing came within {} ms", ACK_EVERY.as_millis())),
    }
    debug_assert_eq!(came, exam.first.is_some());
    Ok(())
}

/// Waits until all that was sent is acknowledged, as long as any client may take.
pub(super) fn settle(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settled_within(exam, turn, ACK_EVERY + GRACE).map(drop)
}

/// Returns true if exactly what was sent is acknowledged in time. The server sends nothing meanwhile: the
/// echo of a Beacon would hide that no Ack comes, and an answer that one is missing.
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

/// The id of a Beacon that must not be echoed.
pub(super) const EARLY: u64 = 0xEA51;
/// How long a client may take for what it does at once: some frames of a slow game, and the network.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// When what is sent again must have come.
pub(super) const REPLAY_WITHIN: Duration = Duration::from_millis(1_500);
