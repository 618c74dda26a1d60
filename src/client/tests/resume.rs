//! Tests of resumes: tokens, counts, resync, and lost sessions.

use super::*;
use crate::client::{Cut, SendError};
use crate::wire::v1::Reason;

const SILENT: Plan = Plan { up: usize::MAX, down: 0, told: false, room: usize::MAX };

fn takeover(scene: &mut Scene) {
    scene.client.cut(Cut::Silent { hold: Duration::ZERO });
}

#[test]
fn a_lost_welcome_of_a_resume_leaves_the_presented_token_valid() {
    let mut scene = Scene::connected();
    let first = scene.client.token().unwrap().to_vec();

    scene.net.borrow_mut().plans.extend([SILENT, SILENT]);
    takeover(&mut scene);
    scene.run(0.1);
    assert_eq!(scene.server.hellos.len(), 2, "the server has resumed the session, and its Welcome is lost");
    scene.run(16.0);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
    let presented: Vec<_> = scene.server.hellos.iter().filter_map(|hello| hello.resume.as_ref()).collect();
    assert_eq!(presented.len(), 3);
    assert!(presented.iter().all(|resume| resume.token == first));
    assert_ne!(scene.client.token().unwrap(), first);
}

#[test]
fn a_hello_that_arrives_after_the_hello_on_the_next_link_does_not_end_the_session() {
    for ticks_late in [0, 1] {
        // given a resume whose Hello is delayed by the network until the client gives its link up
        let mut scene = Scene::connected();
        takeover(&mut scene);
        scene.client.update(STEP);
        let held: Vec<_> = scene.net.borrow_mut().wires[1].up.drain(..).collect();
        assert_eq!(held.len(), 1, "the Hello");
        loop {
            scene.client.update(STEP);
            scene.events.extend(std::iter::from_fn(|| scene.client.poll()));
            if scene.net.borrow().dials == 3 {
                break;
            }
            scene.server.tick(STEP);
        }

        // when it arrives together with the Hello of the next link, or just after it
        for _ in 0..ticks_late {
            scene.server.tick(STEP);
        }
        {
            // The server does not notice that the link was closed.
            let wire = &mut scene.net.borrow_mut().wires[1];
            wire.up.extend(held);
            wire.closed = false;
        }
        scene.server.tick(STEP);
        scene.run(2.0);

        // then the session goes on, and the client does not stop
        assert!(!scene.story().contains(&"session lost"), "{:?}", scene.story());
        assert_eq!(scene.client.state(), ClientState::Connected);
        assert_eq!(scene.server.sessions.len(), 1);
        scene.client.send(&Numbered { number: 1 }).unwrap();
        scene.run(1.0);
        assert_eq!(scene.server.sessions[0].log, [1]);
    }
}

#[test]
fn a_replaced_link_ends_the_client_if_its_own_late_hello_is_long_ago() {
    let mut scene = Scene::connected();
    scene.net.borrow_mut().plans.push_back(SILENT);
    takeover(&mut scene);
    scene.run(15.0);
    assert_eq!(scene.story(), ["link lost", "resumed"]);

    scene.server.say(&super::server::closed(Reason::Replaced, 0));
    scene.run(1.0);

    assert_eq!(scene.client.state(), ClientState::Stopped);
}

#[test]
fn each_welcome_has_a_new_token_and_the_first_ack_voids_the_old_one() {
    let mut scene = Scene::connected();
    let mut seen = vec![scene.client.token().unwrap().to_vec()];

    for _ in 0..5 {
        takeover(&mut scene);
        scene.run(0.2);
        let token = scene.client.token().unwrap().to_vec();
        assert!(!seen.contains(&token));
        assert_eq!(scene.server.sessions[0].tokens, [&token[..]]);
        seen.push(token);
    }

    assert_eq!(scene.client.resume_count(), 5);
}

#[test]
fn a_session_whose_first_welcome_was_never_acked_is_lost_and_replaced_on_the_same_link() {
    let dies_after_hello = Plan { up: 1, down: 1, told: true, room: usize::MAX };
    let mut scene = Scene::with(&[dies_after_hello]);
    scene.run(0.1);
    for number in 1..=3 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    scene.run(2.0);

    assert_eq!(scene.story(), ["connected", "link lost", "session lost", "connected"]);
    assert!(
        scene.events.contains(&ClientEvent::SessionLost { unacked_count: 3, reason: Some(Reason::Token) })
    );
    assert_eq!(scene.net.borrow().wires.len(), 2);
    assert_eq!((scene.client.sent_count(), scene.client.acked_count()), (0, 0));
    assert!(scene.server.sessions[0].log.is_empty());
}

