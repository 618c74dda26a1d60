//! HTTP connections: their number is bounded, and the server closes idle connections to accept new ones.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use waystation::admin::{RelayHeader, TrustedRelays};
use waystation::proxy::tls::Tls;
use waystation::tick::Clock;

use crate::stage::websocket::{Setup, Stage, get};

/// Starts a server that holds at most `max_connections` HTTP connections.
fn with_room_for(max_connections: usize) -> Stage {
    Stage::with(setup(max_connections))
}

fn setup(max_connections: usize) -> Setup {
    let mut setup = Setup::default();
    setup.http.max_connections = max_connections;
    setup
}

/// Starts a server behind relays on loopback. The relays send client addresses in PROXY headers, so that a test
/// can have clients in many networks.
fn behind_relays(max_connections: usize) -> Stage {
    let mut setup = setup(max_connections);
    let relays = ["127.0.0.0/8".parse().expect("a network")];
    setup.http.trusted_relays = TrustedRelays::new(relays, RelayHeader::ProxyProtocol);
    Stage::with(setup)
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

/// Connects as a client with this address and sends one request, so that the server has read the address.
fn connect_from(server: SocketAddr, client: &str) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(format!("PROXY TCP4 {client} 192.0.2.1 4711 443\r\n").as_bytes()).expect("room");
    assert!(answers(&mut stream));
    stream
}

/// Requests the server's health on a connection that stays open. Returns true if the answer is 200.
fn answers(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let mut part = [0; 1_024];
    while !answer.ends_with(b"}\n") {
        match stream.read(&mut part) {
            Ok(count) if count > 0 => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the server neither answers nor closes the connection")
            }
            _ => return false,
        }
    }
    answer.starts_with(b"HTTP/1.1 200")
}

/// Waits for the server to close a connection.
fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 1_024]) {
        Ok(count) => assert_eq!(count, 0, "the connection is still open"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn silent_connections_are_closed_for_new_ones_the_longest_idle_first() {
    let stage = with_room_for(4);
    let server = stage.local_addr();
    let mut silent: Vec<TcpStream> = (0..12).map(|_| connect(server)).collect();

    let answer = get(server, "/v1/connect", "");

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // With the connection of the request, nine connections exceeded the bound.
    for stream in &mut silent[..9] {
        assert_closed(stream);
    }
    assert!(silent[9..].iter_mut().all(answers), "three connections fit beside that of the request");
}

#[test]
fn a_connection_that_was_used_lately_stays_when_a_silent_one_is_there() {
    let stage = with_room_for(3);
    let server = stage.local_addr();
    let mut used = connect(server);
    let mut silent = [connect(server), connect(server)];
    // Connections are accepted in order, so now the server has accepted all three.
    assert!(answers(&mut silent[1]));
    assert!(answers(&mut used));

    let mut newcomer = connect(server);

    assert!(answers(&mut newcomer) && answers(&mut used));
    assert_closed(&mut silent[0]);
    assert!(answers(&mut silent[1]));
}

#[test]
fn connections_of_the_network_that_has_most_are_closed_first() {
    let stage = behind_relays(4);
    let server = stage.local_addr();
    let mut honest = connect_from(server, "203.0.113.1");
    let mut greedy: Vec<TcpStream> = (0..20).map(|_| connect_from(server, "203.0.113.2")).collect();
    let mut late = connect_from(server, "203.0.113.3");

    for stream in &mut greedy[..18] {
        assert_closed(stream);
    }
    assert!(
        answers(&mut honest),
        "the only connection of its network stays open, although it is idle for longest"
    );
    assert!(answers(&mut late) && greedy[18..].iter_mut().all(answers));
}

#[test]
fn an_incomplete_handshake_is_closed_for_new_connections_too() {
    let mut setup = setup(3);
    setup.http.tls = Some(Tls::self_signed(&["localhost".to_owned()]).expect("a certificate"));
    let stage = Stage::with(setup);
    let server = stage.local_addr();
    let mut half_done: Vec<TcpStream> = (0..6).map(|_| connect(server)).collect();
    for stream in &mut half_done {
        // The beginning of a ClientHello that is never completed. The server may have closed the connection already.
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03");
    }

    for stream in &mut half_done[..3] {
        assert_closed(stream);
    }
    half_done[5].set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    let heard = half_done[5].read(&mut [0; 16]);
    assert!(
        heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
        "the last connections stay open"
    );
}

#[test]
fn a_websocket_leaves_the_pool_and_is_never_closed_for_room() {
    let mut stage = with_room_for(2);
    let server = stage.local_addr();
    let links: Vec<usize> = (0..5).map(|_| stage.connect()).collect();
    let _silent: Vec<TcpStream> = (0..8).map(|_| connect(server)).collect();

    let answer = get(server, "/v1/connect", "");

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for link in links {
        stage.assert_echo(link);
    }
}

#[test]
fn three_hundred_clients_behind_one_address_are_all_answered() {
    // The clock stands still, so all clients connect at the same time.
    let stage = Stage::with(Setup { clock: Clock::manual(), ..Setup::default() });
    let server = stage.local_addr();

    let mut players: Vec<TcpStream> = (0..300).map(|_| connect(server)).collect();
    for player in &mut players {
        let ask = b"GET /v1/connect HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        player.write_all(ask).expect("room");
    }
    for player in &mut players {
        let mut answer = String::new();
        player.read_to_string(&mut answer).expect("an answer, and its end");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn an_idle_connection_is_closed_after_the_header_timeout() {
    let mut setup = setup(64);
    setup.http.header_timeout = Duration::from_millis(300);
    let stage = Stage::with(setup);
    let server = stage.local_addr();

    let mut silent = connect(server);
    let mut kept_alive = connect(server);
    assert!(answers(&mut kept_alive));

    assert_closed(&mut silent);
    assert_closed(&mut kept_alive);
}

#[test]
fn an_incomplete_handshake_is_closed_after_the_header_timeout() {
    let mut setup = setup(64);
    setup.http.header_timeout = Duration::from_millis(300);
    setup.http.tls = Some(Tls::self_signed(&["localhost".to_owned()]).expect("a certificate"));
    let stage = Stage::with(setup);
    let mut half_done = connect(stage.local_addr());

    half_done.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03").expect("room");

    assert_closed(&mut half_done);
}
