//! Decides which frames leave on a link over UDP, and when.
//!
//! renet has no congestion control: it sends all that it is given, and repeats unacknowledged packets every
//! 200 ms. So frames wait in [`SendQueues`] until the link's [`Window`] has room for them. Reliable frames
//! leave first and in order. Unreliable frames that have waited too long are dropped. Beacons and Pings leave
//! at once. While the window is full, the caller does not ask renet for packets, so renet repeats none.
//!
//! renet does not report which packets have arrived. So this module reads the number of each packet that renet
//! makes, and the ranges that the peer acknowledges, after the [`guard`] has checked them. It reads no clock:
//! times are durations since an instant that the caller chooses.
//!
//! Data flow: frame → [`push`](SendQueues::push) → [`take`](SendQueues::take) → renet → packet →
//! [`note_sent`](SendQueues::note_sent); acknowledgement → [`note_acks`](SendQueues::note_acks).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{CHANNEL_MEMORY_MAX, guard};
use crate::wire::waiting::Waiting;
use crate::wire::window::{PACKET_BYTES, TRICKLE_EVERY, Window};
use crate::wire::{Lane, lane_of};

/// The queues and the window of one link's outgoing frames.
#[derive(Debug)]
pub(crate) struct SendQueues {
    reliable: VecDeque<Bytes>,
    reliable_bytes: usize,
    waiting: Waiting,
    window: Window,
    /// Packets that were neither acknowledged nor taken for lost, by number.
    sent: BTreeMap<u64, Sent>,
    /// The total length of `sent`.
    in_flight: u64,
    /// The smoothed round-trip time. Zero until a packet was acknowledged.
    round_trip: Duration,
    /// When a packet was last acknowledged.
    acked_at: Duration,
    /// The latest send time of all acknowledged packets.
    acked_sent: Duration,
    trickled_at: Duration,
    /// True if the last `take` left frames behind.
    is_pressed: bool,
    /// The bytes of reliable frames that left in a row while unreliable frames waited.
    reliable_run: usize,
}

/// A packet in flight.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Duration,
    bytes: u64,
}

