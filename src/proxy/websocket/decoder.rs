//! Decodes the WebSocket frames (RFC 6455) that a client sends. No extension is supported.
//!
//! The decoder does no I/O. It yields every frame, including frames that complete no message, so that its caller
//! can count all of them. It checks the head of a frame before it keeps any payload. It holds up to
//! [`READ_MAX_BYTES`] that are not decoded, one message, and one control frame.
//!
//! Data flow: bytes → [`feed`](Decoder::feed) → [`next`](Decoder::next) → one [`Message`] per frame.

use bytes::Bytes;

use crate::wire::FRAME_MAX_CLIENT;

/// The type of a WebSocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpCode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The content of one frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The frame completes this message.
    Binary(Bytes),
    /// The frame is a part of an incomplete message.
    Part,
    /// The frame is a ping with this payload.
    Ping(Bytes),
    /// The frame is a pong.
    Pong,
    /// The frame closes WebSocket, with this code if it has one.
    Close(Option<u16>),
}

/// A violation after which decoding stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The frame violates the protocol of this crate; the session ends.
    ProtocolViolation(&'static str),
    /// The frame violates RFC 6455. `code` is the close code for the violation.
    Malformed { code: u16, what: &'static str },
}

/// Decodes the frames of one client.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Bytes that were fed. The bytes before `decoded` are decoded.
    buffer: Vec<u8>,
    decoded: usize,
    /// The frame whose payload is not complete.
    frame: Option<Frame>,
    /// The received part of the current data message.
    message: Vec<u8>,
    /// True if the current data message has further frames.
    is_in_parts: bool,
    /// The received part of the current control frame.
    control: Vec<u8>,
}

/// A frame whose head is decoded.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_last: bool,
    /// The mask, rotated so that its first byte applies to the next byte of the payload.
    mask: [u8; 4],
    /// Number of payload bytes that have not arrived.
    missing: usize,
}

impl Decoder {
    /// Returns how many bytes may be fed: at least 1 after [`next`](Self::next) has returned `None`.
    pub(super) fn room(&self) -> usize {
        READ_MAX_BYTES - (self.buffer.len() - self.decoded)
    }

    /// Adds bytes of the client, not more than there is [room](Self::room) for.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "the decoder was fed more bytes than it has room for");
        self.buffer.drain(..self.decoded);
        self.decoded = 0;
        let wanted = self.buffer.len() + bytes.len();
        // Most clients send less than a whole buffer at a time.
        if wanted > self.buffer.capacity() {
            let size = wanted.next_power_of_two().min(READ_MAX_BYTES);
            self.buffer.reserve_exact(size - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Decodes one frame. Returns `None` if the next frame is not complete.
    ///
    /// # Errors
    ///
    /// Returns the [`Fault`] of the next frame. Do not feed or decode any bytes after an error.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Fault> {
        let mut frame = match self.frame {
            Some(frame) => frame,
            None => match self.head()? {
                Some(frame) => frame,
                None => return Ok(None),
            },
        };
        let here = frame.missing.min(self.buffer.len() - self.decoded);
        let payload = &self.buffer[self.decoded..self.decoded + here];
        let kept = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
        make_room(kept, here, frame.missing);
        let begun = kept.len();
        kept.extend_from_slice(payload);
        unmask(&mut kept[begun..], frame.mask);
        frame.mask.rotate_left(here % 4);
        frame.missing -= here;
        self.decoded += here;
        self.frame = (frame.missing > 0).then_some(frame);
        if frame.missing > 0 { Ok(None) } else { self.complete(frame).map(Some) }
    }

    /// Returns the number of allocated bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.message.capacity() + self.control.capacity()
    }

    /// Decodes the head of a frame. Returns an error if the frame is not allowed, before any payload is kept.
    fn head(&mut self) -> Result<Option<Frame>, Fault> {
        let [first, second, rest @ ..] = &self.buffer[self.decoded..] else { return Ok(None) };
        let (first, second) = (*first, *second);
        let opcode = OpCode::of(first).ok_or(malformed("an opcode without a meaning"))?;
        if first & RESERVED != 0 {
            return Err(malformed("a reserved bit without an extension"));
        }
        if second & MASKED == 0 {
            return Err(malformed("a frame of a client without a mask"));
        }
        let (is_last, short) = (first & FIN != 0, second & !MASKED);
        if opcode.is_control() && (!is_last || usize::from(short) > CONTROL_MAX_BYTES) {
            return Err(malformed("a control frame in parts or of over 125 bytes"));
        }
        match opcode {
            OpCode::Text => return Err(Fault::ProtocolViolation("a text message")),
            OpCode::Binary if self.is_in_parts => return Err(malformed("a message within another")),
            OpCode::Continuation if !self.is_in_parts => return Err(malformed("a part of no message")),
            _ => {}
        }
        let Some((length, length_bytes)) = length(short, rest)? else { return Ok(None) };
        let held = if opcode.is_control() { 0 } else { self.message.len() };
        let missing = usize::try_from(length).ok().filter(|length| *length <= FRAME_MAX_CLIENT - held);
        let missing = missing.ok_or(Fault::ProtocolViolation("a frame that is too long"))?;
        let Some(&[a, b, c, d]) = rest.get(length_bytes..length_bytes + 4) else { return Ok(None) };
        self.decoded += 2 + length_bytes + 4;
        Ok(Some(Frame { opcode, is_last, mask: [a, b, c, d], missing }))
    }

