//! The congestion window of links over UDP and QUIC: how many bytes may be in flight to a peer.
//!
//! A game sends small messages at a steady rate, and they soon become obsolete. A congestion controller for
//! bulk transfer takes each lost packet for congestion. At a loss of 20 % it allows two packets in flight,
//! which is too little to keep a session. A [`Window`] distinguishes loss from congestion:
//!
//! - If the round-trip time has grown by more than a queue of ordinary length adds, the window is reduced,
//!   down to one packet.
//! - If more than two fifths of the recent bytes were lost, the window is reduced, down to one packet. A
//!   lower loss does not reduce it. A loss above one quarter keeps it from growing.
//! - If nothing was delivered for a longer time, the window is reduced to [`WINDOW_FLOOR`].
//! - The window grows as in New Reno, and only while the link uses it.
//!
//! Why the window is fair to other traffic:
//!
//! - The rate is bounded: at most [`WINDOW_MAX`] per round trip, and a game sends less. A link never takes a
//!   share that grows with the capacity of the path, as a download does.
//! - The window reacts to a queue before the queue overflows. So it reacts earlier than the controllers of
//!   downloads (compare RFC 6817). It also shrinks further: to half of the minimum window of RFC 9002 (7.2).
//! - After an outage the window is at most the initial window of RFC 9002 (7.2). RFC 9002 (7.6.2) takes an
//!   outage for persistent congestion and leaves two packets. Here, the next round trip shows whether there
//!   is a queue.
//! - RFC 9002 (7) permits any controller that follows RFC 8085 (3.1): it must react to congestion, and bound
//!   what is sent without feedback. [`TRICKLE_EVERY`] is this bound.
//!
//! This module reads no clock and is independent of the transport. Times are durations since an instant that
//! the caller chooses.

use std::time::Duration;

/// The largest window in bytes: 640 KB/s at a round trip of 100 ms. It is a quarter of an outbox, so that a
/// replay takes four round trips.
pub(crate) const WINDOW_MAX: u64 = 64 * 1024;

/// The smallest window in bytes: one packet. On a link of 3 KB/s, a second packet would wait for half a
/// second. RFC 9002 (7.2) recommends two packets for all paths.
pub(crate) const WINDOW_MIN: u64 = PACKET_BYTES;

/// The window of a new link, and of a link after an outage, in bytes: ten packets, the initial window of
/// RFC 9002. A smaller window is too small for a game at a loss of one in five: with two packets in flight,
/// only a timer detects a loss.
pub(crate) const WINDOW_FLOOR: u64 = 10 * PACKET_BYTES;

/// The length of a packet in bytes: the longest that QUIC sends on a path that it has not measured.
pub(crate) const PACKET_BYTES: u64 = 1_200;

/// While nothing is acknowledged and the window is full, one packet leaves this often.
///
/// After an outage of 3 s, 2 s are left until the link is taken for lost, and the first packet that arrives
/// keeps the link. RFC 8085 (3.1.2) allows low-volume traffic one datagram per round trip. A link on which
/// nothing is received ends after 5 s, so at most 20 of these packets are sent.
pub(crate) const TRICKLE_EVERY: Duration = Duration::from_millis(250);

