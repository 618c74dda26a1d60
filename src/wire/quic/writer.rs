//! Writes the reliable lane: frames on a stream, each after its length.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn_proto::{Connection, StreamId, WriteError};

/// The bytes that wait to be written on a stream, within a bound. The connection takes as many as its windows
/// permit.
#[derive(Debug)]
pub(super) struct Writer {
    /// Whole chunks, oldest first. `tail` follows them.
    queue: VecDeque<Bytes>,
    /// Lengths and small frames, gathered into one chunk.
    tail: BytesMut,
    bytes: usize,
    bytes_max: usize,
}

/// The error of a stream that the peer has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

impl Writer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), tail: BytesMut::new(), bytes: 0, bytes_max }
    }

    /// Returns true if no bytes wait.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns the number of bytes that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns true if there is room for a frame of this many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + LENGTH_BYTES_MAX + bytes <= self.bytes_max
    }

    /// Queues a length and a frame. Returns false if there is no room.
    pub(super) fn push_frame(&mut self, frame: &Bytes) -> bool {
        if !self.has_room(frame.len()) {
            return false;
        }
        let before = self.tail.len();
        let mut length = frame.len();
        while length >= 0x80 {
            self.tail.put_u8(0x80 | (length & 0x7F) as u8);
            length >>= 7;
        }
        self.tail.put_u8(length as u8);
        self.bytes += self.tail.len() - before + frame.len();
        if frame.len() <= COPY_MAX {
            self.tail.extend_from_slice(frame);
        } else {
            self.queue.push_back(self.tail.split().freeze());
            self.queue.push_back(frame.clone());
        }
        true
    }

    /// Queues bytes without a length. They are few, so the bound is not checked.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Hands up to `room` bytes to the connection, as many as it takes.
    pub(super) fn flush(
        &mut self,
        connection: &mut Connection,
        stream: StreamId,
        mut room: usize,
    ) -> Result<(), Stopped> {
        while self.bytes > 0 && room > 0 {
            if !self.tail.is_empty() && (self.queue.is_empty() || self.tail.len() >= CHUNK_BYTES) {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.split_first(room);
            let fitting = self.fitting(room);
            let chunks = &mut self.queue.make_contiguous()[..fitting];
            match connection.send_stream(stream).write_chunks(chunks) {
                Ok(written) => {
                    self.bytes -= written.bytes;
                    room -= written.bytes;
                    self.queue.drain(..written.chunks);
                }
                Err(WriteError::Blocked) => return Ok(()),
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Err(Stopped),
            }
        }
        Ok(())
    }

    /// Splits the first chunk if it is longer than `room`.
    fn split_first(&mut self, room: usize) {
        if let Some(first) = self.queue.front_mut()
            && first.len() > room
        {
            let piece = first.split_to(room);
            self.queue.push_front(piece);
        }
    }

    /// Returns how many chunks fit into `room` bytes.
    fn fitting(&self, room: usize) -> usize {
        let mut bytes = 0;
        let fits = |chunk: &&Bytes| {
            bytes += chunk.len();
            bytes <= room
        };
        self.queue.iter().take_while(fits).count()
    }
}

/// The most bytes of a length. They hold 21 bits.
const LENGTH_BYTES_MAX: usize = 3;
/// Frames up to this length in bytes are copied into `tail`. A longer frame is queued without a copy, since it may
/// be a broadcast whose bytes many links share.
const COPY_MAX: usize = 512;
/// The length in bytes at which `tail` becomes a chunk: a few packets.
const CHUNK_BYTES: usize = 4 * 1024;
