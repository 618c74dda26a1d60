//! Attacks over TCP: slow HTTP requests, wrong origins, bad WebSocket frames, and WebSockets that are not read.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use waystation::wire::v1::{Anonymous, Credentials, Hello, Join, credentials::Kind};
use waystation::wire::{self, PROTOCOL, WireMessage};

use crate::End;

const SERVER: &str = "127.0.0.1:7780";

/// Requests WebSockets with an origin that the server does not allow.
pub(crate) fn wrong_origin(end: End) -> io::Result<String> {
    let (mut count, mut refused) = (0, 0);
    while end.pause(Duration::from_millis(50)) {
        let (_, answer) = upgrade("Origin: https://somebody.example\r\n")?;
        count += 1;
        refused += u32::from(answer.starts_with("HTTP/1.1 403"));
    }
    Ok(format!("{count} upgrades for another origin, {refused} refused"))
}

/// Sends frames that are too long, text messages, and frames with reserved bits and opcodes.
pub(crate) fn oversized(end: End) -> io::Result<String> {
    let bad: [&[u8]; 4] = [
        &[0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4, 5, 6],
        &[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4],
        &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'],
        &[0xF3, 0x80, 0, 0, 0, 0],
    ];
    let mut count = 0;
    while end.pause(Duration::from_millis(50)) {
        let (mut socket, _) = upgrade("")?;
        socket.write_all(bad[count % bad.len()])?;
        // The write fails when the server has closed the connection, as it should.
        for _ in 0..16 {
            if socket.write_all(&[0; 16_384]).is_err() {
                break;
            }
        }
        count += 1;
    }
    Ok(format!("{count} frames that are too long or not allowed"))
}

/// Opens links that join the arena and never read.
pub(crate) fn unread(end: End) -> io::Result<String> {
    let mut sockets = Vec::new();
    let mut count = 0;
    while end.pause(Duration::from_millis(100)) {
        let (mut socket, _) = upgrade("")?;
        let kind = Kind::Anonymous(Anonymous { name: "eve".to_owned() });
        let credentials = Some(Credentials { kind: Some(kind) });
        let hello = Hello { protocol: PROTOCOL, credentials, ..Hello::default() };
        let join = Join { request: 1, zone: "arena".to_owned(), ..Join::default() };
        socket.write_all(&masked(&hello))?;
        // Welcome has arrived by then. Before Welcome, a Join would end the link.
        if !end.pause(Duration::from_millis(200)) {
            break;
        }
        let _ = socket.write_all(&masked(&join));
        count += 1;
        sockets.push(socket);
        if sockets.len() > 64 {
            sockets.remove(0);
        }
    }
    Ok(format!("{count} links that never read"))
}

/// Sends requests at one byte per second.
pub(crate) fn slow(end: End) -> io::Result<String> {
    let request = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Patience: yes\r\n";
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(TcpStream::connect(SERVER)?);
    }
    let mut ended = 0;
    let mut second = 0;
    while end.pause(Duration::from_secs(1)) {
        for socket in &mut sockets {
            if socket.write_all(&request[second % request.len()..][..1]).is_err() {
                ended += 1;
                *socket = TcpStream::connect(SERVER)?;
            }
        }
        second += 1;
    }
    Ok(format!("200 connections at a byte per second, of which the server ended {ended}"))
}

/// Connects and requests a WebSocket. Returns the connection and the head of the response.
pub(crate) fn upgrade(headers: &str) -> io::Result<(TcpStream, String)> {
    let mut socket = TcpStream::connect(SERVER)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {SERVER}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut head = [0; 512];
    let length = socket.read(&mut head)?;
    Ok((socket, String::from_utf8_lossy(&head[..length]).into_owned()))
}

/// Encodes a message as a WebSocket frame with a mask of zeros. The frame has at most 125 bytes.
fn masked<M: WireMessage>(message: &M) -> Vec<u8> {
    let frame = wire::encode(message);
    let length = u8::try_from(frame.len()).unwrap_or(125).min(125);
    [&[0x82, 0x80 | length, 0, 0, 0, 0], &frame[..usize::from(length)]].concat()
}
