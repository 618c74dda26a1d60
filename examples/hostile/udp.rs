//! Attacks over UDP: datagrams of garbage, and links with valid tokens that send bad frames.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use waystation::client::{Dial as _, Link as _, LinkStatus, UdpDial};
use waystation::wire::udp::{DEV_KEY, TokenMint};
use waystation::wire::v1::{
    Ack, Anonymous, Beacon, Credentials, Hello, Join, Joined, Welcome, credentials::Kind,
};
use waystation::wire::{self, PROTOCOL};

use crate::End;

const SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 7777);
const STEP: Duration = Duration::from_millis(10);

/// Sends garbage, and opens a link that sends bad frames, again and again. Each link sends another kind of them.
pub(crate) fn garbage(end: End) -> io::Result<String> {
    let mut sent = [0_u64; 2];
    let mut link_number = 0;
    while end.pause(STEP) {
        sent[0] += throw_datagrams(link_number)?;
        sent[1] += abuse_link(link_number);
        link_number += 1;
    }
    Ok(format!("{} datagrams of garbage and {} frames on {link_number} links", sent[0], sent[1]))
}

/// Sends datagrams that belong to no link: random bytes of many lengths, and a megabyte of zeros.
fn throw_datagrams(seed: u64) -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(SocketAddr::from(SERVER))?;
    let mut noise = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut count = 0;
    let mut send = |datagram: &[u8]| {
        count += 1;
        // A datagram that cannot be sent is skipped.
        let _ = socket.send(datagram);
    };
    for length in (0..1_400).step_by(7) {
        let datagram: Vec<u8> = (0..length)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()[0]
            })
            .collect();
        send(&datagram);
        send(&[&[0xF5][..], &datagram].concat());
    }
    for _ in 0..1_000_000 / 1_000 {
        send(&[0; 1_000]);
    }
    Ok(count)
}

/// Opens a link with a valid token and sends bad frames of one kind. Returns how many frames were sent.
fn abuse_link(kind: u64) -> u64 {
    let mut dial = UdpDial::minting(TokenMint::new(DEV_KEY, vec![SERVER.into()]));
    let Ok(mut link) = dial.dial() else { return 0 };
    let hello = Hello {
        protocol: PROTOCOL,
        credentials: Some(Credentials { kind: Some(Kind::Anonymous(Anonymous { name: "eve".to_owned() })) }),
        ..Hello::default()
    };
    let join = Join { request: 1, zone: "arena".to_owned(), ..Join::default() };
    let bad: Vec<Vec<u8>> = match kind % 6 {
        // Truncated frames: no id, half an id, half a body.
        0 => vec![vec![], vec![0], vec![0x00, 0x40, 0x12, 0x7F]],
        // Ids that are not assigned.
        1 => vec![vec![0x7E, 0xEE]; 20],
        // Messages that only a server sends.
        2 => vec![
            wire::encode(&Welcome::default()).to_vec(),
            wire::encode(&Joined::default()).to_vec(),
            wire::encode(&Beacon::default()).to_vec(),
        ],
        // An Ack of frames that were never sent.
        3 => vec![wire::encode(&Ack { received: u64::MAX }).to_vec()],
        // A second Hello.
        4 => vec![wire::encode(&hello).to_vec()],
        // A megabyte of zeros, as frames.
        _ => vec![vec![0; 16_000]; 64],
    };
    let mut count = 0;
    for step in 0..60 {
        std::thread::sleep(STEP);
        link.update(STEP);
        while link.receive().is_some() {}
        let frames: &[Vec<u8>] = match step {
            10 if !kind.is_multiple_of(7) => &[wire::encode(&hello).to_vec()],
            25 => &[wire::encode(&join).to_vec()],
            30.. => &bad,
            _ => &[],
        };
        for frame in frames {
            count += u64::from(link.status() == LinkStatus::Open && link.send(frame.clone().into()));
        }
        link.flush();
    }
    count
}
