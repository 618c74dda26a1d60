//! Encodes and decodes frames: a message id and a body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use crate::ident::MessageId;

/// A protobuf message that is sent as a frame. Generated code implements it.
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
    /// The message id, which precedes the body in a frame.
    const ID: MessageId;
    /// The full protobuf name, for logs.
    const NAME: &'static str;

    /// Returns true if no float in the message, at any depth, is NaN or infinite.
    ///
    /// Generated code overrides this method for messages that contain floats.
    fn is_finite(&self) -> bool {
        true
    }
}

/// A frame, split into its id and its encoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message id.
    pub id: MessageId,
    /// The protobuf encoding of the message.
    pub body: Bytes,
}

/// The error of parsing or decoding a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is too short to have an id.
    #[error("a frame of {0} bytes has no message id: a frame starts with an id of two bytes")]
    Short(usize),
    /// The body is not the protobuf encoding of the message that the id names.
    #[error("the body of message {0} does not parse: compare the peer's .proto files with this server's")]
    Body(MessageId),
    /// The frame holds another message than the one that the caller asked for.
    #[error("the frame is message {found}, not {wanted}")]
    OtherMessage {
        /// The id of the frame.
        found: MessageId,
        /// The id of the message that the caller asked for.
        wanted: MessageId,
    },
}

/// A kind of delivery within a link. Bit 15 of the message id selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Delivery in order. Counted frames are delivered exactly once over all links of a session.
    Reliable,
    /// Delivery without a guarantee: frames may be lost, duplicated or reordered.
    Unreliable,
}

/// A range of message ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Link control: not counted, and never sent again on another link.
    LinkControl,
    /// Session messages: reliable and counted.
    Session,
    /// The game's reliable messages: counted.
    GameReliable,
    /// The game's unreliable messages: not counted.
    GameUnreliable,
}

impl Frame {
    /// Splits the bytes of a frame into its id and its body.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError::Short`] if there are fewer than two bytes.
    pub fn parse(mut bytes: Bytes) -> Result<Self, FrameError> {
        let [high, low, ..] = *bytes else {
            return Err(FrameError::Short(bytes.len()));
        };
        // `slice` would make a second owner of the bytes, which can allocate.
        bytes.advance(ID_BYTES);
        Ok(Self { id: MessageId::new(u16::from_be_bytes([high, low])), body: bytes })
    }

    /// Decodes the body as the message `M`.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError::OtherMessage`] if the id is not `M::ID`, and [`FrameError::Body`] if the body
    /// does not parse.
    pub fn decode<M: WireMessage>(&self) -> Result<M, FrameError> {
        if self.id != M::ID {
            return Err(FrameError::OtherMessage { found: self.id, wanted: M::ID });
        }
        decode(self.body.clone())
    }
}

impl MessageId {
    /// Returns the lane of messages with this id.
    #[must_use]
    pub const fn lane(self) -> Lane {
        if self.value() & UNRELIABLE_BIT == 0 { Lane::Reliable } else { Lane::Unreliable }
    }

    /// Returns the range that contains this id.
    #[must_use]
    pub const fn range(self) -> Range {
        match self.value() {
            0x0000..=0x003F | 0x8000..=0x80FF => Range::LinkControl,
            0x0040..=0x00FF => Range::Session,
            0x0100..=0x7FFF => Range::GameReliable,
            0x8100..=0xFFFF => Range::GameUnreliable,
        }
    }

    /// Returns true if frames with this id are counted.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        matches!(self.range(), Range::Session | Range::GameReliable)
    }
}

/// Returns the id of an encoded frame, or `None` if the frame is too short to have one.
#[must_use]
pub fn id_of(frame: &[u8]) -> Option<MessageId> {
    let (id, _) = frame.split_first_chunk()?;
    Some(MessageId::new(u16::from_be_bytes(*id)))
}

/// Returns the lane of an encoded frame, by the first byte of its id.
///
/// An empty frame belongs to the reliable lane, where the peer rejects it.
#[must_use]
pub fn lane_of(frame: &[u8]) -> Lane {
    let id = u16::from_be_bytes([frame.first().copied().unwrap_or_default(), 0]);
    MessageId::new(id).lane()
}

/// Encodes a message as a frame. Cloning the result is cheap and shares the bytes.
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

/// Encodes a message as a frame into an empty buffer, and splits the frame off. The frames of one buffer share
/// its memory, which is freed when the last of them is dropped.
#[cfg(feature = "server")]
pub(crate) fn encode_into<M: WireMessage>(buffer: &mut BytesMut, message: &M) -> Bytes {
    put(buffer, message);
    buffer.split().freeze()
}

/// Decodes the body of a frame as the message `M`.
///
/// # Errors
///
/// Returns [`FrameError::Body`] if the body does not parse.
pub fn decode<M: WireMessage>(body: Bytes) -> Result<M, FrameError> {
    M::decode(body).map_err(|_| FrameError::Body(M::ID))
}

/// The length of a frame's id in bytes.
const ID_BYTES: usize = 2;
/// The bit that is set in the ids of unreliable messages.
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
    fn frames_that_do_not_parse_are_errors() {
        assert_eq!(Frame::parse(Bytes::from_static(&[1])), Err(FrameError::Short(1)));
        let frame = Frame::parse(Bytes::from_static(&[0x00, 0x40, 0xFF])).expect("a frame");
        assert_eq!(frame.decode::<Join>(), Err(FrameError::Body(Join::ID)));
    }

    #[test]
    fn reliable_ids_are_counted_except_link_control() {
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
