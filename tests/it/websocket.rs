//! Tests the WebSocket adapter over real sockets.

use std::net::TcpStream;
use std::time::Duration;

use bevy_app::App;
use bytes::Bytes;
use tungstenite::Message;
use tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use waystation::proxy::websocket::WebSocketConfig;
use waystation::proxy::{LinkEnd, Origins, ProxyCommand};
use waystation::wire::v1::{Closed, Reason};
use waystation::wire::{self, FRAME_MAX_CLIENT, FRAME_MAX_SERVER};

use crate::stage::websocket::{Setup, Stage, get, shake};
use crate::stage::{Client as _, frame};
use crate::support::fail_network_thread;

fn closed(reason: Reason) -> Bytes {
    wire::encode(&Closed { reason: reason.into(), ..Closed::default() })
}

#[test]
fn two_clients_get_their_frames_both_ways_and_in_order() {
    let mut stage = Stage::new();
    let ada = stage.connect();
    let bob = stage.connect();

    for (who, tag) in [(ada, 1), (bob, 2)] {
        stage.clients[who].say(frame(0x01, tag));
        stage.clients[who].say(frame(0x81, tag));
        stage.clients[who].say(Bytes::from(vec![tag; FRAME_MAX_CLIENT]));
    }
    stage.until("the server has all frames", |stage| {
        [ada, bob].iter().all(|who| stage.bytes_of(*who).len() == 3)
    });
    for (who, tag) in [(ada, 1), (bob, 2)] {
        stage.send(who, frame(0x01, tag));
        stage.send(who, frame(0x81, tag));
        stage.send(who, Bytes::from(vec![tag; FRAME_MAX_SERVER]));
    }
    stage.until("the clients have all frames", |stage| {
        [ada, bob].iter().all(|who| stage.clients[*who].received.len() == 3)
    });

    for (who, tag) in [(ada, 1), (bob, 2)] {
        let up = Bytes::from(vec![tag; FRAME_MAX_CLIENT]);
        assert_eq!(stage.bytes_of(who), [frame(0x01, tag), frame(0x81, tag), up]);
        let down = Bytes::from(vec![tag; FRAME_MAX_SERVER]);
        assert_eq!(stage.clients[who].received, [frame(0x01, tag), frame(0x81, tag), down]);
    }
}

#[test]
fn a_closed_link_delivers_its_last_frames_and_a_close_code() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.send(ada, frame(0x01, 1));
    stage.command(ada, |link| ProxyCommand::Close { link, frame: closed(Reason::Kicked) });
    stage.send(ada, frame(0x01, 2));
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByServer));
    assert_eq!(stage.clients[ada].received, [frame(0x01, 1), closed(Reason::Kicked)]);
    assert_eq!(stage.clients[ada].closed, Some(4_000 + Reason::Kicked as u16));
}

#[test]
fn a_cut_link_ends_at_once_after_what_was_sent_and_without_a_code() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.send(ada, frame(0x01, 1));
    stage.command(ada, |link| ProxyCommand::Cut { link });
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByServer));
    assert_eq!(stage.clients[ada].received, [frame(0x01, 1)]);
    assert_eq!(stage.clients[ada].closed, None);
}

#[test]
fn all_frames_of_a_client_that_leaves_arrive_with_or_without_a_close() {
    let mut stage = Stage::new();
    let (ada, bob) = (stage.connect(), stage.connect());

    stage.clients[ada].say(frame(0x01, 1));
    stage.clients[ada].send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })));
    stage.clients[bob].say(frame(0x01, 2));
    stage.clients[bob].socket.get_ref().shutdown(std::net::Shutdown::Write).expect("a socket");
    stage.until("both links have ended", |stage| {
        stage.end_of(ada).is_some() && stage.end_of(bob).is_some() && stage.clients[ada].is_over
    });

    for (who, tag) in [(ada, 1), (bob, 2)] {
        assert_eq!(stage.end_of(who), Some(LinkEnd::ByPeer));
        assert_eq!(stage.bytes_of(who), [frame(0x01, tag)]);
    }
    assert!(stage.clients[ada].closed.is_some(), "the server answered the Close");
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.clients[ada].send(Message::Ping(Bytes::from_static(b"there?")));
    stage.until("the answer arrives", |stage| !stage.clients[ada].pongs.is_empty());

    assert_eq!(stage.clients[ada].pongs, ["there?"]);
    stage.assert_echo(ada);
}

