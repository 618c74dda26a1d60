//! Tests drains and stops: clients receive notices, and no client can prevent a server from ending.

use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::arena::v1::Echo;
use waystation::gate::{DrainCommand as _, ServerStopping};
use waystation::rpc::Sender;
use waystation::session::{Agent, Closing, Session, SpawnAgent as _};
use waystation::testing::{Harness, Via};
use waystation::tick::{self, StopHandle, TickTime};
use waystation::wire::v1::{Join, Notice, Reason};

use crate::support::{command, echoes, exits, game, stop};

#[test]
fn a_stopping_server_closes_all_links_with_a_reason_and_exits() {
    let mut game = game();
    let mut ada = game.member(Via::Alpha, "hall");
    let mut eve = game.stranger(Via::Beta);
    game.tick();

    stop(&mut game);
    game.exchange(&mut [&mut ada, &mut eve]);

    assert_eq!(ada.closed(), Some(Reason::Shutdown));
    assert_eq!(eve.closed(), Some(Reason::Shutdown));
    assert!(game.app.should_exit().is_some());
}

#[test]
fn a_client_that_joins_repeatedly_does_not_keep_a_stopping_server() {
    let mut game = game();
    let mut eve = game.member(Via::Alpha, "hall");
    stop(&mut game);

    let exited = exits(&mut game, |_| {
        eve.say(&Join { request: 1, zone: "hall".to_owned(), ..Join::default() });
    });

    assert!(exited, "after ten seconds its session is {:?}", game.state(eve.session()));
}

#[test]
fn new_links_do_not_keep_a_stopping_server() {
    let mut game = game();
    stop(&mut game);

    let mut links = Vec::new();
    let exited = exits(&mut game, |game| {
        links.push(game.link(Via::Alpha));
        let _ = links.iter().filter(|link| link.is_closed()).count();
    });

    assert!(exited, "the server still runs ten seconds after it was asked to stop");
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
    // Ada's link is silent, so it closes only after the maximum of five seconds.
    let ada = game.player(Via::Alpha);
    stop(&mut game);

    assert!(exits(&mut game, |_| {}));
    assert_eq!(game.state(ada.session()), None);
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
fn players_receive_a_notice_when_a_drain_is_to_end_earlier() {
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
fn a_client_that_resumes_with_a_resync_receives_the_notice_of_a_drain() {
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

/// The ticks in which the game was told that the server stops, with the number of its sessions.
#[derive(Resource, Default)]
struct Saves(Vec<(u64, usize)>);

/// Adds a game that saves, and sends all sessions a last word, when the server stops.
fn save_on_stop(game: &mut Harness) {
    fn save(
        mut stopping: MessageReader<ServerStopping>,
        sessions: Query<Entity, (With<Session>, Without<Closing>)>,
        time: Res<TickTime>,
        mut saves: ResMut<Saves>,
        mut sender: Sender,
    ) {
        for _ in stopping.read() {
            saves.0.push((time.tick().0, sessions.iter().count()));
            sender.send_to(sessions, &Echo { number: 99, taken: 0 });
        }
    }
    game.app.init_resource::<Saves>().add_systems(Update, save);
}

#[test]
fn a_game_saves_once_while_all_sessions_are_there_and_its_last_words_leave() {
    let mut game = game();
    save_on_stop(&mut game);
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);
    let mut eve = game.member(Via::Alpha, "hall");
    eve.close();
    game.tick();
    let now = game.resource::<TickTime>().tick().0;

    stop(&mut game);
    assert!(exits(&mut game, |_| {
        ada.pump();
        bob.pump();
    }));

    assert_eq!(game.resource::<Saves>().0, [(now + 1, 3)], "with the session without a link");
    for player in [&mut ada, &mut bob] {
        player.pump();
        assert_eq!(echoes(player), [99]);
        assert_eq!(player.closed(), Some(Reason::Shutdown));
    }
}

#[test]
fn a_game_that_drains_saves_at_the_deadline() {
    let mut game = game();
    save_on_stop(&mut game);
    let mut ada = game.member(Via::Alpha, "hall");

    command(&mut game, |commands| commands.drain(Duration::from_secs(2)));
    game.run_with(&mut [&mut ada], 1_500);
    assert_eq!(game.resource::<Saves>().0, []);
    assert!(exits(&mut game, |_| ada.pump()));

    assert_eq!(game.resource::<Saves>().0.len(), 1);
    assert_eq!((echoes(&mut ada), ada.closed()), (vec![99], Some(Reason::Shutdown)));
}

#[test]
fn a_drain_of_no_time_by_a_system_of_the_game_saves_too() {
    let mut game = game();
    save_on_stop(&mut game);
    let mut ada = game.member(Via::Alpha, "hall");
    let last = game.resource::<TickTime>().tick().0 + 2;
    game.app.add_systems(Update, move |time: Res<TickTime>, mut commands: Commands| {
        if time.tick().0 == last {
            commands.drain(Duration::ZERO);
        }
    });

    assert!(exits(&mut game, |_| ada.pump()));

    assert_eq!(game.resource::<Saves>().0, [(last + 1, 1)]);
}

#[test]
fn a_game_does_not_save_after_a_panic() {
    let mut game = game();
    save_on_stop(&mut game);
    game.app.add_systems(Update, || panic!("a bug of the game's"));

    assert!(tick::run(&mut game.app, &StopHandle::default()).is_error());

    assert_eq!(game.resource::<Saves>().0, []);
}
