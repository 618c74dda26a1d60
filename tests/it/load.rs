//! Tests a game whose ticks take too long: what the server leaves out, in which order, and what it never leaves out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use waystation::arena::v1::{Input, Snapshot};
use waystation::arena::{ArenaPlugin, ZONE};
use waystation::config::ServerConfig;
use waystation::session::{Agent, SessionState, SpawnAgent as _};
use waystation::telemetry::{Status, Summary, TelemetryPlugin};
use waystation::testing::{Harness, Player, Via};
use waystation::tick::{Load, LoadCounts, LoadLevel, TickRate, TickTime};
use waystation::wire::v1::{Denied, Join, Joined, Reason, Refused, Welcome};
use waystation::zone::{Zone, ZoneTicked};

use crate::support::{Heard, game, game_with, said, say};

/// The time that the game's system takes in each tick.
#[derive(Resource, Debug, Default)]
struct Burn(Duration);

/// The ticks of all zones.
#[derive(Resource, Debug, Default)]
struct Ticked(Vec<ZoneTicked>);

fn burn(burn: Res<Burn>, time: Res<TickTime>) {
    time.clock().advance(burn.0);
}

fn note_ticks(mut ticks: MessageReader<ZoneTicked>, mut ticked: ResMut<Ticked>) {
    ticked.0.extend(ticks.read());
}

/// Adds a system that uses up the time in [`Burn`] in each tick.
fn burning(mut game: Harness) -> Harness {
    game.app.init_resource::<Burn>().init_resource::<Ticked>().add_systems(Update, (burn, note_ticks));
    game
}

/// Uses up `ms` milliseconds of each tick, for 100 ticks at 20 Hz. Every load level can be reached in that time.
fn burn_for(game: &mut Harness, players: &mut [&mut Player], ms: u64) {
    game.app.insert_resource(Burn(Duration::from_millis(ms)));
    game.run_with(players, 5_000);
}

fn level(game: &Harness) -> LoadLevel {
    game.resource::<Load>().level()
}

/// Returns the ticks of a zone since the last call.
fn ticks_of(game: &mut Harness, zone: &str) -> Vec<ZoneTicked> {
    let entity = game.zone(zone).expect("a zone");
    let ticked = std::mem::take(&mut game.app.world_mut().resource_mut::<Ticked>().0);
    ticked.into_iter().filter(|tick| tick.zone == entity).collect()
}

#[test]
fn a_busy_server_halves_the_tick_rate_of_zones_reports_the_true_time_and_counts_skipped_ticks() {
    let mut game = burning(game());
    game.open_zone(Zone::new("slow").hz(5));

    burn_for(&mut game, &mut [], 42);
    assert_eq!(level(&game), LoadLevel::Busy);
    ticks_of(&mut game, "hall");
    let (frames, shed) = (game.now(), *game.resource::<LoadCounts>());
    game.run_ms(2_000);
    let busy = game.resource::<Ticked>().0.len();
    let hall = ticks_of(&mut game, "hall");

    // In 40 ticks of the server, the 20 Hz zones `hall` and `attic` tick 20 times each, and `slow` ticks
    // 5 times instead of 10.
    assert_eq!((hall.len(), busy), (20, 45));
    assert_eq!(game.resource::<LoadCounts>().zone_tick_count - shed.zone_tick_count, 45);
    assert!(hall.windows(2).all(|pair| pair[1].frame == pair[0].frame + 1), "no frame number is skipped");
    let told: Duration = hall.iter().map(|tick| tick.dt).sum();
    assert_eq!(told, game.now() - frames, "the time between ticks is the time of the clock");
}

#[test]
fn a_server_that_is_no_longer_busy_ticks_its_zones_at_full_rate_again() {
    let mut game = burning(game());
    burn_for(&mut game, &mut [], 200);
    assert_eq!(level(&game), LoadLevel::Overloaded);

    burn_for(&mut game, &mut [], 0);
    let shed = *game.resource::<LoadCounts>();
    ticks_of(&mut game, "hall");
    game.run_ms(1_000);

    assert_eq!(level(&game), LoadLevel::Normal);
    assert_eq!(ticks_of(&mut game, "hall").len(), 20);
    assert_eq!(*game.resource::<LoadCounts>(), shed);
}

#[test]
fn an_overloaded_server_dispatches_every_input_of_its_sessions() {
    let mut game = burning(game());
    let mut ada = game.member(Via::Alpha, "hall");
    burn_for(&mut game, &mut [&mut ada], 200);

    for number in 1..=40 {
        say(&mut ada, number..=number);
        ada.say(&Input { tick: number, x: 1.0, y: 0.0 });
        game.run_with(&mut [&mut ada], 50);
    }
    game.run_with(&mut [&mut ada], 100);

    assert_eq!(level(&game), LoadLevel::Overloaded);
    assert_eq!(said(&game, &ada), (1..=40).collect::<Vec<_>>());
    let inputs: Vec<u64> = game.resource::<Heard>().inputs.iter().map(|(_, tick)| *tick).collect();
    assert_eq!(inputs, (1..=40).collect::<Vec<_>>());
}

