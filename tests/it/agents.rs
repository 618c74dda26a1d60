//! Agents: sessions without a network.

use bevy_app::{Last, Startup, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Echo, Say};
use waystation::ident::ZoneId;
use waystation::rpc::{AppRpc as _, Sender};
use waystation::session::{
    Agent, Delivered, Session, SessionConfig, SessionState, SessionTable, SpawnAgent as _,
};
use waystation::testing::News;
use waystation::testing::{Harness, Via};
use waystation::tick::TickTime;
use waystation::wire::v1::{Denied, Joined, Reason, Refused};
use waystation::zone::{Members, Zone};

use crate::support::{Heard, echoes, game, game_bounded, shout, stop, zone};

/// What the agent received: each echo with the tick that read it, zones joined, and reasons of refusals.
#[derive(Resource, Default)]
struct Received {
    echoes: Vec<(u64, u64)>,
    joined: Vec<String>,
    refused: Vec<Reason>,
}

/// Returns a game, and its one agent, which asks to join `zone`.
fn game_with_guard(zone: &'static str) -> (Harness, Entity) {
    let mut game = game();
    let spawn = move |mut commands: Commands| {
        let mut guard = commands.spawn_agent("guard");
        guard.entry::<Agent>().and_modify(move |mut agent| agent.join(zone, ""));
    };
    game.app
        .add_delivery::<Echo>()
        .init_resource::<Received>()
        .add_systems(Startup, spawn)
        .add_systems(Update, receive);
    game.tick();
    let mut guards = game.app.world_mut().query_filtered::<Entity, With<Agent>>();
    let guard = guards.single(game.app.world()).expect("one agent");
    (game, guard)
}

fn receive(
    mut echoes: MessageReader<Delivered<Echo>>,
    mut joined: MessageReader<Delivered<Joined>>,
    mut refused: MessageReader<Delivered<Refused>>,
    mut received: ResMut<Received>,
    time: Res<TickTime>,
) {
    received.echoes.extend(echoes.read().map(|echo| (echo.message.number, time.tick().0)));
    received.joined.extend(joined.read().map(|joined| joined.message.zone.clone()));
    received.refused.extend(refused.read().map(|refused| refused.message.reason()));
}

#[test]
fn ow_21_an_agent_joins_sends_and_receives_like_a_player() {
    let (mut game, guard) = game_with_guard("hall");
    let mut ada = game.member(Via::Alpha, "hall");
    let session = game.app.world().get::<Session>(guard).map(Session::id).expect("a session");
    assert_eq!(SessionState::at(game.app.world(), guard), Some(SessionState::Active));
    assert_eq!(game.resource::<Received>().joined, ["hall"]);

    game.app.world_mut().get_mut::<Agent>(guard).expect("an agent").call(Say { number: 6 });
    let said_in = game.resource::<TickTime>().tick().0;
    shout(&mut game, 9);
    game.exchange(&mut [&mut ada]);

    assert_eq!(game.resource::<Heard>().said, [(session, 6)]);
    // Both are sent in the next tick and read in the one after it.
    assert_eq!(game.resource::<Received>().echoes, [(6, said_in + 2), (9, said_in + 2)]);
    assert_eq!(echoes(&mut ada), [9]);
    assert_eq!(game.news_of(session), [News::Registered, News::Joined(ZoneId(1))]);
}

/// Spawns an agent that joins a zone. Returns its state after that.
fn state_in(game: &mut Harness, zone: &str) -> Option<SessionState> {
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();
    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").join(zone, "");
    game.exchange(&mut []);
    SessionState::at(game.app.world(), agent)
}

#[test]
fn row_04_agents_take_no_place_of_players_and_find_room_in_a_full_zone() {
    let mut game = game();
    game.open_zone(Zone::new("closet").capacity(1));

    assert_eq!(state_in(&mut game, "closet"), Some(SessionState::Active));
    let ada = game.member(Via::Alpha, "closet");
    let bob = game.member(Via::Beta, "closet");
    assert_eq!(state_in(&mut game, "closet"), Some(SessionState::Active));

    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(game.state(bob.session()), Some(SessionState::Connected));
    let closet = zone(&game, "closet");
    let members = game.app.world().get::<Members>(closet).expect("members");
    assert_eq!((members.count(), members.agent_count()), (3, 2));
}

#[test]
fn row_04_agents_take_places_in_a_zone_that_counts_them() {
    let mut game = game();
    game.open_zone(Zone::new("closet").capacity(1).counts_agents());

    assert_eq!(state_in(&mut game, "closet"), Some(SessionState::Active));
    let mut ada = game.member(Via::Alpha, "closet");

    assert_eq!(ada.expect::<Refused>().reason(), Reason::Full);
    assert_eq!(state_in(&mut game, "closet"), Some(SessionState::Connected));
}

#[test]
fn ow_20_an_agent_receives_a_refusal_as_a_value_and_has_no_outbox() {
    let (mut game, guard) = game_with_guard("nowhere");
    game.run_ms(100);

    assert_eq!(game.resource::<Received>().refused, [Reason::NoSuchZone]);
    assert_eq!(SessionState::at(game.app.world(), guard), Some(SessionState::Connected));
    let session = game.app.world().get::<Session>(guard).expect("a session").id();
    assert_eq!(game.view(session), None, "an agent has no outbox");
}

#[test]
fn an_agent_never_times_out() {
    let (mut game, guard) = game_with_guard("hall");

    game.run_ms(30_000);

    assert_eq!(SessionState::at(game.app.world(), guard), Some(SessionState::Active));
}

#[test]
fn agents_do_not_count_toward_max_sessions() {
    let mut game = game_bounded(SessionConfig { max_sessions: 1, ..SessionConfig::default() });
    game.app.world_mut().commands().spawn_agent("guard");
    game.tick();

    let mut ada = game.stranger(Via::Alpha);
    ada.hello();
    game.exchange(&mut [&mut ada]);

    assert_eq!(ada.take::<Denied>(), []);
    assert!(ada.is_welcome());
}

#[test]
fn an_agent_that_has_ended_receives_nothing() {
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
        // An echo that was sent before the agent ended may be read in this tick, but not later.
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
