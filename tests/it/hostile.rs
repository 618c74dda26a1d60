//! Games that despawn sessions and zones, remove components, or close zones at awkward times: the invariants
//! hold, and every tick ends.

use std::time::Duration;

use bevy_ecs::entity_disabling::Disabled;
use bevy_ecs::prelude::*;
use waystation::gate::DrainCommand as _;
use waystation::identity::Principal;
use waystation::session::{
    Active, AgentOf, Closing, Connected, Disconnected, EndCause, ExpiresAt, LinkState, OnDisconnect,
    ResumeTimeout, Session, SessionState, SpawnAgent as _,
};
use waystation::testing::News::{Closed, Disconnected as Lost, Expired, Joined, Parted, Registered};
use waystation::testing::{Harness, News, Player, Via};
use waystation::wire::v1::{Bye, Join, Part, Reason, Refused};
use waystation::zone::{InZone, JoinPending, Members, MembershipCommands as _, Zone};

use crate::support::{Told, ask, command, echoes, entity, game, game_with_club, refusals, shout, zone};

/// Another session, which is despawned when this one leaves its zone.
#[derive(Component)]
struct Partner(Entity);

/// Despawns the partner of each session that leaves a zone.
fn despawn_partners(game: &mut Harness) {
    game.app.add_observer(|left: On<Remove<InZone>>, partners: Query<&Partner>, mut commands: Commands| {
        if let Ok(partner) = partners.get(left.entity) {
            commands.entity(partner.0).try_despawn();
        }
    });
}

fn part(player: &mut Player) {
    player.send(&Part { request: 7, ..Part::default() });
}

fn join(player: &mut Player, zone: &str) {
    player.send(&Join { request: 7, zone: zone.to_owned(), ..Join::default() });
}

/// Returns true if the news ends with the session's Parted, Expired and Closed, with this reason and cause.
fn has_ended(news: &[News], reason: Reason, cause: EndCause) -> bool {
    matches!(news, [.., Parted(_, why), Expired(how), Closed(end)] if (*why, *how, *end) == (reason, cause, cause))
}

#[test]
fn a_loss_hook_may_change_the_resume_timeout_of_its_session() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let a = entity(&game, &ada);
    let patience = ResumeTimeout(Duration::from_secs(60));
    game.app
        .world_mut()
        .entity_mut(a)
        .insert(OnDisconnect::new(move |session, _| _ = session.insert(patience)));

    ada.close();
    game.run_ms(50_000);
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    game.run_ms(11_000);

    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn an_observer_of_a_session_that_leaves_may_despawn_another() {
    let mut game = game();
    despawn_partners(&mut game);
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let hall = zone(&game, "hall");
    let mut pet = None;
    command(&mut game, |commands| {
        let agent = commands.spawn_agent("pet").id();
        commands.join_zone(agent, hall);
        pet = Some(agent);
    });
    game.tick();
    let (a, b, pet) = (entity(&game, &ada), entity(&game, &bob), pet.expect("spawned"));
    let pet_id = game.app.world().get::<Session>(pet).expect("a session").id();
    game.app.world_mut().entity_mut(a).insert(Partner(b));
    game.app.world_mut().entity_mut(b).insert(Partner(pet));

    part(&mut ada);
    game.exchange(&mut [&mut ada, &mut bob]);

    assert!(matches!(game.news_of(ada.session())[..], [Registered, Joined(_), Parted(_, Reason::Left)]));
    for session in [bob.session(), pet_id] {
        assert!(
            has_ended(&game.news_of(session), Reason::Kicked, EndCause::Kicked),
            "{:?}",
            game.news_of(session)
        );
    }
    assert_eq!(bob.closed(), Some(Reason::Kicked));
    assert!(game.app.world().get::<Members>(hall).is_none());
}

#[test]
fn the_target_of_a_move_may_be_despawned_while_the_session_leaves_the_other_zone() {
    for is_commanded in [false, true] {
        let mut game = game_with_club();
        let (hall, attic) = (zone(&game, "hall"), zone(&game, "attic"));
        game.app.add_observer(move |_: On<Remove<InZone>>, mut commands: Commands| {
            commands.entity(attic).try_despawn();
        });
        let mut ada = game.member(Via::Alpha, "hall");
        let a = entity(&game, &ada);
        ada.take_frames();

        if is_commanded {
            command(&mut game, |commands| commands.move_zone(a, attic));
        } else {
            join(&mut ada, "attic");
        }
        game.exchange(&mut [&mut ada]);

        assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
        assert_eq!(ada.zone(), None, "the client received a Parted");
        let answers = refusals(&mut ada);
        if is_commanded {
            assert_eq!(game.resource::<Told>().refused.len(), 1);
            assert!(answers.is_empty());
        } else {
            assert_eq!(answers, [(7, Reason::NoSuchZone)]);
        }
        assert!(game.app.world().get::<Members>(hall).is_none());
    }
}

