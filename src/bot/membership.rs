//! The membership of a bot in a zone: when it sends Join, and why it has never joined.

use std::fmt;
use std::time::Duration;

use crate::client::SendError;
use crate::client::v1::{Joined, Refused};

/// The membership of a bot.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// True if the session is in a zone.
    in_zone: bool,
    /// True if any session of the bot was in a zone.
    ever_joined: bool,
    /// When to send Join. `None` while the bot is in a zone or waits for an answer.
    join_at: Option<Duration>,
    /// The Join that has no answer yet.
    asked: Option<Asked>,
    /// True if the session was in no zone when it was resumed: it may have left a hard zone with its link. Each
    /// Joined is then void, except the answer to the Join in `asked`.
    is_doubtful: bool,
    /// How the last Join was refused, or why it cannot be sent.
    refusal: Option<String>,
}

/// A Join without an answer.
#[derive(Debug)]
struct Asked {
    request: u32,
    zone: String,
    /// The number of reliable messages of the session up to this Join.
    count: u64,
    at: Duration,
}

impl Membership {
    pub(super) fn is_in_zone(&self) -> bool {
        self.in_zone
    }

    pub(super) fn has_ever_joined(&self) -> bool {
        self.ever_joined
    }

    /// Returns true if Join is due.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.join_at.is_some_and(|at| at <= now)
    }

    /// Records a new session, which is in no zone.
    pub(super) fn connected(&mut self, now: Duration) {
        self.join_at = Some(now);
    }

    /// Records a Join that was sent. It is the reliable message number `count` of the session.
    pub(super) fn asked(&mut self, request: u32, zone: &str, count: u64, now: Duration) {
        self.join_at = None;
        self.asked = Some(Asked { request, zone: zone.to_owned(), count, at: now });
    }

    /// Records that a Join can never be sent.
    pub(super) fn cannot_ask(&mut self, error: SendError) {
        self.refusal = Some(format!("the Join cannot be sent: {error}"));
    }

    /// Records a resume. `is_member` is true if the server's Welcome names a zone. The server has acknowledged
    /// `acked` reliable messages.
    ///
    /// The rules are those of `docs/protocol.md`: without a zone in Welcome, a Join follows, unless one is in the
    /// outbox.
    pub(super) fn resumed(&mut self, is_member: bool, resync: bool, acked: u64, now: Duration) {
        let is_taken = self.asked.as_ref().is_some_and(|asked| asked.count <= acked);
        if is_taken && (resync || !is_member) {
            // No answer will arrive, or it may be void.
            self.asked = None;
            self.join_at = Some(now);
        }
        if !is_member {
            self.in_zone = false;
            self.is_doubtful = true;
            if self.asked.is_none() {
                self.join_at.get_or_insert(now);
            }
        }
    }

    /// Records the end of the session, or of the client.
    pub(super) fn ended(&mut self) {
        self.in_zone = false;
        self.is_doubtful = false;
        self.join_at = None;
        self.asked = None;
    }

    /// Records a Joined. Returns false if it is void because the session has left that zone since.
    pub(super) fn joined(&mut self, joined: &Joined) -> bool {
        let is_answer = self.asked.as_ref().is_some_and(|asked| asked.request == joined.request);
        if self.is_doubtful && !is_answer {
            return false;
        }
        if is_answer {
            self.asked = None;
        }
        self.is_doubtful = false;
        self.in_zone = true;
        self.ever_joined = true;
        self.join_at = None;
        true
    }

    /// Records a Parted. Join follows after a pause.
    pub(super) fn parted(&mut self, now: Duration) {
        self.in_zone = false;
        if self.asked.is_none() {
            self.join_at = Some(now + REJOIN);
        }
    }

    /// Records a Refused. If the session is in no zone, Join follows after a pause.
    pub(super) fn refused(&mut self, refused: &Refused, now: Duration) {
        let Some(asked) = self.asked.take_if(|asked| asked.request == refused.request) else { return };
        let (reason, detail) = (refused.reason(), Quoted(&refused.detail));
        self.refusal = Some(format!("refused {reason}{detail} for zone {:?}", asked.zone));
        self.is_doubtful = false;
        if !self.in_zone {
            let retry_after = Duration::from_millis(refused.retry_after_ms.into());
            self.join_at = Some(now + retry_after.max(REJOIN));
        }
    }

    /// Returns why a bot that has started at `started_at` has never joined. `closed` is the reason for which the
    /// client has stopped, and `failure` is why its last try to open a session has failed.
    pub(super) fn why_absent(
        &self,
        closed: Option<&str>,
        failure: Option<&str>,
        started_at: Option<Duration>,
        now: Duration,
    ) -> String {
        let Some(started_at) = started_at else {
            return "not started: the run was too short".to_owned();
        };
        match (closed, &self.refusal, &self.asked, failure) {
            (Some(closed), ..) => closed.to_owned(),
            (_, Some(refusal), ..) => refusal.clone(),
            (.., Some(asked), _) => {
                let waited = now.saturating_sub(asked.at).as_secs();
                format!("no answer to Join for zone {:?} within {waited} s", asked.zone)
            }
            (.., Some(failure)) => format!("no session: {}", Cut(failure)),
            _ => format!("no answer from the server within {} s", now.saturating_sub(started_at).as_secs()),
        }
    }
}