#[test]
fn a_text_or_a_too_long_frame_is_a_breach_and_no_later_frame_is_read() {
    let mut stage = Stage::new();
    let (ada, bob) = (stage.connect(), stage.connect());

    stage.clients[ada].say(frame(0x01, 1));
    stage.clients[ada].send(Message::Text("hello".into()));
    stage.clients[bob].say(frame(0x01, 1));
    stage.clients[bob].say(Bytes::from(vec![1; FRAME_MAX_CLIENT + 1]));
    for who in [ada, bob] {
        stage.clients[who].say(frame(0x01, 2));
    }
    stage.until("the tick has both breaches", |stage| {
        [ada, bob].iter().all(|who| stage.breaches_of(*who) == 1)
    });
    for who in [ada, bob] {
        assert_eq!(stage.end_of(who), None, "only the tick ends the links");
        stage.command(who, |link| ProxyCommand::Close { link, frame: closed(Reason::Protocol) });
    }
    stage.until("both links have ended", |stage| {
        [ada, bob].iter().all(|who| stage.end_of(*who).is_some() && stage.clients[*who].is_over)
    });

    for who in [ada, bob] {
        assert_eq!(stage.bytes_of(who), [frame(0x01, 1)]);
        assert_eq!(stage.clients[who].received, [closed(Reason::Protocol)]);
        assert_eq!(stage.clients[who].closed, Some(4_000 + Reason::Protocol as u16));
    }
    stage.until_counted("the violations are counted", |counts| counts.violation_count, 2);
}

#[test]
fn a_huge_message_length_is_a_breach_before_its_payload_arrives() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.clients[ada].throw(&[0x82, 0xFF, 0x00, 0x00, 0x00, 0x10, 0, 0, 0, 0, 1, 2, 3, 4]);
    stage.until("the tick has the breach", |stage| stage.breaches_of(ada) == 1);

    stage.assert_serves_others();
}

#[test]
fn a_violation_of_websocket_ends_only_its_own_link() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    stage.clients[ada].throw(&[0x83, 0x80, 1, 2, 3, 4]);
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::Failed));
    assert_eq!((stage.breaches_of(ada), stage.clients[ada].closed), (0, Some(1_002)));
    stage.assert_serves_others();
}

#[test]
fn a_paused_link_leaves_what_its_client_sends_in_the_socket() {
    let mut stage = Stage::new();
    let ada = stage.connect();
    stage.command(ada, |link| ProxyCommand::Pause { link });
    stage.send(ada, frame(0x01, 0));
    stage.until("the adapter has carried out the command", |stage| !stage.clients[ada].received.is_empty());

    for tag in 0..50 {
        stage.clients[ada].say(frame(0x01, tag));
    }
    // The echo on another link shows that the thread has run since.
    stage.assert_serves_others();
    assert_eq!(stage.bytes_of(ada), Vec::<Bytes>::new());

    stage.command(ada, |link| ProxyCommand::Unpause { link });
    stage.until("all frames are read", |stage| stage.bytes_of(ada).len() == 50);
    let sent: Vec<_> = (0..50).map(|tag| frame(0x01, tag)).collect();
    assert_eq!(stage.bytes_of(ada), sent);
}

#[test]
fn frames_beyond_one_tick_all_arrive_in_order() {
    let mut stage = Stage::new();
    let client = stage.connect();
    let long = |tag| Bytes::from([&[0x01, 0x50, tag][..], &[tag; 10_000]].concat());

    for tag in 0..100 {
        stage.clients[client].say(long(tag));
    }
    for _ in 0..3_000 {
        stage.clients[client].say(frame(0x01, 7));
    }

    stage.until("the server has all frames", |stage| stage.bytes_of(client).len() == 3_100);
    let frames = stage.bytes_of(client);
    assert!((0..100).all(|tag| frames[usize::from(tag)] == long(tag)));
    assert!(frames[100..].iter().all(|short| *short == frame(0x01, 7)));
    stage.assert_serves_others();
}

#[test]
fn a_client_that_never_reads_ends_as_slow_and_its_buffer_is_bounded() {
    let mut stage = Stage::new();
    let (ada, bob) = (stage.connect(), stage.connect());
    stage.clients[ada].deaf = true;

    // Snapshots never end a link. They are dropped.
    for _ in 0..200 {
        let snapshot = Bytes::from([&[0x81, 0x50], &[7; 60_000][..]].concat());
        stage.send(ada, snapshot);
        stage.tick();
    }
    stage.until("some snapshots are dropped", |stage| stage.counts().unreliable_dropped_count > 0);
    assert_eq!(stage.end_of(ada), None);
    let mut sent = 0;
    stage.until("the link has ended", |stage| {
        stage.send(ada, Bytes::from(vec![1; 60_000]));
        sent += 60_000;
        stage.end_of(ada).is_some()
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::Failed));
    stage.until_counted("the lost link is counted", |counts| counts.slow_count, 1);
    // The kernel's two buffers and ours together hold less than this bound.
    assert!(sent < 16 * 1024 * 1024, "{sent}");
    stage.assert_echo(bob);
}