#[test]
fn a_session_leaves_a_zone_that_is_despawned_when_the_session_joins_it() {
    let mut game = game();
    game.app.add_observer(|joined: On<Insert<InZone>>, zones: Query<&InZone>, mut commands: Commands| {
        let zone = zones.get(joined.entity).expect("InZone was inserted").zone();
        commands.entity(zone).despawn();
    });
    let mut ada = game.player(Via::Alpha);

    join(&mut ada, "attic");
    game.exchange(&mut [&mut ada]);

    let news = game.news_of(ada.session());
    assert!(matches!(news[..], [Registered, Joined(_), Parted(_, Reason::ZoneClosed)]), "{news:?}");
    assert_eq!((game.state(ada.session()), ada.zone()), (Some(SessionState::Connected), None));
}

#[test]
fn agent_of_on_an_entity_without_a_session_does_not_keep_the_tick_from_ending() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let owner = entity(&game, &ada);
    let chair = game.app.world_mut().spawn(AgentOf(owner)).id();

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), None);
    assert!(game.app.world().get_entity(chair).is_ok(), "an entity that is no agent is not despawned");
}

#[derive(Component)]
struct Asleep;

#[test]
fn a_loss_hook_that_leads_to_the_despawn_of_its_session_leaves_no_link_behind() {
    let mut game = game();
    game.app.add_observer(|asleep: On<Add<Asleep>>, mut commands: Commands| {
        commands.entity(asleep.entity).despawn();
    });
    let mut players = [game.member(Via::Alpha, "hall"), game.member(Via::Beta, "hall")];
    for player in &players {
        let session = entity(&game, player);
        let hook = OnDisconnect::new(|session, _| _ = session.insert(Asleep));
        game.app.world_mut().entity_mut(session).insert(hook);
    }
    let [ada, bob] = &mut players;

    ada.cut();
    ada.connect(&game, Via::Beta);
    ada.resume();
    bob.close();
    game.exchange(&mut [ada, bob]);

    assert_eq!(ada.closed(), Some(Reason::Kicked), "the new link is closed");
    for player in &players {
        let news = game.news_of(player.session());
        assert!(news.iter().any(|news| matches!(news, Lost(_))), "{news:?}");
        assert!(has_ended(&news, Reason::Kicked, EndCause::Kicked), "{news:?}");
    }
}

/// Removes every component of a session that a game can see.
fn take_all(session: &mut EntityWorldMut) {
    session.remove::<(Session, Principal, LinkState)>();
    session.remove::<(ExpiresAt, Active, Connected, Disconnected, InZone)>();
}

#[test]
fn components_that_a_game_removes_from_a_session_are_put_back() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let (a, b, hall) = (entity(&game, &ada), entity(&game, &bob), zone(&game, "hall"));
    bob.close();
    game.exchange(&mut [&mut ada]);
    let seen = |game: &Harness, of: Entity| {
        let session = game.app.world().entity(of);
        let who = session.get::<Principal>().cloned();
        (session.get::<Session>().copied(), who, session.get::<InZone>().copied(), SessionState::of(session))
    };
    let before = [a, b].map(|session| seen(&game, session));

    take_all(&mut game.app.world_mut().entity_mut(a));
    take_all(&mut game.app.world_mut().entity_mut(b));
    game.tick();
    assert_eq!([a, b].map(|session| seen(&game, session)), before);
    assert!(game.component::<ExpiresAt>(bob.session()).is_some());

    let (other, elsewhere) = (*game.app.world().get::<Session>(a).expect("put back"), zone(&game, "attic"));
    game.app.world_mut().entity_mut(b).insert((other, Principal::named("eve")));
    game.app.world_mut().entity_mut(hall).remove::<Members>();
    game.tick();
    assert_eq!([a, b].map(|session| seen(&game, session)), before);
    assert_eq!(game.app.world().get::<Members>(hall).map(Members::count), Some(2));
    assert!(game.app.world().get::<Members>(elsewhere).is_none());
    shout(&mut game, 5);
    game.exchange(&mut [&mut ada]);
    assert_eq!(echoes(&mut ada), [5]);
}

#[test]
fn an_observer_that_always_removes_what_is_put_back_ends_only_its_session() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    let a = entity(&game, &ada);
    game.app.world_mut().entity_mut(a).observe(|put: On<Insert<Principal>>, mut commands: Commands| {
        commands.entity(put.entity).remove::<Principal>();
    });

    game.app.world_mut().entity_mut(a).remove::<Principal>();
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!(ada.closed(), Some(Reason::Internal));
    assert!(has_ended(&game.news_of(ada.session()), Reason::Internal, EndCause::Internal));
    assert_eq!(game.state(bob.session()), Some(SessionState::Active));
}

#[test]
fn a_session_without_its_principal_can_be_kicked_and_does_not_keep_a_server_from_ending() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let bob = game.member(Via::Beta, "hall");
    for player in [&ada, &bob] {
        let session = entity(&game, player);
        game.app.world_mut().entity_mut(session).remove::<Principal>();
    }
    let a = entity(&game, &ada);

    command(&mut game, |commands| {
        commands.kick(a, "out");
        commands.drain(Duration::ZERO);
    });
    game.tick();
    ada.pump();
    game.run_ms(6_000);

    assert_eq!(ada.closed(), Some(Reason::Kicked));
    assert!(game.app.should_exit().is_some());
}