/// A text of the server in quotes after a space, cut to [`TEXT_MAX`]. Nothing if the text is empty.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// A text, cut to [`TEXT_MAX`], on one line.
struct Cut<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.chars().take(TEXT_MAX).collect();
        if text.is_empty() { Ok(()) } else { write!(f, " {text:?}") }
    }
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .trim_end()
            .chars()
            .take(TEXT_MAX)
            .try_for_each(|c| write!(f, "{}", if c.is_control() { ' ' } else { c }))
    }
}

/// How long a bot waits after Parted or Refused before it sends Join again.
const REJOIN: Duration = Duration::from_secs(1);
/// The longest text of a server in the report, in characters: more than the server of this crate sends.
const TEXT_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::v1::Reason;

    const NOW: Duration = Duration::from_secs(5);

    /// Returns a membership whose first Join, the reliable message number 1, was answered.
    fn member() -> Membership {
        let mut membership = Membership::default();
        membership.connected(Duration::ZERO);
        assert!(membership.is_due(Duration::ZERO));
        membership.asked(1, "table", 1, Duration::ZERO);
        assert!(membership.joined(&joined(1)) && membership.is_in_zone());
        membership
    }

    fn joined(request: u32) -> Joined {
        Joined { request, zone: "table".to_owned(), ..Joined::default() }
    }

    fn refused(request: u32, retry_after_ms: u32) -> Refused {
        Refused { request, reason: Reason::Full.into(), retry_after_ms, ..Refused::default() }
    }

    #[test]
    fn after_a_resume_in_no_zone_only_the_answer_to_a_new_join_counts() {
        let mut membership = member();

        membership.resumed(false, false, 1, NOW);
        assert!(!membership.is_in_zone() && membership.is_due(NOW));
        assert!(!membership.joined(&joined(0)), "the session has left that zone since");
        membership.asked(2, "table", 2, NOW);

        assert!(!membership.joined(&joined(1)));
        assert!(membership.joined(&joined(2)) && membership.is_in_zone());
    }

    #[test]
    fn a_join_that_the_server_has_not_taken_is_not_repeated_after_a_resume() {
        let mut waiting = Membership::default();
        waiting.connected(Duration::ZERO);
        waiting.asked(1, "table", 1, Duration::ZERO);

        waiting.resumed(false, false, 0, NOW);
        assert!(!waiting.is_due(NOW), "it is in the outbox");
        waiting.resumed(false, false, 1, NOW);
        assert!(waiting.is_due(NOW), "its Joined may be void");
    }

    #[test]
    fn after_a_resync_the_join_without_an_answer_is_sent_again() {
        let mut waiting = Membership::default();
        waiting.asked(1, "table", 1, Duration::ZERO);

        waiting.resumed(true, true, 1, NOW);

        assert!(waiting.is_due(NOW));
    }

    #[test]
    fn a_refused_join_is_repeated_after_the_time_that_the_server_asks_for() {
        let mut membership = Membership::default();
        membership.asked(1, "table", 1, NOW);

        membership.refused(&refused(7, 0), NOW);
        assert!(!membership.is_due(NOW * 2), "this was another request");
        membership.refused(&refused(1, 3_000), NOW);

        assert!(!membership.is_due(NOW + Duration::from_millis(2_999)));
        assert!(membership.is_due(NOW + Duration::from_secs(3)));
    }

    #[test]
    fn a_member_whose_move_is_refused_stays() {
        let mut membership = member();

        membership.asked(2, "vault", 2, NOW);
        membership.refused(&refused(2, 0), NOW);

        assert!(membership.is_in_zone() && !membership.is_due(NOW * 2));
        membership.parted(NOW);
        assert!(!membership.is_in_zone() && membership.is_due(NOW + REJOIN));
    }

    #[test]
    fn a_bot_that_has_not_started_is_absent_for_this_cause() {
        let membership = Membership::default();

        let unstarted = membership.why_absent(None, None, None, NOW);
        let fresh = membership.why_absent(None, None, Some(Duration::from_secs(1)), NOW);

        assert_eq!(unstarted, "not started: the run was too short");
        assert_eq!(fresh, "no answer from the server within 4 s");
    }
}
