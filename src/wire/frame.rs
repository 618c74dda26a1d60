//! Frames: a message id and a body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use crate::ident::MessageId;

/// A protobuf message that is a frame of its own. Implemented by generated code.
///
/// ```
/// use waystation::wire::{self, Frame, WireMessage as _, v1::Ack};
///
/// let frame = wire::encode(&Ack { received: 7 });
/// let frame = Frame::parse(frame).expect("two bytes at least");
/// assert_eq!(frame.id, Ack::ID);
/// assert_eq!(frame.decode::<Ack>().expect("an Ack").received, 7);
/// ```
pub trait WireMessage: Message + Default + Clone + Send + Sync + 'static {
    /// What precedes the body in a frame.
    const ID: MessageId;
    /// The full protobuf name, for logs.
    const NAME: &'static str;

    /// Whether no float in it, at whatever depth, is NaN or infinite. A message without floats
    /// always is; for the others, generated code looks.
    fn is_finite(&self) -> bool {
        true
    }
}

/// A frame, split into its id and its body; the body is not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which message it is.
    pub id: MessageId,
    /// The protobuf encoding of the message.
    pub body: Bytes,
}

/// What is wrong with a frame. Always the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not even an id.
    #[error("a frame of {0} bytes has no message id: a frame starts with two bytes of id")]
    Short(usize),
    /// The body is not the protobuf encoding of the message that the id names.
    #[error("the body of message {0} does not parse: compare the peer's .proto files with this server's")]
    Body(MessageId),
    /// The frame is of another message than the one asked for.
    #[error("the frame is message {found}, not {wanted}")]
    OtherMessage {
        /// The id that the frame has.
        found: MessageId,
        /// The id that the caller asked for.
        wanted: MessageId,
    },
}

/// Which delivery a message gets; bit 15 of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// In order; session and game messages exactly once across links.
    Reliable,
    /// May be lost, doubled or reordered.
    Unreliable,
}

/// Who owns a message id and whether its frames are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Of a link: never counted, never replayed.
    LinkControl,
    /// Of a session: reliable and counted.
    Session,
    /// The game's, reliable and counted.
    GameReliable,
    /// The game's, unreliable.
    GameUnreliable,
}

impl Frame {
    /// Splits a frame that a transport delivered.
    ///
    /// # Errors
    ///
    /// [`FrameError::Short`] if there is no id.
    pub fn parse(mut bytes: Bytes) -> Result<Self, FrameError> {
        let [high, low, ..] = *bytes else {
            return Err(FrameError::Short(bytes.len()));
        };
        // A slice would be a second owner of the bytes, which costs an allocation.
        bytes.advance(ID_BYTES);
        Ok(Self { id: MessageId::new(u16::from_be_bytes([high, low])), body: bytes })
    }

    /// Reads the body as the message `M`.
    ///
    /// # Errors
    ///
    /// [`FrameError::OtherMessage`] if the id is not `M`'s, [`FrameError::Body`] if the body does
    /// not parse.
    pub fn decode<M: WireMessage>(&self) -> Result<M, FrameError> {
        if self.id != M::ID {
            return Err(FrameError::OtherMessage { found: self.id, wanted: M::ID });
        }
        decode(self.body.clone())
    }
}

impl MessageId {
    /// The lane of a message of this id.
    #[must_use]
    pub const fn lane(self) -> Lane {
        if self.value() & UNRELIABLE_BIT == 0 { Lane::Reliable } else { Lane::Unreliable }
    }

    /// Who owns this id.
    #[must_use]
    pub const fn range(self) -> Range {
        match self.value() {
            0x0000..=0x003F | 0x8000..=0x80FF => Range::LinkControl,
            0x0040..=0x00FF => Range::Session,
            0x0100..=0x7FFF => Range::GameReliable,
            0x8100..=0xFFFF => Range::GameUnreliable,
        }
    }

    /// Whether both sides count frames of this id.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        matches!(self.range(), Range::Session | Range::GameReliable)
    }
}

/// The id of a frame that is not split yet; `None` if it is too short to have one.
#[must_use]
pub fn id_of(frame: &[u8]) -> Option<MessageId> {
    let (id, _) = frame.split_first_chunk()?;
    Some(MessageId::new(u16::from_be_bytes(*id)))
}

/// The lane that a frame takes, by the first byte of its id; of one without an id, the reliable
/// one, where its peer will find it malformed.
#[must_use]
pub fn lane_of(frame: &[u8]) -> Lane {
    let id = u16::from_be_bytes([frame.first().copied().unwrap_or_default(), 0]);
    MessageId::new(id).lane()
}

/// Encodes a message as a frame. The result is cheap to clone: encode once, send to many.
#[must_use]
pub fn encode<M: WireMessage>(message: &M) -> Bytes {
    let mut frame = BytesMut::with_capacity(ID_BYTES + message.encoded_len());
    put(&mut frame, message);
    frame.freeze()
}

fn put<M: WireMessage>(frame: &mut BytesMut, message: &M) {
    frame.put_u16(M::ID.value());
    message.encode_raw(frame);
}

/// Encodes a message as a frame at the end of an empty buffer, and takes the frame out of it. Frames of one
/// buffer share its memory, which is free when the last of them is gone.
#[cfg(feature = "server")]
pub(crate) fn encode_into<M: WireMessage>(buffer: &mut BytesMut, message: &M) -> Bytes {
    put(buffer, message);
    buffer.split().freeze()
}

/// Reads a frame's body as the message `M`.
///
/// # Errors
///
/// [`FrameError::Body`] if it does not parse.
pub fn decode<M: WireMessage>(body: Bytes) -> Result<M, FrameError> {
    M::decode(body).map_err(|_| FrameError::Body(M::ID))
}

/// Length of the id before a frame's body.
const ID_BYTES: usize = 2;
/// Set in the ids of unreliable messages.
const UNRELIABLE_BIT: u16 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Beacon, Join};

    #[test]
    fn a_frame_is_a_big_endian_id_and_a_body() {
        let frame = encode(&Join { request: 1, zone: "arena".to_owned(), payload: Bytes::new() });

        assert_eq!(&frame[..2], &[0x00, 0x40]);
        let frame = Frame::parse(frame).expect("a frame");
        assert_eq!(frame.decode::<Join>().expect("a Join").zone, "arena");
        assert_eq!(
            frame.decode::<Beacon>(),
            Err(FrameError::OtherMessage { found: Join::ID, wanted: Beacon::ID })
        );
    }

    #[test]
    fn what_does_not_parse_is_an_error() {
        assert_eq!(Frame::parse(Bytes::from_static(&[1])), Err(FrameError::Short(1)));
        let frame = Frame::parse(Bytes::from_static(&[0x00, 0x40, 0xFF])).expect("a frame");
        assert_eq!(frame.decode::<Join>(), Err(FrameError::Body(Join::ID)));
    }

    #[test]
    fn every_id_has_one_range_and_reliable_ones_are_counted_but_for_link_control() {
        for value in 0..=u16::MAX {
            let id = MessageId::new(value);
            match id.range() {
                Range::LinkControl => assert!(!id.is_counted()),
                Range::Session | Range::GameReliable => {
                    assert!(id.is_counted() && id.lane() == Lane::Reliable)
                }
                Range::GameUnreliable => assert!(!id.is_counted() && id.lane() == Lane::Unreliable),
            }
        }
    }
}
