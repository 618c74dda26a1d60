//! Filters the input of netcode and renet, on both ends.
//!
//! Some datagrams and payloads make netcode or renet panic, hold memory without bound, or keep a dead
//! client alive. [`admits_from_client`] and [`admits_from_server`] check a datagram before netcode
//! decrypts it. A [`PeerGuard`] checks each decrypted payload before renet parses it. The checks do not
//! implement either protocol: input that is well-formed and harmless passes, whatever its contents.
//!
//! Data flow: datagram → `admits_…` → netcode → payload → [`PeerGuard::check`] → renet; each
//! reliable message that is read from renet → [`PeerGuard::note_read`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE};
use crate::wire::{FRAME_MAX_SERVER, OUTBOX_MAX_FRAMES};

/// Returns true if a server may pass a datagram to netcode. `linked` is true if the source address has a link.
///
/// Returns false for lengths and sequences with which netcode calculates unchecked. Also returns false for
/// connection requests and responses from a linked address. netcode would reset its timeout for them, but anyone
/// can send them: requests are not encrypted, and responses are not protected against replay.
pub(crate) fn admits_from_client(datagram: &[u8], linked: bool) -> bool {
    match datagram.first().map(|first| first & 0x0F) {
        Some(REQUEST) => datagram[0] == REQUEST && datagram.len() == REQUEST_BYTES && !linked,
        Some(RESPONSE) => !linked && is_well_formed(datagram),
        Some(KEEP_ALIVE..=DISCONNECT) => is_well_formed(datagram),
        _ => false,
    }
}

/// Returns true if a client may pass a datagram to netcode. The datagram may be forged: its source address
/// proves nothing.
#[cfg(feature = "client")]
pub(crate) fn admits_from_server(datagram: &[u8]) -> bool {
    let kind = datagram.first().map(|first| first & 0x0F);
    matches!(kind, Some(DENIED | CHALLENGE | KEEP_ALIVE..=DISCONNECT)) && is_well_formed(datagram)
}

/// Returns true if netcode can calculate with the length and the sequence of an encrypted datagram.
fn is_well_formed(datagram: &[u8]) -> bool {
    let length = datagram.len();
    if !(DATAGRAM_MIN..=DATAGRAM_MAX).contains(&length) {
        return false;
    }
    let sequence_bytes = usize::from(datagram[0] >> 4);
    if sequence_bytes > size_of::<u64>() || length < 1 + sequence_bytes + MAC_BYTES {
        return false;
    }
    let mut sequence = [0; size_of::<u64>()];
    sequence[..sequence_bytes].copy_from_slice(&datagram[1..=sequence_bytes]);
    u64::from_le_bytes(sequence) < SEQUENCE_END
}

/// The contents of a payload that has passed the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Reliable messages, or a slice of one.
    Reliable,
    /// Unreliable messages, or a slice of one.
    Unreliable,
    /// Acknowledgements.
    Ack,
    /// A slice of a message that a newer one has displaced. The caller drops the payload and keeps the link.
    Stale,
}

/// A violation of renet's rules, for which the link is closed. A peer that uses renet never commits one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolViolation {
    /// The payload is not a renet packet.
    #[error("the payload is not a renet packet: the peer must use renet 2")]
    Malformed,
    /// The channel does not exist, or belongs to the other lane.
    #[error("channel {0} is not the channel of this packet: the peer must use the channels of `wire::udp`")]
    Channel(u8),
    /// A packet has too many messages, or an empty message.
    #[error("a packet of {0} messages, or with an empty one: a packet has 0 to {MESSAGES_MAX}")]
    Messages(usize),
    /// A slice is outside its message, has the wrong size, or belongs to a message that is too long.
    #[error("slice {index} of {count}: a message has 1 to {SLICES_MAX} slices of {SLICE_BYTES} bytes")]
    Slice {
        /// The index of the slice, as the packet gives it.
        index: u64,
        /// The number of slices of the message, as the packet gives it.
        count: u64,
    },
    /// Two slices of one message give different numbers of slices.
    #[error("the slices of message {0} differ in their slice count: the peer must use a message id once")]
    SliceCount(u64),
    /// The id of a message is too far above that of the next message to be read.
    #[error("message {0} is more than {RELIABLE_WINDOW} messages ahead: the peer must bound its outbox")]
    Window(u64),
}

/// The state that the checks of a link need. It takes about 100 KiB at most, and very little for a peer that
/// keeps the rules.
#[derive(Debug, Default)]
pub(crate) struct PeerGuard {
    /// The number of reliable messages read so far, which is the id of the next one that renet delivers.
    read_count: u64,
    /// The slice counts of reliable messages that were not read yet, by message id. The ids are within
    /// [`RELIABLE_WINDOW`].
    reliable: BTreeMap<u64, u64>,
    /// The id and the slice count of the latest sliced unreliable messages, at the id modulo
    /// [`UNRELIABLE_WINDOW`].
    unreliable: Vec<Option<(u64, u64)>>,
}

