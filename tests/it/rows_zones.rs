//! Tests the rows of the state table in `docs/sessions.md` for zones that are hard, ask, announce or close.

use std::time::Duration;

use bevy_ecs::prelude::*;
use waystation::ident::ZoneId;
use waystation::proxy::LinkEnd;
use waystation::session::{Agent, AgentOf, EndCause, LossCause, Session, SessionState, SpawnAgent as _};
use waystation::testing::News::{
    self, Closed, Disconnected, Expired, MemberDisconnected, Registered, Resumed,
};
use waystation::testing::{Player, Via};
use waystation::wire::v1::{Bye, Denied, Join, Joined, Members, Notice, Part, Parted, Reason};
use waystation::zone::{InZone, MembershipCommands as _, MembershipError, Zone};

use crate::support::{Told, ask, command, entity, game, game_with_club, refusals, zone};

const HALL: ZoneId = ZoneId(1);
const BY_PEER: LossCause = LossCause::Link(LinkEnd::ByPeer);

#[test]
fn row_08_and_ow_10_a_hard_zone_parts_a_member_in_the_tick_of_its_loss() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");
    let session = ada.session();
    let ring = ZoneId(4);

    ada.close();
    game.tick();
    assert!(game.component::<InZone>(session).is_none());
    game.run_ms(500);
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(session), Some(SessionState::Connected));
    assert_eq!(ada.zone(), None);
    assert_eq!(
        game.news_of(session)[2..],
        [Disconnected(BY_PEER), News::Parted(ring, Reason::Dropped), Resumed { resync: false }]
    );
}

#[test]
fn row_11_a_takeover_parts_from_no_zone_hard_or_not() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");

    ada.close();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.zone(), Some("ring"));
    assert!(!game.news_of(ada.session()).iter().any(|news| matches!(news, News::Parted(..))));
}

#[test]
fn row_16_a_kicked_session_is_closed_with_a_reason_and_cannot_be_resumed() {
    for linked in [true, false] {
        let mut game = game_with_club();
        let mut ada = game.member(Via::Alpha, "hall");
        let (session, ada_entity) = (ada.session(), entity(&game, &ada));
        if !linked {
            ada.close();
            game.tick();
        }

        command(&mut game, |commands| commands.kick(ada_entity, "mind your words"));
        game.exchange(&mut [&mut ada]);

        let news = game.news_of(session);
        assert_eq!(
            news[news.len() - 3..],
            [News::Parted(HALL, Reason::Kicked), Expired(EndCause::Kicked), Closed(EndCause::Kicked)]
        );
        if linked {
            assert_eq!(ada.closed(), Some(Reason::Kicked));
            assert_eq!(ada.take::<Parted>()[0].reason(), Reason::Kicked);
            assert_eq!(ada.take::<waystation::wire::v1::Closed>()[0].detail, "mind your words");
        }
        ada.connect(&game, Via::Beta);
        ada.resume();
        game.exchange(&mut [&mut ada]);
        assert_eq!(ada.take::<Denied>()[0].reason(), Reason::Token);
    }
}

#[test]
fn row_18_a_zone_parts_its_members_however_it_is_closed() {
    for by_command in [true, false] {
        let mut game = game_with_club();
        let mut ada = game.member(Via::Alpha, "hall");
        let mut bob = game.member(Via::Beta, "hall");
        bob.close();
        game.tick();
        let hall = zone(&game, "hall");

        if by_command {
            command(&mut game, |commands| commands.close_zone(hall));
        } else {
            game.app.world_mut().despawn(hall);
        }
        game.exchange(&mut [&mut ada]);

        assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
        assert_eq!(game.state(bob.session()), Some(SessionState::Disconnected));
        assert_eq!(ada.take::<Parted>()[0].reason(), Reason::ZoneClosed);
        for player in [&ada, &bob] {
            assert_eq!(game.news_of(player.session()).last(), Some(&News::Parted(HALL, Reason::ZoneClosed)));
        }
        assert_eq!(game.zone("hall"), None);
        bob.connect(&game, Via::Alpha);
        bob.resume();
        game.exchange(&mut [&mut bob]);
        assert_eq!(bob.take::<Parted>()[0].reason(), Reason::ZoneClosed);
        assert_eq!(game.state(bob.session()), Some(SessionState::Connected));
    }
}

