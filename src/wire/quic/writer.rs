//! The sending half of the reliable lane: frames, each behind its length, into a stream.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn_proto::{Connection, StreamId, WriteError};

/// What is to be written on a stream, in order. The connection takes as much as its windows let it;
/// the rest waits here, within a bound.
#[derive(Debug)]
pub(super) struct Writer {
    /// Whole chunks, oldest first. The tail is behind them.
    queue: VecDeque<Bytes>,
    /// Lengths and small frames, gathered, so that a batch of them is one chunk.
    tail: BytesMut,
    bytes: usize,
    bytes_max: usize,
}

/// The peer wants no more on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

impl Writer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), tail: BytesMut::new(), bytes: 0, bytes_max }
    }

    /// Whether all is with the connection.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for a frame of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + LENGTH_BYTES_MAX + bytes <= self.bytes_max
    }

    /// Queues a frame behind its length, if there is room.
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

    /// Queues bytes as they are. They are few, and count for no bound.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Hands to the connection what it takes, up to `room` bytes.
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

    /// Cuts the first chunk in two if it is longer than `room`.
    fn split_first(&mut self, room: usize) {
        if let Some(first) = self.queue.front_mut()
            && first.len() > room
        {
            let piece = first.split_to(room);
            self.queue.push_front(piece);
        }
    }

    /// How many chunks are `room` bytes at most.
    fn fitting(&self, room: usize) -> usize {
        let mut bytes = 0;
        let fits = |chunk: &&Bytes| {
            bytes += chunk.len();
            bytes <= room
        };
        self.queue.iter().take_while(fits).count()
    }
}

/// Bytes of a length: 21 bits.
const LENGTH_BYTES_MAX: usize = 3;
/// Frames up to this are copied together; a longer one, which may be a broadcast that many links
/// share, is handed on as it is.
const COPY_MAX: usize = 512;
/// What was gathered becomes a chunk when it is as much as some packets.
const CHUNK_BYTES: usize = 4 * 1024;