impl SendQueues {
    /// Returns the queues of a link that opens at `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            reliable: VecDeque::new(),
            reliable_bytes: 0,
            waiting: Waiting::default(),
            window: Window::new(),
            sent: BTreeMap::new(),
            in_flight: 0,
            round_trip: Duration::ZERO,
            acked_at: now,
            acked_sent: now,
            trickled_at: now,
            is_pressed: false,
            reliable_run: 0,
        }
    }

    /// Adds a frame to the lane of its id. Returns false if the frame is reliable and there is no room for
    /// it. `unacked` is the number of bytes that renet's reliable channel holds.
    pub(crate) fn push(&mut self, frame: Bytes, unacked: usize) -> bool {
        if lane_of(&frame) == Lane::Unreliable {
            self.waiting.push(frame);
            return true;
        }
        let bytes = self.reliable_bytes + frame.len();
        let fits = bytes + unacked <= CHANNEL_MEMORY_MAX;
        if fits {
            self.reliable_bytes = bytes;
            self.reliable.push_back(frame);
        }
        fits
    }

    /// Takes the frames to pass to renet before the caller asks it for packets. Returns `None` if no packet may
    /// leave now: then the caller does not ask. Call this once per batch of frames.
    pub(crate) fn take(&mut self, now: Duration, unacked: usize) -> Option<Vec<Bytes>> {
        self.expire(now);
        self.waiting.expire(now);
        let mut frames: Vec<Bytes> = std::iter::from_fn(|| self.waiting.pop_control()).collect();
        let mut room = self.room(now);
        if room == 0 && frames.is_empty() {
            self.is_pressed = !self.is_empty();
            return None;
        }
        if self.reliable_run >= RELIABLE_RUN_MAX {
            self.take_state(&mut frames, &mut room, 1);
        }
        self.take_reliable(&mut frames, &mut room, unacked);
        if self.reliable.is_empty() {
            self.take_state(&mut frames, &mut room, usize::MAX);
        }
        self.is_pressed = !self.is_empty();
        Some(frames)
    }

    /// Takes all frames, regardless of the window, when the link ends.
    pub(crate) fn take_all(&mut self) -> Vec<Bytes> {
        self.reliable_bytes = 0;
        let mut frames: Vec<Bytes> = self.reliable.drain(..).collect();
        frames.extend(std::iter::from_fn(|| self.waiting.pop_control()));
        frames.extend(std::iter::from_fn(|| self.waiting.pop_within(usize::MAX)));
        frames
    }

    /// Returns true if no frame waits, apart from Beacons and Pings.
    pub(crate) fn is_empty(&self) -> bool {
        self.reliable.is_empty() && self.waiting.is_empty()
    }

    /// Returns the total length of the frames that wait.
    #[cfg(feature = "server")]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.reliable_bytes + self.waiting.bytes()
    }

    /// Returns true if any frame waits.
    #[cfg(feature = "client")]
    pub(crate) fn has_frames(&self) -> bool {
        !self.is_empty() || self.waiting.has_control()
    }

    /// Returns the number of unreliable frames that were dropped since the last call.
    pub(crate) fn take_dropped_count(&mut self) -> u64 {
        self.waiting.take_dropped_count()
    }

    /// Records that a packet of renet is sent now.
    pub(crate) fn note_sent(&mut self, now: Duration, packet: &[u8]) {
        let Some(number) = guard::number_of(packet) else { return };
        let bytes = packet.len() as u64 + OVERHEAD_BYTES;
        self.in_flight += bytes;
        self.sent.insert(number, Sent { at: now, bytes });
        if self.sent.len() > SENT_MAX
            && let Some((_, oldest)) = self.sent.pop_first()
        {
            self.in_flight = self.in_flight.saturating_sub(oldest.bytes);
        }
    }

    /// Applies the acknowledgements in a payload that the guard has checked.
    pub(crate) fn note_acks(&mut self, now: Duration, payload: &[u8]) {
        for range in guard::ack_ranges(payload) {
            let numbers: Vec<u64> = self.sent.range(range).map(|(number, _)| *number).collect();
            for number in numbers {
                if let Some(sent) = self.sent.remove(&number) {
                    self.acked(now, sent);
                }
            }
        }
    }

    fn acked(&mut self, now: Duration, sent: Sent) {
        self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        let took = now.saturating_sub(sent.at);
        self.round_trip = if self.round_trip.is_zero() { took } else { self.round_trip / 8 * 7 + took / 8 };
        self.acked_at = now;
        self.acked_sent = self.acked_sent.max(sent.at);
        self.window.acked(now, sent.at, sent.bytes, self.is_pressed, self.round_trip);
    }

    /// Takes packets for lost whose acknowledgement is overdue.
    fn expire(&mut self, now: Duration) {
        let overtaken = self.round_trip * 5 / 4 + ACK_DELAY_MAX;
        let silent = 2 * self.round_trip + SILENT_AFTER;
        let (mut bytes, mut last, mut is_outage) = (0, Duration::ZERO, false);
        // The next number of the present run of lost packets, and when its first packet was sent.
        let mut run: Option<(u64, Duration)> = None;
        while let Some(entry) = self.sent.first_entry() {
            let age = now.saturating_sub(entry.get().at);
            let is_overtaken = entry.get().at < self.acked_sent && age > overtaken;
            if !is_overtaken && age <= silent {
                break;
            }
            let (number, sent) = entry.remove_entry();
            let began = run.filter(|(next, _)| *next == number).map_or(sent.at, |(_, began)| began);
            run = Some((number + 1, began));
            is_outage |= !is_overtaken || sent.at.saturating_sub(began) > 2 * overtaken;
            bytes += sent.bytes;
            last = sent.at;
        }
        if bytes > 0 {
            self.in_flight = self.in_flight.saturating_sub(bytes);
            // Losses in an outage are not evidence of congestion.
            self.window.lost(now, last, if is_outage { 0 } else { bytes }, is_outage);
        }
    }

    /// Returns how many more bytes may be in flight. While nothing is acknowledged, this is one packet every
    /// [`TRICKLE_EVERY`].
    fn room(&mut self, now: Duration) -> u64 {
        let room = self.window.bytes().saturating_sub(self.in_flight);
        let is_silent = now.saturating_sub(self.acked_at) >= TRICKLE_EVERY + 2 * self.round_trip;
        if room == 0 && is_silent && now.saturating_sub(self.trickled_at) >= TRICKLE_EVERY {
            self.trickled_at = now;
            return PACKET_BYTES;
        }
        room
    }

    /// Takes reliable frames. renet repeats the frames that it holds, so it gets no more than the window, or
    /// one frame. A frame that is longer than the room is taken if there is room for one packet.
    fn take_reliable(&mut self, frames: &mut Vec<Bytes>, room: &mut u64, unacked: usize) {
        let mut held = unacked as u64;
        while let Some(frame) = self.reliable.front() {
            let bytes = frame.len() as u64;
            if bytes.min(PACKET_BYTES) > *room || (held > 0 && held + bytes > self.window.bytes()) {
                break;
            }
            *room = room.saturating_sub(bytes);
            held += bytes;
            self.reliable_bytes -= frame.len();
            if !self.waiting.is_empty() {
                self.reliable_run += frame.len();
            }
            frames.extend(self.reliable.pop_front());
        }
    }

    fn take_state(&mut self, frames: &mut Vec<Bytes>, room: &mut u64, count_max: usize) {
        for _ in 0..count_max {
            let within = if *room < PACKET_BYTES { usize::try_from(*room).unwrap_or(0) } else { usize::MAX };
            let Some(frame) = self.waiting.pop_within(within) else { break };
            *room = room.saturating_sub(frame.len() as u64);
            self.reliable_run = 0;
            frames.push(frame);
        }
        if self.waiting.is_empty() {
            self.reliable_run = 0;
        }
    }
}

/// The bytes that netcode, UDP and IP add to a renet packet. They matter for short packets on a slow network.
const OVERHEAD_BYTES: u64 = 60;
/// The most packets in `sent`, which take 160 KiB. renet itself discards its record of a packet after 3 s.
const SENT_MAX: usize = 4_096;
/// The longest time that a peer waits before it acknowledges: two ticks at the default rate.
const ACK_DELAY_MAX: Duration = Duration::from_millis(100);
/// A packet is lost after two round trips and this time, even if no later packet was acknowledged.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// The bytes of reliable frames that leave in a row while unreliable frames wait: three packets, so that
/// unreliable frames also leave during a long replay.
const RELIABLE_RUN_MAX: usize = 3 * 1_200;

#[cfg(test)]
mod tests;
