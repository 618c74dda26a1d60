//! Tests of what the decoder decodes, refuses and holds.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Returns a masked frame of a client.
fn masked_with(mask: [u8; 4], first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    masked_with([1, 2, 3, 4], first, payload)
}

/// Decodes a stream that arrives in pieces of these sizes, repeated. Returns its frames and the fault that ended
/// it.
fn read(bytes: &[u8], pieces: &[usize]) -> (Vec<Message>, Option<Fault>) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    loop {
        match decoder.next() {
            Ok(Some(message)) => messages.push(message),
            Err(fault) => return (messages, Some(fault)),
            Ok(None) if rest.is_empty() => return (messages, None),
            Ok(None) => {
                assert!(decoder.room() > 0, "the decoder needs bytes and has no room for them");
                let piece = pieces.next().copied().unwrap_or(1).clamp(1, decoder.room());
                let (fed, left) = rest.split_at(piece.min(rest.len()));
                decoder.feed(fed);
                rest = left;
            }
        }
        let most = READ_MAX_BYTES + FRAME_MAX_CLIENT + CONTROL_MAX_BYTES;
        assert!(decoder.held_bytes() <= most, "{} bytes are held", decoder.held_bytes());
    }
}

fn code_of(bytes: &[u8]) -> Option<u16> {
    match read(bytes, &[usize::MAX]) {
        (messages, Some(Fault::Malformed { code, .. })) if messages.is_empty() => Some(code),
        _ => None,
    }
}

#[test]
fn messages_whole_and_in_parts_and_pings_between_the_parts_are_decoded() {
    let bytes = [
        masked(0x82, b"whole"),
        masked(0x02, b"in "),
        masked(0x89, b"there?"),
        masked(0x00, b"three "),
        masked(0x80, b"parts"),
        masked(0x82, &[7; FRAME_MAX_CLIENT]),
        masked(0x8A, &[9; 125]),
        masked(0x88, &[]),
    ]
    .concat();

    for piece in [1, 2, 3, 5, 7, 64, usize::MAX] {
        let (messages, fault) = read(&bytes, &[piece]);

        assert_eq!(fault, None);
        assert_eq!(
            messages,
            [
                Message::Binary(Bytes::from_static(b"whole")),
                Message::Part,
                Message::Ping(Bytes::from_static(b"there?")),
                Message::Part,
                Message::Binary(Bytes::from_static(b"in three parts")),
                Message::Binary(Bytes::from(vec![7; FRAME_MAX_CLIENT])),
                Message::Pong,
                Message::Close(None),
            ]
        );
    }
}

