//! Tests the UDP adapter over real sockets.

use std::time::Duration;

use bevy_app::App;
use bytes::Bytes;
use waystation::proxy::{LinkEnd, ProxyCommand};
use waystation::tick::{Clock, UnixClock};
use waystation::wire::Lane;
use waystation::wire::udp::{CHANNEL_RELIABLE, CHANNEL_UNRELIABLE, TOKEN_EXPIRE};

use crate::stage::frame;
use crate::stage::udp::Stage;
use crate::support::fail_network_thread;

#[test]
fn two_clients_get_their_frames_both_ways_on_both_lanes() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");
    let bob = stage.connect("bob");

    for (who, tag) in [(ada, 1), (bob, 2)] {
        stage.clients[who].send(CHANNEL_RELIABLE, frame(0x01, tag));
        stage.clients[who].send(CHANNEL_UNRELIABLE, frame(0x81, tag));
        stage.clients[who].send(CHANNEL_RELIABLE, Bytes::from(vec![tag; 16_384]));
    }
    stage.until("the server has all frames", |stage| {
        [ada, bob].iter().all(|who| stage.frames_of(*who).len() == 3)
    });
    for (who, tag) in [(ada, 1), (bob, 2)] {
        stage.send(who, frame(0x01, tag));
        stage.send(who, frame(0x81, tag));
        stage.send(who, Bytes::from(vec![tag; 65_536]));
    }
    stage.until("the clients have all frames", |stage| {
        [ada, bob].iter().all(|who| stage.clients[*who].received.len() == 3)
    });

    for (who, tag, name) in [(ada, 1, "ada"), (bob, 2, "bob")] {
        let frames = stage.frames_of(who);
        assert!(frames.contains(&(Lane::Reliable, frame(0x01, tag))));
        assert!(frames.contains(&(Lane::Unreliable, frame(0x81, tag))));
        assert!(frames.contains(&(Lane::Reliable, Bytes::from(vec![tag; 16_384]))));
        let received = &stage.clients[who].received;
        assert!(received.contains(&(Lane::Reliable, frame(0x01, tag))));
        assert!(received.contains(&(Lane::Unreliable, frame(0x81, tag))));
        assert!(received.contains(&(Lane::Reliable, Bytes::from(vec![tag; 65_536]))));
        assert_eq!(stage.identity_of(who), Some(name));
    }
}

#[test]
fn a_closed_link_delivers_its_last_frames_and_ends() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");

    stage.send(ada, frame(0x01, 1));
    stage.command(ada, |link| ProxyCommand::Close { link, frame: frame(0x00, 9) });
    stage.send(ada, frame(0x01, 2));
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].netcode.is_disconnected()
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByServer));
    let received: Vec<_> = stage.clients[ada].received.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(received, [frame(0x01, 1), frame(0x00, 9)]);
}

#[test]
fn a_cut_link_ends_at_once_after_what_was_sent() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");

    stage.send(ada, frame(0x01, 1));
    stage.command(ada, |link| ProxyCommand::Cut { link });
    stage.until("the link has ended on both sides", |stage| {
        stage.end_of(ada).is_some() && stage.clients[ada].netcode.is_disconnected()
    });

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByServer));
    assert_eq!(stage.clients[ada].received, [(Lane::Reliable, frame(0x01, 1))]);
}

#[test]
fn all_frames_of_a_client_that_leaves_arrive() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");

    stage.clients[ada].send(CHANNEL_RELIABLE, frame(0x01, 1));
    stage.clients[ada].flush();
    stage.clients[ada].leave();
    stage.until("the link has ended", |stage| stage.end_of(ada).is_some());

    assert_eq!(stage.end_of(ada), Some(LinkEnd::ByPeer));
    assert_eq!(stage.frames_of(ada), [(Lane::Reliable, frame(0x01, 1))]);
}

