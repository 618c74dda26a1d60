//! Tests that clients behind a trusted relay have their own addresses.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use waystation::admin::{RelayHeader, TrustedRelays};
use waystation::proxy::ProxyEventKind;
use waystation::tick::Clock;

use crate::stage::websocket::{Setup, Stage, ask, get};

/// Starts a server that answers discovery once per second and network, and trusts relays on loopback. Its clock
/// stands still.
fn behind_a_relay(header: RelayHeader) -> Stage {
    let mut setup = Setup { clock: Clock::manual(), ..Setup::default() };
    setup.http.trusted_relays = TrustedRelays::new(["127.0.0.0/8".parse().expect("a network")], header);
    setup.http.max_connects_per_address = 1;
    Stage::with(setup)
}

/// Returns the status of an answer.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).expect("a status")
}

/// Returns the addresses of the links that were opened.
fn addresses(stage: &Stage) -> Vec<SocketAddr> {
    let opened = stage.events.iter().filter_map(|event| match &event.kind {
        ProxyEventKind::Opened(info) => info.address,
        _ => None,
    });
    opened.collect()
}

/// Sends `before`, then opens a WebSocket with these headers. It closes when the stream is dropped.
fn open(server: SocketAddr, before: &[u8], headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {server}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(&[before, request.as_bytes()].concat()).expect("room");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

#[test]
fn limits_by_address_count_the_clients_of_a_relay_and_not_the_relay() {
    let stage = behind_a_relay(RelayHeader::XForwardedFor);
    let server = stage.local_addr();
    let from = |list: &str| get(server, "/v1/connect", &format!("x-forwarded-for: {list}\r\n"));

    assert_eq!(status(&from("203.0.113.1")), "200");
    assert_eq!(status(&from("203.0.113.2")), "200", "another client");
    assert_eq!(status(&from("203.0.113.1")), "429", "the same client again");
    assert_eq!(
        status(&from("203.0.113.3, 203.0.113.1")),
        "429",
        "the addresses that the client itself wrote are ignored"
    );
    assert_eq!(status(&from("203.0.113.4, 127.0.0.9")), "200", "behind two relays");
}

#[test]
fn without_a_trusted_relay_clients_cannot_choose_their_address() {
    let mut setup = Setup { clock: Clock::manual(), ..Setup::default() };
    setup.http.max_connects_per_address = 1;
    let stage = Stage::with(setup);
    let server = stage.local_addr();

    let first = get(server, "/v1/connect", "x-forwarded-for: 203.0.113.1\r\n");
    let second = get(server, "/v1/connect", "x-forwarded-for: 203.0.113.2\r\nforwarded: for=203.0.113.3\r\n");

    assert_eq!((status(&first), status(&second)), ("200", "429"));
}

#[test]
fn a_link_over_websocket_has_its_clients_address() {
    let mut stage = behind_a_relay(RelayHeader::XForwardedFor);
    let server = stage.local_addr();

    let _link = open(server, b"", "x-forwarded-for: 198.51.100.7, [2001:db8::9]:4711\r\n");

    stage.until("the link is open", |stage| !addresses(stage).is_empty());
    assert_eq!(addresses(&stage), ["[2001:db8::9]:4711".parse().expect("an address")]);
}

#[test]
fn a_proxy_header_names_the_client_of_all_that_follows_on_its_connection() {
    let mut stage = behind_a_relay(RelayHeader::ProxyProtocol);
    let server = stage.local_addr();
    let request = format!("GET /v1/connect HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    let v1 = |client: &str| ask(server, &format!("PROXY TCP4 {client} 192.0.2.1 4711 443\r\n{request}"));

    assert_eq!(status(&v1("203.0.113.1")), "200");
    assert_eq!(status(&v1("203.0.113.2")), "200", "another client");
    assert_eq!(status(&v1("203.0.113.1")), "429", "the same client again");

    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C\xCB\x00\x71\x09\xC0\x00\x02\x01\x12\x67\x01\xBB";
    let _link = open(server, v2, "x-forwarded-for: 198.51.100.7\r\n");

    stage.until("the link is open", |stage| !addresses(stage).is_empty());
    assert_eq!(addresses(&stage), ["203.0.113.9:4711".parse().expect("an address")]);
}

#[test]
fn a_relay_that_promises_a_proxy_header_and_sends_none_is_hung_up_on() {
    let stage = behind_a_relay(RelayHeader::ProxyProtocol);
    let server = stage.local_addr();
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("room");

    let mut answer = Vec::new();
    // The connection may end with a reset, because the server does not read past the first bytes.
    let _ = stream.read_to_end(&mut answer);

    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let health =
        ask(server, "PROXY UNKNOWN\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1"), "a relay may ask for itself: {health}");
}
