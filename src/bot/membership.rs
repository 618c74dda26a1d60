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
        self.0.chars().take(TEXT_MAX).try_for_each(|c| write!(f, "{}", if c.is_control() { ' ' } else { c }))
    }
}

/// How long a bot waits after Parted or Refused before it sends Join again.
const REJOIN: Duration = Duration::from_secs(1);
/// The longest text of a server in the report, in characters: more than the server of this crate sends.
const TEXT_MAX: usize = 400;