#[test]
fn texts_and_messages_that_are_too_long_at_once_or_in_parts_are_breaches() {
    let half = [3; FRAME_MAX_CLIENT / 2 + 1];
    // The length in the head is enough; no byte of the payload has arrived.
    let claimed = vec![0x82, 0xFF, 0x3F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let cases = [
        masked(0x81, b"hello"),
        masked(0x81, &[0xFF]),
        masked(0x01, b"hel"),
        masked(0x82, &[0; FRAME_MAX_CLIENT + 1]),
        claimed,
        [masked(0x02, &half), masked(0x00, &half)].concat(),
    ];

    for bytes in cases {
        let (messages, fault) = read(&bytes, &[usize::MAX]);

        assert!(messages.iter().all(|message| *message == Message::Part), "{messages:?}");
        assert!(matches!(fault, Some(Fault::ProtocolViolation(_))), "{fault:?}");
    }
}

#[test]
fn frames_that_rfc_6455_forbids_are_malformed_with_the_code_1002() {
    let not_minimal = [&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4][..], &[0; 256]].concat();
    let cases = [
        ("no mask", vec![0x82, 0x03, 1, 2, 3]),
        ("no mask and no payload", vec![0x82, 0x00]),
        ("a text without a mask", vec![0x81, 0x00]),
        ("a ping without a mask", vec![0x89, 0x00]),
        ("a part of no message", masked(0x80, b"no beginning")),
        ("an opcode for data without a meaning", masked(0x83, b"")),
        ("an opcode for control without a meaning", masked(0x8B, b"")),
        ("each reserved bit", masked(0xC2, b"compressed")),
        ("each reserved bit", masked(0xA2, b"")),
        ("each reserved bit", masked(0x92, b"")),
        ("a ping in parts", masked(0x09, b"")),
        ("a Close in parts", masked(0x08, b"")),
        ("a ping of 126 bytes", masked(0x89, &[0; 126])),
        ("a Close of 200 bytes", masked(0x88, &[0; 200])),
        ("a 16-bit length for 5 bytes", vec![0x82, 0xFE, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
        ("a 64-bit length for 256 bytes", not_minimal),
        ("a length with the highest bit", [&[0x82, 0xFF][..], &[0xFF; 8], &[0; 4]].concat()),
    ];

    for (what, bytes) in cases {
        assert_eq!(code_of(&bytes), Some(1_002), "{what}");
    }
    let within = [masked(0x02, b"begun"), masked(0x82, b"anew")].concat();
    let (messages, fault) = read(&within, &[usize::MAX]);
    assert_eq!(messages, [Message::Part]);
    assert!(matches!(fault, Some(Fault::Malformed { code: 1_002, .. })), "{fault:?}");
}

#[test]
fn a_close_has_a_code_that_may_be_sent_and_a_reason_that_is_text() {
    for code in [0, 999, 1_004, 1_005, 1_006, 1_015, 2_999, 5_000, 65_535_u16] {
        assert_eq!(code_of(&masked(0x88, &code.to_be_bytes())), Some(1_002), "{code}");
    }
    assert_eq!(code_of(&masked(0x88, &[3])), Some(1_002));
    assert_eq!(code_of(&masked(0x88, &[3, 0xE8, 0xFF, 0xFF])), Some(1_007));

    for code in [1_000, 1_001, 1_003, 1_007, 1_011, 1_014, 3_000, 4_001, 4_999_u16] {
        let said = [&code.to_be_bytes()[..], "é".as_bytes()].concat();
        assert_eq!(read(&masked(0x88, &said), &[1]), (vec![Message::Close(Some(code))], None));
    }
}

#[test]
fn the_decoder_yields_every_empty_frame() {
    let parts = [masked(0x02, b""), masked(0x00, b"").repeat(10_000)].concat();

    let (messages, fault) = read(&parts, &[usize::MAX]);

    assert_eq!((messages.len(), fault), (10_001, None));
}

#[test]
fn a_claimed_length_alone_allocates_nothing() {
    let mut decoder = Decoder::default();
    decoder.feed(&masked(0x82, &[0; FRAME_MAX_CLIENT])[..64]);

    assert_eq!(decoder.next(), Ok(None));

    assert!(decoder.held_bytes() <= 2 * 64, "{} bytes are held", decoder.held_bytes());
}

/// An action of a client, before it is encoded.
#[derive(Debug, Clone)]
enum Act {
    /// A message, in parts of these sizes and a last part with the rest.
    Say(Vec<u8>, Vec<usize>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// Encodes acts as frames, each with a mask of its own, and returns the expected messages.
fn encode(acts: &[Act]) -> (Vec<u8>, Vec<Message>) {
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for (at, act) in acts.iter().enumerate() {
        let mask = (at as u32).wrapping_mul(0x9E37_79B9).to_le_bytes();
        let mut put = |first, payload: &[u8]| bytes.extend(masked_with(mask, first, payload));
        match act {
            Act::Say(payload, parts) => {
                let mut rest = &payload[..];
                let mut opcode = 2;
                for part in parts {
                    let (part, left) = rest.split_at(rest.len().min(*part));
                    put(opcode, part);
                    messages.push(Message::Part);
                    (rest, opcode) = (left, 0);
                }
                put(0x80 | opcode, rest);
                messages.push(Message::Binary(payload.clone().into()));
            }
            Act::Ping(payload) => {
                put(0x89, payload);
                messages.push(Message::Ping(payload.clone().into()));
            }
            Act::Pong(payload) => {
                put(0x8A, payload);
                messages.push(Message::Pong);
            }
            Act::Close(code, reason) => {
                put(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat());
                messages.push(Message::Close(Some(*code)));
            }
        }
    }
    (bytes, messages)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (vec(any::<u8>(), 0..400), vec(0..200_usize, 0..5)).prop_map(|(say, parts)| Act::Say(say, parts)),
        1 => (Just(vec![5; FRAME_MAX_CLIENT]), vec(0..9_000_usize, 0..3)).prop_map(|(say, parts)| Act::Say(say, parts)),
        2 => vec(any::<u8>(), 0..=125).prop_map(Act::Ping),
        1 => vec(any::<u8>(), 0..=125).prop_map(Act::Pong),
        1 => (3_000..5_000_u16, "[a-zé]{0,30}").prop_map(|(code, reason)| Act::Close(code, reason)),
    ]
}

proptest! {
    #[test]
    fn what_a_client_encodes_is_decoded_from_any_pieces(
        acts in vec(act(), 0..12),
        pieces in vec(prop_oneof![1..20_usize, 1..5_000_usize], 1..8),
    ) {
        let (bytes, messages) = encode(&acts);

        prop_assert_eq!(read(&bytes, &pieces), (messages, None));
    }

    #[test]
    fn any_bytes_are_decoded_alike_from_any_pieces(
        acts in vec(act(), 0..6),
        wrong in vec((any::<Index>(), any::<u8>()), 0..4),
        noise in vec(any::<u8>(), 0..64),
        pieces in vec(prop_oneof![1..20_usize, 1..5_000_usize], 1..8),
    ) {
        let (mut bytes, _) = encode(&acts);
        bytes.extend(noise);
        for (at, byte) in wrong {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }

        prop_assert_eq!(read(&bytes, &pieces), read(&bytes, &[usize::MAX]));
    }
}