/// The congestion window of one link.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    bytes: u64,
    /// Below this size the window grows by the acknowledged bytes; above it, by one packet per round trip.
    threshold: u64,
    /// The bytes that were delivered recently.
    delivered: u64,
    /// The bytes that were lost recently.
    lost: u64,
    /// The bytes that were delivered since the last loss.
    between: u64,
    /// The bytes that were delivered since the window last grew by a packet.
    grown: u64,
    /// When the window was last reduced. Packets that were sent before do not change the window again.
    reduced_at: Option<Duration>,
    /// The shortest round trips of the present span and of the span before it.
    shortest: [Option<Duration>; 2],
    span_at: Duration,
    /// The shortest round trip since the present round began.
    round: Option<Duration>,
    round_at: Duration,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            bytes: WINDOW_FLOOR,
            threshold: u64::MAX,
            // The loss of the first packet alone must not reduce the window.
            delivered: RECENT_BYTES / 2,
            lost: 0,
            between: 0,
            grown: 0,
            reduced_at: None,
            shortest: [None; 2],
            span_at: Duration::ZERO,
            round: None,
            round_at: Duration::ZERO,
        }
    }

    /// Returns how many bytes may be in flight.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that a packet was acknowledged. `sent` is when it was sent, and `round_trip` is the smoothed
    /// round-trip time. `is_used` is true if the window has kept the link from sending more.
    pub(crate) fn acked(
        &mut self,
        now: Duration,
        sent: Duration,
        bytes: u64,
        is_used: bool,
        round_trip: Duration,
    ) {
        self.delivered += bytes;
        self.between += bytes;
        self.fade();
        let took = now.saturating_sub(sent);
        self.note_shortest(now, took);
        if self.reduced_at.is_some_and(|at| sent <= at) {
            return;
        }
        if self.is_queued(now, took, round_trip) {
            self.reduce(now, self.bytes / 4 * 3, WINDOW_MIN);
        } else if is_used && self.lost * 4 < self.delivered + self.lost {
            self.grow(bytes);
        }
    }

    /// Records that packets were lost. `sent` is when the last of them was sent. `is_persistent` is true if
    /// nothing was delivered for a longer time.
    pub(crate) fn lost(&mut self, now: Duration, sent: Duration, bytes: u64, is_persistent: bool) {
        // The losses of an outage are capped: they are not evidence of the loss rate outside of it.
        self.lost += bytes.min(OUTAGE_FACTOR * std::mem::take(&mut self.between) + PACKET_BYTES);
        self.fade();
        if self.reduced_at.is_some_and(|at| sent <= at) {
            return;
        }
        if is_persistent {
            self.reduce(now, WINDOW_FLOOR, WINDOW_FLOOR);
        } else if self.lost * 5 > (self.delivered + self.lost) * 2 {
            self.reduce(now, self.bytes / 2, WINDOW_MIN);
        }
    }

    /// Records that the path has marked a packet as congested (ECN).
    pub(crate) fn marked(&mut self, now: Duration, sent: Duration) {
        if self.reduced_at.is_none_or(|at| sent > at) {
            self.reduce(now, self.bytes / 2, WINDOW_MIN);
        }
    }

    /// Reduces the window to `bytes`, but not below `least`. Never enlarges it.
    fn reduce(&mut self, now: Duration, bytes: u64, least: u64) {
        self.bytes = bytes.max(least).min(self.bytes);
        self.threshold = self.bytes;
        self.reduced_at = Some(now);
    }

    fn grow(&mut self, bytes: u64) {
        if self.bytes < self.threshold {
            self.bytes += bytes;
        } else {
            self.grown += bytes;
            if self.grown >= self.bytes {
                self.grown = 0;
                self.bytes += PACKET_BYTES;
            }
        }
        self.bytes = self.bytes.min(WINDOW_MAX);
    }

    /// Gives older bytes less weight.
    fn fade(&mut self) {
        if self.delivered + self.lost > RECENT_BYTES {
            self.delivered -= self.delivered / 4;
            self.lost -= self.lost / 4;
        }
    }

    fn note_shortest(&mut self, now: Duration, took: Duration) {
        if now.saturating_sub(self.span_at) >= SHORTEST_SPAN {
            self.span_at = now;
            self.shortest = [None, self.shortest[0]];
        }
        let present = self.shortest[0].get_or_insert(took);
        *present = (*present).min(took);
    }

    /// Returns true if packets wait in a queue on the path. `took` is the round trip of one packet. It is too
    /// long if an acknowledgement was lost, so the shortest round trip of each round is used.
    fn is_queued(&mut self, now: Duration, took: Duration, round_trip: Duration) -> bool {
        let shortest = self.shortest.iter().flatten().min().copied().unwrap_or(took);
        let round = self.round.map_or(took, |round| round.min(took));
        if now.saturating_sub(self.round_at) < round_trip {
            self.round = Some(round);
            return false;
        }
        (self.round, self.round_at) = (None, now);
        round - shortest > QUEUE_MAX.max(shortest / 2)
    }
}

