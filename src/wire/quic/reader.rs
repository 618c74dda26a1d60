//! Reads the reliable lane: splits a stream into frames, each of which follows its length.

use bytes::{Buf as _, Bytes, BytesMut};
use quinn_proto::{Connection, StreamId};

/// Splits a stream into frames. It holds one incomplete frame and the chunk that was last read. The other bytes
/// stay in the connection, whose flow control bounds them.
#[derive(Debug)]
pub(super) struct Reader {
    frame_max: usize,
    /// The bytes that were read and not split yet.
    chunk: Bytes,
    /// The length of the next frame.
    length: Length,
    /// The bytes of the next frame that have arrived.
    body: BytesMut,
    /// True if there may be something to read.
    readable: bool,
    ended: bool,
}

/// The length of a frame, which may be incomplete.
#[derive(Debug, Clone, Copy)]
enum Length {
    Partly { value: usize, bytes: u32 },
    Known(usize),
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A frame.
    Frame(Bytes),
    /// No whole frame has arrived.
    Nothing,
    /// The peer has finished or reset the stream, and all frames were returned.
    Ended,
    /// A frame is longer than the limit. The stream cannot be read any further.
    TooLong,
}

impl Reader {
    pub(super) fn new(frame_max: usize) -> Self {
        Self {
            frame_max,
            chunk: Bytes::new(),
            length: Length::NONE,
            body: BytesMut::new(),
            readable: false,
            ended: false,
        }
    }

    /// Records that the stream has data or has ended.
    pub(super) fn wake(&mut self) {
        self.readable = true;
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self, connection: &mut Connection, stream: StreamId) -> Read {
        loop {
            match self.split() {
                Read::Nothing if self.ended => return Read::Ended,
                Read::Nothing if !self.readable => return Read::Nothing,
                Read::Nothing => self.fill(connection, stream),
                Read::TooLong => {
                    (self.ended, self.chunk) = (true, Bytes::new());
                    return Read::TooLong;
                }
                frame => return frame,
            }
        }
    }

    /// Reads another chunk.
    fn fill(&mut self, connection: &mut Connection, stream: StreamId) {
        let mut stream = connection.recv_stream(stream);
        let Ok(mut chunks) = stream.read(true) else {
            self.ended = true;
            return;
        };
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => self.chunk = chunk.bytes,
            Ok(None) | Err(quinn_proto::ReadError::Reset(_)) => self.ended = true,
            Err(quinn_proto::ReadError::Blocked) => self.readable = false,
        }
        // The owner polls for packets to send in any case.
        let _ = chunks.finalize();
    }

    /// Takes a frame out of the chunk. The frame is a copy, so that a small frame that waits does not keep a whole
    /// packet in memory.
    fn split(&mut self) -> Read {
        let length = match self.length {
            Length::Known(length) => length,
            Length::Partly { .. } => match self.read_length() {
                Some(length) if length <= self.frame_max => length,
                Some(_) => return Read::TooLong,
                None => return Read::Nothing,
            },
        };
        let missing = length - self.body.len();
        if self.body.is_empty() && self.chunk.len() >= length {
            self.length = Length::NONE;
            let frame = Bytes::copy_from_slice(&self.chunk[..length]);
            self.chunk.advance(length);
            return Read::Frame(frame);
        }
        // Memory grows with the bytes that have arrived, not with the announced length.
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        self.body.extend_from_slice(&taken);
        if self.body.len() < length {
            return Read::Nothing;
        }
        self.length = Length::NONE;
        Read::Frame(std::mem::take(&mut self.body).freeze())
    }

    /// Reads more bytes of a length. Returns `usize::MAX` for a length of more than three bytes.
    fn read_length(&mut self) -> Option<usize> {
        while self.chunk.has_remaining() {
            let Length::Partly { value, bytes } = self.length else { return None };
            let byte = self.chunk.get_u8();
            let value = value | usize::from(byte & 0x7F) << (7 * bytes);
            if byte & 0x80 == 0 {
                self.length = Length::Known(value);
                return Some(value);
            }
            if bytes + 1 == LENGTH_BYTES_MAX {
                return Some(usize::MAX);
            }
            self.length = Length::Partly { value, bytes: bytes + 1 };
        }
        None
    }
}

impl Length {
    const NONE: Self = Self::Partly { value: 0, bytes: 0 };
}

/// The most bytes of a length. They hold 21 bits, which is enough for any frame.
const LENGTH_BYTES_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(reader: &mut Reader, bytes: &[u8]) -> Vec<Read> {
        reader.chunk = Bytes::copy_from_slice(bytes);
        let mut read = Vec::new();
        loop {
            match reader.split() {
                Read::Nothing => return read,
                Read::TooLong => {
                    read.push(Read::TooLong);
                    return read;
                }
                frame => read.push(frame),
            }
        }
    }

    #[test]
    fn frames_are_whole_for_each_way_to_cut_the_stream() {
        let mut stream = vec![3, 1, 2, 3, 0, 0x80 | 0x48, 0x01];
        stream.extend_from_slice(&[7; 200]);
        let wanted = [Bytes::from_static(&[1, 2, 3]), Bytes::new(), Bytes::from(vec![7; 200])];

        for size in [1, 2, 5, 64, 500] {
            let mut reader = Reader::new(1_000);
            let read: Vec<Read> = stream.chunks(size).flat_map(|chunk| feed(&mut reader, chunk)).collect();
            assert_eq!(read, wanted.clone().map(Read::Frame), "in pieces of {size}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_an_error_before_memory_is_allocated() {
        for announced in [&[0xE9, 0x07][..], &[0xFF, 0xFF, 0xFF], &[0x80, 0x80, 0x80, 0x01]] {
            let mut reader = Reader::new(1_000);

            let read = feed(&mut reader, announced);

            assert_eq!(read, [Read::TooLong]);
            assert_eq!(reader.body.capacity(), 0);
        }
        let mut longest = Reader::new(1_000);
        assert_eq!(feed(&mut longest, &[0xE8, 0x07, 1]), []);
        assert!(longest.body.capacity() < 100, "memory grows with the bytes that have arrived");
    }
}
