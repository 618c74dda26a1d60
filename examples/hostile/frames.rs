//! Attacks over WebSocket: empty frames, and frames that RFC 6455 forbids.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::End;
use crate::http::upgrade;

/// Sends frames without a payload as fast as the server reads them.
pub(crate) fn empty(end: End) -> io::Result<String> {
    // Parts of a message, whole messages, pings, pongs, and messages behind a text message.
    let kinds: [(&[u8], u8); 5] = [
        (&[0x02, 0x80, 0, 0, 0, 0], 0x00),
        (&[], 0x82),
        (&[], 0x89),
        (&[], 0x8A),
        (&[0x81, 0x80, 0, 0, 0, 0], 0x82),
    ];
    let mut floods = Vec::new();
    for (first, opcode) in kinds.into_iter().cycle().take(LINKS) {
        floods.push(Flood::new(first, opcode)?);
    }
    let (mut sent, mut ended) = (0, 0);
    while end.pause(Duration::from_millis(10)) {
        for flood in &mut floods {
            match flood.pour() {
                Ok(count) => sent += count,
                Err(_) => {
                    ended += 1;
                    *flood = Flood::new(flood.first, flood.frames[0])?;
                }
            }
        }
    }
    let frames = sent / EMPTY_BYTES;
    Ok(format!("{frames} empty frames on {LINKS} links at a time, {ended} links ended by the server"))
}

/// Sends frames that the server must answer with the close code 1002.
pub(crate) fn forbidden(end: End) -> io::Result<String> {
    let bad: [&[u8]; 6] = [
        &[0x82, 3, 1, 2, 3],
        &[0xC2, 0x80, 0, 0, 0, 0],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x09, 0x80, 0, 0, 0, 0],
        &[0x80, 0x80, 0, 0, 0, 0],
        &[0x88, 0x81, 0, 0, 0, 0, 3],
    ];
    let (mut count, mut answered) = (0, 0);
    while end.pause(Duration::from_millis(20)) {
        let (mut socket, _) = upgrade("")?;
        socket.write_all(bad[count % bad.len()])?;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        count += 1;
        answered += u32::from(answer.ends_with(&[0x88, 2, 0x03, 0xEA]));
    }
    Ok(format!("{count} forbidden frames, {answered} answered with 1002"))
}

/// A link, and the frames that are sent on it repeatedly.
struct Flood {
    socket: TcpStream,
    first: &'static [u8],
    frames: Vec<u8>,
    /// Bytes of the present frame that were sent.
    taken: usize,
}

impl Flood {
    fn new(first: &'static [u8], opcode: u8) -> io::Result<Self> {
        let (mut socket, _) = upgrade("")?;
        socket.write_all(first)?;
        socket.set_nonblocking(true)?;
        let frames = [opcode, 0x80, 0, 0, 0, 0].repeat(FRAMES_AT_ONCE);
        Ok(Self { socket, first, frames, taken: 0 })
    }

    /// Writes until the socket would block. Also reads the server's answers, so that the server is not blocked.
    fn pour(&mut self) -> io::Result<usize> {
        let mut answers = [0; 4_096];
        if let Ok(0) = self.socket.read(&mut answers) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match self.socket.write(&self.frames[self.taken..]) {
            Ok(count) => {
                self.taken = (self.taken + count) % EMPTY_BYTES;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Links at a time.
const LINKS: usize = 20;
/// Bytes of an empty frame with its mask.
const EMPTY_BYTES: usize = 6;
/// Frames in one write.
const FRAMES_AT_ONCE: usize = 10_000;
