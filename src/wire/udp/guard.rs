//! What is let through to netcode and renet, on both ends.
//!
//! Both trust their input in places: there are datagrams and payloads that make them panic, hold
//! memory without bound or keep a dead client alive. [`admits_from_client`] and
//! [`admits_from_server`] look at a datagram before netcode decrypts it, a [`PeerGuard`] at each
//! decrypted payload before renet parses it. It is not a second implementation of either: what is
//! well-formed and harmless passes, whatever it says.
//!
//! Data flow: datagram → `admits_…` → netcode → payload → [`PeerGuard::check`] → renet; each
//! reliable message that is read from renet → [`PeerGuard::note_read`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE};
use crate::wire::{FRAME_MAX_SERVER, OUTBOX_MAX_FRAMES};

/// Whether a server's netcode may see a datagram. `linked` says that its source address has a link.
///
/// Dropped are lengths and sequences that netcode calculates with unchecked, and what it takes
/// for a sign of life from a linked address although anybody could have sent it: connection
/// requests, which are not encrypted, and responses, which are not protected from replay.
pub(crate) fn admits_from_client(datagram: &[u8], linked: bool) -> bool {
    match datagram.first().map(|first| first & 0x0F) {
        Some(REQUEST) => datagram[0] == REQUEST && datagram.len() == REQUEST_BYTES && !linked,
        Some(RESPONSE) => !linked && is_well_formed(datagram),
        Some(KEEP_ALIVE..=DISCONNECT) => is_well_formed(datagram),
        _ => false,
    }
}

/// Whether a client's netcode may see a datagram. It can be forged by anybody who forges the
/// server's address.
#[cfg(feature = "client")]
pub(crate) fn admits_from_server(datagram: &[u8]) -> bool {
    let kind = datagram.first().map(|first| first & 0x0F);
    matches!(kind, Some(DENIED | CHALLENGE | KEEP_ALIVE..=DISCONNECT)) && is_well_formed(datagram)
}

/// Whether the length of an encrypted datagram and its sequence are such that netcode can
/// calculate with them.
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

/// What a payload that renet may see carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Reliable messages, or a slice of one.
    Reliable,
    /// Unreliable messages, or a slice of one.
    Unreliable,
    /// Acknowledgements.
    Ack,
    /// Nothing worth keeping: the payload is to be dropped, and the link lives on.
    Stale,
}

/// How a peer broke renet's rules. None that uses renet does: the link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// The payload is not a renet packet.
    #[error("the payload is no renet packet: the peer must speak renet 2")]
    Malformed,
    /// A channel that there is not, or one of the other lane.
    #[error("channel {0} does not carry this: the peer must use the channels of `wire::udp`")]
    Channel(u8),
    /// Too many messages in a packet, or an empty one.
    #[error(
        "a packet of {0} messages, or an empty one: a packet has {MESSAGES_MAX} of a byte or more at most"
    )]
    Messages(usize),
    /// A slice outside its message, of the wrong size, or of a message that is too long.
    #[error("slice {index} of {count}: a message has 1 to {SLICES_MAX} slices of {SLICE_BYTES} bytes")]
    Slice {
        /// Which slice it says it is.
        index: u64,
        /// How many it says there are.
        count: u64,
    },
    /// Slices of one message do not agree on their number.
    #[error("the slices of message {0} disagree on their number: a message id is used once")]
    SliceCount(u64),
    /// A message is too far ahead of the next one that can be read.
    #[error("message {0} is more than {RELIABLE_WINDOW} ahead: the peer must keep to its outbox")]
    Window(u64),
}

/// What the guard remembers of a link. At most about 100 KiB, and for a peer that plays by the
/// rules next to nothing.
#[derive(Debug, Default)]
pub(crate) struct PeerGuard {
    /// Reliable messages read so far, which is the id of the one that renet delivers next.
    read_count: u64,
    /// Slice counts of reliable messages not read yet: within [`RELIABLE_WINDOW`].
    reliable: BTreeMap<u64, u64>,
    /// Message id and slice count of the latest sliced messages, by id modulo [`UNRELIABLE_WINDOW`].
    unreliable: Vec<Option<(u64, u64)>>,
}

