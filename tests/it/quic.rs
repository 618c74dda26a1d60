//! Tests links over QUIC and WebTransport: how they carry frames, their limits, and how they end.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use quinn_proto::Dir;
use waystation::proxy::quic::QuicConfig;
use waystation::proxy::{LinkEnd, Origins, ProxyCommand};
use waystation::tick::Clock;
use waystation::wire::quic::{ALPN_QUIC, Ended, LaneEvent, Lanes, QuicKind, QuicLimits};
use waystation::wire::v1::{Closed, Reason};
use waystation::wire::{self, FRAME_MAX_CLIENT, FRAME_MAX_SERVER, Lane};

use crate::stage::quic::Stage;
use crate::stage::{Client as _, frame, loopback, now, sized};

const KINDS: [QuicKind; 2] = [QuicKind::Quic, QuicKind::WebTransport];

fn closed(reason: Reason) -> bytes::Bytes {
    wire::encode(&Closed { reason: reason.into(), ..Closed::default() })
}

#[test]
fn two_clients_exchange_frames_on_both_lanes_of_both_kinds() {
    let mut stage = Stage::new();
    let clients = KINDS.map(|kind| stage.connect(kind));

    for client in clients {
        for bytes in [frame(0x01, 1), frame(0x80, 2)] {
            stage.clients[client].send(&bytes);
            stage.send(client, bytes);
        }
    }

    for client in clients {
        for wanted in [(Lane::Reliable, frame(0x01, 1)), (Lane::Unreliable, frame(0x80, 2))] {
            stage.until("both sides have the frame", |stage| {
                stage.frames_of(client).contains(&wanted) && stage.clients[client].received.contains(&wanted)
            });
        }
    }
    stage.until_counted("the link over QUIC is counted", |counts| counts.quic_opened_count, 1);
    stage.until_counted(
        "the link over WebTransport is counted",
        |counts| counts.webtransport_opened_count,
        1,
    );
    let counts = stage.counts();
    assert_eq!((counts.oversize_count, counts.unreliable_dropped_count, counts.violation_count), (0, 0, 0));
}

#[test]
fn an_unreliable_frame_too_large_for_a_datagram_is_sent_on_the_stream_and_counted() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        let before = stage.counts().oversize_count;
        let long = sized(0x80, 2_000);

        stage.send(client, long.clone());

        stage.until("the frame arrives", |stage| {
            stage.clients[client].received.contains(&(Lane::Reliable, long.clone()))
        });
        stage.until_counted("the frame is counted", |counts| counts.oversize_count, before + 1);
    }
}

#[test]
fn the_longest_frames_pass_and_a_longer_one_is_a_breach() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        stage.clients[client].send(&sized(0x01, FRAME_MAX_CLIENT));
        stage.send(client, sized(0x01, FRAME_MAX_SERVER));
        stage.until("both arrive", |stage| {
            stage.frames_of(client).contains(&(Lane::Reliable, sized(0x01, FRAME_MAX_CLIENT)))
                && stage.clients[client].received.contains(&(Lane::Reliable, sized(0x01, FRAME_MAX_SERVER)))
        });

        stage.clients[client].send(&sized(0x01, FRAME_MAX_CLIENT + 1));
        stage.clients[client].send(&frame(0x01, 9));

        stage.until("the gate receives the breach", |stage| stage.breaches_of(client) > 0);
        assert!(
            !stage.frames_of(client).contains(&(Lane::Reliable, frame(0x01, 9))),
            "no frame is read after the breach"
        );
    }
}

#[test]
fn a_second_stream_of_either_direction_is_a_breach() {
    let mut stage = Stage::new();
    for (kind, dir) in
        [(QuicKind::Quic, Dir::Bi), (QuicKind::Quic, Dir::Uni), (QuicKind::WebTransport, Dir::Uni)]
    {
        let client = stage.connect(kind);

        // A stream of a WebTransport session begins with the id of the session.
        stage.clients[client].open_stream(dir, &[0x40, 0x54, 0]);

        stage.until("the gate receives the breach", |stage| stage.breaches_of(client) > 0);
        assert_eq!(stage.end_of(client), None, "the gate ends the session, and then the link");
    }
    stage.assert_serves_others();
}

#[test]
fn a_closed_link_delivers_its_last_frame_and_its_reason() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        stage.send(client, sized(0x01, 3_000));

        stage.command(client, |link| ProxyCommand::Close { link, frame: closed(Reason::Kicked) });

        stage.until("both sides report the end", |stage| {
            let reason = Ended::ByPeer(Some(Reason::Kicked as u32));
            stage.end_of(client).is_some()
                && stage.clients[client].happened.contains(&LaneEvent::Ended(reason))
        });
        assert_eq!(stage.end_of(client), Some(LinkEnd::ByServer));
        let frames: Vec<_> = stage.clients[client].received.iter().map(|(_, frame)| frame.clone()).collect();
        assert_eq!(frames, [sized(0x01, 3_000), closed(Reason::Kicked)]);
    }
}

