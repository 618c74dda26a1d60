//! Measures how much memory one connection can make the server hold. Hostile clients of each transport fill
//! every buffer that they can, and the process may grow by at most what the table in docs/design.md states.
//!
//! Memory is the anonymous resident memory of the process, which only Linux reports.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use rustls::{ClientConnection, StreamOwned};
use waystation::admin::HttpConfig;
use waystation::arena::ZONE;
use waystation::arena::v1::Say;
use waystation::client::Trust;
use waystation::proxy::link_memory::LinkMemory;
use waystation::proxy::quic::QuicConfig;
use waystation::proxy::tls::Tls;
use waystation::proxy::websocket::WebSocketConfig;
use waystation::tick::UnixClock;
use waystation::wire::discovery::Discovery;
use waystation::wire::quic::ALPN_QUIC;
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, DEV_KEY, TokenMint};
use waystation::wire::v1::credentials::Kind;
use waystation::wire::v1::{Anonymous, Credentials, Hello, Join};
use waystation::wire::{FRAME_MAX_CLIENT, PROTOCOL, encode};

use crate::binary::{Files, Server};
use crate::stage::udp::{Client, RELIABLE_SLICE, UNRELIABLE_SLICE};
use crate::stage::websocket::get;
use crate::stage::{Client as _, now};

/// A server under one attack. Each attack has its own server, because memory that the allocator kept after an
/// earlier attack would hide the growth.
struct Subject {
    server: Server,
    http: SocketAddr,
}

impl Subject {
    fn start(options: &[&str]) -> Self {
        let server = Server::start(&[&["--set", "game.agents=0"][..], options].concat());
        let scheme = if options.contains(&"--tls-cert") { "https" } else { "http" };
        let http = server.address(scheme).parse().expect("an address");
        Self { server, http }
    }