#[test]
fn a_paused_link_keeps_its_reliable_frames_until_it_is_read_again() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");
    stage.command(ada, |link| ProxyCommand::Pause { link });
    stage.send(ada, frame(0x01, 0));
    stage.until("the adapter has carried out the command", |stage| !stage.clients[ada].received.is_empty());

    for tag in 0..50 {
        stage.clients[ada].send(CHANNEL_RELIABLE, frame(0x01, tag));
    }
    stage.until("all frames are acknowledged, so the server's transport has them", |stage| {
        stage.clients[ada].renet.channel_available_memory(CHANNEL_RELIABLE)
            == stage.clients[ada].reliable_room
    });
    stage.clients[ada].send(CHANNEL_UNRELIABLE, frame(0x81, 0));
    stage.until("the unreliable lane is read", |stage| !stage.frames_of(ada).is_empty());
    assert_eq!(stage.frames_of(ada), [(Lane::Unreliable, frame(0x81, 0))]);

    stage.command(ada, |link| ProxyCommand::Unpause { link });
    stage.until("the rest is read", |stage| stage.frames_of(ada).len() == 51);
    let reliable: Vec<_> = stage.frames_of(ada).into_iter().skip(1).collect();
    let sent: Vec<_> = (0..50).map(|tag| (Lane::Reliable, frame(0x01, tag))).collect();
    assert_eq!(reliable, sent);
}

#[test]
fn a_client_that_never_reads_is_closed_and_its_buffer_is_bounded() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");
    stage.clients[ada].deaf = true;

    for _ in 0..64 {
        stage.send(ada, Bytes::from(vec![1; 16_384]));
    }
    stage.until("the link has ended", |stage| stage.end_of(ada).is_some());

    assert_eq!(stage.end_of(ada), Some(LinkEnd::Failed));
}

#[test]
fn a_dropped_server_disconnects_its_clients_and_ends_its_thread() {
    let mut stage = Stage::new(Clock::wall());
    let ada = stage.connect("ada");
    stage.command(ada, |link| ProxyCommand::Close { link, frame: frame(0x00, 9) });
    stage.app.update();

    stage.app = App::new();
    stage.until("the client is disconnected, and the thread has ended", |stage| {
        stage.clients[ada].netcode.is_disconnected() && stage.adapter.handle.is_finished()
    });

    assert_eq!(stage.clients[ada].received, [(Lane::Reliable, frame(0x00, 9))]);
}

#[test]
fn a_stall_of_the_server_ends_no_link_and_tokens_from_before_and_after_it_open_links() {
    for stall in [1, 3, 10, 60].map(Duration::from_secs) {
        let clock = Clock::manual();
        let mut stage = Stage::with_unix(clock.clone(), UnixClock::manual(clock.clone(), START));
        let ada = stage.connect("ada");
        let before = stage.client("bob");

        clock.advance(stall);
        stage.until_open(before);
        stage.assert_echo(ada);
        stage.assert_serves_others();

        assert_eq!(stage.end_of(ada), None);
    }
}

#[test]
fn a_connect_token_expires_by_the_time_that_has_passed_whether_the_server_was_stalled_or_not() {
    let clock = Clock::manual();
    let mut stage = Stage::with_unix(clock.clone(), UnixClock::manual(clock.clone(), START));
    let (in_time, late) = (stage.client("ada"), stage.client("eve"));
    stage.clients[late].frozen = true;

    clock.advance(TOKEN_EXPIRE - Duration::from_secs(1));
    stage.until_open(in_time);
    clock.advance(Duration::from_secs(1));
    stage.clients[late].frozen = false;
    stage.until("the late token is refused", |stage| stage.counts().expired_token_count > 0);

    stage.assert_serves_others();
    assert!(!stage.clients[late].netcode.is_connected());
    assert_eq!(stage.link_of(late), None);
}

#[test]
fn a_step_of_the_wall_clock_does_not_affect_links_and_connect_tokens() {
    // Steps of 1 second, 10 minutes, 2 hours and a year.
    for step in [1, 600, 7_200, 365 * 86_400].map(Duration::from_secs) {
        for wall in [START + step, START - step] {
            let clock = Clock::manual();
            let unix = UnixClock::manual(clock.clone(), START);
            let mut stage = Stage::with_unix(clock, unix.clone());
            let ada = stage.connect("ada");
            let before = stage.client("bob");

            unix.set_wall(wall);
            stage.assert_echo(ada);
            stage.until_open(before);
            stage.assert_serves_others();
            // A thread that restarts reads the same clock.
            fail_network_thread(&mut stage.app);
            stage.until("the thread has restarted", |stage| stage.counts().restart_count == 1);
            stage.assert_serves_others();
        }
    }
}

/// The time of the wall clock: in November 2027.
const START: Duration = Duration::from_secs(1_826_000_000);
