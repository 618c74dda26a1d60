//! The rows of the examination, and what came of each.

use std::fmt;

/// Something that a client must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it is called in the report.
    pub name: &'static str,
    /// What a client does that keeps it, as `docs/protocol.md` describes it.
    pub says: &'static str,
}

/// What came of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client does it.
    Ok,
    /// It does not: this is what it did.
    Failed(String),
    /// The client went, or was not there, before it could be seen.
    NotReached,
}

/// What came of an examination.
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
    /// Whether the client keeps every row.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| *verdict == Verdict::Ok)
    }

    /// What came of the row of that name; not reached, if there is none.
    #[must_use]
    pub fn verdict(&self, name: &str) -> &Verdict {
        ROWS.iter().position(|row| row.name == name).map_or(&Verdict::NotReached, |at| &self.verdicts[at])
    }

    /// The names of the rows that failed, in order.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let rows = ROWS.iter().zip(&self.verdicts);
        rows.filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_))).map(|(row, _)| row.name).collect()
    }

    /// The client keeps a row, unless it has broken it before.
    pub(super) fn pass(&mut self, name: &str) {
        self.set(name, Verdict::Ok);
    }

    /// The client breaks a row. What it did first is told.
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

/// All rows, in the order in which they are looked at. The last ones are watched all along.
pub const ROWS: &[Row] = &[
    row("hello", "The first frame is a Hello of protocol 1, 4 KiB at most"),
    row("throttled", "Denied THROTTLED: it asks again, and not before retry_after"),
    row("early", "Before Welcome, an unreliable frame is ignored"),
    row("ack-at-once", "Welcome is answered by Ack at once, before what is counted"),
    row("join", "It joins the zone `arena`, with a request that is not 0"),
    row("cut", "A link that closes without Closed: it resumes, with the newest token"),
    row("outbox", "What Welcome{received} has not counted is sent again, as it was"),
    row("ping", "It echoes each Beacon with a Ping of the same id"),
    row("ack-second", "A counted frame is acknowledged within a second"),
    row("ack-64", "64 counted frames are acknowledged without waiting for the second"),
    row("unknown", "Unknown ids and fields are ignored; of counted ids, they are counted"),
    row("count", "Resume{received} is what it took, no less than it acknowledged"),
    row("base", "After Welcome it counts on from base: what is replayed counts once"),
    row("no-resend", "What was counted is not sent again"),
    row("idle", "It is heard from each 2.5 s, also while it hears nothing"),
    row("silence", "Nothing received for 5 s: the link is lost, and not sooner; it resumes"),
    row("lost-welcome", "A Welcome that never came: it resumes with the token that it has"),
    row("slow", "Closed SLOW: it resumes"),
    row("timeout", "Closed TIMEOUT: it resumes"),
    row("dropped", "Closed DROPPED: it resumes"),
    row("shutdown", "Closed SHUTDOWN: it resumes, and not before retry_after"),
    row("resync", "Welcome{resync}: it adopts base, and goes on"),
    row("token", "Denied TOKEN: it says Hello anew, on the same link, without the token"),
    row("new-session", "Welcome{resumed: false}: both counts start at 0, nothing old is sent"),
    row("stop", "Closed KICKED: it stops"),
    row("one-hello", "One Hello at a time, and none after Welcome"),
    row("quiet", "Until Welcome or Denied it sends only Hello or Probe"),
    row("acks", "It never acknowledges more than was sent"),
    row("frames", "Frames with an id, of 16 KiB at most, that parse, on the lane of their id"),
    row("messages", "It sends only what clients send"),
];
