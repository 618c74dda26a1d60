//! Steps with unknown messages, a resync, a lost session, and a kick.

use std::time::Duration;

use bytes::Bytes;

use super::exam::{Exam, Halt, Turn};
use super::moves::{GRACE, REPLAY_WITHIN, check_first_ack, check_resume, cut_bound, settle, settled_within};
use crate::arena::v1::Scores;
use crate::wire::v1::{Ack, Reason};
use crate::wire::{self, ACK_EVERY, LINK_TIMEOUT, WireMessage as _};

/// Sends unknown ids of each range, and unknown fields.
pub(super) fn send_unknown(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    for id in [0x0030_u16, 0x0070, 0x7F00, 0x80F0, 0xFF00] {
        let id = id.to_be_bytes();
        exam.send_frame(Bytes::from([&id[..], &UNKNOWN_FIELD].concat()));
    }
    for known in [wire::encode(&Scores::default()), wire::encode(&Ack { received: exam.ledger.told })] {
        exam.send_frame(Bytes::from([&known[..], &UNKNOWN_FIELD].concat()));
    }
    if settled_within(exam, turn, ACK_EVERY + GRACE)? {
        exam.report.pass("unknown");
    } else {
        let (acked, sent) = (exam.ledger.acked, exam.ledger.sent);
        exam.fail("unknown", format!("it acknowledged {acked} of {sent} frames"));
    }
    Ok(())
}

/// Resumes the session with resync and another count.
pub(super) fn resync(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    cut_bound(exam);
    let (link, hello) = exam.await_hello(turn)?;
    let resume = check_resume(exam, &hello, "resync");
    exam.ledger.resync(GAP);
    exam.welcome(link, resume, true);
    if exam.ledger.joined {
        exam.put_into_zone(0);
    }
    check_first_ack(exam, turn)?;
    let base = exam.ledger.acked;
    if let Some((Ack::ID, Some(first))) = exam.first
        && first < base
    {
        exam.fail("resync", format!("it acknowledged {first} after Welcome with base = {base}"));
    }
    if settled_within(exam, turn, ACK_EVERY + GRACE)? {
        exam.report.pass("resync");
    } else {
        exam.fail("resync", format!("it did not acknowledge all {} frames", exam.ledger.sent));
    }
    Ok(())
}

/// Denies the resume as TOKEN, and opens a new session.
pub(super) fn forget_session(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    settle(exam, turn)?;
    cut_bound(exam);
    let (denied, hello) = exam.await_hello(turn)?;
    check_resume(exam, &hello, "token");
    exam.deny(denied, Reason::Token, Duration::ZERO);
    let (link, hello) = exam.await_hello(turn)?;
    if link != denied {
        exam.fail("token", "its next Hello was on another link");
    }
    if hello.resume.is_some() {
        exam.fail("token", "its next Hello has a token again");
    }
    exam.report.pass("token");
    exam.row = "new-session";
    exam.welcome(link, None, false);
    check_first_ack(exam, turn)?;
    match exam.first {
        Some((Ack::ID, Some(0))) => {}
        first => exam.fail("new-session", format!("its first frame is {first:?}, not Ack{{received: 0}}")),
    }
    let patience = exam.patience();
    if !exam.attend(turn, patience, |exam| exam.ledger.joined)? {
        exam.fail("new-session", "it did not join again");
    }
    if !settled_within(exam, turn, ACK_EVERY + GRACE)? {
        let (acked, sent) = (exam.ledger.acked, exam.ledger.sent);
        exam.fail("new-session", format!("it acknowledged {acked} of {sent} frames"));
    }
    exam.report.pass("new-session");
    Ok(())
}

/// Kicks the session. The client must not come back.
pub(super) fn kick(exam: &mut Exam, turn: Turn) -> Result<(), Halt> {
    exam.attend(turn, REPLAY_WITHIN, |_| false)?;
    if let Some(link) = exam.link {
        exam.close(link, Reason::Kicked, 0);
    }
    if exam.attend(turn, LINK_TIMEOUT, Exam::has_caller)? {
        exam.fail("stop", "it came back");
    }
    exam.report.pass("stop");
    Ok(())
}

/// An encoded field of bytes that no message has.
const UNKNOWN_FIELD: [u8; 6] = [0xFA, 0x7F, 3, 1, 2, 3];
/// By how much a resync raises the count.
const GAP: u64 = 100;