impl PeerGuard {
    /// Checks a decrypted payload.
    ///
    /// # Errors
    ///
    /// Returns a [`ProtocolViolation`] if renet must not get the payload.
    pub(crate) fn check(&mut self, payload: &[u8]) -> Result<Content, ProtocolViolation> {
        let mut reader = Reader(payload);
        let kind = reader.byte()?;
        reader.varint()?;
        let content = match kind {
            SMALL_RELIABLE => self.small_reliable(&mut reader),
            SMALL_UNRELIABLE => small_unreliable(&mut reader),
            RELIABLE_SLICE => self.reliable_slice(&mut reader),
            UNRELIABLE_SLICE => self.unreliable_slice(&mut reader),
            ACK => acks(&mut reader),
            _ => Err(ProtocolViolation::Malformed),
        }?;
        if reader.0.is_empty() { Ok(content) } else { Err(ProtocolViolation::Malformed) }
    }

    /// Records that a reliable message was read from renet.
    pub(crate) fn note_read(&mut self) {
        self.reliable.remove(&self.read_count);
        self.read_count += 1;
    }

    fn small_reliable(&self, reader: &mut Reader<'_>) -> Result<Content, ProtocolViolation> {
        reader.channel(CHANNEL_RELIABLE)?;
        for _ in 0..reader.message_count()? {
            self.within_window(reader.varint()?)?;
            reader.message()?;
        }
        Ok(Content::Reliable)
    }

    fn reliable_slice(&mut self, reader: &mut Reader<'_>) -> Result<Content, ProtocolViolation> {
        reader.channel(CHANNEL_RELIABLE)?;
        let (message, count) = reader.slice()?;
        self.within_window(message)?;
        if message >= self.read_count && *self.reliable.entry(message).or_insert(count) != count {
            return Err(ProtocolViolation::SliceCount(message));
        }
        Ok(Content::Reliable)
    }

    /// Checks a slice. renet may discard an incomplete message at any time. So a slice passes only while the
    /// guard holds the slice count of its message; the slices of a displaced message never pass again.
    fn unreliable_slice(&mut self, reader: &mut Reader<'_>) -> Result<Content, ProtocolViolation> {
        reader.channel(CHANNEL_UNRELIABLE)?;
        let (message, count) = reader.slice()?;
        if self.unreliable.is_empty() {
            self.unreliable.resize(UNRELIABLE_WINDOW, None);
        }
        let window = self.unreliable.len() as u64;
        let slot = usize::try_from(message % window).unwrap_or_default();
        match &mut self.unreliable[slot] {
            Some((id, _)) if *id > message => Ok(Content::Stale),
            Some((id, known)) if *id == message && *known != count => {
                Err(ProtocolViolation::SliceCount(message))
            }
            slot => {
                *slot = Some((message, count));
                Ok(Content::Unreliable)
            }
        }
    }

    fn within_window(&self, message: u64) -> Result<(), ProtocolViolation> {
        if message < self.read_count + RELIABLE_WINDOW {
            Ok(())
        } else {
            Err(ProtocolViolation::Window(message))
        }
    }
}

fn small_unreliable(reader: &mut Reader<'_>) -> Result<Content, ProtocolViolation> {
    reader.channel(CHANNEL_UNRELIABLE)?;
    for _ in 0..reader.message_count()? {
        reader.message()?;
    }
    Ok(Content::Unreliable)
}

fn acks(reader: &mut Reader<'_>) -> Result<Content, ProtocolViolation> {
    ranges(reader, |_| ())?;
    Ok(Content::Ack)
}

/// Reads the ranges of an acknowledgement, from the last to the first. Each is encoded by its distance from
/// the one read before it.
fn ranges(
    reader: &mut Reader<'_>,
    mut each: impl FnMut(RangeInclusive<u64>),
) -> Result<(), ProtocolViolation> {
    let (end, size, more) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let mut start = end.checked_sub(size).ok_or(ProtocolViolation::Malformed)?;
    each(start..=end);
    for _ in 0..more {
        let (gap, size) = (reader.varint()?, reader.varint()?);
        let end = start.checked_sub(gap + 2).ok_or(ProtocolViolation::Malformed)?;
        start = end.checked_sub(size).ok_or(ProtocolViolation::Malformed)?;
        each(start..=end);
    }
    Ok(())
}

/// Returns the number that renet gave a packet, or `None` if the bytes are not a renet packet.
pub(crate) fn number_of(packet: &[u8]) -> Option<u64> {
    let mut reader = Reader(packet);
    reader.byte().ok()?;
    reader.varint().ok()
}