    /// Returns the anonymous resident memory of the process, in bytes.
    fn memory(&self) -> usize {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.server.pid())).expect("the server runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux reports RssAnon");
        let kib = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
        kib * 1024
    }

    /// Returns the largest growth of memory per connection, in bytes, while an attacker writes as much as it can
    /// to `count` connections. The attacker writes several times, because the server reads meanwhile.
    fn growth<C>(&self, count: usize, mut open: impl FnMut() -> C, mut pour: impl FnMut(&mut C)) -> usize {
        // The first connection of its kind causes one-time allocations, which are not counted.
        drop(open());
        let before = self.memory();
        let mut held: Vec<C> = (0..count).map(|_| open()).collect();
        let mut most = 0;
        for _ in 0..ROUNDS {
            held.iter_mut().for_each(&mut pour);
            let (mut last, mut since) = (self.memory(), now());
            while now() < since + CALM {
                let memory = self.memory();
                if memory > last {
                    (last, since) = (memory, now());
                }
                thread::sleep(CALM / 10);
            }
            most = most.max(last);
        }
        most.saturating_sub(before) / count
    }

    fn assert_healthy(&self) {
        let answer = get(self.http, "/healthz", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Asserts that the growth per connection is from `least` to `bound` bytes, and prints it.
#[allow(clippy::print_stdout, reason = "shown when the test fails, or with --nocapture")]
fn assert_within(what: &str, growth: usize, least: usize, bound: usize) {
    println!("{what}: {growth} of {bound} bytes per connection");
    assert!(growth >= least, "{what}: the attack fills only {growth} bytes per connection");
    assert!(growth <= bound, "{what}: {growth} bytes per connection, but {bound} are allowed");
}

/// Writes `bytes` up to `times` times, and stops when the server accepts no further bytes or has closed the connection.
fn pour(stream: &mut TcpStream, bytes: &[u8], times: usize) {
    stream.set_nonblocking(true).expect("a socket");
    for _ in 0..times {
        let mut rest = bytes;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

/// The attacks over HTTP: name, bytes to send, how often, and the bytes per connection that the server must hold.
fn requests() -> Vec<(&'static str, Vec<u8>, usize, usize)> {
    let head = [b"GET /livez HTTP/1.1\r\nhost: x\r\nx: ".to_vec(), vec![b'y'; 15_000]].concat();
    let many = b"a: b\r\n".repeat(2_000);
    let body = b"POST /v1/connect HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
    let chunks = b"POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    vec![
        ("a head that never ends", head, 1, 10_000),
        ("too many headers", [b"GET / HTTP/1.1\r\n".to_vec(), many].concat(), 1, 0),
        ("a body that is not read", [body, vec![0; 500_000]].concat(), 1, 0),
        ("a body of many parts", [chunks, b"1\r\nx\r\n".repeat(50_000)].concat(), 1, 0),
        ("answers that are not read", b"GET /play/play.js HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 2_000, 0),
        ("a flood of requests", b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 20_000, 0),
    ]
}

#[test]
fn memory_of_an_http_connection_is_within_the_table() {
    let bound = HttpConfig::default().connection_bytes_max();

    for (what, bytes, times, least) in requests() {
        let subject = Subject::start(&[]);
        let growth = subject.growth(200, || connect(subject.http), |stream| pour(stream, &bytes, times));
        assert_within(what, growth, least, bound);
        subject.assert_healthy();
    }
}

#[test]
fn memory_of_a_tls_connection_is_within_the_table_during_and_after_its_handshake() {
    let files = Files::new("limits");
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    let certificate = files.write("cert.pem", &pair.cert.pem());
    let key = files.write("key.pem", &pair.signing_key.serialize_pem());
    let options = ["--tls-cert", &certificate, "--tls-key", &key];
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let bound = HttpConfig { tls: Some(tls), ..HttpConfig::default() }.connection_bytes_max();

    // A ClientHello of 60,000 bytes in records of 15,000 bytes. The last byte is never sent.
    let mut hello = vec![1, 0, 0xEA, 0x60];
    hello.resize(60_003, 0);
    let records = hello.chunks(15_000).flat_map(|chunk| {
        let length = u16::try_from(chunk.len()).expect("short").to_be_bytes();
        [&[22, 3, 1][..], &length, chunk].concat()
    });
    let records: Vec<u8> = records.collect();
    let subject = Subject::start(&options);
    let growth = subject.growth(200, || connect(subject.http), |stream| pour(stream, &records, 1));
    assert_within("half a handshake", growth, 30_000, bound);

    let sha256 = sha2_of(pair.cert.der());
    let config = Trust::Sha256(sha256).client_config(&[b"http/1.1".as_slice()]).expect("a configuration");
    let open = |server| {
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = StreamOwned::new(client, connect(server));
        stream.flush().expect("a handshake");
        stream
    };
    for (what, bytes, times, least) in requests() {
        let subject = Subject::start(&options);
        let growth = subject.growth(
            50,
            || open(subject.http),
            |stream| {
                stream.sock.set_nonblocking(true).expect("a socket");
                // One tenth of the repetitions, because the client has to encrypt all of it.
                for _ in 0..times.div_ceil(10) {
                    if stream.write_all(&bytes).is_err() {
                        break;
                    }
                }
            },
        );
        assert_within(&format!("{what}, TLS"), growth, least, bound);
    }
}

/// Encodes a frame as a WebSocket message, or as the first fragment of one.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short");
    let head = if length < 126 {
        vec![first, 0x80 | length as u8]
    } else {
        [&[first, 0x80 | 126][..], &length.to_be_bytes()].concat()
    };
    [&head[..], &[0; 4], payload].concat()
}

fn open_websocket(server: SocketAddr) -> TcpStream {
    let mut stream = connect(server);
    let ask = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(ask).expect("room");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream
}

fn hello() -> Hello {
    let kind = Kind::Anonymous(Anonymous { name: "mallory".to_owned() });
    let credentials = Some(Credentials { kind: Some(kind) });
    Hello { protocol: PROTOCOL, credentials, ..Hello::default() }
}

fn join() -> Join {
    Join { request: 1, zone: ZONE.to_owned(), payload: Bytes::new() }
}

/// Encodes a call of 15 KiB. An unknown field makes it long.
fn long_call() -> Vec<u8> {
    let mut call = encode(&Say { number: 1 }).to_vec();
    let length = 15 * 1024;
    call.extend([0x7A, 0x80 | (length & 0x7F) as u8, (length >> 7) as u8]);
    call.resize(call.len() + length, 7);
    call
}

#[test]
fn memory_of_a_websocket_link_is_within_the_table() {
    let subject = Subject::start(&[]);
    let bound = LinkMemory::of_websocket(&WebSocketConfig::default(), false);
    let part = masked(0x02, &[7; FRAME_MAX_CLIENT - 100]);

    let growth = subject.growth(64, || open_websocket(subject.http), |stream| pour(stream, &part, 1));
    assert_within("a part of a message", growth, 10_000, bound.before_hello);
    subject.assert_healthy();

    let subject = Subject::start(&[]);
    let pings = masked(0x89, &[7; 125]).repeat(1_000);
    let growth = subject.growth(64, || open_websocket(subject.http), |stream| pour(stream, &pings, 10));
    assert_within("pings with unread answers", growth, 0, bound.before_hello);
    subject.assert_healthy();

    let subject = Subject::start(&[]);
    let calls = masked(0x82, &long_call());
    let open = || {
        let mut stream = open_websocket(subject.http);
        stream.write_all(&masked(0x82, &encode(&hello()))).expect("room");
        // Wait for the Welcome: a Join before it would end the link.
        stream.read_exact(&mut [0; 4]).expect("a Welcome");
        stream.write_all(&masked(0x82, &encode(&join()))).expect("room");
        stream
    };
    let growth = subject.growth(40, open, |stream| pour(stream, &calls, 60));
    assert_within("calls without end", growth, 100_000, bound.after_hello);
    subject.assert_healthy();
}

/// Encodes a frame with its length prefix, as it is sent on the stream.
fn with_length(frame: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let mut length = frame.len();
    while length >= 0x80 {
        bytes.put_u8(0x80 | (length & 0x7F) as u8);
        length >>= 7;
    }
    bytes.put_u8(length as u8);
    bytes.put_slice(frame);
    bytes.to_vec()
}

/// A link of a quinn client.
struct Quic {
    stream: quinn::SendStream,
    /// The stream of answers. Dropping it or the connection would end the link.
    answers: quinn::RecvStream,
    _connection: quinn::Connection,
}

/// Opens links of quinn clients.
struct Dialer {
    endpoint: quinn::Endpoint,
    server: SocketAddr,
}

impl Dialer {
    /// Creates an endpoint that pins the certificate that discovery offers.
    fn new(subject: &Subject) -> Self {
        let answer = get(subject.http, "/v1/connect", "");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let discovery = Discovery::parse(body.as_bytes()).expect("an offer");
        let quic = discovery.offer("quic").expect("QUIC is offered").clone();
        let sha256 = unhex(&quic.cert_sha256.expect("a pin"));
        let tls = Trust::Sha256(sha256).client_config(&[ALPN_QUIC]).expect("a configuration");
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        Self { endpoint, server: quic.url.trim_start_matches("quic://").parse().expect("an address") }
    }

    /// Opens a link and sends `first` on its stream.
    async fn open(&self, first: &[u8]) -> Quic {
        let connecting = self.endpoint.connect(self.server, "localhost").expect("a name");
        let connection = connecting.await.expect("a link");
        let (mut stream, answers) = connection.open_bi().await.expect("a stream");
        stream.write_all(first).await.expect("room");
        Quic { stream, answers, _connection: connection }
    }
}

#[test]
fn memory_of_a_quic_link_is_within_the_table() {
    let bound = LinkMemory::of_quic(&QuicConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();

    let subject = Subject::start(&[]);
    let dialer = Dialer::new(&subject);
    // A frame of 16 KiB. The last byte is never sent.
    let part = [&[0x80, 0x80, 0x01][..], &[7; FRAME_MAX_CLIENT - 1]].concat();
    let open = || runtime.block_on(dialer.open(&part));
    let growth = subject.growth(64, open, |_| runtime.block_on(tokio::time::sleep(Duration::from_millis(1))));
    assert_within("a part of a frame", growth, 10_000, bound.before_hello);
    subject.assert_healthy();

    let subject = Subject::start(&[]);
    let dialer = Dialer::new(&subject);
    let call = with_length(&long_call());
    let open = || {
        runtime.block_on(async {
            let mut link = dialer.open(&with_length(&encode(&hello()))).await;
            link.answers.read_exact(&mut [0; 4]).await.expect("a Welcome");
            link.stream.write_all(&with_length(&encode(&join()))).await.expect("room");
            link
        })
    };
    let growth = subject.growth(40, open, |link| {
        runtime.block_on(async {
            for _ in 0..60 {
                // The client reads no answers, so that the server has to hold them too.
                if tokio::time::timeout(PATIENCE, link.stream.write_all(&call)).await.is_err() {
                    break;
                }
            }
        });
    });
    assert_within("calls without end", growth, 30_000, bound.after_hello);
    subject.assert_healthy();
}

/// Encodes a slice of 1,200 bytes, of a message of 60 slices.
fn slice(kind: u8, message: u16, index: u16) -> Vec<u8> {
    let channel = if kind == RELIABLE_SLICE { CHANNEL_RELIABLE } else { CHANNEL_UNRELIABLE };
    let mut packet = vec![kind, 0, channel];
    for number in [message, index, 60, 1_200] {
        packet.extend((0x4000 | number).to_be_bytes());
    }
    packet.resize(packet.len() + 1_200, 7);
    packet
}

#[test]
fn memory_of_a_udp_link_is_within_the_table() {
    let subject = Subject::start(&[]);
    let address: SocketAddr = subject.server.address("udp").parse().expect("an address");
    let mint = TokenMint::new(DEV_KEY, vec![address]);
    let bound = LinkMemory::of_udp();
    let mut count = 0;
    let open = || {
        count += 1;
        let token = mint.mint(UnixClock::system().now(), count, None).expect("a token");
        let mut client = Client::new(token);
        let deadline = now() + Duration::from_secs(30);
        while !client.netcode.is_connected() {
            assert!(now() < deadline, "the client does not connect");
            client.step();
            thread::sleep(Duration::from_millis(1));
        }
        client
    };

    let growth = subject.growth(16, open, |client| {
        // Six messages on each channel. The last slice of each is not sent.
        for index in 0..59 {
            for message in 0..6 {
                client.throw_payload(&slice(RELIABLE_SLICE, message, index));
                client.throw_payload(&slice(UNRELIABLE_SLICE, message, index));
            }
        }
    });

    assert_within("messages without an end", growth, 200_000, bound.before_hello);
    subject.assert_healthy();
}

#[test]
fn the_table_shows_the_sums_of_the_limits() {
    let kib = |bytes: usize| format!("{}", bytes.div_ceil(1_024));
    let group = |text: String| {
        let (head, tail) = text.split_at(text.len().saturating_sub(3));
        if head.is_empty() { tail.to_owned() } else { format!("{head},{tail}") }
    };
    let row = |name: &str, memory: LinkMemory| {
        format!(
            "| {name} | {} KiB | {} KiB |",
            group(kib(memory.before_hello)),
            group(kib(memory.after_hello))
        )
    };
    let http = HttpConfig::default().connection_bytes_max();
    let tls = Tls::self_signed(&["localhost".to_owned()]).expect("a certificate");
    let https = HttpConfig { tls: Some(tls), ..HttpConfig::default() }.connection_bytes_max();
    let rows = [
        format!("| HTTP | {} KiB | – |", kib(http)),
        format!("| HTTP, TLS | {} KiB | – |", kib(https)),
        row("WebSocket", LinkMemory::of_websocket(&WebSocketConfig::default(), false)),
        row("WebSocket, TLS", LinkMemory::of_websocket(&WebSocketConfig::default(), true)),
        row("QUIC, WebTransport", LinkMemory::of_quic(&QuicConfig::default())),
        row("UDP", LinkMemory::of_udp()),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/design.md");
    let text = fs::read_to_string(path).expect("it is there");

    for row in rows {
        assert!(text.lines().any(|line| line == row), "docs/design.md has no row {row}");
    }
}

fn sha2_of(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

fn unhex(text: &str) -> [u8; 32] {
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect();
    bytes.try_into().expect("32 bytes")
}

/// How often an attacker writes.
const ROUNDS: usize = 3;
/// How long an attacker waits for a link that accepts no further bytes.
const PATIENCE: Duration = Duration::from_millis(100);
/// The measurement ends when memory has not grown for this long.
const CALM: Duration = Duration::from_millis(300);
