//! Tests attacks of strangers and hostile clients on the QUIC adapter: other clients are served, and the memory
//! that the adapter holds is bounded.

use std::net::UdpSocket;
use std::time::Duration;

use quinn_proto::Dir;
use waystation::proxy::LinkEnd;
use waystation::proxy::quic::QuicConfig;
use waystation::tick::Clock;
use waystation::wire::quic::{Ended, LaneEvent, Lanes, OUT_MAX_BYTES, QuicKind, QuicLimits};
use waystation::wire::v1::Reason;
use waystation::wire::{FRAME_MAX_SERVER, Lane};

use crate::stage::quic::Stage;
use crate::stage::{Client as _, frame, loopback, sized};
use crate::support::fail_network_thread;

const KINDS: [QuicKind; 2] = [QuicKind::Quic, QuicKind::WebTransport];

/// Starts a server on a clock that stands still, so that no handshake times out on a slow machine.
fn timeless(config: QuicConfig) -> (Stage, Clock) {
    let clock = Clock::manual();
    (Stage::with(config, clock.clone()), clock)
}

#[test]
fn ten_thousand_initials_from_one_address_begin_no_handshake() {
    let (mut stage, _) = timeless(QuicConfig { retry_above: 8, ..QuicConfig::default() });
    // Begin as many handshakes as the server accepts without a Retry, and leave them.
    for _ in 0..8 {
        let client = stage.client(QuicKind::Quic);
        stage.clients[client].flush();
        stage.clients[client].frozen = true;
    }
    stage.until("the handshakes have begun", |stage| stage.counts().handshake_count == 8);
    // A repeated Initial without a token is handled as a new one.
    let initials: Vec<Vec<u8>> =
        (0..100).map(|_| stage.adapter.client(QuicKind::Quic).first_packet()).collect();
    let socket = UdpSocket::bind(loopback()).expect("a socket");
    let server = stage.local_addr();

    for round in 1..=100 {
        for initial in &initials {
            socket.send_to(initial, server).expect("sent");
        }
        // Wait each round: datagrams that overflow the kernel's buffer would not reach the server.
        stage.until("the datagrams are answered", |stage| stage.counts().retry_count >= round * 100);
    }

    let counts = stage.counts();
    assert_eq!(counts.handshake_count, 8, "no handshake was begun for them");
    assert_eq!(counts.retry_count, 10_000);
    assert!(
        counts.datagram_out_count < 11_000,
        "the server sends about as many datagrams as it receives: {counts:?}"
    );
    assert!(stage.events.is_empty(), "the tick received no event");
    // A client that proves its address is served meanwhile.
    stage.assert_serves_others();
    stage.until("the Retry is counted", |stage| stage.counts().retry_count > 10_000);
}

#[test]
fn half_open_handshakes_are_bounded_and_the_oldest_is_dropped() {
    let config = QuicConfig { retry_above: 0, max_handshakes: 3, ..QuicConfig::default() };
    let timeout = config.handshake_timeout;
    let (mut stage, clock) = timeless(config);

    for count in 1..=6 {
        let client = stage.client(QuicKind::Quic);
        stage.clients[client].flush();
        stage.clients[client].frozen = true;
        stage.until("the server answers with a Retry", |stage| stage.counts().retry_count >= count);
        stage.clients[client].answer_retry();
        stage.until("the client has repeated its Initial", |stage| stage.counts().handshake_count >= count);
    }

    stage.until_counted("the handshakes are counted", |counts| counts.handshake_count, 6);
    stage.until_counted("the dropped handshakes are counted", |counts| counts.turned_away_count, 3);
    stage.until_counted("the failed handshakes are counted", |counts| counts.handshake_failed_count, 3);
    // A player from the same network connects while too many handshakes are half open.
    let ada = stage.connect(QuicKind::Quic);
    stage.assert_echo(ada);
    clock.advance(timeout + Duration::from_millis(1));
    stage.until("the half-open handshakes are dropped", |stage| {
        let counts = stage.counts();
        counts.handshake_failed_count + 1 == counts.handshake_count
    });
    stage.assert_serves_others();
}

