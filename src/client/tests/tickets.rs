//! Tests of tickets: which Hellos show one, and what a client does when its ticket is refused.

use super::*;
use crate::wire::v1::Reason;

fn with_tickets(tickets: &[&'static str], renews_tickets: bool) -> Scene {
    Scene::over(Net { tickets: tickets.iter().copied().collect(), renews_tickets, ..Net::default() })
}

/// Returns the tickets of all Hellos so far.
fn shown(scene: &Scene) -> Vec<&str> {
    scene.server.hellos.iter().map(|hello| &*hello.ticket).collect()
}

#[test]
fn a_new_session_shows_the_ticket_of_its_link_and_a_resume_shows_none() {
    let mut scene = with_tickets(&["first", "second", "third"], true);
    scene.run(0.2);
    scene.client.cut(crate::client::Cut::Close { hold: Duration::ZERO });
    scene.run(0.5);
    assert_eq!(shown(&scene), ["first", ""]);
    scene.server.sessions.clear();
    scene.client.cut(crate::client::Cut::Close { hold: Duration::ZERO });
    scene.run(0.5);

    assert_eq!(shown(&scene), ["first", "", "", "third"], "the session was lost, and a new one was opened");
    assert_eq!(scene.client.state(), ClientState::Connected);
}

#[test]
fn a_refused_ticket_is_replaced_once_by_the_ticket_of_another_link() {
    let mut scene = with_tickets(&["stale", "fresh"], true);
    scene.server.deny = Some((Reason::Unauthenticated, 0));
    while scene.server.hellos.is_empty() {
        scene.step();
    }
    scene.server.deny = None;
    scene.run(1.0);

    assert_eq!(shown(&scene), ["stale", "fresh"]);
    assert_eq!(scene.story(), ["connected"]);
}

#[test]
fn a_client_stops_if_its_second_ticket_is_refused_or_if_it_has_no_other() {
    for (renews_tickets, tries) in [(true, 2), (false, 1)] {
        let mut scene = with_tickets(&["first", "second", "third"], renews_tickets);
        scene.server.deny = Some((Reason::Unauthenticated, 0));
        scene.run(5.0);

        assert_eq!(scene.server.hellos.len(), tries);
        assert_eq!(scene.story(), ["closed"]);
        let closed = scene.events.iter().find_map(|event| match event {
            ClientEvent::Closed { reason, .. } => *reason,
            _ => None,
        });
        assert_eq!(closed, Some(Reason::Unauthenticated));
    }
}

#[test]
fn a_later_session_may_replace_its_ticket_once_as_well() {
    let mut scene = with_tickets(&["stale", "good", "used", "good"], true);
    scene.server.deny = Some((Reason::Unauthenticated, 0));
    while scene.server.hellos.is_empty() {
        scene.step();
    }
    scene.server.deny = None;
    scene.run(1.0);
    scene.server.sessions.clear();
    scene.server.deny = Some((Reason::Token, 0));
    scene.client.cut(crate::client::Cut::Close { hold: Duration::ZERO });
    while scene.server.hellos.len() < 3 {
        scene.step();
    }
    scene.server.deny = Some((Reason::Unauthenticated, 0));
    while scene.server.hellos.len() < 4 {
        scene.step();
    }
    scene.server.deny = None;
    scene.run(1.0);

    assert_eq!(shown(&scene), ["stale", "good", "", "used", "good"]);
    assert_eq!(scene.client.state(), ClientState::Connected);
}

#[test]
fn debug_output_shows_no_ticket_and_no_token() {
    let mut scene = with_tickets(&["AXN0aWNrZXQ"], true);
    scene.run(0.2);
    let token = format!("{:?}", scene.client.core.token());

    let shown = format!("{:?}", scene.client.core);

    assert!(!shown.contains("AXN0") && !shown.contains(&token), "{shown}");
}