#[test]
fn a_client_that_never_opened_its_stream_can_be_closed() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.client(kind);
        stage.until("the server has a link", |stage| stage.link_of(client).is_some());

        stage.command(client, |link| ProxyCommand::Close { link, frame: closed(Reason::Timeout) });

        stage.until("the client reports the end", |stage| {
            let reason = Ended::ByPeer(Some(Reason::Timeout as u32));
            stage.clients[client].happened.contains(&LaneEvent::Ended(reason))
        });
        stage.until("the server reports the end", |stage| stage.end_of(client) == Some(LinkEnd::ByServer));
    }
}

#[test]
fn a_link_that_is_cut_or_closed_by_its_client_ends_at_once() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let (cut, leaving) = (stage.connect(kind), stage.connect(kind));

        stage.command(cut, |link| ProxyCommand::Cut { link });
        let client = &mut stage.clients[leaving];
        client.lanes.close(0, &mut client.connection, now());

        stage.until("both links are gone", |stage| {
            stage.end_of(cut).is_some() && stage.end_of(leaving).is_some()
        });
        assert_eq!(stage.end_of(cut), Some(LinkEnd::ByServer));
        assert_eq!(stage.end_of(leaving), Some(LinkEnd::ByPeer));
    }
}

#[test]
fn a_paused_link_leaves_reliable_frames_in_the_transport() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        stage.command(client, |link| ProxyCommand::Pause { link });
        stage.tick();
        stage.until("the adapter has paused the link", |stage| {
            stage.clients[client].send(&frame(0x80, 1));
            stage.frames_of(client).contains(&(Lane::Unreliable, frame(0x80, 1)))
        });

        for tag in 1..100 {
            stage.clients[client].send(&frame(0x01, tag));
        }
        stage.clients[client].send(&frame(0x80, 2));
        stage.until("the unreliable frames arrive", |stage| {
            stage.frames_of(client).contains(&(Lane::Unreliable, frame(0x80, 2)))
        });
        assert!(!stage.frames_of(client).contains(&(Lane::Reliable, frame(0x01, 1))));

        stage.command(client, |link| ProxyCommand::Unpause { link });
        stage.until("all frames arrive", |stage| {
            stage.frames_of(client).contains(&(Lane::Reliable, frame(0x01, 99)))
        });
        let reliable: Vec<_> =
            stage.frames_of(client).into_iter().filter(|(lane, _)| *lane == Lane::Reliable).collect();
        let wanted: Vec<_> = (0..100).map(|tag| (Lane::Reliable, frame(0x01, tag))).collect();
        assert_eq!(reliable, wanted);
    }
}

#[test]
fn a_link_survives_a_change_of_its_clients_address() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        stage.assert_echo(client);

        for _ in 0..3 {
            let before = stage.clients[client].opened_from;
            assert_ne!(stage.clients[client].move_elsewhere(), before);
            stage.assert_echo(client);
        }

        assert_eq!(stage.end_of(client), None);
    }
    assert_eq!(stage.counts().closed_count, 0);
}

#[test]
fn another_protocol_is_refused_in_the_handshake() {
    let mut stage = Stage::new();
    let client =
        stage.client_with(Lanes::quic_client(FRAME_MAX_SERVER), b"waystation/2", &QuicLimits::default());

    stage.until("the client reports the end", |stage| !stage.clients[client].happened.is_empty());

    assert!(matches!(stage.clients[client].happened[..], [LaneEvent::Ended(_)]));
    stage.until("the failed handshake is counted", |stage| stage.counts().handshake_failed_count == 1);
    assert!(stage.events.is_empty(), "no link was opened");
    stage.assert_serves_others();
}

#[test]
fn no_early_data_is_accepted() {
    let mut stage = Stage::new();
    let mut eager = (*stage.adapter.client_tls(ALPN_QUIC)).clone();
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    let client = |stage: &mut Stage| {
        let lanes = Lanes::quic_client(FRAME_MAX_SERVER);
        stage.client_over(Arc::clone(&eager), lanes, &QuicLimits::default())
    };
    let first = client(&mut stage);
    stage.until("the client is connected", |stage| stage.clients[first].is_open());
    // The server sends its ticket with the first answers.
    stage.clients[first].send(&frame(0x01, 0));
    stage.until("a frame arrives", |stage| {
        stage.link_of(first).is_some() && !stage.frames_of(first).is_empty()
    });
    stage.assert_echo(first);

    let again = client(&mut stage);

    assert!(!stage.clients[again].connection.has_0rtt(), "the server's ticket allows no early data");
    stage.until("the client connects without early data", |stage| stage.clients[again].is_open());
    assert!(!stage.clients[again].connection.accepted_0rtt());
}

