mod ends;

use std::net::UdpSocket;

use super::host::Host;
use super::*;
use crate::client::{Client, ClientConfig, ClientEvent};
use crate::wire::quic::{Ended, QuicKind, WEBTRANSPORT_PATH};
use crate::wire::v1::Join;
use crate::wire::{LINK_TIMEOUT, encode};

const STEP: Duration = Duration::from_millis(20);

const BOTH: [&[u8]; 2] = [ALPN_QUIC, ALPN_WEBTRANSPORT];

fn webtransport() -> QuicRoute {
    QuicRoute::WebTransport { path: WEBTRANSPORT_PATH.to_owned() }
}

fn target(host: &Host, route: QuicRoute) -> QuicTarget {
    QuicTarget {
        address: host.address(),
        server_name: "localhost".to_owned(),
        trust: Trust::Sha256(host.sha256()),
        route,
    }
}

/// Runs both ends until `done` returns true, and panics if that takes too long.
fn until(link: &mut QuicLink, host: &mut Host, mut done: impl FnMut(&mut QuicLink, &mut Host) -> bool) {
    for _ in 0..10_000 {
        link.update(STEP);
        link.flush();
        host.pump(STEP);
        if done(link, host) {
            return;
        }
    }
    panic!("the condition did not hold in time: {link:?}");
}

fn open_at(mut host: Host, route: QuicRoute) -> (QuicLink, Host) {
    let mut link = QuicDial::new(target(&host, route)).dial().expect("a link");
    assert_eq!(link.status(), LinkStatus::Opening);
    until(&mut link, &mut host, |link, host| {
        link.status() == LinkStatus::Open && host.links.last().is_some_and(|link| link.opened.is_some())
    });
    (link, host)
}

/// Returns a link on each route.
fn both() -> [(QuicLink, Host); 2] {
    [QuicRoute::Quic, webtransport()].map(|route| open_at(Host::bind("127.0.0.1", &BOTH), route))
}

/// Tries to open a link, and returns why it did not open.
fn refused(target: QuicTarget, host: &mut Host) -> String {
    let mut link = QuicDial::new(target).dial().expect("a try");
    until(&mut link, host, |link, _| {
        assert_ne!(link.status(), LinkStatus::Open);
        link.status() == LinkStatus::Closed
    });
    link.failure().expect("a reason")
}

fn join(bytes: usize) -> Bytes {
    encode(&Join { request: 1, zone: String::new(), payload: vec![7; bytes].into() })
}

#[test]
fn frames_of_all_sizes_cross_on_both_lanes_of_both_routes() {
    for (mut link, mut host) in both() {
        let small = Bytes::from_static(&[0x81, 0x00, 1]);
        let frames = [join(0), join(16_000), small.clone(), Bytes::from(vec![0x81; 2_000])];

        for frame in &frames {
            assert!(link.send(frame.clone()));
        }
        // The server learns of the stream when the first frame arrives on it.
        until(&mut link, &mut host, |_, host| host.links[0].received.len() == frames.len());
        for frame in &frames {
            host.links[0].send(frame);
        }

        let mut down = Vec::new();
        until(&mut link, &mut host, |link, _| {
            down.extend(std::iter::from_fn(|| link.receive()));
            down.len() == frames.len()
        });
        for received in [&down, &host.links[0].received] {
            assert!(frames.iter().all(|frame| received.iter().any(|(_, received)| received == frame)));
            // A frame that does not fit into a datagram is sent on the stream.
            let by_datagram: Vec<&Bytes> = received
                .iter()
                .filter(|(lane, _)| *lane == Lane::Unreliable)
                .map(|(_, frame)| frame)
                .collect();
            assert_eq!(by_datagram, [&small]);
        }
    }
}

