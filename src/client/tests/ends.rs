//! Tests of the ends of links and sessions: reasons, silence, Bye, cuts, and broken servers.

use super::server::closed;
use super::*;
use crate::client::{Cut, Dial, DialError, EVENTS_MAX, Link, LinkStatus};
use crate::wire::v1::{Ack, Beacon, ProbeReply, Reason};
use crate::wire::{Lane, encode};

#[test]
fn the_reason_in_closed_decides_about_the_session() {
    for (reason, story) in [
        (Reason::Bye, &["session lost", "closed"][..]),
        (Reason::Kicked, &["session lost", "closed"]),
        (Reason::Conflict, &["session lost", "closed"]),
        (Reason::Replaced, &["session lost", "closed"]),
        (Reason::Version, &["session lost", "closed"]),
        (Reason::Protocol, &["session lost", "closed"]),
        (Reason::Slow, &["link lost", "resumed"]),
        (Reason::Timeout, &["link lost", "resumed"]),
        (Reason::Dropped, &["link lost", "resumed"]),
        (Reason::Shutdown, &["link lost", "resumed"]),
        (Reason::Unspecified, &["link lost", "resumed"]),
    ] {
        let mut scene = Scene::connected();
        scene.server.say(&closed(reason, 0));
        scene.run(1.0);

        assert_eq!(scene.story(), story, "{reason}");
        if story.contains(&"closed") {
            assert!(
                scene.events.contains(&ClientEvent::SessionLost { unacked_count: 0, reason: Some(reason) })
            );
            assert_eq!(scene.client.state(), ClientState::Stopped);
        }
        assert!(scene.net.borrow().wires[0].closed, "the client closes the link");
    }
}

#[test]
fn the_reason_in_denied_decides_about_another_try() {
    for (reason, tries_again) in [
        (Reason::Draining, true),
        (Reason::Throttled, true),
        (Reason::Full, true),
        (Reason::Unauthenticated, false),
        (Reason::Version, false),
        (Reason::Conflict, false),
    ] {
        let mut scene = Scene::new();
        scene.server.deny = Some((reason, 1_500));
        scene.run(1.4);
        assert_eq!(scene.server.hellos.len(), 1, "{reason}");
        let failure = scene.client.failure().map(str::to_owned);
        scene.server.deny = None;
        scene.run(1.0);

        if tries_again {
            assert!(failure.is_some_and(|why| why.contains(&reason.to_string())), "{reason}");
            assert_eq!(scene.client.failure(), None);
            assert_eq!(scene.story(), ["connected"], "{reason}");
        } else {
            assert_eq!(scene.story(), ["closed"], "{reason}");
        }
    }
}

#[test]
fn after_a_shutdown_the_client_comes_again_after_retry_after_ms() {
    let mut scene = Scene::connected();
    scene.server.say(&closed(Reason::Shutdown, 3_000));
    scene.run(2.9);
    assert_eq!(scene.net.borrow().dials, 1);
    assert_eq!(scene.client.state(), ClientState::Away);
    // The new server has no sessions.
    scene.server.sessions.clear();
    scene.run(0.5);

    assert_eq!(scene.story(), ["link lost", "session lost", "connected"]);
}

#[test]
fn a_link_that_is_silent_for_the_link_timeout_is_lost() {
    let mut scene = Scene::connected();
    scene.server.silent = true;
    scene.run(4.7);
    assert!(scene.story().is_empty());
    scene.run(0.5);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
}

#[test]
fn a_client_that_slept_for_less_than_the_link_timeout_keeps_its_link() {
    let mut scene = Scene::connected();
    scene.server.tick(Duration::from_millis(4_900));
    scene.client.update(Duration::from_millis(4_900));
    scene.run(6.0);

    assert!(scene.story().is_empty());
    assert_eq!(scene.net.borrow().dials, 1);
}