#[test]
fn a_client_that_reads_late_receives_all_frames_and_the_reason() {
    let mut stage = Stage::new();
    let ada = stage.connect_narrow();
    stage.clients[ada].deaf = true;

    // More bytes than the kernel's buffers take, and fewer than the link may hold.
    for tag in 0..8_u8 {
        stage.send(ada, Bytes::from(vec![tag & 0x7F; 60_000]));
        stage.clients[ada].send(Message::Ping(Bytes::from_static(b"there?")));
        stage.tick();
    }
    stage.command(ada, |link| ProxyCommand::Close { link, frame: closed(Reason::Kicked) });
    stage.assert_serves_others();
    assert_eq!(stage.end_of(ada), None, "the link stays open until the client has read all");
    stage.clients[ada].deaf = false;
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByServer));
    let received = &stage.clients[ada].received;
    let sizes: Vec<usize> = received.iter().map(Bytes::len).collect();
    assert_eq!(sizes[..8], [60_000; 8]);
    assert_eq!(received.last(), Some(&closed(Reason::Kicked)));
    assert_eq!(stage.clients[ada].closed, Some(4_000 + Reason::Kicked as u16));
}

#[test]
fn only_pages_of_the_host_and_of_listed_origins_open_links() {
    let origins = Origins::Only(vec!["https://play.example".to_owned()]);
    let mut stage = Stage::with(Setup {
        websocket: WebSocketConfig { origins, ..WebSocketConfig::default() },
        ..Setup::default()
    });
    let server = stage.local_addr();

    let other = shake(server, "origin: https://elsewhere.example\r\n");
    let null = shake(server, "origin: null\r\n");
    let own = shake(server, &format!("origin: http://{server}\r\n"));
    let listed = shake(server, "origin: https://play.example\r\n");
    let none = shake(server, "");

    for refused in [other, null] {
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    }
    for taken in [own, listed, none] {
        assert!(taken.starts_with("HTTP/1.1 101"), "{taken}");
        assert!(!taken.contains("permessage-deflate"), "{taken}");
    }
    stage.until("three links were opened", |stage| stage.counts().opened_count == 3);
}

#[test]
fn the_number_of_links_is_bounded_and_a_link_that_ends_frees_a_place() {
    let mut stage = Stage::with(Setup {
        websocket: WebSocketConfig { max_links: 2, ..WebSocketConfig::default() },
        ..Setup::default()
    });
    let server = stage.local_addr();
    let (ada, _bob) = (stage.connect(), stage.connect());

    let refused = shake(server, "");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after"), "{refused}");

    stage.command(ada, |link| ProxyCommand::Cut { link });
    stage.until("one link has ended", |stage| stage.end_of(ada).is_some());
    stage.until("a place is free", |_| shake(server, "").starts_with("HTTP/1.1 101"));
}

#[test]
fn invalid_handshakes_are_refused_with_a_status() {
    let stage = Stage::new();
    let server = stage.local_addr();

    let plain = get(server, "/ws", "");
    let old = get(
        server,
        "/ws",
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 8\r\nsec-websocket-key: x\r\n",
    );

    assert!(plain.starts_with("HTTP/1.1 426"), "{plain}");
    assert!(old.starts_with("HTTP/1.1 400"), "{old}");
}

#[test]
fn a_dropped_server_closes_its_links_and_ends_its_thread() {
    let mut stage = Stage::new();
    let (ada, bob) = (stage.connect(), stage.connect());
    stage.command(ada, |link| ProxyCommand::Close { link, frame: closed(Reason::Shutdown) });
    stage.app.update();

    stage.app = App::new();
    stage.until("the clients are disconnected, and the thread has ended", |stage| {
        stage.clients.iter().all(|client| client.is_over) && stage.adapter.handle.is_finished()
    });

    assert_eq!(stage.clients[ada].received, [closed(Reason::Shutdown)]);
    assert_eq!(stage.clients[bob].closed, Some(1_001));
    let nobody = TcpStream::connect_timeout(&stage.local_addr(), Duration::from_secs(30));
    assert!(nobody.is_err());
}

#[test]
fn a_thread_that_panics_loses_its_links_and_serves_new_clients() {
    let mut stage = Stage::new();
    let ada = stage.connect();

    fail_network_thread(&mut stage.app);
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].is_over
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::Failed));
    stage.assert_serves_others();
    stage.until_counted("the restart is counted", |counts| counts.restart_count, 1);
}