#[test]
fn a_link_continues_on_another_socket() {
    for (mut link, mut host) in both() {
        assert!(link.send(join(1)));
        until(&mut link, &mut host, |_, host| host.links[0].received.len() == 1);

        let address = link.rebind().expect("a socket");

        assert!(link.send(join(2)));
        until(&mut link, &mut host, |_, host| {
            host.links[0].received.len() == 2
                && host.links[0].connection.remote_address().port() == address.port()
        });
        host.links[0].send(&join(3));
        until(&mut link, &mut host, |link, _| link.receive() == Some((Lane::Reliable, join(3))));
        assert_eq!((host.links.len(), link.status()), (1, LinkStatus::Open));
    }
}

#[test]
fn a_link_whose_path_is_lost_moves_to_another_before_its_timeout() {
    for (mut link, mut host) in both() {
        assert!(link.send(join(1)));
        until(&mut link, &mut host, |_, host| host.links[0].received.len() == 1);
        let old = host.links[0].connection.remote_address().port();

        host.lost_port = Some(old);
        assert!(link.send(join(2)));

        let mut waited = Duration::ZERO;
        until(&mut link, &mut host, |_, host| {
            waited += STEP;
            host.links[0].received.len() == 2
        });
        assert!(waited < LINK_TIMEOUT, "{waited:?}");
        assert_ne!(host.links[0].connection.remote_address().port(), old);
        assert_eq!((host.links.len(), link.status()), (1, LinkStatus::Open));
    }
}

#[test]
fn an_idle_link_keeps_its_socket() {
    for (mut link, mut host) in both() {
        let here = host.links[0].connection.remote_address();

        for _ in 0..100 {
            link.update(5 * STEP);
            link.flush();
            host.pump(5 * STEP);
        }

        assert_eq!(host.links[0].connection.remote_address(), here);
        assert_eq!(link.status(), LinkStatus::Open);
    }
}

#[test]
fn a_close_informs_the_server_at_once_and_a_drop_does_not() {
    for (mut link, mut host) in both() {
        link.close();

        assert!(link.status() == LinkStatus::Closed && !link.send(join(1)));
        for _ in 0..1_000 {
            if host.links[0].ended.is_none() {
                host.pump(Duration::ZERO);
            }
        }
        assert_eq!(host.links[0].ended, Some(Ended::ByPeer(Some(0))));
    }
    for (link, mut host) in both() {
        drop(link);

        let mut silent = Duration::ZERO;
        while host.links[0].ended.is_none() && silent < Duration::from_secs(60) {
            host.pump(10 * STEP);
            silent += 10 * STEP;
        }
        assert!(silent >= QuicLimits::default().idle_timeout);
        assert_eq!(host.links[0].ended, Some(Ended::Silent));
    }
}

#[test]
fn frames_before_a_close_of_the_server_are_received_and_the_reason_is_reported() {
    for (mut link, mut host) in both() {
        assert!(link.send(join(1)));
        until(&mut link, &mut host, |_, host| host.links[0].received.len() == 1);
        host.links[0].send(&join(2));

        host.links[0].finish(Reason::Kicked);

        let mut received = Vec::new();
        until(&mut link, &mut host, |link, _| {
            received.extend(std::iter::from_fn(|| link.receive()));
            link.status() == LinkStatus::Closed
        });
        received.extend(std::iter::from_fn(|| link.receive()));
        assert_eq!(received, [(Lane::Reliable, join(2))]);
        let why = link.failure().expect("a reason");
        assert!(why.contains("KICKED"), "{why}");
    }
}

#[test]
fn a_frame_that_is_too_long_is_reported_as_a_violation() {
    for (mut link, mut host) in both() {
        assert!(link.send(join(1)));
        until(&mut link, &mut host, |_, host| host.links[0].received.len() == 1);
        assert_eq!(link.violation(), None);
        host.links[0].send(&join(FRAME_MAX_SERVER));

        until(&mut link, &mut host, |link, _| {
            assert_eq!(link.receive(), None);
            link.status() == LinkStatus::Closed
        });

        assert!(link.violation().is_some_and(|what| what.contains("longer than is allowed")));
    }
}

