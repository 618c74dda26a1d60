//! Decides which frames are handed to a connection, and in which order.
//!
//! quinn sends all that it is given, and datagrams before streams. So it gets at most what the
//! [window](super::steady) has room for. The other frames wait: unreliable ones until they are stale, reliable
//! ones within the bound of the link. Beacons and Pings do not wait.
//!
//! The stream has priority. While it takes all the room, every fourth packet carries unreliable frames, so
//! that these also leave during a long replay.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::Connection;

use super::steady::{note_full, room};
use super::{Lane, Lanes, Phase, lane_of};
use crate::wire::waiting::Waiting;

/// The queue of the unreliable lane, and the shares of the two lanes.
#[derive(Debug, Default)]
pub(super) struct Sender {
    waiting: Waiting,
    /// When the first flush was. Times of `waiting` are durations since then.
    epoch: Option<Instant>,
    /// True if the last flush left frames behind.
    is_pressed: bool,
    /// The bytes of the stream that were handed over since the last unreliable frame, while such frames waited.
    stream_bytes: usize,
}

#[cfg(feature = "server")]
impl Sender {
    /// Returns the total length of the unreliable frames that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }
}

impl Lanes {
    /// Queues a frame for the lane of its id. Returns false if the frame is reliable and there is no room for it,
    /// since the peer does not read fast enough. If there is no room for unreliable frames, the oldest are
    /// dropped.
    pub fn send(&mut self, frame: &Bytes, connection: &mut Connection) -> bool {
        if !matches!(self.life.phase(), Phase::Opening | Phase::Open) {
            return true;
        }
        if lane_of(frame) == Lane::Reliable {
            return self.writer.push_frame(frame);
        }
        let wrapping = self.session.as_ref().map_or(0, |_| SESSION_BYTES);
        let datagram_max = connection.datagrams().max_size().unwrap_or(0);
        if self.life.phase() == Phase::Open && frame.len() + wrapping <= datagram_max {
            self.sender.waiting.push(frame.clone());
            return true;
        }
        // On a busy stream, an unreliable frame would delay reliable ones.
        let is_busy = self.sender.is_pressed && !self.writer.is_empty();
        if !is_busy && self.writer.push_frame(frame) {
            self.counts.oversize_count += 1;
        } else {
            self.counts.unreliable_dropped_count += 1;
        }
        true
    }

    /// Hands to the connection the frames that may leave now. Call this once per batch of frames, and when the
    /// peer has acknowledged packets.
    pub fn flush(&mut self, connection: &mut Connection, now: Instant) {
        if !matches!(self.life.phase(), Phase::Open | Phase::Finishing(_)) {
            return;
        }
        let epoch = *self.sender.epoch.get_or_insert(now);
        self.sender.waiting.expire(now.saturating_duration_since(epoch));
        while let Some(frame) = self.sender.waiting.pop_control() {
            self.hand_over(&frame, connection);
        }
        let mut room = room(connection, now);
        if self.sender.stream_bytes >= STREAM_BYTES {
            self.flush_state(connection, &mut room, 1);
        }
        self.flush_stream(connection, &mut room);
        if self.writer.is_empty() || self.stream.is_none() {
            self.flush_state(connection, &mut room, usize::MAX);
        }
        self.counts.unreliable_dropped_count += self.sender.waiting.take_dropped_count();
        let is_pressed =
            !self.sender.waiting.is_empty() || (self.stream.is_some() && !self.writer.is_empty());
        if is_pressed || self.sender.is_pressed {
            note_full(connection, is_pressed);
        }
        self.sender.is_pressed = is_pressed;
        self.finish_stream(connection);
    }

    /// Returns true if the last flush left frames behind, which wait for acknowledgements.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.sender.is_pressed
    }

    fn flush_stream(&mut self, connection: &mut Connection, room: &mut usize) {
        let Some(stream) = self.stream else { return };
        let before = self.writer.waiting_bytes();
        // The overhead of tiny pieces would exceed their contents.
        if before == 0 || *room < before.min(PIECE_BYTES_MIN) {
            return;
        }
        if self.writer.flush(connection, stream, *room).is_err() {
            self.end(super::Ended::ByPeer(None));
        }
        let written = before - self.writer.waiting_bytes();
        *room = room.saturating_sub(written);
        self.sender.stream_bytes += written;
    }

    fn flush_state(&mut self, connection: &mut Connection, room: &mut usize, count_max: usize) {
        for _ in 0..count_max {
            let Some(frame) = self.sender.waiting.pop_within(*room) else { break };
            *room = room.saturating_sub(frame.len() + OVERHEAD_BYTES);
            self.hand_over(&frame, connection);
            self.sender.stream_bytes = 0;
        }
        if self.sender.waiting.is_empty() {
            self.sender.stream_bytes = 0;
        }
    }

    fn hand_over(&mut self, frame: &Bytes, connection: &mut Connection) {
        let datagram = self.session.as_ref().map_or_else(|| frame.clone(), |session| session.wrap(frame));
        if connection.datagrams().send_buffer_space() < datagram.len() {
            // quinn drops an older datagram. This happens if the network thread could not send for a while.
            self.counts.unreliable_dropped_count += 1;
        }
        // The datagram is lost if the path has become too narrow for it.
        if connection.datagrams().send(datagram, true).is_err() {
            self.counts.unreliable_dropped_count += 1;
        }
    }
}

/// The bytes before the frame in a datagram of WebTransport: the quarter stream id of the session, which is 0.
const SESSION_BYTES: usize = 1;
/// The approximate overhead of a packet in bytes.
const OVERHEAD_BYTES: usize = 40;
/// The bytes of the stream that leave in a row while unreliable frames wait: three packets.
const STREAM_BYTES: usize = 3 * 1_200;
/// The fewest bytes that are written on the stream at a time, unless fewer wait.
const PIECE_BYTES_MIN: usize = 600;