#[test]
fn a_disabled_session_is_served_like_any_other() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.member(Via::Beta, "hall");
    for player in [&ada, &bob] {
        let session = entity(&game, player);
        game.app.world_mut().entity_mut(session).insert(Disabled);
    }

    shout(&mut game, 3);
    game.run_with(&mut [&mut ada, &mut bob], 12_000);
    assert_eq!(echoes(&mut ada), [3]);
    bob.close();
    game.run_with(&mut [&mut ada], 6_000);
    assert!(has_ended(&game.news_of(bob.session()), Reason::Expired, EndCause::Timeout));
    command(&mut game, |commands| commands.drain(Duration::ZERO));
    game.run_with(&mut [&mut ada], 6_000);

    assert_eq!(ada.closed(), Some(Reason::Shutdown));
    assert!(game.app.should_exit().is_some());
}

#[test]
fn an_entity_that_the_game_clears_or_clones_is_no_session() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let bob = game.member(Via::Beta, "hall");
    let (a, b) = (entity(&game, &ada), entity(&game, &bob));

    let clone = game.app.world_mut().entity_mut(b).clone_and_spawn();
    game.app.world_mut().entity_mut(a).clear();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.closed(), Some(Reason::Kicked));
    assert!(has_ended(&game.news_of(ada.session()), Reason::Kicked, EndCause::Kicked));
    let world = game.app.world();
    for entity in [a, clone] {
        let entity = world.entity(entity);
        assert!(!entity.contains::<Session>() && !entity.contains::<InZone>());
        assert_eq!(SessionState::of(entity), None);
    }
}

#[test]
fn an_ask_that_the_game_removes_is_cancelled_for_client_and_game() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let a = entity(&game, &ada);

    game.app.world_mut().entity_mut(a).remove::<JoinPending>();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Refused>()[0].reason(), Reason::Cancelled);
    assert_eq!(game.resource::<Told>().cancelled, [Reason::Cancelled]);
}

#[test]
fn a_zone_may_become_hard_while_a_member_has_no_link() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.tick();
    let hall = zone(&game, "hall");

    let hard = game.app.world().get::<Zone>(hall).expect("a zone").clone().hard();
    game.app.world_mut().entity_mut(hall).insert(hard);
    game.exchange(&mut []);

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    assert!(matches!(game.news_of(ada.session())[..], [.., Parted(_, Reason::Dropped)]));
}

/// The entity that an observer of the game despawns when a session joins a zone, before the hooks of bevy run.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Session,
    Zone,
}

#[test]
fn an_observer_that_runs_ahead_of_the_membership_leaves_no_ghost_in_the_zone() {
    for victim in [Victim::Session, Victim::Zone] {
        let mut game = game();
        let attic = zone(&game, "attic");
        let small = game.app.world().get::<Zone>(attic).expect("a zone").clone().capacity(1);
        game.app.world_mut().entity_mut(attic).insert(small);
        game.app.add_observer(
            move |joined: On<Add<InZone>>, zones: Query<&InZone>, mut commands: Commands| {
                let zone = zones.get(joined.entity).expect("InZone was inserted").zone();
                match victim {
                    Victim::Session if zone == attic => commands.entity(joined.entity).despawn(),
                    Victim::Zone if zone == attic => commands.entity(attic).despawn(),
                    _ => {}
                }
            },
        );
        let mut ada = game.player(Via::Alpha);

        join(&mut ada, "attic");
        game.exchange(&mut [&mut ada]);

        let news = game.news_of(ada.session());
        match victim {
            Victim::Session => {
                assert!(has_ended(&news, Reason::Kicked, EndCause::Kicked), "{news:?}");
                assert!(game.app.world().get::<Members>(attic).is_none(), "its place is free");
            }
            Victim::Zone => {
                assert!(
                    matches!(news[..], [Registered, Joined(_), Parted(_, Reason::ZoneClosed)]),
                    "{news:?}"
                );
            }
        }
    }
}

#[test]
fn a_hook_that_removes_the_zone_of_its_session_changes_nothing_for_a_hard_zone() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");
    let a = entity(&game, &ada);
    game.app.world_mut().entity_mut(a).insert(OnDisconnect::new(|session, _| _ = session.remove::<InZone>()));

    ada.close();
    game.exchange(&mut []);

    assert!(matches!(game.news_of(ada.session())[..], [.., Lost(_), Parted(_, Reason::Dropped)]));
    assert_eq!(game.component::<InZone>(ada.session()), None);
}

#[test]
fn a_pet_that_is_spawned_again_each_time_does_not_keep_the_tick_from_ending() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let owner = entity(&game, &ada);
    game.app.add_observer(|ended: On<Add<Closing>>, pets: Query<&AgentOf>, mut commands: Commands| {
        if let Ok(owner) = pets.get(ended.entity) {
            commands.spawn_agent("pet").insert(*owner);
        }
    });
    command(&mut game, |commands| _ = commands.spawn_agent("pet").insert(AgentOf(owner)));
    game.tick();

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), None);
}