#[test]
fn a_full_server_turns_new_clients_away() {
    let (mut stage, _) = timeless(QuicConfig { max_links: 2, ..QuicConfig::default() });
    let (first, second) = (stage.connect(QuicKind::Quic), stage.connect(QuicKind::WebTransport));

    let third = stage.client(QuicKind::Quic);

    stage.until("the server closes the connection", |stage| {
        stage.clients[third].happened.contains(&LaneEvent::Ended(Ended::ByPeer(None)))
    });
    stage.until("the client is counted", |stage| stage.counts().turned_away_count > 0);
    for client in [first, second] {
        stage.assert_echo(client);
    }
}

#[test]
fn a_client_that_never_reads_loses_its_link_and_its_buffer_is_bounded() {
    let mut stage = Stage::new();
    for kind in KINDS {
        let client = stage.connect(kind);
        let before = stage.counts().slow_count;
        stage.clients[client].deaf = true;
        let mut sent = 0;

        stage.until("the link has ended", |stage| {
            if stage.end_of(client).is_none() {
                for _ in 0..16 {
                    stage.send(client, sized(0x01, 8_192));
                    sent += 8_192;
                }
            }
            stage.end_of(client).is_some()
        });

        assert_eq!(stage.end_of(client), Some(LinkEnd::Failed));
        stage.until_counted("the lost link is counted", |counts| counts.slow_count, before + 1);
        let bound = OUT_MAX_BYTES + QuicLimits::default().send_window_bytes as usize;
        assert!(sent > OUT_MAX_BYTES && sent < 3 * bound, "{sent} bytes were sent to the client");
        stage.until("the client reports the end", |stage| {
            let reason = Ended::ByPeer(Some(Reason::Slow as u32));
            stage.clients[client].happened.contains(&LaneEvent::Ended(reason))
        });
    }
    stage.assert_serves_others();
}

#[test]
fn a_frame_sent_byte_by_byte_arrives_and_does_not_delay_others() {
    let mut stage = Stage::new();
    let client = stage.client(QuicKind::Quic);
    stage.until("the handshake is complete", |stage| stage.clients[client].is_open());
    // The client's lanes own the first stream and never use it.
    let stream = quinn_proto::StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0);
    let other = stage.connect(QuicKind::Quic);

    for byte in [3, 0x01, 0x50, 9] {
        stage.clients[client].write(stream, &[byte]);
        stage.assert_echo(other);
    }

    stage.until("the frame is complete", |stage| {
        stage.frames_of(client) == [(Lane::Reliable, frame(0x01, 9))]
    });
}

#[test]
fn an_invalid_frame_length_is_a_breach_at_once() {
    let mut stage = Stage::new();
    for announced in [&[0xFF, 0xFF, 0xFF][..], &[0x81, 0x80, 0x01], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
        let client = stage.client(QuicKind::Quic);
        stage.until("the handshake is complete", |stage| stage.clients[client].is_open());
        let stream = quinn_proto::StreamId::new(quinn_proto::Side::Client, Dir::Bi, 0);

        stage.clients[client].write(stream, announced);

        stage.until("the gate receives the breach", |stage| stage.breaches_of(client) > 0);
        assert!(stage.frames_of(client).is_empty());
    }
}

#[test]
fn a_flood_on_one_link_does_not_block_other_links() {
    let mut stage = Stage::new();
    let (flooding, other) = (stage.connect(QuicKind::Quic), stage.connect(QuicKind::Quic));

    for _ in 0..20 {
        for _ in 0..2_000 {
            stage.clients[flooding].send(&frame(0x80, 1));
        }
        stage.assert_echo(other);
    }

    assert_eq!(stage.end_of(flooding), None, "excess datagrams are dropped and do not end the link");
}

#[test]
fn frames_beyond_one_batch_all_arrive_in_order() {
    let mut stage = Stage::new();
    let (flooding, other) = (stage.connect(QuicKind::Quic), stage.connect(QuicKind::Quic));
    let frames: Vec<bytes::Bytes> =
        (0..64).map(|number| [&[0x01, number][..], &[number; 16_000]].concat().into()).collect();
    let before = stage.frames_of(flooding).len();

    // One and a half times the frames of a batch. They fit a client's buffer.
    for (number, part) in frames.chunks(24).enumerate() {
        for frame in part {
            stage.clients[flooding].send(frame);
        }
        stage.assert_echo(other);
        let so_far = frames.len().min(24 * (number + 1));
        stage.until("all frames have arrived", |stage| stage.frames_of(flooding).len() == before + so_far);
    }

    let heard: Vec<bytes::Bytes> =
        stage.frames_of(flooding).into_iter().skip(before).map(|(_, frame)| frame).collect();
    assert!(heard == frames, "each frame arrives once and in order");
}

