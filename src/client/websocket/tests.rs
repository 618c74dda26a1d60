use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use tungstenite::accept;

use super::*;
use crate::client::{Client, ClientConfig, ClientEvent, ClientState};
use crate::wire::v1::{Ack, Hello, Welcome};
use crate::wire::{WireMessage as _, encode, id_of};

/// The server's end of a link, which blocks.
type Host = WebSocket<TcpStream>;

/// Listens, and passes the first connection to `serve` on another thread.
fn host<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<T>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    (address, thread::spawn(move || serve(listener.accept().expect("a connection").0)))
}

fn dial(address: SocketAddr) -> WebSocketLink {
    let url = format!("ws://{address}/ws");
    WebSocketDial::new(&url, Trust::WebPki).expect("a URL").dial().expect("a socket")
}

/// Updates the link until the condition holds, and panics if it does not hold in time.
fn until(link: &mut WebSocketLink, what: &str, mut so: impl FnMut(&mut WebSocketLink) -> bool) {
    for _ in 0..20_000 {
        link.update(Duration::from_millis(1));
        if so(link) {
            return;
        }
        link.flush();
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

fn open(link: &mut WebSocketLink) {
    until(link, "it is open", |link| link.status() == LinkStatus::Open);
}

fn frame(tag: u8) -> Bytes {
    Bytes::from(vec![1, 0x50, tag])
}

fn read_frame(host: &mut Host) -> Bytes {
    match host.read().expect("a message") {
        Message::Binary(frame) => frame,
        message => panic!("{message}"),
    }
}

#[test]
fn frames_go_both_ways_and_pings_are_answered() {
    let (address, host) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        host.send(Message::Ping(Bytes::from_static(b"there?"))).expect("room");
        host.send(Message::Binary(frame(1))).expect("room");
        assert_eq!(host.read().expect("an answer"), Message::Pong(Bytes::from_static(b"there?")));
        assert_eq!(read_frame(&mut host), frame(2));
    });
    let mut link = dial(address);
    open(&mut link);
    let mut received = None;
    until(&mut link, "a frame", |link| {
        received = link.receive();
        received.is_some()
    });
    assert!(link.send(frame(2)));
    link.flush();

    assert_eq!(received, Some((Lane::Reliable, frame(1))));
    host.join().expect("the server received the frames");
}

#[test]
fn a_link_to_a_server_that_does_not_read_refuses_frames_when_it_is_full() {
    let (address, host) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        for tag in 0..8_u8 {
            assert_eq!(read_frame(&mut host).len(), FRAME_MAX_CLIENT, "frame {tag}");
        }
        // The server closes the connection before it has read the rest.
    });
    let mut link = dial(address);
    open(&mut link);
    let large = Bytes::from(vec![7; FRAME_MAX_CLIENT]);

    let mut sent = 0;
    // The kernels buffer some megabytes, and then the link fills.
    while link.send(large.clone()) && sent < 10_000 {
        link.flush();
        sent += 1;
        if link.status() != LinkStatus::Open {
            break;
        }
    }

    assert!(sent < 10_000, "it held {sent} frames");
    host.join().expect("the server read its frames");
    until(&mut link, "the link is closed", |link| {
        let _ = link.receive();
        link.status() == LinkStatus::Closed
    });
    assert!(link.failure().is_some());
}

#[test]
fn an_update_ends_though_the_server_sends_frames_without_end() {
    let (address, host) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        for _ in 0..64 {
            host.send(Message::Binary(Bytes::from(vec![1; 32 * 1024]))).expect("room");
        }
        while host.read().is_ok() {}
    });
    let mut link = dial(address);
    open(&mut link);

    let (mut all, mut most) = (0, 0);
    until(&mut link, "all frames are received", |link| {
        let frames = std::iter::from_fn(|| link.receive()).count();
        all += frames;
        most = most.max(frames);
        all == 64
    });

    assert!(most <= 8, "{most} frames of 32 KiB in one update");
    link.close();
    host.join().expect("the server sent all bytes");
}

