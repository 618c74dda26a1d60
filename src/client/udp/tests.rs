use super::host::Host;
use super::*;
use crate::client::{Client, ClientConfig, ClientEvent, ClientState, Cut};
use crate::wire::v1::{Hello, Join, Welcome};
use crate::wire::{Frame, encode};

const STEP: Duration = Duration::from_millis(20);

/// Runs both ends until `done` returns true, and panics if that takes too long.
fn until(link: &mut UdpLink, host: &mut Host, mut done: impl FnMut(&mut UdpLink, &mut Host) -> bool) {
    for _ in 0..10_000 {
        link.update(STEP);
        link.flush();
        host.pump(STEP);
        if done(link, host) {
            return;
        }
    }
    panic!("the condition did not hold in time");
}

fn open() -> (UdpLink, Host) {
    let mut host = Host::bind();
    let mut link = UdpDial::new(host.tokens(1)).dial().unwrap();
    assert_eq!(link.status(), LinkStatus::Opening);
    until(&mut link, &mut host, |link, host| link.status() == LinkStatus::Open && host.opened == [1]);
    (link, host)
}

fn join(bytes: usize) -> Bytes {
    encode(&Join { request: 1, zone: String::new(), payload: vec![7; bytes].into() })
}

#[test]
fn frames_of_all_sizes_cross_on_both_lanes() {
    let (mut link, mut host) = open();
    let frames =
        [join(0), join(16_000), Bytes::from_static(&[0x81, 0x00, 1]), Bytes::from(vec![0x81; 2_000])];

    for frame in &frames {
        assert!(link.send(frame.clone()));
        host.send(1, frame.clone());
    }

    let (mut up, mut down) = (Vec::new(), Vec::new());
    until(&mut link, &mut host, |link, host| {
        while let Some(frame) = host.receive(1) {
            up.push(frame);
        }
        while let Some((lane, frame)) = link.receive() {
            assert_eq!(lane, Frame::parse(frame.clone()).unwrap().id.lane());
            down.push(frame);
        }
        up.len() == frames.len() && down.len() == frames.len()
    });
    assert!(frames.iter().all(|frame| up.contains(frame) && down.contains(frame)));
}

#[test]
fn a_full_channel_refuses_frames_and_the_link_stays_open() {
    let (mut link, mut host) = open();

    let taken = (0..1_000).take_while(|_| link.send(join(16_000))).count();

    assert!((16..1_000).contains(&taken));
    let mut arrived = 0;
    until(&mut link, &mut host, |_, host| {
        while host.receive(1).is_some() {
            arrived += 1;
        }
        arrived == taken
    });
    until(&mut link, &mut host, |link, _| link.send(join(16_000)));
}

#[test]
fn a_close_informs_the_peer_in_both_directions() {
    let (mut link, mut host) = open();
    link.close();
    assert_eq!(link.status(), LinkStatus::Closed);
    assert!(!link.send(join(0)));
    until(&mut link, &mut host, |_, host| host.closed == [1]);

    let (mut link, mut host) = open();
    host.send(1, join(3));
    host.pump(STEP);
    host.disconnect(1);
    until(&mut link, &mut host, |link, _| link.status() == LinkStatus::Closed);
    assert!(link.receive().is_some(), "earlier frames can be received");
}

#[test]
fn forged_datagrams_are_ignored() {
    let (mut link, mut host) = open();
    let forged: [&[u8]; 8] = [
        &[0xF5; 64],
        &[0xFF; 40],
        &[0x85; 20],
        &[
            0x85, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1,
        ],
        &[0x00; 1_078],
        &[0x16; 18],
        &[],
        &[0x15; 1_401],
    ];

    for datagram in forged {
        host.send_datagram(1, datagram);
    }

    host.send(1, join(5));
    until(&mut link, &mut host, |link, _| link.receive().is_some());
    assert_eq!(link.status(), LinkStatus::Open);
}

#[test]
fn a_payload_that_renet_would_panic_on_closes_the_link() {
    let (mut link, mut host) = open();

    // A full slice of 1,200 bytes with the index 9, of a message of two slices.
    let mut payload = vec![2, 1, 0, 1, 9, 2, 0x44, 0xB0];
    payload.resize(payload.len() + 1_200, 7);
    host.send_payload(1, &payload);

    until(&mut link, &mut host, |link, _| link.status() == LinkStatus::Closed);
}

#[test]
fn a_closed_port_ends_the_try_early() {
    let host = Host::bind();
    let mut dial = UdpDial::new(host.tokens(1));
    drop(host);
    let mut link = dial.dial().unwrap();

    let refused = (0..10_000).any(|_| {
        // Time does not advance, so no timeout of netcode passes.
        link.update(Duration::ZERO);
        std::thread::yield_now();
        link.status() == LinkStatus::Closed
    });

    assert!(refused);
}

#[test]
fn tokens_that_netcode_would_panic_on_are_refused() {
    let host = Host::bind();
    let mut tokens = host.tokens(1);
    let mut spoil = |spoil: fn(&mut ConnectToken)| {
        let mut token = tokens().unwrap();
        spoil(&mut token);
        UdpDial::new(move || Ok::<_, String>(token.clone())).dial().err()
    };

    for error in [
        spoil(|token| token.server_addresses = [None; 32]),
        spoil(|token| token.expire_timestamp = 0),
        spoil(|token| token.protocol_id = 1),
    ] {
        assert!(matches!(error, Some(DialError::UnusableToken(_))), "{error:?}");
    }
    let none = UdpDial::new(|| Err::<ConnectToken, _>("offline")).dial().err();
    assert_eq!(none, Some(DialError::Token("offline".to_owned())));
    // The longest step causes no overflow.
    let mut link = UdpDial::new(tokens).dial().unwrap();
    link.update(Duration::MAX);
    link.update(Duration::MAX);
}

#[test]
fn a_client_dials_each_link_with_a_fresh_token() {
    let mut host = Host::bind();
    let mut client = Client::new(UdpDial::new(host.tokens(1)), ClientConfig::default());
    let mut hellos = 0;
    let mut connected = false;

    for _ in 0..10_000 {
        client.update(STEP);
        host.pump(STEP);
        for link in host.opened.clone() {
            while let Some(frame) = host.receive(link) {
                if Frame::parse(frame).unwrap().decode::<Hello>().is_err() {
                    continue;
                }
                hellos += 1;
                let welcome = Welcome {
                    session: 5,
                    token: vec![9; 32].into(),
                    resumed: hellos > 1,
                    ..Welcome::default()
                };
                host.send(link, encode(&welcome));
            }
        }
        while let Some(event) = client.poll() {
            match event {
                ClientEvent::Connected { .. } => {
                    connected = true;
                    client.cut(Cut::Silent { hold: Duration::ZERO });
                }
                ClientEvent::Resumed { .. } if hellos == 2 => client.cut(Cut::Close { hold: Duration::ZERO }),
                _ => {}
            }
        }
        if client.resume_count() == 2 && host.closed.contains(&2) {
            break;
        }
    }

    assert!(connected);
    assert_eq!(host.opened, [1, 2, 3]);
    assert_eq!(client.state(), ClientState::Connected);
    assert_eq!(host.closed, [2], "the server has not noticed the silent loss yet");
}