impl PeerGuard {
    /// Looks at a decrypted payload.
    ///
    /// # Errors
    ///
    /// A [`Breach`]; renet must not see the payload.
    pub(crate) fn check(&mut self, payload: &[u8]) -> Result<Content, Breach> {
        let mut reader = Reader(payload);
        let kind = reader.byte()?;
        reader.varint()?;
        let content = match kind {
            SMALL_RELIABLE => self.small_reliable(&mut reader),
            SMALL_UNRELIABLE => small_unreliable(&mut reader),
            RELIABLE_SLICE => self.reliable_slice(&mut reader),
            UNRELIABLE_SLICE => self.unreliable_slice(&mut reader),
            ACK => acks(&mut reader),
            _ => Err(Breach::Malformed),
        }?;
        if reader.0.is_empty() { Ok(content) } else { Err(Breach::Malformed) }
    }

    /// A reliable message was read from renet.
    pub(crate) fn note_read(&mut self) {
        self.reliable.remove(&self.read_count);
        self.read_count += 1;
    }

    fn small_reliable(&self, reader: &mut Reader<'_>) -> Result<Content, Breach> {
        reader.channel(CHANNEL_RELIABLE)?;
        for _ in 0..reader.message_count()? {
            self.within_window(reader.varint()?)?;
            reader.message()?;
        }
        Ok(Content::Reliable)
    }

    fn reliable_slice(&mut self, reader: &mut Reader<'_>) -> Result<Content, Breach> {
        reader.channel(CHANNEL_RELIABLE)?;
        let (message, count) = reader.slice()?;
        self.within_window(message)?;
        if message >= self.read_count && *self.reliable.entry(message).or_insert(count) != count {
            return Err(Breach::SliceCount(message));
        }
        Ok(Content::Reliable)
    }

    /// renet forgets an incomplete message when it likes. So a message is let through only while
    /// its count is remembered here, and one that another has displaced never again.
    fn unreliable_slice(&mut self, reader: &mut Reader<'_>) -> Result<Content, Breach> {
        reader.channel(CHANNEL_UNRELIABLE)?;
        let (message, count) = reader.slice()?;
        if self.unreliable.is_empty() {
            self.unreliable.resize(UNRELIABLE_WINDOW, None);
        }
        let window = self.unreliable.len() as u64;
        let slot = usize::try_from(message % window).unwrap_or_default();
        match &mut self.unreliable[slot] {
            Some((id, _)) if *id > message => Ok(Content::Stale),
            Some((id, known)) if *id == message && *known != count => Err(Breach::SliceCount(message)),
            slot => {
                *slot = Some((message, count));
                Ok(Content::Unreliable)
            }
        }
    }

    fn within_window(&self, message: u64) -> Result<(), Breach> {
        if message < self.read_count + RELIABLE_WINDOW { Ok(()) } else { Err(Breach::Window(message)) }
    }
}

fn small_unreliable(reader: &mut Reader<'_>) -> Result<Content, Breach> {
    reader.channel(CHANNEL_UNRELIABLE)?;
    for _ in 0..reader.message_count()? {
        reader.message()?;
    }
    Ok(Content::Unreliable)
}

fn acks(reader: &mut Reader<'_>) -> Result<Content, Breach> {
    ranges(reader, |_| ())?;
    Ok(Content::Ack)
}

/// The ranges of an acknowledgement, from the last to the first, each given by its distance from the one
/// after it.
fn ranges(reader: &mut Reader<'_>, mut each: impl FnMut(RangeInclusive<u64>)) -> Result<(), Breach> {
    let (end, size, more) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let mut start = end.checked_sub(size).ok_or(Breach::Malformed)?;
    each(start..=end);
    for _ in 0..more {
        let (gap, size) = (reader.varint()?, reader.varint()?);
        let end = start.checked_sub(gap + 2).ok_or(Breach::Malformed)?;
        start = end.checked_sub(size).ok_or(Breach::Malformed)?;
        each(start..=end);
    }
    Ok(())
}

/// The number that renet gave a packet; none if it is no packet of renet's.
pub(crate) fn number_of(packet: &[u8]) -> Option<u64> {
    let mut reader = Reader(packet);
    reader.byte().ok()?;
    reader.varint().ok()
}