#[test]
fn while_the_socket_is_blocked_old_unreliable_frames_are_dropped_and_beacons_are_kept() {
    let (read_on, wait) = mpsc::channel::<()>();
    let (address, host) = host(move |socket| {
        let mut host = accept(socket).expect("WebSocket");
        wait.recv().expect("the client is running");
        let mut frames = Vec::new();
        while let Ok(Message::Binary(frame)) = host.read() {
            frames.push(frame);
        }
        frames
    });
    let mut link = dial(address);
    open(&mut link);
    let mut reliable_count = 0;
    while !link.is_blocked {
        assert!(
            link.send(Bytes::from(vec![1; FRAME_MAX_CLIENT])),
            "the socket blocks before the link is full"
        );
        link.flush();
        reliable_count += 1;
    }

    for tag in 1..=100_u8 {
        link.update(Duration::from_millis(50));
        assert!(link.send(Bytes::from(vec![0x81, 0, tag])));
        if tag % 10 == 0 {
            assert!(link.send(Bytes::from(vec![0x80, 1, tag])) && link.send(frame(tag)));
        }
        link.flush();
    }
    read_on.send(()).expect("the server waits");
    // The link's clock stands still, so that only the updates above decide which frames are too old.
    for _ in 0..20_000 {
        link.flush();
        if !link.is_blocked {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    link.close();

    let frames = host.join().expect("the server received all frames");
    let of = |high: u8| -> Vec<u8> {
        let short = frames.iter().filter(|frame| frame.len() == 3 && frame[0] == high);
        short.map(|frame| frame[2]).collect()
    };
    assert_eq!(frames.iter().filter(|frame| frame.len() == FRAME_MAX_CLIENT).count(), reliable_count);
    assert_eq!(of(0x80), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(of(0x01), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(of(0x81), [98, 99, 100], "frames that waited for longer than 100 ms are dropped");
}

#[test]
fn an_update_ends_though_the_server_sends_pings_without_end() {
    let pings = 3 * MESSAGES_PER_UPDATE_MAX;
    let (sent, wait) = mpsc::channel::<()>();
    let (address, host) = host(move |socket| {
        let mut host = accept(socket).expect("WebSocket");
        let bytes = [&[0x89, 0].repeat(pings)[..], &[0x82, 3, 1, 0x50, 1]].concat();
        io::Write::write_all(host.get_mut(), &bytes).expect("room");
        sent.send(()).expect("the client waits");
        while host.read().is_ok() {}
    });
    let mut link = dial(address);
    open(&mut link);
    wait.recv().expect("the server sends");

    let (mut updates, mut received) = (0, None);
    until(&mut link, "the frame behind the pings", |link| {
        updates += 1;
        received = link.receive();
        received.is_some()
    });

    assert_eq!(received, Some((Lane::Reliable, frame(1))));
    assert!(updates > 3, "{pings} pings were read in {updates} updates");
    link.close();
    host.join().expect("the server sent all bytes");
}

#[test]
fn a_breach_of_the_websocket_protocol_ends_the_link() {
    let cases: [(&str, &[u8]); 7] = [
        ("a masked frame", &[0x82, 0x83, 0, 0, 0, 0, 1, 0x50, 1]),
        ("a reserved bit", &[0xC2, 3, 1, 0x50, 1]),
        ("an opcode without a meaning", &[0x83, 0]),
        ("a control frame of 126 bytes", &[0x89, 126, 0, 126]),
        ("a control frame in parts", &[0x09, 0]),
        ("a part of no message", &[0x80, 0]),
        ("a message within another", &[0x02, 0, 0x82, 0]),
    ];
    for (what, bytes) in cases {
        let (address, host) = host(move |socket| {
            let mut host = accept(socket).expect("WebSocket");
            let rest = [0; 200];
            io::Write::write_all(host.get_mut(), &[bytes, &rest].concat()).expect("room");
            while host.read().is_ok() {}
        });
        let mut link = dial(address);
        open(&mut link);

        until(&mut link, what, |link| {
            assert_eq!(link.receive(), None, "{what}");
            link.status() == LinkStatus::Closed
        });

        assert!(link.failure().is_some_and(|why| why.contains("WebSocket")), "{what}: {:?}", link.failure());
        drop(link);
        host.join().expect("the server sent its bytes");
    }
}

#[test]
fn a_message_without_end_is_refused() {
    let (address, host) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        let stream = host.get_mut();
        let _ = io::Write::write_all(stream, &[0x02, 0]);
        // Empty fragments take only time, which each update limits. Then fragments with bytes follow.
        let _ = io::Write::write_all(stream, &[0x00, 0].repeat(200_000));
        while io::Write::write_all(stream, &[0x00, 100].iter().copied().chain([7; 100]).collect::<Vec<u8>>())
            .is_ok()
        {}
    });
    let mut link = dial(address);
    open(&mut link);

    until(&mut link, "the link is closed", |link| {
        assert_eq!(link.receive(), None);
        link.status() == LinkStatus::Closed
    });

    assert!(link.violation().is_some(), "{:?}", link.failure());
    drop(link);
    host.join().expect("the client closed the connection");
}

#[test]
fn a_breach_of_the_protocol_ends_the_session_and_the_client_stops() {
    let long = Message::Binary(Bytes::from(vec![1; FRAME_MAX_SERVER + 1]));
    for wrong in [Message::text("hello"), long] {
        let (address, host) = host(|socket| {
            let mut host = accept(socket).expect("WebSocket");
            assert_eq!(id_of(&read_frame(&mut host)), Some(Hello::ID));
            let welcome = Welcome { session: 1, token: frame(1), ..Welcome::default() };
            host.send(Message::Binary(encode(&welcome))).expect("room");
            assert_eq!(id_of(&read_frame(&mut host)), Some(Ack::ID));
            let _ = host.send(wrong);
            while host.read().is_ok() {}
        });
        let url = format!("ws://{address}/ws");
        let dial = WebSocketDial::new(&url, Trust::WebPki).expect("a URL");
        let mut client = Client::new(dial, ClientConfig { tries: 1, ..ClientConfig::default() });

        let mut events = Vec::new();
        for _ in 0..20_000 {
            client.update(Duration::from_millis(1));
            events.extend(std::iter::from_fn(|| client.poll()));
            if client.state() == ClientState::Stopped {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }

        let Some(ClientEvent::Closed { reason, .. }) = events.last() else { panic!("{events:?}") };
        assert_eq!(*reason, Some(Reason::Protocol), "{events:?}");
        host.join().expect("the server sent its bytes");
    }
}

#[test]
fn the_game_gets_the_reason_of_a_close_before_welcome() {
    let (address, host) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        assert_eq!(id_of(&read_frame(&mut host)), Some(Hello::ID));
        let code = CloseCode::from(4_000 + Reason::Throttled as u16);
        host.close(Some(CloseFrame { code, reason: "".into() })).expect("room");
        while host.read().is_ok() {}
    });
    let dial = WebSocketDial::new(&format!("ws://{address}/ws"), Trust::WebPki).expect("a URL");
    let mut client = Client::new(dial, ClientConfig { tries: 1, ..ClientConfig::default() });

    let mut told = None;
    for _ in 0..20_000 {
        client.update(Duration::from_millis(1));
        told = client.poll();
        if told.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }

    let Some(ClientEvent::Closed { reason: None, detail }) = told else { panic!("{told:?}") };
    assert!(detail.contains("THROTTLED"), "{detail}");
    host.join().expect("the server received the end");
}

#[test]
fn both_ends_can_close_and_earlier_frames_are_received() {
    let (address, server) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        host.send(Message::Binary(frame(1))).expect("room");
        host.close(Some(CloseFrame { code: CloseCode::from(4_001), reason: "".into() })).expect("room");
        // Reads the client's answer and the end of the connection.
        while host.read().is_ok() {}
    });
    let mut link = dial(address);
    open(&mut link);
    let mut received = Vec::new();
    until(&mut link, "it is closed", |link| {
        received.extend(link.receive());
        link.status() == LinkStatus::Closed
    });
    link.flush();
    drop(link);
    assert_eq!(received, [(Lane::Reliable, frame(1))]);
    server.join().expect("the server received the end");

    let (address, server) = host(|socket| {
        let mut host = accept(socket).expect("WebSocket");
        match host.read().expect("a message") {
            Message::Close(Some(close)) => assert_eq!(close.code, CloseCode::Normal),
            message => panic!("{message}"),
        }
    });
    let mut link = dial(address);
    open(&mut link);
    link.close();
    assert_eq!(link.status(), LinkStatus::Closed);
    server.join().expect("the server received the close");
}

#[test]
fn a_server_without_websocket_is_reported() {
    let (address, host) = host(|mut socket| {
        let _ = io::Read::read(&mut socket, &mut [0; 1_024]);
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        io::Write::write_all(&mut socket, answer).expect("room");
    });
    let mut link = dial(address);
    until(&mut link, "the link is closed", |link| link.status() == LinkStatus::Closed);
    host.join().expect("the server answered");
    assert!(link.failure().is_some_and(|why| why.contains("404") && why.contains("path")));

    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a port");
    let refused = WebSocketDial::new(&format!("ws://{free}/ws"), Trust::WebPki).expect("a URL").dial();
    // The system refuses the connection at once or later.
    let why = refused.map(|mut link| {
        until(&mut link, "the link is closed", |link| link.status() == LinkStatus::Closed);
        link.failure().expect("a reason")
    });
    let why = why.unwrap_or_else(|error| error.to_string());
    assert!(why.contains("refused"), "{why}");

    for url in ["http://127.0.0.1:7780/ws", "play.example"] {
        let error = WebSocketDial::new(url, Trust::WebPki).expect_err(url).to_string();
        assert!(error.contains(url) && error.contains("ws://127.0.0.1:7780/ws"), "{error}");
    }
}
