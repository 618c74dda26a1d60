//! Tests of the ends of links at a client.

use super::*;

/// A number of steps that takes longer than quinn keeps a closed connection, and than a link takes to be quiet.
const LONG: u32 = 2_000;

#[test]
fn a_webtransport_session_that_is_closed_at_once_is_a_link_that_did_not_open() {
    let mut host = Host::bind("127.0.0.1", &BOTH);
    host.closes_when_asked = true;
    let mut link = QuicDial::new(target(&host, webtransport())).dial().expect("a link");

    until(&mut link, &mut host, |link, _| {
        assert_ne!(link.status(), LinkStatus::Open);
        link.status() == LinkStatus::Closed
    });

    for _ in 0..LONG {
        link.update(STEP);
        link.flush();
        host.pump(STEP);
        assert_eq!(link.status(), LinkStatus::Closed);
    }
    assert!(link.failure().is_some());
}

#[test]
fn a_closed_link_is_not_moved() {
    for (mut link, mut host) in both() {
        host.links[0].finish(Reason::Kicked);
        until(&mut link, &mut host, |link, _| link.status() == LinkStatus::Closed);
        for _ in 0..LONG {
            link.update(STEP);
            link.flush();
            host.pump(STEP);
        }

        let moved = link.rebind();

        link.flush();
        assert_eq!(moved.expect_err("the link is closed").kind(), io::ErrorKind::NotConnected);
    }
}