/// Returns the packet numbers that a payload acknowledges. Empty if the payload is not an acknowledgement.
pub(crate) fn ack_ranges(payload: &[u8]) -> Vec<RangeInclusive<u64>> {
    let mut reader = Reader(payload);
    let mut found = Vec::new();
    let is_whole = reader.byte().is_ok_and(|kind| kind == ACK)
        && reader.varint().is_ok()
        && ranges(&mut reader, |range| found.push(range)).is_ok();
    if is_whole { found } else { Vec::new() }
}

/// The unread rest of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: u64) -> Result<&'a [u8], ProtocolViolation> {
        let (bytes, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.0.split_at_checked(count))
            .ok_or(ProtocolViolation::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, ProtocolViolation> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// Reads a varint as in QUIC: two bits of length, then a big-endian number of 6, 14, 30 or 62 bits.
    fn varint(&mut self) -> Result<u64, ProtocolViolation> {
        let first = self.byte()?;
        let more = (1 << (first >> 6)) - 1;
        let rest = self.bytes(more)?;
        let low = rest.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(u64::from(first & 0x3F) << (8 * more) | low)
    }

    fn channel(&mut self, expected: u8) -> Result<(), ProtocolViolation> {
        let channel = self.byte()?;
        if channel == expected { Ok(()) } else { Err(ProtocolViolation::Channel(channel)) }
    }

    /// Reads the number of messages in a packet. 0 is valid: renet sends an empty packet before a message that
    /// is almost as long as a slice.
    fn message_count(&mut self) -> Result<usize, ProtocolViolation> {
        let bytes = self.bytes(2)?;
        let count = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        if count > MESSAGES_MAX {
            return Err(ProtocolViolation::Messages(count));
        }
        Ok(count)
    }

    fn message(&mut self) -> Result<(), ProtocolViolation> {
        let length = self.varint()?;
        if length == 0 {
            return Err(ProtocolViolation::Messages(1));
        }
        self.bytes(length).map(|_| ())
    }

    /// Reads a slice. Returns its message id and the slice count of the message.
    fn slice(&mut self) -> Result<(u64, u64), ProtocolViolation> {
        let (message, index, count) = (self.varint()?, self.varint()?, self.varint()?);
        let length = self.varint()?;
        self.bytes(length)?;
        let fits =
            if index + 1 == count { (1..=SLICE_BYTES).contains(&length) } else { length == SLICE_BYTES };
        if index < count && count <= SLICES_MAX && fits {
            Ok((message, count))
        } else {
            Err(ProtocolViolation::Slice { index, count })
        }
    }
}

// Kinds of netcode datagrams, in the low four bits of the first byte. Kind 5 is a payload.
const REQUEST: u8 = 0;
#[cfg(feature = "client")]
const DENIED: u8 = 1;
#[cfg(feature = "client")]
const CHALLENGE: u8 = 2;
const RESPONSE: u8 = 3;
const KEEP_ALIVE: u8 = 4;
const DISCONNECT: u8 = 6;

// Kinds of renet packets, in the first byte.
const SMALL_RELIABLE: u8 = 0;
const SMALL_UNRELIABLE: u8 = 1;
const RELIABLE_SLICE: u8 = 2;
const UNRELIABLE_SLICE: u8 = 3;
const ACK: u8 = 4;

/// The shortest datagram of netcode in bytes: a prefix, one byte of sequence, and a MAC.
const DATAGRAM_MIN: usize = 2 + MAC_BYTES;
/// The longest datagram of netcode in bytes.
pub(crate) const DATAGRAM_MAX: usize = renetcode::NETCODE_MAX_PACKET_BYTES;
/// The length of a connection request in bytes.
const REQUEST_BYTES: usize = 1 + 13 + 8 + 8 + 24 + 1_024;
const MAC_BYTES: usize = 16;
/// The end of the accepted sequences: netcode adds its replay window of 256 to a sequence. No link lives long
/// enough to reach it.
const SEQUENCE_END: u64 = u64::MAX - 256;
/// The length of renet's slices in bytes. renet cuts a longer message into slices of this length.
const SLICE_BYTES: u64 = 1_200;
/// The most slices of a message: what the longest frame of either side needs, rounded up to a power of two.
const SLICES_MAX: u64 = ((FRAME_MAX_SERVER as u64).div_ceil(SLICE_BYTES)).next_power_of_two();
/// The most messages in a packet. renet sends at most 252, because a frame has two bytes or more.
const MESSAGES_MAX: usize = 256;
/// How many messages a reliable message may be ahead of the next one to be read. renet bounds the bytes of
/// the messages that it holds back, but not the overhead of each. The outbox of a client bounds how far it
/// is ahead; eight times the outbox leaves room for link control.
const RELIABLE_WINDOW: u64 = 8 * OUTBOX_MAX_FRAMES as u64;
/// The number of sliced unreliable messages whose slices may be interleaved.
const UNRELIABLE_WINDOW: usize = 64;

#[cfg(test)]
mod tests;
