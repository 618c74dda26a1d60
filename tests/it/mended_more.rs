//! More promises that were broken once: zones, commands, rates and drains. Each test failed until its
//! defect was mended.

use std::time::Duration;

use bevy_app::{Last, Update};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use waystation::arena::v1::{Echo, Say};
use waystation::gate::DrainCommand as _;
use waystation::proxy::LinkInfo;
use waystation::rpc::{AppRpc as _, Call, Sender};
use waystation::session::{
    AgentOf, Connected, Disconnected, Session, SessionConfig, SessionCounts, SessionState, SpawnAgent as _,
};
use waystation::testing::News;
use waystation::testing::{Faults, Hang, Harness, Player, Via};
use waystation::wire::v1::{Bye, Join, Members, Notice, Part, Reason};
use waystation::wire::{FRAME_MAX_SERVER, Lane};
use waystation::zone::{InZone, JoinRequested, MembershipCommands as _, MembershipError, Zone};

use crate::support::{Told, ask, command, echoes, entity, game, game_with_club, say, zone};

/// How often, and as of what, a player parted so far, as the game was told.
fn parts(game: &Harness, player: &Player) -> Vec<Reason> {
    let parted = |news: &News| match news {
        News::Parted(_, reason) => Some(*reason),
        _ => None,
    };
    game.news_of(player.session()).iter().filter_map(parted).collect()
}

#[test]
fn a_yes_to_one_zone_lets_nobody_into_another() {
    let mut game = game_with_club();
    let vault = game.open_zone(Zone::new("vault").asks());
    // Everybody may come into the club, and nobody into the vault.
    let doorman = move |mut requests: MessageReader<JoinRequested>, mut commands: Commands| {
        for request in requests.read() {
            if request.zone == vault {
                commands.refuse_join(request, "no");
            } else {
                commands.accept_join(request);
            }
        }
    };
    game.app.add_systems(Update, doorman);
    let mut eve = game.player(Via::Alpha);

    eve.send(&Join { request: 1, zone: "club".to_owned(), ..Join::default() });
    game.tick();
    // The game says yes to the club in the tick in which this arrives.
    eve.send(&Join { request: 2, zone: "vault".to_owned(), ..Join::default() });
    game.exchange(&mut [&mut eve]);

    assert_ne!(eve.zone(), Some("vault"));
}

#[test]
fn a_client_that_joins_and_joins_does_not_hold_up_what_the_game_commands() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    let eve_entity = entity(&game, &eve);

    command(&mut game, |commands| commands.part_zone(eve_entity));
    for request in 2..42 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
        game.run_with(&mut [&mut eve], 50);
    }

    assert_eq!(parts(&game, &eve), [Reason::Left], "two seconds after the command");
}

#[test]
fn link_control_that_nobody_knows_does_not_pile_up_behind_calls_that_wait() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    eve.hang = Hang::Mute;
    say(&mut eve, 1..=500);

    for _ in 0..10 {
        for _ in 0..2_000 {
            eve.say_bytes(Lane::Unreliable, vec![0x80, 0xF0]);
        }
        game.tick();
    }

    let waiting = game.view(eve.session()).map_or(0, |view| view.waiting_count);
    let max = SessionConfig::default().inbox_max_frames + 2_000;
    assert!(waiting <= max, "{waiting} frames wait");
}

#[test]
fn row_15_who_says_bye_and_closes_has_left_a_hard_zone_too() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");

    ada.send(&Bye {});
    ada.close();
    game.exchange(&mut [&mut ada]);

    assert_eq!(parts(&game, &ada), [Reason::Left]);
}

#[test]
fn a_part_that_arrived_before_the_loss_in_a_hard_zone_takes_effect() {
    let mut game = game_with_club();
    let mut ada = game.member(Via::Alpha, "ring");

    ada.send(&Part { request: 7, payload: "good night".into() });
    ada.close();
    game.exchange(&mut [&mut ada]);

    assert_eq!(parts(&game, &ada), [Reason::Left]);
}

#[test]
fn players_behind_ipv4_addresses_of_a_dual_stack_socket_are_not_one_address() {
    let mut game = game();
    let from = |last: u8| LinkInfo {
        address: Some(
            (format!("::ffff:10.0.0.{last}").parse::<std::net::IpAddr>().expect("one"), 5_000).into(),
        ),
        ..LinkInfo::default()
    };

    let links: Vec<_> = (1..=100).map(|last| game.link_as(Via::Alpha, from(last))).collect();
    game.tick();

    assert_eq!(game.resource::<SessionCounts>().turned_away_count, 0);
    assert!(links.iter().all(|link| !link.is_closed()));
}

