//! Tests of links on which the client receives frames and the server does not.

use super::*;
use crate::client::EVENTS_MAX;

/// Returns a client with a session over a stream.
fn over_a_stream() -> Scene {
    let mut scene = Scene::over(Net { is_stream: true, ..Net::default() });
    scene.server.timeout_ms = 5_000;
    scene.run(3.0);
    assert_eq!(scene.story(), ["connected"]);
    scene.events.clear();
    scene
}

/// Stops the frames on the current link from reaching the server.
fn deafen(scene: &Scene) {
    let mut net = scene.net.borrow_mut();
    net.heard_from = net.wires.len();
}

#[test]
fn a_stream_on_which_the_server_receives_nothing_is_lost_within_two_seconds_after_the_server() {
    let mut scene = over_a_stream();

    deafen(&scene);
    scene.run(5.0);
    assert!(scene.story().is_empty(), "the server has just lost the link");
    scene.run(2.2);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
    scene.run(10.0);
    assert_eq!(scene.client.resume_count(), 1, "the server receives frames on the next link");
}

#[test]
fn on_the_first_link_the_first_beacon_shows_that_the_server_receives_nothing() {
    let mut scene = Scene::over(Net { is_stream: true, ..Net::default() });
    scene.server.timeout_ms = 5_000;
    scene.run(0.2);

    deafen(&scene);
    scene.run(7.2);

    assert_eq!(scene.story(), ["connected", "link lost", "resumed"]);
}

#[test]
fn on_a_later_link_the_loss_is_found_before_the_first_echo() {
    let mut scene = over_a_stream();
    deafen(&scene);
    scene.run(7.2);
    assert_eq!(scene.story(), ["link lost", "resumed"]);

    // The Hello and the Ack have arrived, and no later frame does.
    deafen(&scene);
    scene.run(7.2);

    assert_eq!(scene.client.resume_count(), 2);
}

#[test]
fn without_a_stream_or_without_echoed_the_server_decides_about_the_loss() {
    let mut datagrams = Scene::connected();
    let mut older_server = Scene::over(Net { is_stream: true, ..Net::default() });
    older_server.server.echoed_after = None;
    older_server.run(0.2);
    older_server.events.clear();

    for scene in [&mut datagrams, &mut older_server] {
        scene.run(3.0);
        deafen(scene);
        scene.run(20.0);

        assert!(scene.story().is_empty());
    }
}

#[test]
fn a_stream_whose_round_trip_is_shorter_than_four_seconds_is_kept() {
    let mut scene = over_a_stream();

    for late_ms in (0..3_900).step_by(100) {
        scene.server.echoed_after = Some(Duration::from_millis(late_ms));
        scene.run(1.0);
    }

    assert!(scene.story().is_empty());
}

#[test]
fn a_stream_of_a_server_whose_ticks_take_two_seconds_is_kept() {
    let mut scene = Scene::over(Net { is_stream: true, ..Net::default() });
    scene.run(0.2);
    scene.events.clear();

    scene.server.beacon_every = Duration::from_secs(2);
    for number in 1..=60 {
        scene.server.send(number);
        scene.run(1.0);
    }

    assert!(scene.story().is_empty());
}

#[test]
fn a_stream_is_kept_while_frames_are_acknowledged_however_late_the_echoes_are() {
    let mut scene = over_a_stream();

    scene.server.echoed_after = Some(Duration::from_secs(1_000));
    for number in 1..=60 {
        scene.client.send(&Numbered { number }).expect("room");
        scene.run(1.0);
    }

    assert!(scene.story().is_empty());
}

#[test]
fn if_beacons_no_longer_have_echoed_the_stream_is_kept() {
    let mut scene = over_a_stream();

    // The address now belongs to an older server.
    scene.server.echoed_after = None;
    scene.run(30.0);

    assert!(scene.story().is_empty());
}

#[test]
fn a_stream_is_kept_while_the_game_does_not_poll() {
    let mut scene = over_a_stream();
    for number in 1..=2 * EVENTS_MAX as u64 {
        scene.server.send(number);
    }

    for _ in 0..400 {
        scene.client.update(STEP);
        scene.server.tick(STEP);
    }
    scene.run(10.0);

    assert!(scene.story().is_empty());
    assert_eq!(scene.client.received_count(), 2 * EVENTS_MAX as u64);
}