/// The numbers of packets that a payload acknowledges; none if it is no acknowledgement.
pub(crate) fn ack_ranges(payload: &[u8]) -> Vec<RangeInclusive<u64>> {
    let mut reader = Reader(payload);
    let mut found = Vec::new();
    let is_whole = reader.byte().is_ok_and(|kind| kind == ACK)
        && reader.varint().is_ok()
        && ranges(&mut reader, |range| found.push(range)).is_ok();
    if is_whole { found } else { Vec::new() }
}

/// What is left of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: u64) -> Result<&'a [u8], Breach> {
        let (bytes, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.0.split_at_checked(count))
            .ok_or(Breach::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Breach> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// QUIC's: two bits of length, then a big-endian number of 6, 14, 30 or 62 bits.
    fn varint(&mut self) -> Result<u64, Breach> {
        let first = self.byte()?;
        let more = (1 << (first >> 6)) - 1;
        let rest = self.bytes(more)?;
        let low = rest.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(u64::from(first & 0x3F) << (8 * more) | low)
    }

    fn channel(&mut self, expected: u8) -> Result<(), Breach> {
        let channel = self.byte()?;
        if channel == expected { Ok(()) } else { Err(Breach::Channel(channel)) }
    }

    /// None at all is in order: renet makes such a packet before a message of nearly a slice.
    fn message_count(&mut self) -> Result<usize, Breach> {
        let bytes = self.bytes(2)?;
        let count = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        if count > MESSAGES_MAX {
            return Err(Breach::Messages(count));
        }
        Ok(count)
    }

    fn message(&mut self) -> Result<(), Breach> {
        let length = self.varint()?;
        if length == 0 {
            return Err(Breach::Messages(1));
        }
        self.bytes(length).map(|_| ())
    }

    /// A slice's message id and the number of its slices.
    fn slice(&mut self) -> Result<(u64, u64), Breach> {
        let (message, index, count) = (self.varint()?, self.varint()?, self.varint()?);
        let length = self.varint()?;
        self.bytes(length)?;
        let fits =
            if index + 1 == count { (1..=SLICE_BYTES).contains(&length) } else { length == SLICE_BYTES };
        if index < count && count <= SLICES_MAX && fits {
            Ok((message, count))
        } else {
            Err(Breach::Slice { index, count })
        }
    }
}

/// Kinds of datagrams, in the low four bits of their first byte; the fifth is a payload.
const REQUEST: u8 = 0;
#[cfg(feature = "client")]
const DENIED: u8 = 1;
#[cfg(feature = "client")]
const CHALLENGE: u8 = 2;
const RESPONSE: u8 = 3;
const KEEP_ALIVE: u8 = 4;
const DISCONNECT: u8 = 6;

/// Kinds of payloads, in their first byte.
const SMALL_RELIABLE: u8 = 0;
const SMALL_UNRELIABLE: u8 = 1;
const RELIABLE_SLICE: u8 = 2;
const UNRELIABLE_SLICE: u8 = 3;
const ACK: u8 = 4;

/// Shortest datagram that netcode makes: a prefix, a byte of sequence, a MAC.
const DATAGRAM_MIN: usize = 2 + MAC_BYTES;
/// Longest datagram that netcode makes.
pub(crate) const DATAGRAM_MAX: usize = renetcode::NETCODE_MAX_PACKET_BYTES;
/// A connection request has but one length.
const REQUEST_BYTES: usize = 1 + 13 + 8 + 8 + 24 + 1_024;
const MAC_BYTES: usize = 16;
/// netcode adds its replay window of 256 to a sequence. No link lives long enough to get here.
const SEQUENCE_END: u64 = u64::MAX - 256;
/// renet's: a longer message is cut into slices of this length.
const SLICE_BYTES: u64 = 1_200;
/// More than the longest frame of either side needs, in whole powers of two.
const SLICES_MAX: u64 = ((FRAME_MAX_SERVER as u64).div_ceil(SLICE_BYTES)).next_power_of_two();
/// A packet of renet's, with messages of two bytes or more, has 252.
const MESSAGES_MAX: usize = 256;
/// How far a reliable message may be ahead of the next one to be read. renet bounds the bytes of
/// what it holds back, but not what it costs to hold a message of one byte; a client is bounded
/// by its outbox, and eight times that leaves room for link control.
const RELIABLE_WINDOW: u64 = 8 * OUTBOX_MAX_FRAMES as u64;
/// Sliced unreliable messages whose slices may be interleaved.
const UNRELIABLE_WINDOW: usize = 64;

#[cfg(test)]
mod tests;
