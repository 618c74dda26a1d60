//! The gate: the frames that it accepts before a Welcome, and the links that it gives a session.

use waystation::proxy::LinkInfo;
use waystation::session::{SessionCounts, SessionState, SessionTable};
use waystation::testing::{Player, Via};
use waystation::wire::prost::Message as _;
use waystation::wire::v1::{Ack, Denied, Hello, Join, Probe, ProbeReply, Reason, Status};
use waystation::wire::{self, Lane};
use waystation::zone::Zone;

use crate::support::{assert_frames_fit, game};

#[test]
fn row_22_a_link_that_is_lost_with_its_hello_leaves_no_session() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    ada.close();
    game.tick();

    assert_eq!(game.resource::<SessionCounts>().registered_count, 0);
}

#[test]
fn oz_08_a_probe_needs_no_session_and_changes_nothing() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut eve = game.stranger(Via::Beta);

    for player in [&mut ada, &mut eve] {
        player.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
        player.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
    }
    game.exchange(&mut [&mut ada, &mut eve]);

    for player in [&mut ada, &mut eve] {
        let replies = player.take::<ProbeReply>();
        assert_eq!(replies.len(), 1, "the second Probe came too soon to be answered");
        let status = Status::decode(replies[0].body.clone()).expect("a Status");
        assert_eq!((status.sessions, status.zones), (1, vec!["attic".to_owned(), "hall".to_owned()]));
    }
    assert_eq!(game.resource::<SessionTable>().session_count(), 1);
}

#[test]
fn pr_01_before_welcome_only_hello_and_probe_are_accepted() {
    for offence in [wire::encode(&Join::default()), wire::encode(&Ack { received: 0 })] {
        let mut game = game();
        let mut eve = game.stranger(Via::Alpha);
        let mut hasty = game.stranger(Via::Beta);

        eve.say_bytes(Lane::Reliable, offence.clone());
        hasty.hello();
        hasty.hello();
        game.tick();
        game.tick();
        eve.pump();
        hasty.pump();

        assert_eq!(eve.closed(), Some(Reason::Protocol));
        assert_eq!(hasty.closed(), Some(Reason::Protocol));
        assert_eq!(game.resource::<SessionCounts>().registered_count, 0);
    }
}

#[test]
fn a_reliable_frame_on_the_unreliable_lane_is_a_protocol_error_before_welcome_too() {
    let mut game = game();
    let mut eve = game.stranger(Via::Alpha);
    let hello = wire::encode(&Hello { protocol: wire::PROTOCOL, ..Hello::default() });

    eve.say_bytes(Lane::Unreliable, hello);
    game.exchange(&mut [&mut eve]);

    assert_eq!(eve.closed(), Some(Reason::Protocol));
}

#[test]
fn a_probe_reply_fits_in_a_frame() {
    let mut game = game();
    for number in 0..4_000 {
        game.open_zone(Zone::new(&format!("dungeon of the seven sorrows {number}")));
    }
    let mut eve = game.stranger(Via::Alpha);

    eve.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
    game.exchange(&mut [&mut eve]);

    assert_frames_fit(&eve);
}

#[test]
fn pr_13_a_resume_needs_the_same_principal() {
    let mut game = game();
    let identity = |name: &str| LinkInfo { identity: Some(name.to_owned()), ..LinkInfo::default() };
    let mut ada = game.stranger(Via::Alpha);
    ada.connect_as(&game, Via::Alpha, identity("ada"));
    ada.hello();
    game.exchange(&mut [&mut ada]);
    ada.close();
    game.tick();

    let mut eve = game.stranger(Via::Beta);
    eve.connect_as(&game, Via::Beta, identity("eve"));
    eve.resume_with(ada.token(), false);
    game.tick();
    eve.pump();
    ada.connect_as(&game, Via::Beta, identity("ada"));
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(eve.take::<Denied>()[0].reason(), Reason::Token);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn a_session_moves_to_a_link_with_an_identity_and_back() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let known = LinkInfo { identity: Some("ada".to_owned()), ..LinkInfo::default() };

    for info in [known.clone(), LinkInfo::default(), known] {
        ada.close();
        game.tick();
        ada.connect_as(&game, Via::Beta, info);
        ada.resume();
        game.exchange(&mut [&mut ada]);

        ada.expect_no::<Denied>();
        assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    }
}

#[test]
fn loopback_may_be_exempt_from_limits_by_network() {
    let info = || LinkInfo { address: Some(([127, 0, 0, 1], 5_000).into()), ..LinkInfo::default() };
    let welcome_count = |exempt_loopback: bool| {
        let mut config = waystation::config::ServerConfig::default();
        config.gate.max_sessions_per_network = Some(2);
        config.gate.exempt_loopback = exempt_loopback;
        let mut game = crate::support::game_with(config);
        let mut players: Vec<Player> = (0..5).map(|_| Player::new()).collect();
        for player in &mut players {
            player.connect_as(&game, Via::Alpha, info());
            player.hello();
        }
        game.exchange(&mut players.iter_mut().collect::<Vec<_>>());
        players.iter().filter(|player| player.is_welcome()).count()
    };

    assert_eq!(welcome_count(true), 5);
    assert_eq!(welcome_count(false), 2);
}
