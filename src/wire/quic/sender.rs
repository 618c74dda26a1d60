//! What leaves, and in which order: the lanes' shares of what a connection may send.
//!
//! quinn sends all that it is given, datagrams before streams. So it is given at most what the
//! [window](super::steady) has room for, and the rest waits here: of the unreliable lane until it is
//! stale, of the reliable one within the link's bound. Beacons and Pings wait for nothing.
//!
//! The stream goes first. While it takes all that there is, every fourth packet is left to state, so
//! that a long replay does not stop the game.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::Connection;

use super::steady::{note_full, room};
use super::{Lane, Lanes, Phase, lane_of};
use crate::wire::waiting::Waiting;

/// The unreliable lane's way out.
#[derive(Debug, Default)]
pub(super) struct Sender {
    waiting: Waiting,
    /// When the first flush was; ages are counted from there.
    epoch: Option<Instant>,
    /// The last flush left something behind.
    is_pressed: bool,
    /// Bytes of the stream that were handed over since state last was, while both waited.
    stream_bytes: usize,
}

#[cfg(feature = "server")]
impl Sender {
    /// Bytes of the frames that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }
}

impl Lanes {
    /// Hands over a frame, whose id says which lane it takes. False if it is reliable and there is
    /// no room for it: the peer does not take what it is sent. Unreliable frames are dropped while
    /// there is no room for them, the oldest first.
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
        // State that waited on the stream would be in the way of what is reliable.
        let is_busy = self.sender.is_pressed && !self.writer.is_empty();
        if !is_busy && self.writer.push_frame(frame) {
            self.counts.oversize_count += 1;
        } else {
            self.counts.unreliable_dropped_count += 1;
        }
        true
    }

    /// Hands to the connection what waits and may leave. To be called once a batch of frames, and
    /// whenever the peer has acknowledged something.
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

    /// Whether something waits for the peer's acknowledgements, as far as the last flush knows.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.sender.is_pressed
    }

    fn flush_stream(&mut self, connection: &mut Connection, room: &mut usize) {
        let Some(stream) = self.stream else { return };
        let before = self.writer.waiting_bytes();
        // Tiny pieces would cost more than they carry.
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
            // An older one gives way: the network thread has been kept from sending.
            self.counts.unreliable_dropped_count += 1;
        }
        // A datagram that no longer fits, because the path takes less than before, is lost.
        if connection.datagrams().send(datagram, true).is_err() {
            self.counts.unreliable_dropped_count += 1;
        }
    }
}

/// What a datagram of a WebTransport session has before its frame: the session's number, which is 0.
const SESSION_BYTES: usize = 1;
/// About what a packet adds to a frame.
const OVERHEAD_BYTES: usize = 40;
/// Bytes of the stream in a row while state waits: three packets.
const STREAM_BYTES: usize = 3 * 1_200;
/// The least that is written on the stream while more waits.
const PIECE_BYTES_MIN: usize = 600;
