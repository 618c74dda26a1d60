//! The rows of the examination, and their results.

use std::fmt;

/// A requirement for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The name of the row in the report.
    pub name: &'static str,
    /// What a client does that keeps the row. `docs/protocol.md` has more on each row.
    pub says: &'static str,
}

/// The result of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client keeps the row.
    Ok,
    /// The client breaks the row. The text says what the client did.
    Failed(String),
    /// The examination ended before the row was examined.
    NotReached,
}

/// The results of an examination. Its [`Display`](fmt::Display) has a line for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    verdicts: Vec<Verdict>,
}

impl Default for Report {
    fn default() -> Self {
        Self { verdicts: vec![Verdict::NotReached; ROWS.len()] }
    }
}

impl Report {
    /// Returns true if the client keeps all rows.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| *verdict == Verdict::Ok)
    }

    /// Returns the result of a row, or [`Verdict::NotReached`] if there is no row of this name.
    #[must_use]
    pub fn verdict(&self, name: &str) -> &Verdict {
        ROWS.iter().position(|row| row.name == name).map_or(&Verdict::NotReached, |at| &self.verdicts[at])
    }

    /// Returns the names of the rows that have failed, in the order of [`ROWS`].
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let rows = ROWS.iter().zip(&self.verdicts);
        rows.filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_))).map(|(row, _)| row.name).collect()
    }

    /// Records that the client keeps a row, unless the row has failed before.
    pub(super) fn pass(&mut self, name: &str) {
        self.set(name, Verdict::Ok);
    }

    /// Records that the client breaks a row. The report shows the first failure.
    pub(super) fn fail(&mut self, name: &str, did: String) {
        self.set(name, Verdict::Failed(did));
    }

    fn set(&mut self, name: &str, verdict: Verdict) {
        let at = ROWS.iter().position(|row| row.name == name);
        debug_assert!(at.is_some(), "there is no row {name}");
        if let Some(known) = at.and_then(|at| self.verdicts.get_mut(at))
            && !matches!(known, Verdict::Failed(_))
        {
            *known = verdict;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, verdict) in ROWS.iter().zip(&self.verdicts) {
            match verdict {
                Verdict::Ok => writeln!(f, "ok           {:<16} {}", row.name, row.says)?,
                Verdict::Failed(did) => {
                    writeln!(f, "FAILED       {:<16} {}", row.name, row.says)?;
                    writeln!(f, "             {:<16} but: {did}", "")?;
                }
                Verdict::NotReached => writeln!(f, "not reached  {:<16} {}", row.name, row.says)?,
            }
        }
        let count = |of: fn(&Verdict) -> bool| self.verdicts.iter().filter(|verdict| of(verdict)).count();
        write!(
            f,
            "{} rows: {} ok, {} failed, {} not reached",
            ROWS.len(),
            count(|verdict| *verdict == Verdict::Ok),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| *verdict == Verdict::NotReached)
        )
    }
}

const fn row(name: &'static str, says: &'static str) -> Row {
    Row { name, says }
}

/// All rows, in the order in which they are examined. The last five apply to the whole examination.
pub const ROWS: &[Row] = &[
    row("hello", "Its first frame is a Hello of protocol 1, of 4 KiB at most"),
    row("throttled", "After Denied(THROTTLED) it sends Hello again, and not before retry_after_ms"),
    row("early", "It ignores an unreliable frame before Welcome"),
    row("ack-at-once", "After Welcome, its first reliable frame is an Ack, within 1 s"),
    row("join", "It joins the zone `arena`, with a request id that is not 0"),
    row("cut", "After a link that ends without Closed it resumes with the newest token"),
    row("outbox", "It sends again what Welcome.received does not include, unchanged"),
    row("ping", "It echoes each Beacon by a Ping of the same id"),
    row("ack-second", "It acknowledges a counted frame within 1 s"),
    row("ack-64", "It acknowledges 64 counted frames without waiting for the second"),
    row("unknown", "It ignores unknown ids and fields, and counts frames of unknown counted ids"),
    row("count", "Resume.received is what it has received, and not below what it acknowledged"),
    row("base", "After Welcome it counts on from base"),
    row("no-resend", "It sends nothing again that the server has counted"),
    row("idle", "It sends a frame every 2.5 s, also while it receives nothing"),
    row("silence", "It takes its link for lost after 5 s without a frame, and not sooner, and resumes"),
    row("lost-welcome", "If a Welcome is lost with its link, it resumes with the token that it has"),
    row("slow", "After Closed(SLOW) it resumes"),
    row("timeout", "After Closed(TIMEOUT) it resumes"),
    row("dropped", "After Closed(DROPPED) it resumes"),
    row("shutdown", "After Closed(SHUTDOWN) it resumes, and not before retry_after_ms"),
    row("resync", "After Welcome with resync it adopts base and goes on"),
    row("token", "After Denied(TOKEN) it sends Hello without resume on the same link"),
    row("new-session", "In a new session both counts start at 0, and nothing of the old session is sent"),
    row("stop", "After Closed(KICKED) it does not come back"),
    row("one-hello", "It sends one Hello at a time, and none after Welcome"),
    row("quiet", "Until Welcome, also after Denied, it sends only Hello and Probe"),
    row("acks", "It never acknowledges more than was sent"),
    row("frames", "Its frames have an id, have 16 KiB at most, parse, and are on the lane of their id"),
    row("messages", "It sends only messages that clients of the arena send"),
];
