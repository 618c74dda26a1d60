//! Checks that numbered calls and their echoes arrive exactly once and in order, separately for each direction.
//!
//! The client numbers its calls 1, 2, 3 and so on. The arena echoes each call with its `number`, and with `taken`,
//! the count of calls that it has taken. So `taken` numbers the echoes: a fault in `taken` is a fault from server to
//! client. A fault in `number` compared to `taken` is a fault from client to server. The counts begin anew with each
//! session.
//!
//! | echo, after an echo with number *n* and taken *t* | meaning |
//! | --- | --- |
//! | taken is *t* + 1 + *k* | *k* echoes are lost |
//! | taken is *t* | an echo is doubled |
//! | taken is below *t* | an echo is out of order |
//! | number has grown by *k* more than taken | *k* calls are lost |
//! | number has grown by *k* less than taken | *k* calls are doubled |
//! | number is below *n*, or was never sent | a call is out of order |

use std::collections::VecDeque;
use std::time::Duration;

/// Counts of the reliable messages of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneTally {
    /// The number of messages that were sent.
    pub sent: u64,
    /// The number of messages that were received.
    pub received: u64,
    /// The number of messages that were sent and not received.
    pub lost: u64,
    /// The number of messages that were received a second time.
    pub doubled: u64,
    /// The number of messages that were received after a later one.
    pub disordered: u64,
}

/// The calls of one session.
#[derive(Debug, Default)]
pub(super) struct EchoCheck {
    sent: u64,
    number: u64,
    taken: u64,
    /// The calls in flight on the present link, and when they were made.
    timed: VecDeque<(u64, Duration)>,
    up: LaneTally,
    down: LaneTally,
}

impl LaneTally {
    /// Returns true if each message arrived once and in order.
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
    /// Returns the number of the next call.
    pub(super) fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// Records that the next call was made. `timed` is true if there is a link, so that the round trip is measured.
    pub(super) fn said(&mut self, now: Duration, timed: bool) {
        self.sent += 1;
        self.up.sent += 1;
        if timed && self.timed.len() < TIMED_MAX {
            self.timed.push_back((self.sent, now));
        }
    }

    /// Records the loss of the link. The round trips of calls in flight are not measured.
    pub(super) fn link_lost(&mut self) {
        self.timed.clear();
    }

    /// Records an echo. Returns the round trip, unless the link was lost in between.
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

    /// Returns true if every call was echoed.
    pub(super) fn is_settled(&self) -> bool {
        self.number == self.sent
    }

    /// Ends the session and returns the tallies from client to server and from server to client. The server has
    /// not acknowledged `unacked` messages. That many calls without an echo count as lost from client to server,
    /// and the other calls without an echo as lost from server to client.
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

/// The most calls whose round trips are measured at a time. It is more than an outbox holds.
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
        LaneTally { sent, received, ..LaneTally::default() }
    }

    #[test]
    fn a_clean_exchange_is_clean() {
        let (up, down) = check(3, &[(1, 1), (2, 2), (3, 3)]);

        assert_eq!((up, down), (tally(3, 3), tally(3, 3)));
        assert!(up.is_clean() && down.is_clean());
    }

    #[test]
    fn each_fault_is_counted_as_such_and_for_its_direction() {
        let (up, down) = check(3, &[(1, 1), (3, 2)]);
        assert_eq!((up.lost, down.lost), (1, 0), "a call is lost");

        let (up, down) = check(3, &[(1, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!((up.doubled, up.lost), (1, 0), "a call arrived twice");
        assert!(down.is_clean());

        let (up, down) = check(3, &[(1, 1), (3, 2), (2, 3)]);
        assert_eq!((up.lost, up.disordered), (1, 1), "two calls are swapped");
        assert!(down.is_clean());

        let (up, down) = check(3, &[(1, 1), (3, 3)]);
        assert_eq!((up.lost, down.lost), (0, 1), "an echo is lost");

        let (up, down) = check(3, &[(1, 1), (2, 2), (2, 2), (3, 3)]);
        assert_eq!((up.doubled, down.doubled), (0, 1), "an echo arrived twice");

        let (up, down) = check(3, &[(1, 1), (3, 3), (2, 2)]);
        assert_eq!((down.lost, down.disordered), (1, 1), "two echoes are swapped");
        assert!(up.is_clean());

        let (up, _) = check(1, &[(7, 1)]);
        assert_eq!(up.disordered, 1, "an echo of a call that was never made");
    }

    #[test]
    fn calls_without_an_echo_count_as_lost_in_the_direction_that_lost_them() {
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
    fn round_trips_are_measured_only_if_no_link_was_lost_in_between() {
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