#[test]
fn a_resync_adopts_the_servers_base_and_still_sends_the_outbox() {
    let mut scene = Scene::connected();
    takeover_with_hold(&mut scene);
    for number in 1..=3 {
        scene.client.send(&Numbered { number }).unwrap();
        scene.server.send(number + 100);
    }
    scene.server.sessions[0].overflown = true;
    scene.run(2.0);
    scene.server.send(104);
    scene.run(2.0);

    assert_eq!(scene.story(), ["link lost", "resynced"]);
    assert_eq!(scene.numbers(), [104], "earlier frames of the server are void");
    assert_eq!(scene.client.received_count(), 4);
    assert_eq!(scene.server.sessions[0].log, [1, 2, 3]);
    assert_eq!(scene.client.acked_count(), 3);
}

fn takeover_with_hold(scene: &mut Scene) {
    scene.client.cut(Cut::Close { hold: Duration::from_millis(500) });
    scene.run(0.2);
}

#[test]
fn a_client_that_kept_only_its_token_resumes_with_resync() {
    let mut scene = Scene::connected();
    for number in 1..=3 {
        scene.client.send(&Numbered { number }).unwrap();
        scene.server.send(number);
    }
    scene.run(1.5);
    let session = scene.client.session_id();
    let token = scene.client.token().unwrap().to_vec();

    scene.client = Client::resume_with_token(TestDial(Rc::clone(&scene.net)), config(), token);
    scene.events.clear();
    // A frame that is sent before Welcome has no number yet.
    scene.client.send(&Numbered { number: 4 }).unwrap();
    scene.run(0.2);
    scene.server.send(4);
    scene.run(1.5);

    assert_eq!(scene.story(), ["resynced"]);
    assert_eq!(scene.client.session_id(), session);
    assert_eq!(scene.server.sessions[0].log, [1, 2, 3, 4]);
    assert_eq!(scene.numbers(), [4]);
    assert_eq!((scene.client.sent_count(), scene.client.acked_count()), (4, 4));
    assert_eq!(scene.client.received_count(), 4);

    // From here on the client has its counts again.
    takeover(&mut scene);
    scene.run(0.2);
    assert_eq!(scene.story(), ["resynced", "link lost", "resumed"]);
}

#[test]
fn a_token_that_resumes_no_session_gives_a_new_session() {
    let mut scene = Scene::new();
    scene.client = Client::resume_with_token(TestDial(Rc::clone(&scene.net)), config(), vec![9; 32]);

    scene.run(0.5);

    assert_eq!(scene.story(), ["session lost", "connected"]);
    assert_eq!(scene.net.borrow().wires.len(), 1);
    assert!(scene.server.hellos[1].resume.is_none());
    assert!(scene.server.hellos[1].credentials.is_some());
}

#[test]
fn each_side_takes_the_higher_of_both_counts() {
    // given a server that was restored from an older record
    let mut scene = Scene::connected();
    for number in 1..=5 {
        scene.client.send(&Numbered { number }).unwrap();
        scene.server.send(number);
    }
    scene.run(1.5);
    let session = &mut scene.server.sessions[0];
    (session.received, session.trimmed) = (2, 3);

    takeover(&mut scene);
    scene.run(0.2);
    scene.client.send(&Numbered { number: 6 }).unwrap();
    scene.run(2.0);

    assert_eq!(scene.story(), ["link lost", "resynced"]);
    assert_eq!(scene.server.sessions[0].received, 6);
    assert_eq!(scene.client.acked_count(), 6);
    assert_eq!(scene.client.received_count(), 3);
}

#[test]
fn a_resume_says_which_frames_were_sent_before_and_not_which_were_queued() {
    let mut scene = Scene::connected();
    for number in 1..=2 {
        scene.client.send(&Numbered { number }).unwrap();
    }
    scene.run(0.2);

    scene.client.cut(Cut::Close { hold: Duration::from_millis(100) });
    scene.client.send(&Numbered { number: 3 }).unwrap();
    scene.run(2.0);

    let sent: Vec<u64> =
        scene.server.hellos.iter().filter_map(|hello| Some(hello.resume.as_ref()?.sent)).collect();
    assert_eq!(sent, [2]);
    assert_eq!(scene.client.acked_count(), 3);
}

#[test]
fn pauses_between_tries_grow_and_the_last_try_ends_the_session() {
    let mut scene = Scene::connected();
    scene.client.send(&Numbered { number: 1 }).unwrap();
    scene.net.borrow_mut().refusing = true;
    let dialled = scene.net.borrow().dials;
    scene.client.cut(Cut::Close { hold: Duration::ZERO });

    let mut at = Vec::new();
    for step in 0..4_000u32 {
        let before = scene.net.borrow().dials;
        scene.client.update(Duration::from_millis(10));
        if scene.net.borrow().dials > before {
            at.push(Duration::from_millis(10) * step);
        }
        while let Some(event) = scene.client.poll() {
            scene.events.push(event);
        }
    }
    for _ in 0..4_000 {
        scene.client.update(Duration::from_millis(10));
    }
    while let Some(event) = scene.client.poll() {
        scene.events.push(event);
    }

    assert_eq!(scene.net.borrow().dials - dialled, 15);
    assert!(at.len() >= 12);
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let slack = Duration::from_millis(10);
    for (index, gap) in gaps.iter().enumerate() {
        let longest = (Duration::from_millis(100) * (2 << index)).min(Duration::from_secs(5));
        assert!(*gap >= longest / 2 && *gap <= longest + slack, "{index}: {gap:?}");
    }
    assert_eq!(scene.story(), ["link lost", "session lost", "closed"]);
    assert_eq!(scene.client.state(), ClientState::Stopped);
    assert_eq!(scene.client.send(&Numbered { number: 2 }), Err(SendError::NoSession));
}