#[test]
fn an_overloaded_server_denies_new_sessions_and_lets_its_own_resume() {
    let mut game = burning(game());
    let mut ada = game.member(Via::Alpha, "hall");
    burn_for(&mut game, &mut [&mut ada], 200);

    let mut bob = game.stranger(Via::Beta);
    bob.hello();
    ada.close();
    game.run_with(&mut [&mut bob], 100);
    assert_eq!(game.state(ada.session()), Some(SessionState::Disconnected));
    ada.connect(&game, Via::Beta);
    ada.resume();
    game.exchange(&mut [&mut ada, &mut bob]);

    let denied = bob.take::<Denied>();
    assert_eq!(denied.iter().map(Denied::reason).collect::<Vec<_>>(), [Reason::Throttled]);
    assert!(denied[0].retry_after_ms >= 1_000);
    assert_eq!(game.state(ada.session()), Some(SessionState::Active));
    assert_eq!(game.resource::<LoadCounts>().refused_count, 1);

    burn_for(&mut game, &mut [&mut ada, &mut bob], 0);
    bob.connect(&game, Via::Beta);
    bob.hello();
    game.exchange(&mut [&mut ada, &mut bob]);
    assert_eq!(bob.take::<Welcome>().len(), 1);
}

#[test]
fn an_overloaded_server_refuses_joins_but_members_move_and_agents_join() {
    let mut game = burning(game());
    let mut ada = game.member(Via::Alpha, "hall");
    let mut bob = game.player(Via::Beta);
    burn_for(&mut game, &mut [&mut ada, &mut bob], 200);
    let agent = game.app.world_mut().commands().spawn_agent("guard").id();
    game.tick();

    ada.take::<Joined>();
    ada.send(&Join { request: 7, zone: "attic".to_owned(), ..Join::default() });
    bob.send(&Join { request: 8, zone: "hall".to_owned(), ..Join::default() });
    game.app.world_mut().get_mut::<Agent>(agent).expect("an agent").join("hall", "");
    game.exchange(&mut [&mut ada, &mut bob]);

    assert_eq!(ada.take::<Joined>().iter().map(|joined| joined.request).collect::<Vec<_>>(), [7]);
    let refused = bob.take::<Refused>();
    assert_eq!((refused.len(), refused[0].request, refused[0].reason()), (1, 8, Reason::Throttled));
    assert!(refused[0].retry_after_ms >= 1_000);
    assert_eq!(SessionState::at(game.app.world(), agent), Some(SessionState::Active));
    assert_eq!(game.resource::<LoadCounts>().refused_count, 1);

    burn_for(&mut game, &mut [&mut ada, &mut bob], 0);
    game.join(&mut bob, "hall");
    assert_eq!(bob.zone(), Some("hall"));
}

#[test]
fn under_load_the_arena_sends_fewer_snapshots_and_the_status_line_shows_the_load() {
    let reports = Arc::<Mutex<Vec<Status>>>::default();
    let sink = Arc::clone(&reports);
    let mut game = burning(Harness::new());
    game.app.add_plugins((
        ArenaPlugin { agents: 2, ..ArenaPlugin::default() },
        TelemetryPlugin::new(move |status: &Status| sink.lock().expect("a sink").push(*status)),
    ));
    let mut ada = game.member(Via::Alpha, ZONE);
    let mut seen = Vec::new();

    for burned_ms in [0, 42, 200, 0] {
        burn_for(&mut game, &mut [&mut ada], burned_ms);
        ada.take::<Snapshot>();
        game.run_with(&mut [&mut ada], 2_000);
        seen.push(ada.take::<Snapshot>().len());
    }

    assert_eq!(seen, [40, 20, 10, 40]);
    let lines: Vec<String> = reports.lock().expect("a sink").iter().map(ToString::to_string).collect();
    let first = |what: &str| lines.iter().position(|line| line.contains(what)).expect(what);
    assert!(first("load=normal skipped_zone_ticks=0") < first("load=busy skipped_zone_ticks="), "{lines:#?}");
    assert!(first("load=busy") < first("load=overloaded"), "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.contains("load=normal skipped_zone_ticks=0 ")));
    let summary = Summary::of(game.app.world());
    assert!(summary.shed.zone_tick_count > 0 && summary.to_string().contains("turned_away=0"));
}

#[test]
fn a_server_at_the_lowest_rate_has_the_same_load_thresholds_as_shares_of_its_period() {
    let rate = TickRate::new(4).expect("a rate");
    let mut game = burning(game_with(ServerConfig { rate, ..ServerConfig::default() }));

    burn_for(&mut game, &mut [], 170);
    assert_eq!(level(&game), LoadLevel::Normal);
    burn_for(&mut game, &mut [], 220);
    assert_eq!(level(&game), LoadLevel::Busy);
}