#[test]
fn row_19_the_game_may_part_but_not_move_a_session_without_a_link() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "hall");
    let (ada_entity, attic) = (entity(&game, &ada), zone(&game, "attic"));
    ada.close();
    game.tick();

    command(&mut game, |commands| commands.move_zone(ada_entity, attic));
    game.tick();
    command(&mut game, |commands| commands.part_zone(ada_entity));
    game.tick();
    game.tick();

    assert_eq!(game.resource::<Told>().refused, [MembershipError::Disconnected]);
    assert_eq!(game.news_of(ada.session()).last(), Some(&News::Parted(HALL, Reason::Left)));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.take::<Parted>().len(), 1);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn row_20_an_agent_ends_by_itself_or_with_its_owner() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "hall");
    let owner = entity(&game, &ada);
    let mut agents = Vec::new();
    command(&mut game, |commands| {
        for name in ["pet", "guard"] {
            let mut agent = commands.spawn_agent(name);
            agent.entry::<Agent>().and_modify(|mut agent| agent.join("hall", ""));
            agents.push(agent.id());
        }
        commands.entity(agents[0]).insert(AgentOf(owner));
    });
    game.exchange(&mut [&mut ada]);
    let sessions: Vec<_> =
        agents.iter().map(|agent| game.app.world().get::<Session>(*agent).expect("a session").id()).collect();

    ada.send(&Bye {});
    game.tick();
    game.tick();
    game.app.world_mut().get_mut::<Agent>(agents[1]).expect("alive").end();
    game.run_ms(200);

    for session in sessions {
        assert_eq!(
            game.news_of(session),
            [
                Registered,
                News::Joined(HALL),
                News::Parted(HALL, Reason::Expired),
                Expired(EndCause::Timeout),
                Closed(EndCause::Timeout)
            ]
        );
    }
}

#[test]
fn row_20_an_agent_ends_in_the_tick_in_which_its_owner_does() {
    let mut game = game();
    let ada = game.player(Via::Alpha);
    let owner = entity(&game, &ada);
    let pet = game.app.world_mut().commands().spawn_agent("pet").insert(AgentOf(owner)).id();
    game.tick();
    assert_eq!(SessionState::at(game.app.world(), pet), Some(SessionState::Connected));

    command(&mut game, |commands| commands.kick(owner, "out"));
    game.tick();

    assert_eq!(game.state(ada.session()), None);
    assert_eq!(SessionState::at(game.app.world(), pet), None);
}

#[test]
fn ow_06_the_game_moves_a_session_and_receives_errors_of_failed_commands() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    let ada_entity = entity(&game, &ada);
    let (hall, club, attic) = (zone(&game, "hall"), zone(&game, "club"), zone(&game, "attic"));

    command(&mut game, |commands| commands.move_zone(ada_entity, hall));
    game.exchange(&mut [&mut ada]);
    // A join that the game commands does not become an ask.
    for target in [club, attic] {
        command(&mut game, |commands| commands.join_zone(ada_entity, target));
        game.exchange(&mut [&mut ada]);
    }
    command(&mut game, |commands| {
        commands.part_zone(ada_entity);
        commands.part_zone(ada_entity);
        commands.kick(hall, "no session");
    });
    game.exchange(&mut [&mut ada]);

    assert_eq!(
        game.resource::<Told>().refused,
        [MembershipError::NotInZone, MembershipError::UnknownSession, MembershipError::NotInZone]
    );
    let joined: Vec<String> = ada.take::<Joined>().into_iter().map(|joined| joined.zone).collect();
    assert_eq!(joined, ["club", "attic"]);
    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn a_thousand_of_fifteen_hundred_fit_a_zone_for_a_thousand() {
    let mut game = game();
    game.open_zone(Zone::new("arena").capacity(1_000));
    let mut players: Vec<Player> = (0..1_500).map(|_| game.stranger(Via::Alpha)).collect();
    players.iter_mut().for_each(Player::hello);
    for _ in 0..3 {
        game.tick();
        players.iter_mut().for_each(Player::pump);
    }

    for player in &mut players {
        player.join("arena", "");
    }
    game.tick();
    game.tick();
    players.iter_mut().for_each(Player::pump);

    // The first thousand to arrive have joined.
    for (index, player) in players.iter_mut().enumerate() {
        let expected = if index < 1_000 { SessionState::Active } else { SessionState::Connected };
        assert_eq!(game.state(player.session()), Some(expected), "{index}");
        assert_eq!(refusals(player).len(), usize::from(index >= 1_000));
    }
}

