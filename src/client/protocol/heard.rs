//! What is known of how much of this client the server hears.

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::BEACON_EVERY;

/// What was sent on one link, and what the server has told that it has of it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Since the newest frame was sent that is known to have arrived: at first, the Hello.
    unheard: Duration,
    /// Echoes, by Beacon.
    echoes: Marks,
    /// Counted frames, by count: some of them.
    counted: Marks,
    /// The count of the last one of these.
    marked: u64,
}

/// Frames of which nothing is known yet, oldest first: a number that grows, and how long ago each was sent.
#[derive(Debug, Default)]
struct Marks(VecDeque<(u64, Duration)>);

impl Heard {
    /// Lets time pass. While the game leaves the link unread, nothing tells what the server hears.
    pub(super) fn advance(&mut self, dt: Duration, is_unread: bool) {
        self.unheard = if is_unread { Duration::ZERO } else { self.unheard.saturating_add(dt) };
        self.echoes.advance(dt);
        self.counted.advance(dt);
    }

    /// The echo of a Beacon was sent.
    pub(super) fn sent_echo(&mut self, id: u64) {
        self.echoes.push(id);
    }

    /// `count` counted frames were sent, over all links of the session.
    pub(super) fn sent(&mut self, count: u64) {
        let is_due = self.counted.0.back().is_none_or(|(_, age)| *age >= MARK_EVERY);
        if count > self.marked && is_due {
            self.marked = count;
            self.counted.push(count);
        }
    }

    /// A Beacon says that the server has the echo of this one.
    pub(super) fn echoed(&mut self, id: u64) {
        self.unheard = self.unheard.min(self.echoes.take(id));
    }

    /// The server has counted `count` frames.
    pub(super) fn acknowledged(&mut self, count: u64) {
        self.unheard = self.unheard.min(self.counted.take(count));
    }

    /// How long the server has heard nothing, as far as is known.
    pub(super) fn silence(&self) -> Duration {
        self.unheard.saturating_sub(TOLD_WITHIN)
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

    /// Takes out all up to this number. Returns how long ago the newest of them was sent.
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

/// The server tells what it has heard once a second. An echo leaves once a second as well, so a link whose
/// round trip is shorter than 4 s is never given up.
const TOLD_WITHIN: Duration = BEACON_EVERY;
/// How much later than the one before it a counted frame is marked.
const MARK_EVERY: Duration = Duration::from_millis(500);
/// Marks of a kind, oldest dropped first: those of the longest round trip that a link survives, and as many again.
const MARKS_MAX: usize = 16;