#[test]
fn a_zone_of_the_same_name_may_take_the_place_of_one_that_closes() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let old = zone(&game, "hall");

    // The next round: in one system, as a game would.
    command(&mut game, |commands| {
        commands.close_zone(old);
        commands.spawn(Zone::new("hall"));
    });
    game.exchange(&mut [&mut ada]);
    game.join(&mut ada, "hall");

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

#[test]
fn a_broadcast_reaches_the_members_of_a_zone_that_the_game_then_despawns() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let hall = zone(&game, "hall");

    game.app.add_systems(Update, move |mut sender: Sender, mut commands: Commands, mut over: Local<bool>| {
        if !std::mem::replace(&mut *over, true) {
            sender.broadcast(hall, &Echo { number: 9, taken: 0 });
            commands.entity(hall).despawn();
        }
    });
    game.exchange(&mut [&mut ada]);

    assert_eq!(echoes(&mut ada), [9]);
}

#[test]
fn members_are_told_of_one_whose_entity_the_game_despawned() {
    let mut game = game();
    game.open_zone(Zone::new("table").capacity(4));
    let mut ada = game.member(Via::Alpha, "table");
    let mut bob = game.member(Via::Beta, "table");
    game.exchange(&mut [&mut ada, &mut bob]);
    ada.take::<Members>();
    let bob_entity = entity(&game, &bob);

    game.app.world_mut().despawn(bob_entity);
    game.exchange(&mut [&mut ada]);

    let parted: Vec<u64> = ada.take::<Members>().into_iter().flat_map(|members| members.parted).collect();
    assert_eq!(parted, [bob.session().0]);
}

#[test]
fn a_member_that_is_despawned_with_its_zone_has_parted() {
    let mut game = game();
    let ada = game.member(Via::Alpha, "hall");
    let (hall, ada_entity) = (zone(&game, "hall"), entity(&game, &ada));

    command(&mut game, |commands| {
        commands.entity(hall).despawn();
        commands.entity(ada_entity).despawn();
    });
    // Looks at the server alone: the audit has no say.
    let mut told = 0;
    for _ in 0..3 {
        game.pass(Duration::from_millis(50));
        game.app.update();
        let messages = game.resource::<Messages<waystation::zone::ZoneParted>>();
        told += messages.iter_current_update_messages().count();
    }

    assert_eq!(told, 1);
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
fn an_answer_to_a_join_is_no_longer_than_a_frame() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let request = game.resource::<Told>().requested[0].clone();

    command(&mut game, |commands| commands.accept_join_with(&request, Bytes::from(vec![7; 100_000])));
    game.exchange(&mut [&mut ada]);

    let longest = ada.seen().iter().map(|frame| frame.len()).max().expect("a frame");
    assert!(longest <= FRAME_MAX_SERVER, "{longest} bytes");
}

#[test]
fn a_zone_that_cannot_be_closed_is_answered_like_any_other_command() {
    let mut game = game_with_club();
    let ring = zone(&game, "ring");
    command(&mut game, |commands| commands.close_zone(ring));
    game.tick();

    command(&mut game, |commands| commands.close_zone(ring));
    game.run_ms(150);

    assert_eq!(game.resource::<Told>().refused, [MembershipError::NoSuchZone]);
}

#[test]
fn closing_what_is_no_zone_does_not_end_a_session() {
    let mut game = game();
    let ada = game.member(Via::Alpha, "hall");
    let ada_entity = entity(&game, &ada);

    command(&mut game, |commands| commands.close_zone(ada_entity));
    game.run_ms(150);

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
}

