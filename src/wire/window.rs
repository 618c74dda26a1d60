//! How much may be on its way to a peer: the congestion window of links over UDP and QUIC.
//!
//! A game's traffic is small, steady and soon out of date. A controller that is made for files takes
//! every lost packet for congestion, and at 20 % loss lets two packets be on their way; a session
//! does not survive that. A [`Window`] tells loss from congestion:
//!
//! - When the round trip has grown by more than a queue of ordinary length adds, it is reduced, down
//!   to one packet.
//! - When more than two fifths of what was sent lately is lost, it is reduced too, down to one packet.
//!   Loss below that leaves it alone, and loss of more than a quarter keeps it from growing.
//! - When nothing was delivered for a longer time, it is reduced to [`WINDOW_FLOOR`].
//! - It grows as New Reno's does, and only while the link uses it.
//!
//! Why that is fair to others:
//!
//! - The rate has a bound, [`WINDOW_MAX`] a round trip, and what a game sends has one below that.
//!   A link never takes a share that grows with the path, as a download does.
//! - It gives way to a queue before the queue overflows, so it gives way earlier than the
//!   controllers of downloads do (compare RFC 6817), and further: to half of the minimum window of
//!   RFC 9002 (7.2).
//! - After an outage it goes on with no more than the initial window of RFC 9002 (7.2). That RFC
//!   (7.6.2) takes an outage for persistent congestion and leaves two packets; here the next round
//!   trip shows whether there is a queue.
//! - RFC 9002 (7) leaves the choice of a controller to each end as long as it follows RFC 8085 (3.1):
//!   react to congestion, and bound what is sent without feedback. For the latter, see
//!   [`TRICKLE_EVERY`].
//!
//! It reads no clock and knows no transport. Times are durations since an instant of the caller's.

use std::time::Duration;

/// Most that may be on its way, in bytes: 640 KB/s at a round trip of 100 ms, and a quarter of an
/// outbox, so that a replay takes four round trips.
pub(crate) const WINDOW_MAX: u64 = 64 * 1024;

/// Least that may be on its way, in bytes: one packet at a time. On a link of 3 KB/s a second one would
/// wait for half a second. RFC 9002 (7.2) recommends two for all paths.
pub(crate) const WINDOW_MIN: u64 = PACKET_BYTES;

/// What an outage leaves, and what a link begins with, in bytes: ten packets, RFC 9002's initial window.
/// At a loss of one in five, less is too little for a game: with two packets on their way, each loss is
/// found only by a timer.
pub(crate) const WINDOW_FLOOR: u64 = 10 * PACKET_BYTES;

/// A packet in bytes: what QUIC sends at most before it knows more of the path.
pub(crate) const PACKET_BYTES: u64 = 1_200;

/// When nothing is acknowledged and the window is full, one packet leaves this often all the same.
///
/// After an outage of 3 s a link has 2 s until it is given up, and the first packet that gets
/// through keeps it. RFC 8085 (3.1.2) allows traffic of little volume one datagram a round trip.
/// A link that hears nothing ends after 5 s, so these are 20 packets at most.
pub(crate) const TRICKLE_EVERY: Duration = Duration::from_millis(250);

/// How much may be on its way to one peer.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    bytes: u64,
    /// Below it the window grows by what is acknowledged; above it by a packet a round trip.
    threshold: u64,
    /// What was delivered and what was lost lately, in bytes.
    delivered: u64,
    lost: u64,
    /// Delivered since something was last lost.
    between: u64,
    /// Delivered since the window last grew by a packet.
    grown: u64,
    /// What was sent until then says nothing about the present window.
    reduced_at: Option<Duration>,
    /// The shortest round trips of the present span of time and of the one before it.
    shortest: [Option<Duration>; 2],
    span_at: Duration,
    /// The shortest round trip since this round began.
    round: Option<Duration>,
    round_at: Duration,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            bytes: WINDOW_FLOOR,
            threshold: u64::MAX,
            // A first packet that is lost says nothing about the path.
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

    /// How many bytes may be on their way.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A packet that was sent at `sent` is acknowledged, and `round_trip` is the smoothed round
    /// trip. `is_used` says that more would have been sent if the window had let it.
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

    /// Packets are lost, the last of which was sent at `sent`. `is_persistent` says that nothing at
    /// all was delivered for a longer time.
    pub(crate) fn lost(&mut self, now: Duration, sent: Duration, bytes: u64, is_persistent: bool) {
        // What an outage swallows as a whole says little about how much gets lost otherwise.
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

    /// The path says that it is congested, without losing anything.
    pub(crate) fn marked(&mut self, now: Duration, sent: Duration) {
        if self.reduced_at.is_none_or(|at| sent > at) {
            self.reduce(now, self.bytes / 2, WINDOW_MIN);
        }
    }

    /// Makes the window smaller, but no smaller than `least`, if it is larger.
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

    /// What was longer ago counts less.
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

    /// Whether packets wait on their way. `took` is the round trip of one packet, whose
    /// acknowledgement may have been lost at first: so it is the shortest of a round that counts.
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

/// What is lost between two deliveries counts up to this many times what was delivered before.
const OUTAGE_FACTOR: u64 = 3;
/// How much of what was sent lately is remembered, in bytes: 40 packets, so that a few unlucky ones decide
/// nothing.
const RECENT_BYTES: u64 = 40 * PACKET_BYTES;
/// A round trip may be longer than the shortest by this, or by half of the shortest: jitter and
/// acknowledgements that wait for a tick explain that.
const QUEUE_MAX: Duration = Duration::from_millis(150);
/// The shortest round trip is that of one to two of these spans, so that a path that has become
/// longer is known as such after a while.
const SHORTEST_SPAN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Sends a round of packets through a window: of each ten, `lost` are lost. Returns the time
    /// afterwards.
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
    fn a_window_that_is_used_grows_to_its_bound_and_one_that_is_not_stays() {
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
    fn a_fifth_of_loss_is_no_congestion_and_two_thirds_are() {
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
        assert!(window.bytes() > 20 * PACKET_BYTES, "it grows again when the queue is gone");
    }

    #[test]
    fn a_path_that_has_become_longer_is_no_queue_for_ever() {
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
    fn a_mark_of_congestion_halves_it_once_a_round_trip() {
        let mut window = Window::new();

        window.marked(2 * RTT, RTT);
        window.marked(2 * RTT, RTT);

        assert_eq!(window.bytes(), 5 * PACKET_BYTES);
    }
}