#[test]
fn a_try_ends_after_its_own_timeouts() {
    let mut scene = Scene::new();
    scene.net.borrow_mut().stuck = true;
    scene.run(2.4);
    assert_eq!(scene.net.borrow().dials, 1);
    scene.run(0.4);
    assert_eq!(scene.net.borrow().dials, 2, "no link after 2.5 s");
    scene.run(4.5);
    assert_eq!(scene.net.borrow().dials, 2);
    scene.run(1.0);
    assert_eq!(scene.net.borrow().dials, 3, "no link after 5 s");

    scene.net.borrow_mut().stuck = false;
    scene.server.mute = true;
    scene.run(4.5);
    assert_eq!(scene.net.borrow().dials, 3);
    scene.run(2.0);
    assert_eq!(scene.net.borrow().dials, 4, "no answer after 5 s");
    scene.server.mute = false;
    scene.run(6.0);

    assert_eq!(scene.story(), ["connected"]);
}

#[test]
fn a_client_whose_round_trips_take_1_5_s_opens_a_link_and_waits_for_its_welcome() {
    // given a transport that opens in four round trips, and a server that answers after one
    let mut scene = Scene::new();
    scene.net.borrow_mut().opens_in = Duration::from_millis(5_900);
    scene.net.borrow_mut().answers_in = Duration::from_millis(4_400);

    scene.run(2.5 + 5.0 + 6.0 + 4.5 + 2.0);
    assert_eq!(scene.story(), ["connected"]);
    scene.events.clear();

    // when it resumes, the measured round trip applies to the first try
    let dials = scene.net.borrow().dials;
    scene.client.cut(Cut::Close { hold: Duration::ZERO });
    scene.run(12.0);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
    assert_eq!(scene.net.borrow().dials, dials + 1);
}

#[test]
fn a_resume_without_an_answer_is_repeated_on_the_next_link_after_2_5_s() {
    let mut scene = Scene::connected();
    scene.server.mute = true;
    scene.client.cut(Cut::Close { hold: Duration::ZERO });
    scene.run(2.4);
    assert_eq!(scene.net.borrow().dials, 2);
    scene.server.mute = false;
    scene.run(1.0);

    assert_eq!(scene.net.borrow().dials, 3);
    assert!(scene.net.borrow().wires[1].closed, "the link without an answer is closed");
    assert_eq!(scene.story(), ["link lost", "resumed"]);
}

#[test]
fn while_the_session_can_be_resumed_pauses_are_short_up_to_the_last_second() {
    let mut scene = Scene::with(&[Plan { up: usize::MAX, down: usize::MAX, told: true, room: usize::MAX }]);
    scene.server.timeout_ms = 10_000;
    scene.run(0.2);
    scene.events.clear();
    scene.client.cut(Cut::Close { hold: Duration::ZERO });
    scene.net.borrow_mut().refusing = true;

    let (mut before, mut gap, mut gap_max) = (scene.net.borrow().dials, 0, 0);
    for _ in 0..(9_400 / STEP.as_millis()) {
        scene.step();
        let dials = scene.net.borrow().dials;
        gap = if dials == before { gap + 1 } else { 0 };
        gap_max = gap_max.max(gap);
        before = dials;
    }
    assert!(STEP * gap_max <= Duration::from_millis(400), "{:?} without a try", STEP * gap_max);
    scene.net.borrow_mut().refusing = false;
    scene.run(0.5);

    assert_eq!(scene.story(), ["link lost", "resumed"]);
}

#[test]
fn when_the_session_can_no_longer_be_resumed_the_pauses_grow_and_the_tries_end() {
    let mut scene = Scene::new();
    scene.server.timeout_ms = 1_000;
    scene.run(0.2);
    scene.client.cut(Cut::Close { hold: Duration::ZERO });
    scene.net.borrow_mut().refusing = true;
    scene.run(3.0);
    let within = scene.net.borrow().dials;
    scene.run(120.0);

    assert!(within > 8, "{within} dials within the window and its slack");
    assert_eq!(scene.net.borrow().dials - within, 15, "those of the long backoff");
    assert_eq!(scene.story(), ["connected", "link lost", "session lost", "closed"]);
}
