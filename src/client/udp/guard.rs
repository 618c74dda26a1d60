//! What renetcode and renet panic on, kept away from them.
//!
//! Both index and subtract with numbers of the peer's before they check them. A datagram can be
//! forged by anybody who forges the server's address; a payload is at least the server's own.

use std::collections::BTreeMap;

use renetcode::NETCODE_MAX_PACKET_BYTES;

use crate::wire::FRAME_MAX_SERVER;

/// Whether netcode can look at a datagram from a server.
pub(super) fn admits_datagram(datagram: &[u8]) -> bool {
    let length = datagram.len();
    let Some((&prefix, rest)) = datagram.split_first() else {
        return false;
    };
    let kind = prefix & 0x0F;
    let sequence_length = usize::from(prefix >> 4);
    if !(MIN_BYTES..=NETCODE_MAX_PACKET_BYTES).contains(&length)
        || !SERVER_KINDS.contains(&kind)
        || sequence_length > 8
        || length < 1 + sequence_length + MAC_BYTES
    {
        return false;
    }
    let sequence = rest
        .iter()
        .take(sequence_length)
        .rev()
        .fold(0, |sequence, &byte| sequence << 8 | u64::from(byte));
    sequence < u64::MAX - REPLAY_WINDOW
}

/// Whether renet can look at a payload, for which it must remember those before.
#[derive(Debug, Default)]
pub(super) struct PayloadGuard {
    /// Slices by channel and message.
    slices: BTreeMap<(u8, u64), u64>,
}

impl PayloadGuard {
    pub(super) fn admits(&mut self, payload: &[u8]) -> bool {
        self.read(payload).is_some()
    }

    fn read(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader(payload);
        let kind = reader.byte()?;
        reader.varint()?;
        match kind {
            SMALL_RELIABLE | SMALL_UNRELIABLE => {
                reader.byte()?;
                let count = u16::from_be_bytes([reader.byte()?, reader.byte()?]);
                for _ in 0..count {
                    if kind == SMALL_RELIABLE {
                        reader.varint()?;
                    }
                    let length = reader.varint()?;
                    // A frame of no bytes has no id, and renet would hold any number of them.
                    (length > 0).then_some(())?;
                    reader.skip(length)?;
                }
                Some(())
            }
            RELIABLE_SLICE | UNRELIABLE_SLICE => {
                let channel = reader.byte()?;
                let message = reader.varint()?;
                let index = reader.varint()?;
                let count = reader.varint()?;
                (index < count && count <= SLICES_MAX).then_some(())?;
                if self.slices.len() >= REMEMBERED_MAX {
                    self.slices.pop_first();
                }
                let known = *self.slices.entry((channel, message)).or_insert(count);
                (known == count).then_some(())
            }
            // renet reads acks with care, and refuses other kinds.
            _ => Some(()),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A QUIC varint: the two highest bits say how many bytes there are.
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = (1u32 << (first >> 6)) - 1;
        let mut value = u64::from(first & 0x3F);
        for _ in 0..more {
            value = value << 8 | u64::from(self.byte()?);
        }
        Some(value)
    }

    fn skip(&mut self, length: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(length).ok()?..)?;
        Some(())
    }
}

/// Denied, challenge, keep-alive, payload, disconnect; the rest is for servers.
const SERVER_KINDS: [u8; 5] = [1, 2, 4, 5, 6];
/// A prefix, a sequence of one byte, and the code that authenticates it.
const MIN_BYTES: usize = 2 + MAC_BYTES;
/// Length of that code.
const MAC_BYTES: usize = 16;
/// netcode adds this to a sequence.
const REPLAY_WINDOW: u64 = 256;
/// renet's kinds of packets.
const SMALL_RELIABLE: u8 = 0;
const SMALL_UNRELIABLE: u8 = 1;
const RELIABLE_SLICE: u8 = 2;
const UNRELIABLE_SLICE: u8 = 3;
/// Bytes of a slice.
const SLICE_BYTES: u64 = 1_200;
/// Slices of the longest frame.
const SLICES_MAX: u64 = (FRAME_MAX_SERVER as u64).div_ceil(SLICE_BYTES);
/// Sliced messages that are remembered: more than a channel's memory holds unfinished.
const REMEMBERED_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use renet::RenetClient;

    use super::*;
    use crate::wire::udp::connection_config;

    #[test]
    fn datagrams_that_netcode_panics_on_are_refused() {
        let mut short = vec![0x85; 24];
        assert!(!admits_datagram(&short), "sequence and code do not fit");
        short.push(0);
        assert!(admits_datagram(&short));
        assert!(!admits_datagram(&[0xF5; 64]), "a sequence of fifteen bytes");
        assert!(!admits_datagram(&[0xFF; 64]));
        let mut overflowing = vec![0x85];
        overflowing.extend([0xFF; 40]);
        assert!(!admits_datagram(&overflowing), "a sequence near the end of u64");
        assert!(!admits_datagram(&[0x15; 17]));
        assert!(!admits_datagram(&[0x15; 1_401]));
        assert!(!admits_datagram(&[]));
    }

    #[test]
    fn slices_out_of_bounds_and_of_two_sizes_are_refused() {
        let mut guard = PayloadGuard::default();
        let slice = |message, index, count| [RELIABLE_SLICE, 1, 0, message, index, count, 1, 9];

        assert!(guard.admits(&slice(1, 0, 2)));
        assert!(!guard.admits(&slice(1, 2, 3)), "another number of slices");
        assert!(!guard.admits(&slice(2, 2, 2)), "index beyond the end");
        assert!(!guard.admits(&slice(3, 0, 0)));
        assert!(!guard.admits(&slice(3, 0, 63)), "longer than any frame");
        assert!(
            !guard.admits(&[SMALL_RELIABLE, 1, 0, 0, 1, 5, 0]),
            "an empty message"
        );
        assert!(guard.admits(&[SMALL_RELIABLE, 1, 0, 0, 1, 5, 1, 9]));
        assert!(!guard.admits(&[SMALL_RELIABLE]));
    }

    proptest! {
        #[test]
        fn renet_survives_all_that_is_admitted(
            payloads in prop::collection::vec(
                (0u8..6, prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40), 0usize..1_300),
                1..60,
            )
        ) {
            let mut guard = PayloadGuard::default();
            let mut renet = RenetClient::new(connection_config());
            renet.set_connected();

            for (kind, head, tail) in payloads {
                let mut payload = vec![kind];
                payload.extend(head);
                payload.resize(payload.len() + tail, 7);
                payload.truncate(1_300);
                if guard.admits(&payload) {
                    renet.process_packet(&payload);
                }
                if renet.is_disconnected() {
                    renet = RenetClient::new(connection_config());
                    guard = PayloadGuard::default();
                    renet.set_connected();
                }
            }
        }
    }
}