#[test]
fn an_untrusted_certificate_ends_the_try_with_a_remedy() {
    let mut host = Host::bind("127.0.0.1", &BOTH);
    let pinned = QuicTarget { trust: Trust::Sha256([7; 32]), ..target(&host, QuicRoute::Quic) };
    let by_authority = QuicTarget { trust: Trust::WebPki, ..target(&host, webtransport()) };

    let wrong_pin = refused(pinned, &mut host);
    let no_authority = refused(by_authority, &mut host);

    assert!(wrong_pin.contains(&"07".repeat(32)) && wrong_pin.contains("ask its discovery"), "{wrong_pin}");
    assert!(no_authority.contains("UnknownIssuer"), "{no_authority}");
}

#[test]
fn the_game_gets_the_reason_why_no_link_opened() {
    let mut host = Host::bind("127.0.0.1", &BOTH);
    let dial = QuicDial::new(QuicTarget { trust: Trust::Sha256([7; 32]), ..target(&host, QuicRoute::Quic) });
    let config = ClientConfig { tries: 1, seed: Some(1), ..ClientConfig::default() };
    let mut client = Client::new(dial, config);

    let told = std::iter::from_fn(|| {
        client.update(STEP);
        host.pump(STEP);
        Some(client.poll())
    });

    let closed = told.take(10_000).flatten().find_map(|event| match event {
        ClientEvent::Closed { detail, .. } => Some(detail),
        _ => None,
    });
    assert!(closed.expect("it gives up").contains(&"07".repeat(32)));
}

#[test]
fn a_server_of_another_protocol_or_path_ends_the_try_with_a_reason() {
    let mut browsers_only = Host::bind("127.0.0.1", &[ALPN_WEBTRANSPORT]);
    let mut host = Host::bind("127.0.0.1", &BOTH);
    let elsewhere = QuicRoute::WebTransport { path: "/elsewhere".to_owned() };

    let protocol = refused(target(&browsers_only, QuicRoute::Quic), &mut browsers_only);
    let path = refused(target(&host, elsewhere), &mut host);

    assert!(protocol.contains("protocol"), "{protocol}");
    assert!(path.contains("check the path"), "{path}");
}

#[test]
fn a_server_that_does_not_answer_is_reported() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut host = Host::bind("127.0.0.1", &BOTH);
    let address = silent.local_addr().expect("bound");
    let at_silent = || QuicTarget { address, ..target(&host, QuicRoute::Quic) };
    let mut waiting = QuicDial::new(at_silent()).dial().expect("a try");
    let nobody = at_silent();

    for _ in 0..100 {
        waiting.update(STEP);
        waiting.flush();
    }
    drop(silent);
    let refused = refused(nobody, &mut host);

    assert_eq!(waiting.status(), LinkStatus::Opening);
    assert!(waiting.failure().expect("a reason").contains("does not answer"));
    assert!(refused.contains("nothing listens at 127.0.0.1"), "{refused}");
}

#[test]
fn a_server_is_reached_over_ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        // This machine has no IPv6.
        return;
    }
    for route in [QuicRoute::Quic, webtransport()] {
        let host = Host::bind("::1", &BOTH);
        let by_address = QuicTarget { server_name: "[::1]".to_owned(), ..target(&host, route) };

        let mut link = QuicDial::new(by_address).dial().expect("a link");

        let mut host = host;
        until(&mut link, &mut host, |link, _| link.status() == LinkStatus::Open);
    }
}

#[test]
fn the_url_of_a_session_is_valid_for_any_server_name() {
    let url = |name, path| session_url(name, 7_778, path).map(|url| url.to_string());

    assert_eq!(url("::1", "/wt"), Ok("https://[::1]:7778/wt".to_owned()));
    assert_eq!(url("127.0.0.1", "wt"), Ok("https://127.0.0.1:7778/wt".to_owned()));
    assert_eq!(url("play.example", "/a/b?c"), Ok("https://play.example:7778/a/b?c".to_owned()));
    assert!(url("no name", "/wt").is_err());
}

#[test]
fn the_handshake_negotiates_a_different_protocol_for_each_route() {
    let kinds = both().map(|(_, host)| host.links[0].opened);

    assert_eq!(kinds, [Some(QuicKind::Quic), Some(QuicKind::WebTransport)]);
}