#[test]
fn datagrams_that_are_not_quic_are_dropped() {
    let mut stage = Stage::new();
    let client = stage.connect(QuicKind::Quic);
    let mut seed = 0x9E37_79B9_u32;

    for length in (0..1_600).step_by(7) {
        let datagram: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        stage.clients[client].throw(&datagram);
    }

    stage.assert_echo(client);
    assert_eq!(stage.counts().restart_count, 0);
}

#[test]
fn an_invalid_request_ends_the_connection_before_it_becomes_a_link() {
    let mut stage = Stage::new();
    // A DATA frame, a request that is too long, invalid headers, and a stream of a session that was never
    // requested.
    let long = [&[0x01, 0x80, 0x00, 0x80, 0x00][..], &[0x21; 1_000]].concat();
    for (count, bytes) in [&[0x00, 0x01, 0x00][..], &long, &[0x01, 0x02, 0xFF, 0xFF], &[0x40, 0x41, 0x04]]
        .into_iter()
        .enumerate()
    {
        let client = stage.client(QuicKind::WebTransport);
        stage.clients[client].raw = true;
        stage.until("the handshake is complete", |stage| !stage.clients[client].connection.is_handshaking());

        stage.clients[client].open_stream(Dir::Bi, bytes);

        stage.until("the server closes the connection", |stage| stage.clients[client].connection.is_closed());
        let wanted = count as u64 + 1;
        stage.until_counted("the connection is counted", |counts| counts.handshake_failed_count, wanted);
    }
    assert!(stage.events.is_empty(), "no link was opened");
    stage.assert_serves_others();
}

#[test]
fn a_client_that_allows_no_datagrams_receives_all_frames_on_the_stream() {
    let mut stage = Stage::new();
    let limits = QuicLimits { datagram_bytes: 0, ..QuicLimits::default() };
    let client = stage.client_with(Lanes::quic_client(FRAME_MAX_SERVER), b"waystation/1", &limits);
    stage.until("the client is connected", |stage| stage.clients[client].is_open());
    stage.clients[client].send(&frame(0x01, 0));
    stage.until("the server has the client's stream", |stage| {
        stage.link_of(client).is_some() && !stage.frames_of(client).is_empty()
    });

    stage.send(client, frame(0x80, 1));

    stage.until("the frame arrives", |stage| {
        stage.clients[client].received.contains(&(Lane::Reliable, frame(0x80, 1)))
    });
}

#[test]
fn a_thread_that_fails_loses_its_links_and_serves_new_clients() {
    let mut stage = Stage::new();
    let clients = KINDS.map(|kind| stage.connect(kind));

    fail_network_thread(&mut stage.app);

    stage.until("the links are lost", |stage| {
        clients.iter().all(|client| stage.end_of(*client) == Some(LinkEnd::Failed))
    });
    stage.until("the clients report the end", |stage| {
        let is_end = |happened: &LaneEvent| matches!(happened, LaneEvent::Ended(_));
        clients.iter().all(|client| stage.clients[*client].happened.iter().any(is_end))
    });
    stage.until("the restart is counted", |stage| stage.counts().restart_count == 1);
    stage.assert_serves_others();
}

#[test]
fn clients_that_request_a_session_and_close_at_once_leave_no_link_and_cut_no_other() {
    let mut stage = Stage::new();
    let honest: Vec<usize> = (0..8).map(|turn| stage.connect(KINDS[turn % 2])).collect();
    let url = "https://localhost:7778/wt".parse::<url::Url>().expect("a URL");
    let mut request = Vec::new();
    web_transport_proto::ConnectRequest::new(url).encode(&mut request).expect("a request");

    for _ in 0..40 {
        let rude = stage.client(QuicKind::WebTransport);
        stage.clients[rude].raw = true;
        stage.until("the handshake is complete", |stage| !stage.clients[rude].connection.is_handshaking());
        stage.clients[rude].open_stream(Dir::Bi, &request);
        stage.clients[rude].flush();
        stage.clients[rude].hang_up();
    }

    for client in honest {
        stage.assert_echo(client);
        assert_eq!(stage.end_of(client), None);
    }
    stage.assert_serves_others();
    assert_eq!(stage.counts().restart_count, 0);
}