#[test]
fn an_observer_may_despawn_whoever_leaves() {
    let mut game = game();
    game.app.add_observer(|left: On<Remove<InZone>>, mut commands: Commands| {
        commands.entity(left.entity).despawn();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    ada.send(&Bye {});
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn players_are_told_when_a_drain_is_to_end_earlier() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    command(&mut game, |commands| commands.drain(Duration::from_secs(600)));
    game.exchange(&mut [&mut ada]);

    command(&mut game, |commands| commands.drain(Duration::from_secs(10)));
    game.exchange(&mut [&mut ada]);

    let told: Vec<u32> = ada.take::<Notice>().iter().map(|notice| notice.shutdown_in_ms).collect();
    assert_eq!(told, [600_000, 10_000]);
}

#[test]
fn calls_that_are_read_in_the_last_schedule_are_read() {
    let mut game = Harness::new();
    game.app.add_call::<Say>().add_systems(Last, |mut calls: MessageReader<Call<Say>>| {
        calls.read().count();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    say(&mut ada, 1..=3);
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<SessionCounts>().unread_call_count, 0);
}

#[test]
fn an_observer_may_despawn_whoever_loses_the_link() {
    let mut game = game();
    game.app.add_observer(|lost: On<Add<Disconnected>>, mut commands: Commands| {
        commands.entity(lost.entity).despawn();
    });
    let mut ada = game.member(Via::Alpha, "hall");

    ada.close();
    game.run_ms(150);

    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn an_observer_may_despawn_whoever_comes() {
    let mut game = game();
    game.app.add_observer(|came: On<Add<Session>>, mut commands: Commands| {
        commands.entity(came.entity).despawn();
    });
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert!(!ada.is_welcome());
}

#[test]
fn an_observer_may_despawn_whoever_is_connected() {
    let mut game = game();
    game.app.add_observer(|came: On<Add<Connected>>, mut commands: Commands| {
        commands.entity(came.entity).despawn();
    });
    let mut ada = game.stranger(Via::Alpha);

    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<waystation::session::SessionTable>().session_count(), 0);
}

#[test]
fn the_ask_of_a_session_that_the_game_despawned_is_cancelled() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let ada_entity = entity(&game, &ada);

    command(&mut game, |commands| commands.entity(ada_entity).despawn());
    game.run_ms(150);

    assert_eq!(game.resource::<Told>().cancelled, [Reason::Cancelled]);
}

#[test]
fn who_takes_itself_over_again_and_again_is_held_to_its_rates() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");

    // Half a minute, in which 120 messages a second are 3,840 with the burst, and one more replay of
    // an outbox than the first is earned.
    for _ in 0..30 {
        eve.connect(&game, Via::Beta);
        eve.resume();
        game.exchange(&mut [&mut eve]);
        say(&mut eve, 1..=500);
        game.run_with(&mut [&mut eve], 850);
    }

    let count = crate::support::said(&game, &eve).len();
    assert!(count <= 3_840 + 2 * 512, "{count} messages in half a minute");
}

#[test]
fn a_zone_whose_component_is_taken_away_is_left() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let hall = zone(&game, "hall");

    game.app.world_mut().entity_mut(hall).remove::<Zone>();
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.state(ada.session()), Some(SessionState::Connected));
}

#[test]
fn a_resync_keeps_nobody_from_hearing_of_a_drain() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.cut();
    command(&mut game, |commands| commands.drain(Duration::from_secs(60)));
    game.tick();

    ada.connect(&game, Via::Beta);
    ada.resume_with(ada.token(), true);
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Notice>().len(), 1);
}

#[test]
fn what_is_on_its_way_down_is_lost_with_a_cut_as_the_harness_says() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.set_faults(Faults::new(7).delay(Duration::from_secs(3)).down_only());
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);
    assert_eq!(echoes(&mut ada), [0_u64; 0], "it is on its way");

    ada.set_faults(Faults::new(7).cut_after(0).down_only());
    say(&mut ada, 2..=2);
    game.run_with(&mut [&mut ada], 4_000);

    assert_eq!(echoes(&mut ada), [0_u64; 0]);
}

#[test]
fn a_refusal_in_many_words_is_no_longer_than_a_frame() {
    let mut game = game_with_club();
    let mut ada = game.player(Via::Alpha);
    ask(&mut game, &mut ada);
    let request = game.resource::<Told>().requested[0].clone();

    command(&mut game, |commands| commands.refuse_join(&request, &"no ".repeat(40_000)));
    game.exchange(&mut [&mut ada]);

    let longest = ada.seen().iter().map(|frame| frame.len()).max().expect("a frame");
    assert!(longest <= FRAME_MAX_SERVER, "{longest} bytes");
}

#[test]
fn commands_that_wait_for_a_busy_client_do_not_pile_up() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    let eve_entity = entity(&game, &eve);

    // A game that says so in each tick until it is done.
    game.app.add_systems(Update, move |inside: Query<(), With<InZone>>, mut commands: Commands| {
        if inside.contains(eve_entity) {
            commands.part_zone(eve_entity);
        }
    });
    for request in 2..202 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
        game.run_with(&mut [&mut eve], 50);
    }

    assert_ne!(parts(&game, &eve), [], "two hundred commands wait");
}
