//! Promises that were broken once: each of these failed until its defect was mended.

use std::time::Duration;

use bevy_app::{Last, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Input};
use waystation::config::ServerConfig;
use waystation::gate::DrainCommand as _;
use waystation::proxy::Proxies;
use waystation::rpc::{AppRpc as _, Sender};
use waystation::session::{
    Agent, Delivered, ResumeTimeout, SessionConfig, SessionState, SessionTable, SpawnAgent as _,
};
use waystation::testing::{Hang, Harness, Player, Via};
use waystation::tick::StopRequested;
use waystation::wire::v1::{Ack, Denied, Hello, Join, Probe, Reason, Welcome};
use waystation::wire::{self, FRAME_MAX_SERVER, Lane};
use waystation::zone::Zone;

use crate::support::{game, game_with, said, say, shout};

/// A game whose sessions are bounded otherwise.
fn bounded(session: SessionConfig) -> Harness {
    game_with(ServerConfig { session, ..ServerConfig::default() })
}

fn stop(game: &mut Harness) {
    game.app.world_mut().insert_resource(StopRequested(true));
}

/// Whether the server exits within ten seconds, while `meanwhile` happens in each tick. Looks at
/// the server alone: the audit has no say.
fn exits(game: &mut Harness, mut meanwhile: impl FnMut(&mut Harness)) -> bool {
    (0..200).any(|_| {
        meanwhile(game);
        game.pass(Duration::from_millis(50));
        game.app.update();
        game.app.should_exit().is_some()
    })
}

fn outbox_bytes(game: &Harness, player: &Player) -> usize {
    game.view(player.session()).map_or(0, |view| view.held_bytes)
}

#[test]
fn an_idle_client_is_not_dropped_for_the_bytes_of_others() {
    let mut game = bounded(SessionConfig { outboxes_max_bytes: 600, ..SessionConfig::default() });
    let mut idle = game.member(Via::Alpha, "attic");
    let mut busy = game.member(Via::Beta, "hall");
    game.run_with(&mut [&mut idle, &mut busy], 3_000);
    assert_eq!(outbox_bytes(&game, &idle), 0);

    for _ in 0..60 {
        shout(&mut game, u64::MAX);
    }
    game.run_with(&mut [&mut idle, &mut busy], 200);

    assert_eq!(idle.closed(), None);
    assert_eq!(game.state(idle.session()), Some(SessionState::Active));
}

#[test]
fn outboxes_take_no_more_than_they_may_while_their_clients_acknowledge_a_little() {
    let mut game = bounded(SessionConfig { outboxes_max_bytes: 600, ..SessionConfig::default() });
    let mut ada = game.member(Via::Alpha, "hall");
    ada.hang = Hang::Acks;
    for _ in 0..120 {
        shout(&mut game, u64::MAX);
    }
    game.exchange(&mut [&mut ada]);

    for received in 2..8 {
        ada.say(&Ack { received });
        game.run_with(&mut [&mut ada], 1_000);
    }

    assert!(outbox_bytes(&game, &ada) <= 600, "{} bytes for seven seconds", outbox_bytes(&game, &ada));
}

#[test]
fn what_waits_for_dispatch_is_bounded_on_the_unreliable_lane_too() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");

    for _ in 0..20 {
        for tick in 0..2_000 {
            eve.say(&Input { tick, ..Input::default() });
        }
        game.tick();
    }

    let waiting = game.view(eve.session()).map_or(0, |view| view.waiting_count);
    let max = SessionConfig::default().inbox_max_frames + 2_000;
    assert!(waiting <= max, "{waiting} frames wait");
}

#[test]
fn a_client_that_joins_and_joins_does_not_keep_a_stopping_server() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    stop(&mut game);

    let exited = exits(&mut game, |_| {
        eve.say(&Join { request: 1, zone: "hall".to_owned(), ..Join::default() });
    });

    assert!(exited, "after ten seconds its session is {:?}", game.state(eve.session()));
}

#[test]
fn strangers_who_knock_do_not_keep_a_stopping_server() {
    let mut game = game();
    stop(&mut game);

    let mut links = Vec::new();
    let exited = exits(&mut game, |game| {
        links.push(game.link(Via::Alpha));
        let _ = links.iter().filter(|link| link.is_closed()).count();
    });

    assert!(exited, "ten seconds after it was asked to stop");
}

#[test]
fn a_server_that_was_draining_stops_when_it_is_asked() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    game.app.world_mut().commands().drain(Duration::from_secs(600));
    game.tick();
    stop(&mut game);

    let exited = exits(&mut game, |_| ada.pump());

    assert_eq!(ada.closed(), Some(Reason::Shutdown));
    assert!(exited);
}

#[test]
fn a_game_that_keeps_its_number_of_agents_can_be_stopped() {
    fn keep_three(agents: Query<(), With<Agent>>, mut commands: Commands) {
        for _ in agents.iter().count()..3 {
            commands.spawn_agent("guard");
        }
    }
    let mut game = game();
    game.app.add_systems(Update, keep_three);
    // Her link is silent, so that it is held for as long as a closing one may be: five seconds.
    let ada = game.player(Via::Alpha);
    stop(&mut game);

    assert!(exits(&mut game, |_| {}));
    assert_eq!(game.state(ada.session()), None);
}

