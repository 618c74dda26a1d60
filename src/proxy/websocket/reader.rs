//! Whole messages out of a client's byte stream.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fastwebsockets::{OpCode, Role, WebSocketError, WebSocketRead, after_handshake_split};
use tokio::io::{AsyncRead, ReadBuf};

use crate::wire::FRAME_MAX_CLIENT;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A frame.
    Binary(Bytes),
    /// It asks whether the server is there.
    Ping(Bytes),
    /// It answers what nobody asked.
    Pong,
    /// It leaves.
    Close,
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The connection is over.
    Gone,
    /// What the wire forbids and what ends a session.
    Breach(&'static str),
    /// What WebSocket forbids.
    Malformed(WebSocketError),
}

/// The reading half of a socket, which outlives the reader of messages.
#[derive(Debug)]
pub(super) struct Input<R>(pub(super) Rc<RefCell<R>>);

impl<R> Clone for Input<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buffer)
    }
}

/// Reads messages. No length that a client claims is allocated before it is found to be no longer
/// than a frame, and a message in parts is held to the same bound in all.
pub(super) struct Reader<R> {
    socket: WebSocketRead<R>,
    /// The parts of a message that came so far.
    parts: Option<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        let (mut socket, _) = after_handshake_split(input, tokio::io::sink(), Role::Server);
        // It takes what is shorter than this.
        socket.set_max_message_size(FRAME_MAX_CLIENT + 1);
        // Answers share the client's buffer with its frames, and leave with them.
        socket.set_auto_pong(false);
        socket.set_auto_close(false);
        Self { socket, parts: None }
    }

    /// The next message. Not to be dropped before it is ready, or bytes are lost.
    pub(super) async fn next(&mut self) -> Result<Message, Unreadable> {
        loop {
            let mut no_answers = |_| std::future::ready(Ok::<(), WebSocketError>(()));
            let frame = self.socket.read_frame(&mut no_answers).await.map_err(Unreadable::from)?;
            // A copy is as large as what it holds; the reader's buffer is not, and is used again.
            match (frame.opcode, frame.fin) {
                (OpCode::Text, _) => return Err(Unreadable::Breach("a text message")),
                (OpCode::Close, _) => return Ok(Message::Close),
                (OpCode::Ping, _) => return Ok(Message::Ping(Bytes::copy_from_slice(&frame.payload))),
                (OpCode::Pong, _) => return Ok(Message::Pong),
                (OpCode::Binary, true) if self.parts.is_none() => {
                    return Ok(Message::Binary(Bytes::copy_from_slice(&frame.payload)));
                }
                (OpCode::Binary, false) if self.parts.is_none() => self.parts = Some(frame.payload.to_vec()),
                (OpCode::Binary, _) => return Err(Unreadable::Malformed(WebSocketError::InvalidFragment)),
                (OpCode::Continuation, fin) => {
                    if let Some(message) = go_on(&mut self.parts, &frame.payload, fin)? {
                        return Ok(Message::Binary(message));
                    }
                }
            }
        }
    }
}

/// Takes a part of a message; the whole, if it was the last.
fn go_on(parts: &mut Option<Vec<u8>>, part: &[u8], fin: bool) -> Result<Option<Bytes>, Unreadable> {
    let malformed = Unreadable::Malformed(WebSocketError::InvalidContinuationFrame);
    let mut whole = parts.take().ok_or(malformed)?;
    if whole.len() + part.len() > FRAME_MAX_CLIENT {
        return Err(Unreadable::Breach(TOO_LONG));
    }
    whole.extend_from_slice(part);
    if fin {
        return Ok(Some(whole.into()));
    }
    *parts = Some(whole);
    Ok(None)
}

impl From<WebSocketError> for Unreadable {
    fn from(error: WebSocketError) -> Self {
        match error {
            WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) | WebSocketError::ConnectionClosed => {
                Self::Gone
            }
            WebSocketError::FrameTooLarge => Self::Breach(TOO_LONG),
            // Only a text can be that.
            WebSocketError::InvalidUTF8 => Self::Breach("a text message"),
            error => Self::Malformed(error),
        }
    }
}

const TOO_LONG: &str = "a frame that is too long";

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as a client masks it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn read_all(bytes: &[u8]) -> (Vec<Message>, Unreadable) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut reader = Reader::new(bytes);
            let mut messages = Vec::new();
            loop {
                match reader.next().await {
                    Ok(message) => messages.push(message),
                    Err(end) => return (messages, end),
                }
            }
        })
    }

    #[test]
    fn whole_messages_messages_in_parts_and_pings_between_them_are_read() {
        let bytes = [
            masked(0x82, b"whole"),
            masked(0x02, b"in "),
            masked(0x89, b"there?"),
            masked(0x00, b"three "),
            masked(0x80, b"parts"),
            masked(0x82, &[7; FRAME_MAX_CLIENT]),
            masked(0x88, &[]),
        ];

        let (messages, end) = read_all(&bytes.concat());

        assert!(matches!(end, Unreadable::Gone));
        assert_eq!(
            messages,
            [
                Message::Binary(Bytes::from_static(b"whole")),
                Message::Ping(Bytes::from_static(b"there?")),
                Message::Binary(Bytes::from_static(b"in three parts")),
                Message::Binary(Bytes::from(vec![7; FRAME_MAX_CLIENT])),
                Message::Close,
            ]
        );
    }

    #[test]
    fn texts_and_what_is_too_long_at_once_or_in_parts_are_breaches() {
        let half = [3; FRAME_MAX_CLIENT / 2 + 1];
        // The claim suffices: not a byte of it needs to be there.
        let claimed = vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        let cases = [
            masked(0x81, b"hello"),
            masked(0x81, &[0xFF]),
            masked(0x01, b"hel"),
            masked(0x82, &[0; FRAME_MAX_CLIENT + 1]),
            claimed,
            [masked(0x02, &half), masked(0x00, &half)].concat(),
        ];

        for bytes in cases {
            let (messages, end) = read_all(&bytes);

            assert_eq!(messages, []);
            assert!(matches!(end, Unreadable::Breach(_)), "{end:?}");
        }
    }

    #[test]
    fn what_websocket_forbids_is_told_apart() {
        let cases = [
            masked(0x80, b"no beginning"),
            [masked(0x02, b"begun"), masked(0x82, b"anew")].concat(),
            masked(0x83, b"no such opcode"),
            masked(0xC2, b"compressed"),
            masked(0x09, b"a ping in parts"),
        ];

        for bytes in cases {
            let (messages, end) = read_all(&bytes);

            assert_eq!(messages, []);
            assert!(matches!(end, Unreadable::Malformed(_)), "{end:?}");
        }
    }
}