#[test]
fn members_of_an_announcing_zone_receive_joins_and_parts() {
    let mut game = game();
    game.open_zone(Zone::new("table").capacity(4));
    let mut ada = game.member(Via::Alpha, "table");
    let mut bob = game.member(Via::Beta, "table");
    let (ada_id, bob_id) = (ada.session().0, bob.session().0);
    let mut listed = bob.take::<Joined>()[0].members.clone();
    listed.sort_unstable();
    let mut both = [ada_id, bob_id];
    both.sort_unstable();
    assert_eq!(listed, both);
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.take::<Members>().last().map(|members| members.joined.clone()), Some(vec![bob_id]));

    bob.close();
    game.run_with(&mut [&mut ada], 200);
    bob.connect(&game, Via::Alpha);
    bob.resume();
    game.exchange(&mut [&mut ada, &mut bob]);
    bob.send(&Part::default());
    game.exchange(&mut [&mut ada, &mut bob]);

    let told = ada.take::<Members>();
    assert_eq!(told.len(), 3);
    assert_eq!(
        (&told[0].unlinked[..], &told[1].linked[..], &told[2].parted[..]),
        (&[bob_id][..], &[bob_id][..], &[bob_id][..])
    );
    let quiet = game.member(Via::Beta, "hall").take::<Joined>()[0].members.len();
    assert_eq!(quiet, 0, "a zone for a thousand does not announce");
}

#[derive(Component)]
struct Scars(u32);

#[test]
fn ow_22_the_hook_of_a_session_runs_once_per_loss_before_the_link_is_removed() {
    use waystation::session::OnDisconnect;

    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let hook = OnDisconnect::new(|session, _| {
        assert_eq!(SessionState::of(session.as_readonly()), Some(SessionState::Active));
        let scars = session.get::<Scars>().map_or(0, |scars| scars.0);
        session.insert(Scars(scars + 1));
    });
    let ada_entity = entity(&game, &ada);
    game.app.world_mut().entity_mut(ada_entity).insert(hook);

    ada.close();
    game.run_ms(300);
    assert_eq!(game.component::<Scars>(ada.session()).map(|scars| scars.0), Some(1));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);
    ada.cut();
    ada.connect(&game, Via::Alpha);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.component::<Scars>(ada.session()).map(|scars| scars.0), Some(2));
}

#[test]
fn row_17_a_draining_server_opens_no_sessions_and_ends_at_its_deadline() {
    use waystation::gate::DrainCommand as _;

    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);
    ask(&mut game, &mut bob);

    command(&mut game, |commands| commands.drain(Duration::from_secs(3)));
    game.exchange(&mut [&mut ada, &mut bob]);
    assert_eq!(ada.take::<Notice>()[0].shutdown_in_ms, 3_000);
    assert_eq!(refusals(&mut bob), [(5, Reason::Draining)]);
    bob.send(&Join { request: 9, zone: "hall".to_owned(), ..Join::default() });
    let mut eve = game.stranger(Via::Alpha);
    eve.hello();
    ada.close();
    game.tick();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada, &mut bob, &mut eve]);

    let denied = &eve.take::<Denied>()[0];
    assert!(denied.reason() == Reason::Draining && denied.retry_after_ms > 0);
    assert_eq!(refusals(&mut bob), [(9, Reason::Draining)]);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active), "it may resume");
    assert!(game.news_of(ada.session()).contains(&MemberDisconnected(HALL)));
    assert!(game.app.should_exit().is_none());
    game.run_with(&mut [&mut ada, &mut bob, &mut eve], 3_000);
    assert_eq!((ada.closed(), bob.closed()), (Some(Reason::Shutdown), Some(Reason::Shutdown)));
    assert!(game.app.should_exit().is_some());
}