/// Consecutive losses count up to this many times the bytes that were delivered before them.
const OUTAGE_FACTOR: u64 = 3;
/// The recent bytes over which the loss is measured: 40 packets, so that a few losses have little effect.
const RECENT_BYTES: u64 = 40 * PACKET_BYTES;
/// A round trip may be longer than the shortest one by this, or by half of the shortest one. Jitter and
/// acknowledgements that wait for a tick account for that.
const QUEUE_MAX: Duration = Duration::from_millis(150);
/// The shortest round trip is that of the last one to two spans of this length. So a path that has become
/// longer is accepted after a while.
const SHORTEST_SPAN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Sends a round of packets through a window, and loses `lost` of each ten. Returns the time afterwards.
    fn round(window: &mut Window, now: Duration, lost: u64, round_trip: Duration) -> Duration {
        let end = now + round_trip;
        for packet in 0..window.bytes() / PACKET_BYTES {
            if (packet + now.as_millis() as u64 / 7) % 10 < lost {
                window.lost(end, now, PACKET_BYTES, false);
            } else {
                window.acked(end, now, PACKET_BYTES, true, round_trip);
            }
        }
        end + Duration::from_millis(1)
    }

    fn rounds(window: &mut Window, mut now: Duration, count: usize, lost: u64, rtt: Duration) -> Duration {
        for _ in 0..count {
            now = round(window, now, lost, rtt);
        }
        now
    }

    #[test]
    fn a_window_grows_to_its_bound_while_it_is_used_only() {
        let (mut used, mut idle) = (Window::new(), Window::new());

        let mut now = RTT;
        for _ in 0..20 {
            idle.acked(now + RTT, now, PACKET_BYTES, false, RTT);
            now = round(&mut used, now, 0, RTT);
        }

        assert_eq!(used.bytes(), WINDOW_MAX);
        assert_eq!(idle.bytes(), 10 * PACKET_BYTES);
    }

    #[test]
    fn a_loss_of_a_fifth_is_not_congestion_and_a_loss_of_two_thirds_is() {
        let (mut bad, mut congested) = (Window::new(), Window::new());

        rounds(&mut bad, RTT, 40, 2, RTT);
        rounds(&mut congested, RTT, 40, 7, RTT);

        assert!(bad.bytes() > WINDOW_FLOOR, "{} bytes", bad.bytes());
        assert_eq!(congested.bytes(), WINDOW_MIN);
    }

    #[test]
    fn a_queue_reduces_the_window_once_a_round_trip_before_anything_is_lost() {
        let mut window = Window::new();
        let now = rounds(&mut window, RTT, 20, 0, RTT);

        let now = rounds(&mut window, now, 2, 0, 4 * RTT);
        assert_eq!(window.bytes(), WINDOW_MAX / 4 * 3);
        let now = rounds(&mut window, now, 20, 0, 4 * RTT);
        assert_eq!(window.bytes(), WINDOW_MIN);

        rounds(&mut window, now, 60, 0, RTT);
        assert!(window.bytes() > 20 * PACKET_BYTES, "the window grows again when there is no queue");
    }

    #[test]
    fn a_path_that_has_become_longer_is_not_taken_for_a_queue_for_ever() {
        let mut window = Window::new();
        let now = rounds(&mut window, RTT, 20, 0, RTT);

        rounds(&mut window, now, 400, 0, 4 * RTT);

        assert_eq!(window.bytes(), WINDOW_MAX);
    }

    #[test]
    fn an_outage_leaves_the_floor_from_which_it_grows_anew() {
        let mut window = Window::new();
        let now = rounds(&mut window, RTT, 20, 0, RTT);

        window.lost(now, now - RTT, WINDOW_MAX, true);
        assert_eq!(window.bytes(), WINDOW_FLOOR);

        rounds(&mut window, now + RTT, 20, 0, RTT);
        assert!(window.bytes() > WINDOW_FLOOR + 5 * PACKET_BYTES, "{} bytes", window.bytes());
    }

    #[test]
    fn a_mark_of_congestion_halves_the_window_once_a_round_trip() {
        let mut window = Window::new();

        window.marked(2 * RTT, RTT);
        window.marked(2 * RTT, RTT);

        assert_eq!(window.bytes(), 5 * PACKET_BYTES);
    }
}