#[test]
fn a_session_that_the_game_despawns_is_gone_from_the_tables_and_its_client_is_told() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = game.entity(ada.session()).expect("a session");

    game.app.world_mut().despawn(entity);
    exits(&mut game, |_| ada.pump());

    let table = game.resource::<SessionTable>();
    let left = (table.session_count(), table.link_count(), table.token_count());
    assert_eq!(left, (0, 0, 0), "sessions, links, tokens");
    assert!(ada.is_cut_off());
}

#[test]
fn an_agent_that_the_game_despawns_does_not_keep_a_stopping_server() {
    let mut game = game();
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();

    game.app.world_mut().despawn(agent);
    stop(&mut game);

    assert!(exits(&mut game, |_| {}));
}

#[test]
fn agents_take_no_player_s_place() {
    let mut game = bounded(SessionConfig { max_sessions: 1, ..SessionConfig::default() });
    game.app.world_mut().commands().spawn_agent("guard");
    game.tick();

    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Denied>(), []);
    assert!(ada.is_welcome());
}

#[test]
fn a_session_may_be_kept_for_ever() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = game.entity(ada.session()).expect("a session");

    game.app.world_mut().entity_mut(entity).insert(ResumeTimeout(Duration::MAX));
    ada.close();
    game.tick();

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
}

#[test]
fn who_has_resumed_has_shown_that_it_was_welcome() {
    let mut game = game();
    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.tick();
    // Its Ack is lost with the link; its token is not.
    ada.hang = Hang::Mute;
    ada.pump();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.tick();
    ada.pump();
    assert!(ada.take::<Welcome>().last().is_some_and(|welcome| welcome.resumed));

    ada.close();
    game.tick();

    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
}

#[test]
fn a_zone_whose_capacity_is_changed_by_inserting_it_anew_stays_the_same_zone() {
    let mut game = game();
    let hall = game.zone("hall").expect("a zone");
    let id = |game: &Harness| game.app.world().get::<Zone>(hall).map(Zone::id);
    let before = id(&game);

    game.app.world_mut().entity_mut(hall).insert(Zone::new("hall").capacity(5));

    assert_eq!(id(&game), before);
}

#[test]
fn a_reply_to_a_stranger_is_no_longer_than_a_frame() {
    let mut game = game();
    for number in 0..4_000 {
        game.open_zone(Zone::new(&format!("dungeon of the seven sorrows {number}")));
    }
    let mut eve = game.stranger(Via::Alpha);

    eve.say(&Probe { topic: "status".to_owned(), ..Probe::default() });
    game.exchange(&mut [&mut eve]);

    let longest = eve.seen().iter().map(|frame| frame.len()).max().expect("a reply");
    assert!(longest <= FRAME_MAX_SERVER, "{longest} bytes");
}

#[test]
fn joins_that_wait_do_not_keep_a_silent_link() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    for request in 2..302 {
        eve.send(&Join { request, zone: "hall".to_owned(), ..Join::default() });
    }

    game.run_ms(5_100);

    assert_eq!(game.state(eve.session()), Some(SessionState::Disconnected));
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
fn an_agent_that_has_ended_is_sent_nothing() {
    #[derive(Resource, Default)]
    struct Late(usize);
    fn greet(agents: Query<Entity, With<Agent>>, mut sender: Sender) {
        for agent in &agents {
            sender.send(agent, &Echo { number: 1, taken: 0 });
        }
    }
    fn count(
        mut echoes: MessageReader<Delivered<Echo>>,
        table: Res<SessionTable>,
        mut late: ResMut<Late>,
        mut was_alive: Local<bool>,
    ) {
        // What was sent while it lived is read in this tick; after that, nothing should come.
        let count = echoes.read().count();
        let is_alive = table.session_count() > 0;
        if !is_alive && !*was_alive {
            late.0 += count;
        }
        *was_alive = is_alive;
    }
    let mut game = game();
    game.app
        .add_delivery::<Echo>()
        .init_resource::<Late>()
        .add_systems(Update, greet)
        .add_systems(Last, count);
    game.app.world_mut().commands().spawn_agent("guard");
    game.tick();
    stop(&mut game);
    for _ in 0..4 {
        game.tick();
    }

    assert_eq!(game.resource::<Late>().0, 0);
}

#[test]
fn link_control_that_a_game_sends_does_not_upset_the_counts() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let entity = game.entity(ada.session()).expect("a session");

    game.app.add_systems(Update, move |mut sender: Sender, mut sent: Local<bool>| {
        if !std::mem::replace(&mut *sent, true) {
            sender.send(entity, &Ack { received: 0 });
        }
    });
    game.run_with(&mut [&mut ada], 11_000);

    assert_eq!(ada.closed(), None);
}

#[test]
fn a_link_that_closed_itself_is_not_waited_for() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");

    // Loss and resume in one tick: row 11a.
    ada.close();
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada]);

    assert!(ada.is_welcome());
    assert_eq!(game.resource::<Proxies>().closing_count(), 0);
}

#[test]
fn a_valid_resume_that_arrived_in_time_wins_even_if_it_is_slowed() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    ada.close();
    game.run_ms(4_850);
    ada.connect(&game, Via::Beta);
    ada.resume_with(vec![7; 32].into(), false);
    game.exchange(&mut [&mut ada]);
    assert_eq!(ada.take::<Denied>().len(), 1);

    // It arrives in the tick of the deadline.
    ada.resume();
    game.run_with(&mut [&mut ada], 2_000);

    assert!(ada.is_welcome());
    say(&mut ada, 1..=1);
    game.exchange(&mut [&mut ada]);
    assert_eq!(said(&game, &ada), [1]);
}
