//! Tracks which of the client's frames are known to have arrived at the server.

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::BEACON_EVERY;

/// The frames that were sent on one link and are not known to have arrived.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Time since the newest frame that is known to have arrived was sent. At first, this frame is the Hello.
    unconfirmed: Duration,
    /// Pings, by the id of the Beacon.
    echoes: Marks,
    /// Some of the counted frames, by number.
    counted: Marks,
    /// The number of the last frame in `counted`.
    marked: u64,
}

/// Frames that are not known to have arrived, oldest first: a growing number, and the time since each was sent.
#[derive(Debug, Default)]
struct Marks(VecDeque<(u64, Duration)>);

impl InFlight {
    /// Lets time pass. While the client does not read the link, `unconfirmed` is 0, because the client cannot learn
    /// what has arrived.
    pub(super) fn advance(&mut self, dt: Duration, is_unread: bool) {
        self.unconfirmed = if is_unread { Duration::ZERO } else { self.unconfirmed.saturating_add(dt) };
        self.echoes.advance(dt);
        self.counted.advance(dt);
    }

    /// Notes that the Ping of a Beacon was sent.
    pub(super) fn sent_echo(&mut self, id: u64) {
        self.echoes.push(id);
    }

    /// Notes that `count` counted frames were sent over all links of the session.
    pub(super) fn sent(&mut self, count: u64) {
        let is_due = self.counted.0.back().is_none_or(|(_, age)| *age >= MARK_EVERY);
        if count > self.marked && is_due {
            self.marked = count;
            self.counted.push(count);
        }
    }

    /// Notes that the Ping of this Beacon, and all before it, have arrived.
    pub(super) fn echoed(&mut self, id: u64) {
        self.unconfirmed = self.unconfirmed.min(self.echoes.take(id));
    }

    /// Notes that the server has counted `count` frames.
    pub(super) fn acknowledged(&mut self, count: u64) {
        self.unconfirmed = self.unconfirmed.min(self.counted.take(count));
    }

    /// Returns the time for which the server is presumed to have received nothing.
    pub(super) fn silence(&self) -> Duration {
        self.unconfirmed.saturating_sub(REPORTED_EVERY)
    }
}

impl Marks {
    fn advance(&mut self, dt: Duration) {
        for (_, age) in &mut self.0 {
            *age = age.saturating_add(dt);
        }
    }

    fn push(&mut self, number: u64) {
        if self.0.len() >= MARKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((number, Duration::ZERO));
    }

    /// Removes all marks up to this number. Returns the time since the newest of them was sent, or
    /// `Duration::MAX` if no mark is removed.
    fn take(&mut self, number: u64) -> Duration {
        let mut newest = Duration::MAX;
        while let Some(&(of, age)) = self.0.front()
            && of <= number
        {
            newest = age;
            self.0.pop_front();
        }
        newest
    }
}

/// The server reports once a second, in a Beacon, what it has received. A Ping leaves once a second as well, so
/// with the default link timeout no link whose round trip is shorter than 4 s is given up.
const REPORTED_EVERY: Duration = BEACON_EVERY;
/// The least time between two marks of counted frames.
const MARK_EVERY: Duration = Duration::from_millis(500);
/// The most marks of a kind: twice as many as are made within the longest round trip that a link survives with the
/// default link timeout. Beyond this number the oldest marks are dropped.
const MARKS_MAX: usize = 16;
