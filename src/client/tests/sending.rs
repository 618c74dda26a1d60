//! Tests of sends, acknowledgements and echoes.

use super::*;
use crate::client::{Cut, SendError};
use crate::wire::v1::{Ack, Hello, Join, Part};
use crate::wire::{OUTBOX_MAX_FRAMES, WireMessage as _};

#[test]
fn before_the_first_welcome_nothing_can_be_sent() {
    let mut scene = Scene::new();

    assert_eq!(scene.client.send(&Numbered { number: 1 }), Err(SendError::NoSession));
    assert_eq!(scene.client.state(), ClientState::Connecting);
}

#[test]
fn messages_that_are_too_long_or_link_control_are_refused() {
    let mut scene = Scene::connected();

    let long = Blob { bytes: vec![0; 16 * 1024].into() };
    assert!(matches!(
        scene.client.send(&long),
        Err(SendError::TooLong { id, .. }) if id == Blob::ID
    ));
    assert_eq!(scene.client.send(&Hello::default()), Err(SendError::LinkControl(Hello::ID)));
    assert_eq!(scene.client.sent_count(), 0);
}

#[test]
fn a_full_outbox_refuses_messages_and_drops_nothing() {
    let mut scene = Scene::connected();
    scene.client.cut(Cut::Close { hold: Duration::from_secs(1) });
    for number in 1..=OUTBOX_MAX_FRAMES as u64 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    assert_eq!(scene.client.send(&Numbered { number: 0 }), Err(SendError::Full));
    scene.run(3.0);

    assert_eq!(scene.server.sessions[0].log, (1..=OUTBOX_MAX_FRAMES as u64).collect::<Vec<_>>());
    assert_eq!(scene.client.acked_count(), OUTBOX_MAX_FRAMES as u64);
    scene.client.send(&Numbered { number: 513 }).unwrap();

    let mut heavy = Scene::connected();
    let blob = Blob { bytes: vec![0; 16_000].into() };
    heavy.client.cut(Cut::Close { hold: Duration::from_secs(1) });
    let taken = (0..100).take_while(|_| heavy.client.send(&blob).is_ok()).count();
    assert_eq!(taken, 16, "256 KiB");
}

#[test]
fn unreliable_messages_are_sent_at_once_or_dropped() {
    let mut scene = Scene::connected();
    scene.client.send(&Loose { number: 1 }).unwrap();
    scene.client.cut(Cut::Silent { hold: Duration::from_secs(1) });
    assert_eq!(scene.client.send(&Loose { number: 2 }), Err(SendError::Dropped));
    scene.run(2.0);
    scene.client.send(&Loose { number: 3 }).unwrap();
    scene.run(0.2);

    assert_eq!(scene.server.loose, [1, 3]);
}

#[test]
fn joins_and_parts_are_numbered_and_counted() {
    let mut scene = Scene::connected();

    assert_eq!(scene.client.join("arena", "hi"), Ok(1));
    assert_eq!(scene.client.part(""), Ok(2));
    scene.run(0.1);

    assert_eq!(scene.client.sent_count(), 2);
    assert_eq!(scene.server.sessions[0].received, 2);
    assert!(Join::ID.is_counted() && Part::ID.is_counted());
}

#[test]
fn an_ack_follows_welcome_at_once_and_then_sixty_four_frames_or_a_second() {
    let mut scene = Scene::connected();
    scene.server.silent = true;
    assert_eq!(scene.server.acks, [0]);

    for number in 1..=130 {
        scene.server.send(number);
    }
    scene.run(0.2);
    assert_eq!(scene.server.acks, [0, 130], "one Ack for all frames of an update");
    scene.server.send(131);
    scene.run(0.9);
    assert_eq!(scene.server.acks.len(), 2);
    scene.run(0.3);

    assert_eq!(scene.server.acks, [0, 130, 131]);
}

#[test]
fn cc_13_an_idle_client_is_heard_from_well_within_the_link_timeout() {
    let mut scene = Scene::connected();
    scene.server.silent = true;
    scene.run(4.5);

    assert!(scene.server.acks.len() >= 4, "an Ack each quarter of the link timeout");
}

#[test]
fn each_beacon_is_echoed_and_gives_the_latency() {
    let mut scene = Scene::connected();
    scene.server.send(1);
    scene.run(3.5);

    assert_eq!(scene.server.pings.len(), 3);
    assert!(scene.server.pings.iter().all(|ping| ping.id >= 1_000));
    assert_eq!(scene.server.pings.last().unwrap().received, 1);
    assert_eq!(scene.client.latency(), Some(Duration::from_millis(42)));
}

#[test]
fn an_older_ack_is_ignored() {
    let mut scene = Scene::connected();
    for number in 1..=8 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    scene.run(0.3);
    assert_eq!(scene.client.acked_count(), 8);

    scene.server.say(&Ack { received: 3 });
    scene.run(0.2);

    assert_eq!(scene.client.acked_count(), 8);
    assert!(scene.story().is_empty());
}

#[test]
fn a_frame_that_the_link_does_not_take_is_sent_again() {
    let narrow = Plan { room: 1, ..Plan::PERFECT };
    let mut scene = Scene::with(&[narrow]);
    scene.run(0.3);
    for number in 1..=10 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    scene.run(2.0);

    assert_eq!(scene.server.sessions[0].log, (1..=10).collect::<Vec<_>>());
}
