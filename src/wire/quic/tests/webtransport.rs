//! Tests what browsers send around a session, and violations of the protocol.

use web_transport_proto as h3;

use super::*;

fn request() -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, 0)
}

fn data(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    h3::Frame::DATA.encode(&mut frame);
    h3::VarInt::from_u32(payload.len() as u32).encode(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

fn close(code: u32) -> Vec<u8> {
    let mut capsule = Vec::new();
    h3::Capsule::CloseWebTransportSession { code, reason: "enough".to_owned() }.encode(&mut capsule);
    capsule
}

fn write(pair: &mut Pair, bytes: &[u8]) {
    let written = pair.client.connection().send_stream(request()).write(bytes).expect("room");
    assert_eq!(written, bytes.len());
}

fn until_ended(pair: &mut Pair, code: Option<u32>) {
    pair.until("the server's end has ended", |pair| {
        pair.server.happened.contains(&LaneEvent::Ended(Ended::ByPeer(code)))
    });
}

#[test]
fn a_capsule_closes_the_session_for_each_way_to_cut_it() {
    let capsule = close(7);
    let (begin, end) = capsule.split_at(3);
    let whole = data(&capsule);
    let parts = [data(begin), data(end)].concat();
    // Unknown frames and capsules precede it.
    let other = [&[0x21, 2, 9, 9][..], &data(&[0x17, 0]), &data(&[0x3F, 1, 5]), &whole].concat();

    for bytes in [whole, parts, other] {
        for size in [1, 4, 100] {
            let mut pair = open(webtransport(), QuicKind::WebTransport);
            for piece in bytes.chunks(size) {
                write(&mut pair, piece);
                pair.step();
            }
            until_ended(&mut pair, Some(7));
        }
    }
}

#[test]
fn the_end_of_the_request_closes_the_session() {
    let mut pair = open(webtransport(), QuicKind::WebTransport);
    pair.client.connection().send_stream(request()).finish().expect("open");
    until_ended(&mut pair, None);

    let mut pair = open(webtransport(), QuicKind::WebTransport);
    pair.client.connection().send_stream(request()).reset(VarInt::from_u32(1)).expect("open");
    until_ended(&mut pair, None);
}

#[test]
fn a_capsule_that_is_too_long_ends_the_link() {
    let mut pair = open(webtransport(), QuicKind::WebTransport);

    // The header announces a frame of 16,000 bytes, and the bytes follow.
    write(&mut pair, &[0x00, 0x7E, 0x80]);
    for _ in 0..16 {
        write(&mut pair, &[0x3F; 1_000]);
        pair.step();
    }

    until_ended(&mut pair, None);
}

#[test]
fn unused_streams_and_datagrams_are_ignored() {
    let mut pair = open(webtransport(), QuicKind::WebTransport);

    // A QPACK stream, and a stream of an unknown kind.
    for head in [&[0x02, 0x3F, 0xE1, 0x1F][..], &[0x21, 1, 2, 3]] {
        let stream = pair.client.connection().streams().open(Dir::Uni).expect("a stream");
        pair.client.connection().send_stream(stream).write(head).expect("room");
    }
    // A datagram of another session, and one that is cut short.
    for datagram in [&[4, 0x80, 1][..], &[0x40]] {
        let datagram = Bytes::copy_from_slice(datagram);
        pair.client.connection().datagrams().send(datagram, false).expect("room");
    }

    let frames = [(Lane::Reliable, frame(1, 2)), (Lane::Unreliable, frame(0x80, 3))];
    for (_, frame) in &frames {
        assert!(pair.client.send(frame));
    }
    pair.until("the frames arrive", |pair| pair.server.received.len() == 2);
    assert_eq!(pair.server.received, frames);
    assert_eq!(pair.server.happened.len(), 2, "asked and opened: {:?}", pair.server.happened);
}

#[test]
fn another_session_a_second_request_and_a_second_stream_are_breaches() {
    for head in [&[0x40, 0x41, 0x04][..], &[0x01, 0x01], &[0x40, 0x41, 0x00]] {
        let lanes = Lanes::webtransport_client(65_536, url());
        let limits = QuicLimits { bidi_streams: 3, ..QuicLimits::default() };
        let pair = Pair::limited(lanes, ALPN_WEBTRANSPORT, &limits);
        let mut pair = open(pair, QuicKind::WebTransport);

        let stream = pair.client.connection().streams().open(Dir::Bi).expect("a third stream");
        pair.client.connection().send_stream(stream).write(head).expect("room");

        pair.until("the server sees it", |pair| {
            pair.server.happened.iter().any(|happened| matches!(happened, LaneEvent::ProtocolViolation(_)))
        });
    }
}
