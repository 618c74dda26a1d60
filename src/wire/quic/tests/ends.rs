//! Tests how links end. For each action of the peer in each phase, a link opens at most once and ends at most once,
//! and no event follows its end.

use web_transport_proto as h3;

use super::*;

/// Returns a stream of the client. Over WebTransport, 0 is the request and 1 is the reliable lane.
fn bi(index: u64) -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, index)
}

/// Passes the client's datagrams to the server's connection. The server does not process them yet.
fn client_speaks(pair: &mut Pair) {
    for datagram in pair.client.turn(pair.now, pair.status) {
        pair.server.take(pair.now, &datagram, 0);
    }
}

/// Lets the server process its events, and passes its datagrams to the client.
fn server_speaks(pair: &mut Pair) {
    pair.now += Duration::from_millis(5);
    for datagram in pair.server.turn(pair.now, pair.status) {
        pair.client.take(pair.now, &datagram, 1);
    }
}

/// Returns a pair whose client has just requested a session. The server's connection has the request, and the
/// server has not processed it.
fn asked() -> Pair {
    let mut pair = webtransport();
    while pair.client.lanes.session.as_ref().and_then(|session| session.request()).is_none() {
        server_speaks(&mut pair);
        client_speaks(&mut pair);
    }
    pair
}

fn hang_up(pair: &mut Pair) {
    let now = pair.now;
    pair.client.connection().close(now, VarInt::from_u32(3), Bytes::new());
}

/// Checks that a link has opened at most once, and that no event follows its end.
fn assert_one_life(happened: &[LaneEvent], what: &str) {
    let opened = happened.iter().filter(|happened| matches!(happened, LaneEvent::Opened(_))).count();
    let is_end = |happened: &LaneEvent| matches!(happened, LaneEvent::Ended(_) | LaneEvent::Finished);
    let behind = happened.iter().skip_while(|happened| !is_end(happened)).count();
    assert!(opened <= 1 && behind <= 1, "{what}: {happened:?}");
}

#[test]
fn a_session_that_is_requested_and_closed_at_once_opens_no_link() {
    let mut pair = asked();

    hang_up(&mut pair);
    client_speaks(&mut pair);
    for _ in 0..10 {
        pair.step();
    }

    assert_eq!(pair.server.happened, [LaneEvent::Ended(Ended::ByPeer(None))]);
}

/// An action of a client on its connection.
type Act = fn(&mut Pair);

/// The actions of a client on the streams of a link, and on its connection. An action on a stream that does not
/// exist has no effect.
const ACTS: [(&str, Act); 14] = [
    ("closes the connection", hang_up),
    ("closes it twice", |pair| {
        hang_up(pair);
        client_speaks(pair);
        hang_up(pair);
    }),
    ("finishes the first stream", |pair| drop(pair.client.connection().send_stream(bi(0)).finish())),
    ("finishes the second stream", |pair| drop(pair.client.connection().send_stream(bi(1)).finish())),
    ("resets the first stream", |pair| drop(pair.client.connection().send_stream(bi(0)).reset(code()))),
    ("resets the second stream", |pair| drop(pair.client.connection().send_stream(bi(1)).reset(code()))),
    ("stops the first stream", |pair| drop(pair.client.connection().recv_stream(bi(0)).stop(code()))),
    ("stops the second stream", |pair| drop(pair.client.connection().recv_stream(bi(1)).stop(code()))),
    ("resets and stops both", |pair| {
        for stream in [bi(0), bi(1)] {
            let _ = pair.client.connection().send_stream(stream).reset(code());
            let _ = pair.client.connection().recv_stream(stream).stop(code());
        }
    }),
    ("closes the session", |pair| say(pair, bi(0), &capsule())),
    ("closes the session twice and finishes", |pair| {
        say(pair, bi(0), &[capsule(), capsule()].concat());
        let _ = pair.client.connection().send_stream(bi(0)).finish();
    }),
    ("sends GOAWAY", |pair| say(pair, StreamId::new(Side::Client, Dir::Uni, 0), &[7, 1, 0])),
    ("asks for a second session", |pair| {
        let stream = pair.client.connection().streams().open(Dir::Bi);
        stream.into_iter().for_each(|stream| say(pair, stream, &[1, 1]));
    }),
    ("changes its connection id", |pair| {
        if !pair.client.connection().is_closed() {
            pair.client.connection().local_address_changed();
        }
    }),
];

fn code() -> VarInt {
    VarInt::from_u32(7)
}

fn say(pair: &mut Pair, stream: StreamId, bytes: &[u8]) {
    let _ = pair.client.connection().send_stream(stream).write(bytes);
}

fn capsule() -> Vec<u8> {
    let mut capsule = Vec::new();
    h3::Capsule::CloseWebTransportSession { code: 7, reason: String::new() }.encode(&mut capsule);
    let head = [0, u8::try_from(capsule.len()).expect("short")];
    [&head[..], &capsule].concat()
}

fn finish(pair: &mut Pair) {
    let server = &mut pair.server;
    server.lanes.finish(9, &mut server.connection.as_mut().expect("a connection").1);
}

/// Returns a pair of each kind in each phase of the server's end.
fn in_each_phase() -> Vec<(String, Pair)> {
    let mut pairs = vec![("asked".to_owned(), asked())];
    for (kind, fresh) in [("quic", quic as fn() -> Pair), ("webtransport", webtransport)] {
        let mut shaking = fresh();
        client_speaks(&mut shaking);
        server_speaks(&mut shaking);
        pairs.push((format!("{kind} shaking hands"), shaking));
    }
    for (kind, pair) in ["quic", "webtransport"].into_iter().zip(both()) {
        pairs.push((format!("{kind} open"), pair));
    }
    for (kind, pair) in ["quic", "webtransport"].into_iter().zip(both_heard()) {
        pairs.push((format!("{kind} heard"), pair));
    }
    for (kind, mut pair) in ["quic", "webtransport"].into_iter().zip(both_heard()) {
        pair.client.deaf = true;
        while pair.server.send(&frame(1, 60_000)) {}
        finish(&mut pair);
        pairs.push((format!("{kind} finishing"), pair));
    }
    for (kind, mut pair) in ["quic", "webtransport"].into_iter().zip(both_heard()) {
        assert!(pair.server.send(&frame(1, 60)));
        finish(&mut pair);
        pairs.push((format!("{kind} flushing"), pair));
    }
    let [_, mut closing] = both_heard();
    finish(&mut closing);
    while !matches!(closing.server.lanes.life.phase(), Phase::Closing(_)) {
        closing.step();
    }
    pairs.push(("webtransport closing".to_owned(), closing));
    pairs
}

#[test]
fn after_each_action_in_each_phase_a_link_ends_once_and_leaves_nothing() {
    for (name, act) in ACTS {
        for (phase, mut pair) in in_each_phase() {
            let what = format!("the client {name}, and the server's end is {phase}");
            act(&mut pair);
            client_speaks(&mut pair);
            for _ in 0..20 {
                pair.step();
            }

            hang_up(&mut pair);
            pair.until(&what, |pair| pair.server.is_drained && pair.client.is_drained);

            for end in [&pair.server, &pair.client] {
                assert_one_life(&end.happened, &what);
                assert_eq!(end.endpoint.open_connections(), 0, "{what}");
            }
            assert!(pair.server.lanes.life.is_over(), "{what}");
        }
    }
}
