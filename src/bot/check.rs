//! Whether numbered calls and their echoes arrive exactly once and in order, told apart by
//! direction.
//!
//! The client numbers its calls 1, 2, 3 …; the arena echoes each with that number and with how many
//! it has taken. So `taken` numbers the echoes, and what is wrong with it went wrong on the way
//! down; what is wrong with `number` as against `taken` went wrong on the way up. All of it is
//! counted for each session anew.
//!
//! | seen, after number *n* and taken *t* | means |
//! | --- | --- |
//! | *t*+1 | nothing is missing on the way down; *t*+1+*k*: *k* echoes lost |
//! | *t* again | an echo doubled |
//! | less than *t* | an echo out of order |
//! | number rose more than taken | the difference: calls lost on the way up |
//! | number rose less than taken | the difference: calls doubled |
//! | number fell, or was never said | a call out of order |

use std::collections::VecDeque;
use std::time::Duration;

/// What became of the reliable messages of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneTally {
    /// Handed to the sender's library.
    pub sent: u64,
    /// Taken by the receiver.
    pub received: u64,
    /// Never taken.
    pub lost: u64,
    /// Taken again.
    pub doubled: u64,
    /// Taken after a later one.
    pub disordered: u64,
}

/// The calls of one session.
#[derive(Debug, Default)]
pub(super) struct EchoCheck {
    sent: u64,
    number: u64,
    taken: u64,
    /// Calls in flight on the link at hand, and when they were made.
    timed: VecDeque<(u64, Duration)>,
    up: LaneTally,
    down: LaneTally,
}

impl LaneTally {
    /// Whether each message arrived once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
    }
}

impl EchoCheck {
    /// The number of the next call.
    pub(super) fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// The call was made; `timed` if a link is there to carry it at once.
    pub(super) fn said(&mut self, now: Duration, timed: bool) {
        self.sent += 1;
        self.up.sent += 1;
        if timed && self.timed.len() < TIMED_MAX {
            self.timed.push_back((self.sent, now));
        }
    }

    /// The link is gone: what was in flight says nothing about round trips any more.
    pub(super) fn link_lost(&mut self) {
        self.timed.clear();
    }

    /// An echo arrived. Returns the round trip, if no cut was in between.
    pub(super) fn echoed(&mut self, number: u64, taken: u64, now: Duration) -> Option<Duration> {
        self.down.received += 1;
        if taken <= self.taken {
            if taken == self.taken {
                self.down.doubled += 1;
            } else {
                self.down.disordered += 1;
            }
            return None;
        }
        let echoes = taken - self.taken;
        self.taken = taken;
        self.down.lost += echoes - 1;
        if number < self.number || number > self.sent {
            self.up.disordered += 1;
            return None;
        }
        let calls = number - self.number;
        self.number = number;
        self.up.lost += calls.saturating_sub(echoes);
        self.up.doubled += echoes.saturating_sub(calls);
        while self.timed.front().is_some_and(|(timed, _)| *timed < number) {
            self.timed.pop_front();
        }
        let (_, at) = self.timed.pop_front_if(|(timed, _)| *timed == number)?;
        Some(now.saturating_sub(at))
    }

    /// Whether every call is echoed.
    pub(super) fn is_settled(&self) -> bool {
        self.number == self.sent
    }

    /// Ends the session, with `unacked` messages that the server never said it took. Calls among
    /// them count as lost on the way up, and calls that it took but did not echo as lost on the way
    /// down.
    pub(super) fn finish(self, unacked: u64) -> (LaneTally, LaneTally) {
        let (mut up, mut down) = (self.up, self.down);
        let silent = self.sent - self.number;
        let lost_up = silent.min(unacked);
        let lost_down = silent - lost_up;
        up.lost += lost_up;
        up.received = self.taken + lost_down;
        down.lost += lost_down;
        down.sent = self.taken + lost_down;
        (up, down)
    }
}

/// More calls than an outbox holds.
const TIMED_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(500);

    fn check(sent: u64, echoes: &[(u64, u64)]) -> (LaneTally, LaneTally) {
        let mut check = EchoCheck::default();
        for _ in 0..sent {
            check.said(Duration::ZERO, true);
        }
        for &(number, taken) in echoes {
            check.echoed(number, taken, NOW);
        }
        check.finish(0)
    }

    fn tally(sent: u64, received: u64) -> LaneTally {
        LaneTally {
            sent,
            received,
            ..LaneTally::default()
        }
    }

    #[test]
    fn a_clean_exchange_is_clean() {
        let (up, down) = check(3, &[(1, 1), (2, 2), (3, 3)]);

        assert_eq!((up, down), (tally(3, 3), tally(3, 3)));
        assert!(up.is_clean() && down.is_clean());
    }

    #[test]
    fn each_fault_is_told_from_the_others_and_by_direction() {
        let (up, down) = check(3, &[(1, 1), (3, 2)]);
        assert_eq!((up.lost, down.lost), (1, 0), "a call never arrived");

        let (up, down) = check(3, &[(1, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!((up.doubled, up.lost), (1, 0), "a call arrived twice");
        assert!(down.is_clean());

        let (up, down) = check(3, &[(1, 1), (3, 2), (2, 3)]);
        assert_eq!((up.lost, up.disordered), (1, 1), "calls changed places");
        assert!(down.is_clean());

        let (up, down) = check(3, &[(1, 1), (3, 3)]);
        assert_eq!((up.lost, down.lost), (0, 1), "an echo never arrived");

        let (up, down) = check(3, &[(1, 1), (2, 2), (2, 2), (3, 3)]);
        assert_eq!((up.doubled, down.doubled), (0, 1), "an echo arrived twice");

        let (up, down) = check(3, &[(1, 1), (3, 3), (2, 2)]);
        assert_eq!((down.lost, down.disordered), (1, 1), "echoes changed places");
        assert!(up.is_clean());

        let (up, _) = check(1, &[(7, 1)]);
        assert_eq!(up.disordered, 1, "an echo of what was never said");
    }

    #[test]
    fn what_is_open_at_the_end_is_lost_on_the_way_where_it_was_last_seen() {
        let mut check = EchoCheck::default();
        for _ in 0..5 {
            check.said(Duration::ZERO, true);
        }
        check.echoed(1, 1, NOW);
        assert!(!check.is_settled());

        let (up, down) = check.finish(3);

        assert_eq!((up.sent, up.received, up.lost), (5, 2, 3));
        assert_eq!((down.sent, down.received, down.lost), (2, 1, 1));
    }

    #[test]
    fn round_trips_are_timed_only_where_no_cut_was_in_between() {
        let mut check = EchoCheck::default();
        check.said(Duration::from_millis(100), true);
        check.said(Duration::from_millis(200), true);
        assert_eq!(check.echoed(1, 1, NOW), Some(Duration::from_millis(400)));

        check.link_lost();
        check.said(Duration::from_millis(300), false);
        check.said(Duration::from_millis(450), true);

        assert_eq!(check.echoed(2, 2, NOW), None);
        assert_eq!(check.echoed(3, 3, NOW), None);
        assert_eq!(check.echoed(4, 4, NOW), Some(Duration::from_millis(50)));
    }
}
