//! What the examiner keeps of the session under examination.

use std::fmt;

use bytes::Bytes;

/// The counts of one session, from the server's side, and all frames behind them.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) id: u64,
    /// The newest token.
    pub(super) token: Bytes,
    /// Counted frames that were sent, or of which the client was told that they are void.
    pub(super) sent: u64,
    /// How many of them the client has acknowledged.
    pub(super) acked: u64,
    /// The last frames that were sent: those above `acked`, at least.
    down: Vec<Bytes>,
    /// Counted frames that were taken, as the client is told.
    pub(super) received: u64,
    /// The most that the client was ever told.
    pub(super) told: u64,
    /// All counted frames that ever arrived, by number.
    up: Vec<Bytes>,
    /// The client was put into the zone.
    pub(super) joined: bool,
}

impl fmt::Debug for Ledger {
    /// Without the token and the frames.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("id", &self.id)
            .field("sent", &self.sent)
            .field("acked", &self.acked)
            .field("received", &self.received)
            .field("told", &self.told)
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(id: u64, token: Bytes) -> Self {
        Self { id, token, ..Self::default() }
    }

    /// A counted frame is sent.
    pub(super) fn send(&mut self, frame: Bytes) {
        self.sent += 1;
        self.down.push(frame);
    }

    /// The client says how many it took; false if that cannot be.
    pub(super) fn acknowledge(&mut self, received: u64) -> bool {
        self.acked = self.acked.max(received.min(self.sent));
        let kept = usize::try_from(self.sent - self.acked).unwrap_or(usize::MAX);
        self.down.drain(..self.down.len().saturating_sub(kept));
        received <= self.sent
    }

    /// What a client that took `received` frames has not taken.
    pub(super) fn unsent(&self, received: u64) -> Vec<Bytes> {
        let missing = usize::try_from(self.sent.saturating_sub(received)).unwrap_or(usize::MAX);
        self.down[self.down.len().saturating_sub(missing)..].to_vec()
    }

    /// What was under way to the client is void, and so is a gap of this many.
    pub(super) fn resync(&mut self, gap: u64) {
        self.sent += gap;
        self.acked = self.sent;
        self.down.clear();
    }

    /// Whether this very frame was counted before, and the client was told so.
    pub(super) fn has_counted(&self, frame: &Bytes) -> bool {
        let counted = usize::try_from(self.received).unwrap_or(usize::MAX).min(self.up.len());
        self.up[..counted].contains(frame)
    }

    /// Whether more arrived than is kept.
    pub(super) fn is_full(&self) -> bool {
        self.up.len() >= UP_MAX
    }

    /// A counted frame arrived. Whether it was that before, if there was one of that number.
    pub(super) fn take(&mut self, frame: &Bytes) -> Taken {
        let at = usize::try_from(self.received).unwrap_or(usize::MAX);
        self.received += 1;
        match self.up.get(at) {
            Some(known) if known == frame => Taken::Again,
            Some(_) => Taken::Other,
            None => {
                self.up.push(frame.clone());
                Taken::New
            }
        }
    }
}

/// What a counted frame is to those that arrived before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing of its number arrived before.
    New,
    /// It is what arrived before.
    Again,
    /// Something else of its number arrived before.
    Other,
}

/// Counted frames of one session that are kept: many times what a client of the arena sends in an
/// examination, and 64 MiB at worst.
const UP_MAX: usize = 4_096;