    fn complete(&mut self, frame: Frame) -> Result<Message, Fault> {
        if !frame.opcode.is_control() {
            self.is_in_parts = !frame.is_last;
            if self.is_in_parts {
                return Ok(Message::Part);
            }
            // The returned message has no spare capacity.
            return Ok(Message::Binary(std::mem::take(&mut self.message).into_boxed_slice().into()));
        }
        let payload = std::mem::take(&mut self.control);
        match frame.opcode {
            OpCode::Close => close_code(&payload).map(Message::Close),
            OpCode::Ping => Ok(Message::Ping(payload.into())),
            _ => Ok(Message::Pong),
        }
    }
}

impl OpCode {
    /// Returns the number of the type in the head of a frame.
    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Returns the type in the first byte of a frame.
    fn of(first: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| opcode.bits() == first & OPCODE)
    }

    fn is_control(self) -> bool {
        self.bits() >= Self::Close.bits()
    }
}

/// Returns the length of a payload, and the number of bytes after the first two that encode the length. Returns
/// `None` if these bytes have not arrived.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let (length, length_bytes, least) = match (short, rest) {
        (LENGTH_16, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2, u64::from(LENGTH_16)),
        (LENGTH_64, &[a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8, u64::from(u16::MAX) + 1)
        }
        (LENGTH_16 | LENGTH_64, _) => return Ok(None),
        (short, _) => (u64::from(short), 0, 0),
    };
    if length < least {
        return Err(malformed("a length in more bytes than it needs"));
    }
    if length > i64::MAX as u64 {
        return Err(malformed("a length with the highest bit set"));
    }
    Ok(Some((length, length_bytes)))
}

/// Returns the code of a Close, if an endpoint may send that code (RFC 6455, section 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(malformed("a Close of one byte")),
    };
    if !matches!(code, 1_000..=1_003 | 1_007..=1_014 | 3_000..=4_999) {
        return Err(malformed("a Close with a code that no endpoint may send"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::Malformed { code: INVALID_TEXT, what: "a Close whose reason is not UTF-8" });
    }
    Ok(Some(code))
}

/// Makes room for `here` bytes that have arrived, of the `missing` bytes of a payload. A payload that has arrived
/// completely gets its exact size. For a payload in pieces the capacity doubles, so that a large length in a head
/// alone allocates nothing.
fn make_room(kept: &mut Vec<u8>, here: usize, missing: usize) {
    let wanted = kept.len() + here;
    if wanted > kept.capacity() {
        let is_whole = kept.is_empty() && here == missing;
        let doubled = if is_whole { wanted } else { wanted.max(2 * kept.len()) };
        let size = doubled.min(FRAME_MAX_CLIENT).max(wanted);
        kept.reserve_exact(size - kept.len());
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

fn malformed(what: &'static str) -> Fault {
    Fault::Malformed { code: PROTOCOL_ERROR, what }
}

/// Maximum number of bytes that are fed and not decoded: a quarter of the longest frame. Few clients send more in a
/// tick.
pub(super) const READ_MAX_BYTES: usize = 4 * 1024;
/// Length of the longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_MAX_BYTES: usize = 125;
/// The close code for a violation of RFC 6455.
const PROTOCOL_ERROR: u16 = 1_002;
/// The close code for text that is not UTF-8.
const INVALID_TEXT: u16 = 1_007;
/// The bit of a frame's first byte that marks the last frame of a message.
pub(super) const FIN: u8 = 0x80;
/// The bits of a frame's first byte that extensions use.
const RESERVED: u8 = 0x70;
/// The bits of a frame's first byte that hold its type.
const OPCODE: u8 = 0x0F;
/// The bit of a frame's second byte that announces a mask behind the length.
const MASKED: u8 = 0x80;
/// The short length that announces a length in the next 2 bytes.
pub(super) const LENGTH_16: u8 = 126;
/// The short length that announces a length in the next 8 bytes.
pub(super) const LENGTH_64: u8 = 127;

#[cfg(test)]
mod tests;
