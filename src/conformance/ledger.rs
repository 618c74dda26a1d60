//! The counts and the frames of the session under examination.

use std::fmt;

use bytes::Bytes;

/// The counts of one session from the server's side, and the frames that were counted.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) id: u64,
    /// The newest token.
    pub(super) token: Bytes,
    /// The number of counted frames that were sent. A resync adds a gap.
    pub(super) sent: u64,
    /// The number of those frames that the client has acknowledged.
    pub(super) acked: u64,
    /// The frames that were sent and not acknowledged.
    down: Vec<Bytes>,
    /// The number of counted frames that were received. The examiner lowers it to test the outbox of the client.
    pub(super) received: u64,
    /// The highest `received` that was ever sent to the client.
    pub(super) told: u64,
    /// All counted frames that have arrived, in the order of their numbers.
    up: Vec<Bytes>,
    /// True while the session is in the zone.
    pub(super) joined: bool,
}

impl fmt::Debug for Ledger {
    /// Omits the token and the frames.
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

    /// Records a counted frame that is sent.
    pub(super) fn send(&mut self, frame: Bytes) {
        self.sent += 1;
        self.down.push(frame);
    }

    /// Applies an acknowledgement. Returns false if it is above the number of frames that were sent.
    pub(super) fn acknowledge(&mut self, received: u64) -> bool {
        self.acked = self.acked.max(received.min(self.sent));
        let kept = usize::try_from(self.sent - self.acked).unwrap_or(usize::MAX);
        self.down.drain(..self.down.len().saturating_sub(kept));
        received <= self.sent
    }

    /// Returns the frames that a client with the count `received` has not received.
    pub(super) fn unsent(&self, received: u64) -> Vec<Bytes> {
        let missing = usize::try_from(self.sent.saturating_sub(received)).unwrap_or(usize::MAX);
        self.down[self.down.len().saturating_sub(missing)..].to_vec()
    }

    /// Makes all frames in flight to the client void, and raises the count by `gap`.
    pub(super) fn resync(&mut self, gap: u64) {
        self.sent += gap;
        self.acked = self.sent;
        self.down.clear();
    }

    /// Returns true if the same frame was counted before.
    pub(super) fn has_counted(&self, frame: &Bytes) -> bool {
        let counted = usize::try_from(self.received).unwrap_or(usize::MAX).min(self.up.len());
        self.up[..counted].contains(frame)
    }

    /// Returns true if the bound on kept frames is reached.
    pub(super) fn is_full(&self) -> bool {
        self.up.len() >= UP_MAX
    }

    /// Records a counted frame that has arrived, and compares it with an earlier frame of the same number.
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

/// The result of [`Ledger::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// No frame of this number has arrived before.
    New,
    /// The same frame has arrived before with this number.
    Again,
    /// Another frame has arrived before with this number.
    Other,
}

/// The most counted frames of one session that are kept. They are many more than a client of the arena sends in an
/// examination, and take 64 MiB at most.
const UP_MAX: usize = 4_096;
