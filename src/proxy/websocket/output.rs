//! The send buffer of one client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::decoder::{FIN, LENGTH_16, LENGTH_64, OpCode};

/// Encoded messages that the socket has not accepted, and the writing half of the socket. The messages of one tick
/// share one buffer, so they usually take one write.
#[derive(Debug)]
pub(super) struct Output<W> {
    socket: W,
    bytes: Vec<u8>,
    /// Number of bytes at the front of `bytes` that the socket has accepted.
    taken: usize,
    /// True if the socket has to be flushed. TLS may hold accepted bytes back.
    unflushed: bool,
    /// True if no message follows. The socket is shut down when all bytes are written.
    last: bool,
    is_shut: bool,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) fn new(socket: W) -> Self {
        Self { socket, bytes: Vec::new(), taken: 0, unflushed: false, last: false, is_shut: false }
    }

    /// Returns true if the closing message was added, so that no message may follow.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// Returns the number of bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Adds a message.
    pub(super) fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        self.make_room(HEAD_MAX_BYTES + payload.len());
        self.bytes.push(FIN | opcode.bits());
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short), _) if short < LENGTH_16 => self.bytes.push(short),
            (_, Ok(length)) => {
                self.bytes.push(LENGTH_16);
                self.bytes.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                self.bytes.push(LENGTH_64);
                self.bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(payload);
    }

    /// Adds the closing message of WebSocket. No message may follow.
    pub(super) fn push_close(&mut self, code: u16) {
        self.push(OpCode::Close, &code.to_be_bytes());
        self.last = true;
    }

    /// Writes as much as the socket accepts. Ready when nothing waits.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.bytes.len() {
            let written = Pin::new(&mut self.socket).poll_write(context, &self.bytes[self.taken..]);
            if written.is_pending() {
                self.compact();
            }
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
            self.unflushed = true;
        }
        self.bytes.clear();
        self.bytes.shrink_to(IDLE_BYTES);
        self.taken = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.unflushed = false;
        }
        if self.last && !self.is_shut {
            ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Makes room for more bytes. If the buffer is too small, removes the written bytes first and then grows the
    /// buffer by a quarter or by `bytes`, whichever is more. So the number of waiting bytes bounds the size of the
    /// buffer.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes.len() + bytes <= self.bytes.capacity() {
            return;
        }
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.reserve_exact(bytes.max(self.bytes.len() / 4));
    }

    /// Removes the written bytes if they are at least half of the buffer.
    fn compact(&mut self) {
        if self.taken >= self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}

/// Length of the longest frame head without a mask: 2 bytes and a length of 8 bytes.
const HEAD_MAX_BYTES: usize = 10;
/// Capacity that an empty buffer keeps: enough for a few ticks of most games.
const IDLE_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A socket that accepts `room` bytes and then blocks.
    #[derive(Debug, Default)]
    struct Narrow {
        written: Vec<u8>,
        room: usize,
        is_shut: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.written.extend_from_slice(&bytes[..count]);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_slow_client_does_not_grow_the_buffer_beyond_what_waits() {
        const MAX: usize = 512 * 1024;
        let mut output = Output::new(Narrow::default());
        let mut context = Context::from_waker(Waker::noop());

        for _ in 0..5_000 {
            while output.waiting() + 1_000 <= MAX {
                output.push(OpCode::Binary, &[7; 1_000]);
            }
            output.socket.room = 500;
            let _ = output.poll_write(&mut context);
            output.socket.written.clear();
        }

        assert!(output.bytes.capacity() <= MAX * 5 / 4, "{} bytes", output.bytes.capacity());
    }

    #[test]
    fn a_length_is_written_in_as_many_bytes_as_it_needs() {
        let heads: [(usize, &[u8]); 6] = [
            (0, &[0x82, 0]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (255, &[0x82, 126, 0, 255]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (length, head) in heads {
            let mut output = Output::new(Narrow::default());

            output.push(OpCode::Binary, &vec![7; length]);

            assert_eq!(output.bytes[..head.len()], *head);
            assert_eq!(output.waiting(), head.len() + length);
        }
    }

    #[test]
    fn what_a_slow_socket_does_not_accept_is_written_later_in_order() {
        let mut output = Output::new(Narrow::default());
        let mut wanted = Vec::new();
        for tag in 0..100_u8 {
            output.push(OpCode::Binary, &[tag; 300]);
            wanted.extend([0x82, 126, 1, 44]);
            wanted.extend([tag; 300]);
        }
        output.push_close(4_001);
        wanted.extend([0x88, 2, 0x0F, 0xA1]);
        let mut context = Context::from_waker(Waker::noop());

        let mut turns = 0;
        while output.poll_write(&mut context).is_pending() {
            turns += 1;
            output.socket.room = 777;
        }

        assert_eq!(output.socket.written, wanted);
        assert!(turns > 30 && output.socket.is_shut);
        assert_eq!(output.waiting(), 0);
    }
}
