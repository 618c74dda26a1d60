//! Tests clients that violate the WebSocket protocol, over real sockets.

use bytes::Bytes;
use waystation::proxy::LinkEnd;
use waystation::proxy::websocket::WebSocketConfig;

use crate::stage::websocket::{Setup, Stage, shake};
use crate::stage::{Client as _, frame};

/// Encodes a client's frame with a mask of zeros, which leaves the payload unchanged.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn frames_that_rfc_6455_forbids_are_answered_with_the_code_for_them() {
    let code = |code: u16| masked(0x88, &code.to_be_bytes());
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("an unmasked frame", vec![0x82, 3, 1, 0x50, 7], 1_002),
        ("an empty frame without a mask", vec![0x82, 0], 1_002),
        ("a reserved bit", masked(0xC2, b"compressed"), 1_002),
        ("an undefined data opcode", masked(0x83, b""), 1_002),
        ("an undefined control opcode", masked(0x8F, b""), 1_002),
        ("a fragmented ping", masked(0x09, b""), 1_002),
        ("a ping of 126 bytes", masked(0x89, &[0; 126]), 1_002),
        ("a continuation without a message", masked(0x80, b""), 1_002),
        ("a message within another", [masked(0x02, b"a"), masked(0x82, b"b")].concat(), 1_002),
        ("a length in more bytes than it needs", vec![0x82, 0xFE, 0, 1, 0, 0, 0, 0, 1], 1_002),
        ("a Close of one byte", masked(0x88, &[3]), 1_002),
        ("a Close with the code 0", code(0), 1_002),
        ("a Close with the code 999", code(999), 1_002),
        ("a Close with the code 1005", code(1_005), 1_002),
        ("a Close with the code 65535", code(65_535), 1_002),
        ("a Close whose reason is not UTF-8", masked(0x88, &[3, 0xE8, 0xC3, 0x28]), 1_007),
    ];
    let mut stage = Stage::new();
    for (what, bytes, wanted) in cases {
        let ada = stage.connect();
        let before = stage.counts().violation_count;

        // Bytes that arrive after the answer was sent must not discard the answer.
        stage.clients[ada].throw(&[bytes, masked(0x82, &[7; 1_000]).repeat(50)].concat());
        stage.until(what, |stage| stage.end_of(ada).is_some() && stage.clients[ada].is_over);

        assert_eq!(stage.clients[ada].closed, Some(wanted), "{what}");
        assert_eq!(stage.end_of(ada), Some(LinkEnd::Failed), "{what}");
        assert_eq!(stage.bytes_of(ada), Vec::<Bytes>::new(), "{what}");
        stage.until_counted(what, |counts| counts.violation_count, before + 1);
    }
    stage.assert_serves_others();
}

#[test]
fn a_client_that_stays_after_a_close_is_disconnected() {
    let websocket = WebSocketConfig { max_links: 1, ..WebSocketConfig::default() };
    let mut stage = Stage::with(Setup { websocket, ..Setup::default() });
    let ada = stage.connect();
    stage.clients[ada].deaf = true;

    stage.clients[ada].throw(&[0x82, 0]);
    stage.until("the tick has the end of the link", |stage| stage.end_of(ada).is_some());
    let server = stage.local_addr();
    stage.until("its place is free", |_| shake(server, "").starts_with("HTTP/1.1 101"));
    stage.clients[ada].deaf = false;
    stage.until("the client reports the end", |stage| stage.clients[ada].is_over);

    assert_eq!(stage.clients[ada].closed, Some(1_002));
}

#[test]
fn a_close_that_is_followed_by_a_flood_is_answered_once() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.clients[ada].say(frame(0x01, 1));
    stage.clients[ada].throw(&masked(0x88, &1_000_u16.to_be_bytes()).repeat(20_000));
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByPeer));
    assert_eq!(stage.bytes_of(ada), [frame(0x01, 1)]);
    assert_eq!(stage.clients[ada].closed, Some(1_000));
}