#[test]
fn a_client_that_slept_for_the_link_timeout_discards_its_link_unread_and_resumes_at_once() {
    let mut scene = Scene::connected();
    for number in 1..=20 {
        scene.server.send(number);
    }
    scene.server.tick(Duration::from_secs(5));
    scene.client.update(Duration::from_secs(5));

    assert_eq!(scene.client.received_count(), 0, "frames in the old link are not read");
    assert_eq!(scene.net.borrow().dials, 2, "in the same update");
    scene.run(0.2);
    assert_eq!(scene.story(), ["link lost", "resumed"]);
    assert_eq!(scene.numbers(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn frames_that_arrived_during_a_sleep_keep_the_link_for_two_seconds_only() {
    let mut scene = Scene::connected();
    scene.server.tick(Duration::from_millis(4_900));
    // The server has closed the link in the meantime, and its Closed is lost.
    scene.server.silent = true;
    scene.client.update(Duration::from_millis(4_900));
    scene.run(1.8);
    assert!(scene.story().is_empty());
    scene.run(0.5);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
}

/// Opens links that are closed at once.
struct Broken;

impl Dial for Broken {
    type Link = Self;

    fn dial(&mut self) -> Result<Self, DialError> {
        Ok(Self)
    }
}

impl Link for Broken {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        LinkStatus::Closed
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        None
    }

    fn send(&mut self, _frame: Bytes) -> bool {
        false
    }

    fn flush(&mut self) {}

    fn close(&mut self) {}

    fn failure(&self) -> Option<String> {
        Some("the cable is cut; mend it".to_owned())
    }
}

#[test]
fn the_game_gets_the_failure_of_the_last_try() {
    let mut client = Client::new(Broken, ClientConfig { tries: 2, ..config() });
    for _ in 0..10 {
        client.update(STEP);
    }

    let told = ClientEvent::Closed { reason: None, detail: "the cable is cut; mend it".to_owned() };
    assert_eq!(client.poll(), Some(told));
    assert!(client.link().is_none());
}

#[test]
fn before_welcome_a_client_ignores_other_frames() {
    let mut scene = Scene::new();
    scene.server.mute = true;
    scene.run(0.1);
    {
        let mut net = scene.net.borrow_mut();
        let wire = &mut net.wires[0];
        wire.carry_down(encode(&Beacon { received: 9, ..Beacon::default() }));
        wire.carry_down(encode(&ProbeReply::default()));
        wire.carry_down(encode(&Numbered { number: 1 }));
        wire.carry_down(Bytes::from_static(&[0]));
    }
    scene.run(0.1);
    assert!(scene.events.is_empty());
    scene.server.mute = false;
    scene.run(6.0);

    assert_eq!(scene.story(), ["connected"]);
    assert_eq!(scene.client.received_count(), 0);
}

#[test]
fn a_server_that_breaks_the_protocol_ends_the_session_without_a_panic() {
    let reliable = |frame: Bytes| (Lane::Reliable, frame);
    for (lane, frame) in [
        reliable(encode(&Ack { received: 1 })),
        reliable(encode(&Beacon { received: u64::MAX, ..Beacon::default() })),
        reliable(Bytes::from_static(&[0])),
        reliable(Bytes::from_static(&[0x00, 0x06, 0xFF])),
        reliable(Bytes::from(vec![1; 64 * 1024 + 1])),
        (Lane::Unreliable, encode(&Numbered { number: 1 })),
    ] {
        let mut scene = Scene::connected();
        scene.net.borrow_mut().wires[0].carry_down_on(lane, frame);
        scene.run(0.1);

        assert_eq!(scene.story(), ["session lost", "closed"]);
        assert!(matches!(
            scene.events.last(),
            Some(ClientEvent::Closed { reason: Some(Reason::Protocol), .. })
        ));
    }
}

#[test]
fn unknown_link_control_and_link_control_of_clients_is_ignored() {
    let mut scene = Scene::connected();
    {
        let mut net = scene.net.borrow_mut();
        net.wires[0].carry_down(Bytes::from_static(&[0x00, 0x3F, 1, 2, 3]));
        net.wires[0].carry_down(Bytes::from_static(&[0x80, 0x77]));
        net.wires[0].carry_down(encode(&crate::wire::v1::Bye {}));
    }
    scene.run(0.2);

    assert!(scene.events.is_empty());
    assert_eq!(scene.client.state(), ClientState::Connected);
}

#[test]
fn a_bye_leaves_behind_all_messages_and_is_answered() {
    let mut scene = Scene::connected();
    for number in 1..=3 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    scene.client.bye();
    assert_eq!(scene.client.state(), ClientState::Leaving);
    scene.client.update(STEP);
    scene.server.silent = true;
    let before = scene.server.sessions[0].received;
    scene.server.tick(STEP);
    scene.step();

    assert_eq!(before, 0);
    assert_eq!(scene.server.byes, 1);
    assert_eq!(scene.story(), ["closed"], "messages that arrived before the Bye are not lost");
    assert!(matches!(scene.events.last(), Some(ClientEvent::Closed { reason: Some(Reason::Bye), .. })));
}

#[test]
fn a_bye_without_an_answer_ends_in_time() {
    let mut scene = Scene::connected();
    scene.server.mute = true;
    scene.client.bye();
    scene.run(4.9);
    assert!(scene.story().is_empty());
    scene.run(0.2);
    assert_eq!(scene.story(), ["session lost", "closed"]);

    let mut away = Scene::connected();
    away.client.cut(Cut::Close { hold: Duration::from_secs(1) });
    away.client.bye();
    away.run(0.1);
    assert_eq!(away.story(), ["link lost", "session lost", "closed"]);
}

#[test]
fn a_silent_cut_does_not_inform_the_server_and_a_close_does() {
    let hold = Duration::from_secs(2);
    for (cut, told) in [(Cut::Silent { hold }, false), (Cut::Close { hold }, true)] {
        let mut scene = Scene::connected();
        scene.client.cut(cut);
        scene.run(1.9);

        // A link that was cut silently is kept, because the server could notice its drop.
        assert_eq!(scene.net.borrow().wires[0].dropped, told);
        assert_eq!(scene.net.borrow().wires[0].closed, told);
        assert_eq!(scene.server.sessions[0].link.is_none(), told);
        assert_eq!(scene.net.borrow().dials, 1);
        scene.run(0.4);
        assert_eq!(scene.story(), ["link lost", "resumed"]);
        assert!(scene.net.borrow().wires[0].dropped);
        assert_eq!(scene.server.byes, 0);
    }
}

#[test]
fn a_client_stops_reading_while_its_game_does_not_poll_and_loses_nothing() {
    let mut scene = Scene::connected();
    let count = 2 * EVENTS_MAX as u64;
    for number in 1..=count {
        scene.server.send(number);
    }
    scene.server.tick(STEP);
    for _ in 0..400 {
        scene.client.update(STEP);
        scene.server.tick(STEP);
    }
    assert_eq!(scene.client.received_count(), EVENTS_MAX as u64);
    assert_eq!(scene.client.state(), ClientState::Connected);
    scene.run(1.0);

    assert_eq!(scene.numbers(), (1..=count).collect::<Vec<_>>());
    assert!(scene.story().is_empty(), "the link did not count as silent");
}