#[test]
fn a_client_that_does_not_request_its_session_in_time_is_disconnected() {
    let clock = Clock::manual();
    let mut stage = Stage::with(QuicConfig::default(), clock.clone());
    let client = stage.client(QuicKind::WebTransport);
    // The client completes its handshake and then requests no session.
    stage.clients[client].raw = true;
    stage.until("the handshake is complete", |stage| !stage.clients[client].connection.is_handshaking());
    assert_eq!(stage.counts().handshake_failed_count, 0);

    clock.advance(QuicConfig::default().handshake_timeout);

    stage.until("the server closes the connection", |stage| stage.counts().handshake_failed_count == 1);

    assert!(stage.events.is_empty(), "no link was opened");
    stage.until("the client is disconnected", |stage| stage.clients[client].connection.is_closed());
}

#[test]
fn only_the_session_path_and_listed_origins_open_a_webtransport_session() {
    let origins = Origins::Only(vec!["https://play.example".to_owned()]);
    let mut stage = Stage::with(QuicConfig { origins, ..QuicConfig::default() }, Clock::manual());
    for (path, origin, wanted) in [
        ("/wt", None, 200),
        ("/wt", Some("https://play.example"), 200),
        ("/wt", Some("https://elsewhere.example"), 403),
        ("/elsewhere", Some("https://play.example"), 404),
        ("/wt/", None, 404),
    ] {
        let client = stage.client(QuicKind::WebTransport);
        stage.clients[client].raw = true;
        stage.until("the handshake is complete", |stage| !stage.clients[client].connection.is_handshaking());
        let url: url::Url = format!("https://localhost{path}").parse().expect("a URL");
        let mut request = web_transport_proto::ConnectRequest::new(url);
        if let Some(origin) = origin {
            let value = origin.parse().expect("a value");
            request = request.with_header(web_transport_proto::http::header::ORIGIN, value);
        }
        let mut bytes = Vec::new();
        request.encode(&mut bytes).expect("a request");

        let stream = stage.clients[client].open_stream(Dir::Bi, &bytes);

        let mut answer = bytes::BytesMut::new();
        stage.until("the client has an answer", |stage| {
            let mut receiver = stage.clients[client].connection.recv_stream(stream);
            let Ok(mut chunks) = receiver.read(true) else { return true };
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                answer.extend_from_slice(&chunk.bytes);
            }
            let _ = chunks.finalize();
            !answer.is_empty()
        });
        let status = match web_transport_proto::ConnectResponse::decode(&mut answer) {
            Ok(response) => response.status.as_u16(),
            Err(web_transport_proto::ConnectError::WrongStatus(Some(status))) => status.as_u16(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, wanted, "{path} {origin:?}");
    }
    stage.until_counted("the refused connections are counted", |counts| counts.handshake_failed_count, 3);
    stage.until_counted("the refused requests are counted", |counts| counts.session_refused_count, 3);
    stage.until_counted("the links are counted", |counts| counts.webtransport_opened_count, 2);
}

#[test]
fn a_server_that_ends_closes_its_links_with_a_reason() {
    let mut stage = Stage::new();
    for kind in KINDS {
        stage.connect(kind);
    }

    drop(stage.adapter.handle.take());

    let reason = Ended::ByPeer(Some(Reason::Shutdown as u32));
    for client in &mut stage.clients {
        for _ in 0..1_000 {
            client.step();
        }
        assert!(client.happened.contains(&LaneEvent::Ended(reason)), "{:?}", client.happened);
    }
}

#[test]
fn a_server_that_ends_delivers_last_frames_during_a_flood_of_datagrams() {
    // The clock of the server stands while the client acknowledges, however slow the machine is.
    let clock = Clock::manual();
    let mut stage = Stage::with(QuicConfig::default(), clock.clone());
    let client = stage.connect(QuicKind::Quic);
    let server = stage.local_addr();
    // More frames than the server can send before the client acknowledges some.
    stage.send(client, sized(0x01, 60_000));
    stage.command(client, |link| ProxyCommand::Close { link, frame: closed(Reason::Shutdown) });
    stage.clients[client].frozen = true;
    stage.tick();
    let handle = stage.adapter.handle.take();
    let client = &mut stage.clients[client];
    let sent = AtomicUsize::new(0);

    let ended = thread::scope(|scope| {
        let ending = scope.spawn(move || drop(handle));
        scope.spawn(|| {
            let socket = UdpSocket::bind(loopback()).expect("a socket");
            while sent.fetch_add(1, Ordering::Relaxed) < 2_000 {
                // The server may have ended by now.
                let _ = socket.send_to(&[0; 40], server);
                thread::sleep(Duration::from_micros(200));
            }
        });
        // More datagrams than turns of the server's wait. The pause is short enough for a busy machine.
        while sent.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        client.frozen = false;
        while !ending.is_finished() {
            client.step();
            clock.advance(Duration::from_micros(1));
        }
        ending.join()
    });
    client.step();

    assert!(ended.is_ok());
    let lengths: Vec<usize> = client.received.iter().map(|(_, frame)| frame.len()).collect();
    assert_eq!(lengths, [60_000, closed(Reason::Shutdown).len()]);
}
