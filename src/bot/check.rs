//! Checks that each numbered call is answered exactly once and in order.
//!
//! The client numbers its calls 1, 2, 3 and so on, anew with each session. There are two forms of answers. What the
//! check can tell depends on the form.
//!
//! An answer that *counts* repeats the `number` of its call, and holds `taken`, the count of calls that the game has
//! taken from this session. So `taken` numbers the answers: a fault in `taken` is a fault from server to client. A
//! fault in `number` compared to `taken` is a fault from client to server.
//!
//! | answer, after an answer with number *n* and taken *t* | meaning |
//! | --- | --- |
//! | taken is *t* + 1 + *k* | *k* answers are lost |
//! | taken is *t* | an answer is doubled |
//! | taken is below *t* | an answer is out of order |
//! | number has grown by *k* more than taken | *k* calls are lost |
//! | number has grown by *k* less than taken | *k* calls are doubled |
//! | number is below *n*, or was never sent | a call is out of order |
//!
//! An answer that only *repeats the number* shows each of these faults, too, but not its direction: a call that was
//! taken twice looks like an answer that was sent twice.
//!
//! | answer, after an answer with number *n* | meaning |
//! | --- | --- |
//! | number is *n* + 1 + *k* | *k* calls or their answers are lost |
//! | number is *n* | a call or its answer is doubled |
//! | number is below *n*, or was never sent | a call or its answer is out of order |
//!
//! At the end of a session, a call without an answer is lost. If the server has not acknowledged the call, it is lost
//! from client to server. If it has, the answer is lost from server to client if answers count, or else in a
//! direction that is not known: the game may not have taken the call. A session without any answer is treated as if
//! its answers only repeated the number.

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

/// The tallies of a session at its end. Each call is counted either in `up` or in `either`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    /// From client to server.
    pub(super) up: LaneTally,
    /// From server to client.
    pub(super) down: LaneTally,
    /// Calls and their answers as one way there and back: the direction of a fault is not known.
    pub(super) either: LaneTally,
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
    either: LaneTally,
}

impl LaneTally {
    /// Returns true if each message arrived once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        // The counts of a hostile server may be as high as a `u64`.
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.lost = self.lost.saturating_add(other.lost);
        self.doubled = self.doubled.saturating_add(other.doubled);
        self.disordered = self.disordered.saturating_add(other.disordered);
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
        if timed && self.timed.len() < TIMED_MAX {
            self.timed.push_back((self.sent, now));
        }
    }

    /// Records the loss of the link. The round trips of calls in flight are not measured.
    pub(super) fn link_lost(&mut self) {
        self.timed.clear();
    }

    /// Records an answer that counts. Returns the round trip, unless the link was lost in between.
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
        self.round_trip(now)
    }

    /// Records an answer that only repeats the number. Returns the round trip, unless the link was lost in between.
    pub(super) fn answered(&mut self, number: u64, now: Duration) -> Option<Duration> {
        self.either.received += 1;
        if number == 0 || number < self.number || number > self.sent {
            self.either.disordered += 1;
            return None;
        }
        if number == self.number {
            self.either.doubled += 1;
            return None;
        }
        self.either.lost += number - self.number - 1;
        self.number = number;
        self.round_trip(now)
    }

    /// Returns the round trip of the call that was answered last, if it is measured.
    fn round_trip(&mut self, now: Duration) -> Option<Duration> {
        while self.timed.front().is_some_and(|(timed, _)| *timed < self.number) {
            self.timed.pop_front();
        }
        let (_, at) = self.timed.pop_front_if(|(timed, _)| *timed == self.number)?;
        Some(now.saturating_sub(at))
    }

    /// Returns true if every call was answered.
    pub(super) fn is_settled(&self) -> bool {
        self.number == self.sent
    }

    /// Ends the session and returns its tallies. The server has not acknowledged `unacked` messages. That many
    /// calls without an answer count as lost from client to server. The other calls without an answer count as lost
    /// from server to client if answers count, or else in a direction that is not known.
    pub(super) fn finish(self, unacked: u64) -> Lanes {
        let Self { mut up, mut down, mut either, sent, taken, number, .. } = self;
        let silent = sent - number;
        let lost_up = silent.min(unacked);
        let lost_later = silent - lost_up;
        up.lost += lost_up;
        if taken > 0 {
            up.sent = sent;
            up.received = taken.saturating_add(lost_later);
            down.lost = down.lost.saturating_add(lost_later);
            down.sent = taken.saturating_add(lost_later);
        } else {
            up.sent = lost_up;
            either.sent = sent - lost_up;
            either.lost += lost_later;
        }
        Lanes { up, down, either }
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
        let lanes = check.finish(0);
        assert_eq!(lanes.either, LaneTally::default());
        (lanes.up, lanes.down)
    }

    /// Returns the tally of a session whose answers only repeat the number.
    fn check_numbers(sent: u64, answers: &[u64]) -> LaneTally {
        let mut check = EchoCheck::default();
        for _ in 0..sent {
            check.said(Duration::ZERO, true);
        }
        for &number in answers {
            check.answered(number, NOW);
        }
        let lanes = check.finish(0);
        assert_eq!((lanes.up, lanes.down), (LaneTally::default(), LaneTally::default()));
        lanes.either
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
    fn an_answer_that_only_repeats_the_number_shows_each_fault_without_its_direction() {
        let faults = |sent, answers: &[u64]| {
            let either = check_numbers(sent, answers);
            (either.lost, either.doubled, either.disordered)
        };

        assert_eq!(check_numbers(3, &[1, 2, 3]), tally(3, 3));
        assert_eq!(faults(4, &[1, 4]), (2, 0, 0), "calls or answers are lost");
        assert_eq!(faults(3, &[1, 2, 2, 3]), (0, 1, 0), "a call or an answer is doubled");
        assert_eq!(faults(3, &[1, 3, 2]), (1, 0, 1), "calls or answers are swapped");
        assert_eq!(faults(2, &[1, 7, 0, 2]), (0, 0, 2), "answers of calls that were never made");
        assert_eq!(faults(3, &[1]), (2, 0, 0), "the last calls have no answer");
    }

    #[test]
    fn an_unanswered_call_that_was_never_acknowledged_is_lost_from_client_to_server() {
        let mut check = EchoCheck::default();
        for _ in 0..5 {
            check.said(Duration::ZERO, true);
        }
        assert_eq!(check.answered(1, NOW), Some(NOW));

        let lanes = check.finish(3);

        assert_eq!((lanes.up.sent, lanes.up.received, lanes.up.lost), (3, 0, 3));
        assert_eq!((lanes.either.sent, lanes.either.received, lanes.either.lost), (2, 1, 1));
    }

    #[test]
    fn counts_of_a_hostile_server_do_not_overflow() {
        let mut check = EchoCheck::default();
        check.said(Duration::ZERO, true);
        check.echoed(u64::MAX, u64::MAX, NOW);

        let lanes = check.finish(0);
        let mut sum = lanes.down;
        sum.add(lanes.down);

        assert_eq!((sum.lost, sum.sent), (u64::MAX, u64::MAX));
    }

    #[test]
    fn calls_without_an_echo_count_as_lost_in_the_direction_that_lost_them() {
        let mut check = EchoCheck::default();
        for _ in 0..5 {
            check.said(Duration::ZERO, true);
        }
        check.echoed(1, 1, NOW);
        assert!(!check.is_settled());

        let Lanes { up, down, .. } = check.finish(3);

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
